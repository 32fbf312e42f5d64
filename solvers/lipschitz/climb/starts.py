"""Where a climb starts: many scales, many sparsities.

On the images of [0, 1]^784 that a network was trained on, most pixels are 0; uniform points of the cube are nothing
like them, and the gradients there are several times shorter. So points start from a corner, the centre or the point
nearest to the origin, go a random share of the way, 10^U(-3, 0), to a random point or corner, and do so in a random
share of the coordinates.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Domain
from solvers.problems.random_points import draw_points

__all__ = ["start_points"]

DECADES = 3.0


def start_points(domain: Domain, count: int, network: ReluNetwork, rng: np.random.Generator) -> FloatArray:
    """Points of the closed domain; shape (count, d)."""
    points = draw_points(domain, count, network, rng)
    d, bounds = domain.dimension, domain.bounds
    # A third is left as drawn; of the rest, half is thinned out to few coordinates.
    kinds = rng.integers(0, 3, count)
    density = np.where(kinds == 2, 10.0 ** -rng.uniform(0.0, np.log10(d) if d > 1 else 0.0, count), 1.0)
    kept = rng.random((count, d)) < density[:, None]
    kept[np.arange(count), rng.integers(0, d, count)] = True
    shares = np.where(kinds == 0, 1.0, 10.0 ** -rng.uniform(0.0, DECADES, count))
    if bounds is None:
        return np.where(kept, points, 0.0)
    low, high = bounds
    corners = np.where(rng.random((count, d)) < 0.5, low, high)
    points = np.where((rng.random(count) < 0.25)[:, None], corners, points)
    bases = np.stack([low, high, domain.centre, domain.nearest(np.zeros(d))])[rng.integers(0, 4, count)]
    bases = np.where((rng.random(count) < 0.25)[:, None], corners, bases)
    return domain.nearest(bases + np.where(kept, shares[:, None] * (points - bases), 0.0))
