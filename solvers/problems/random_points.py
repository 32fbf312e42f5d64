"""Random points of a domain, drawn where gradients of a network are worth a look."""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Domain

__all__ = ["draw_points"]


def draw_points(domain: Domain, count: int, network: ReluNetwork, rng: np.random.Generator) -> FloatArray:
    """Points where gradients are worth a look: uniform on a box; on R^d at the scales where neurons switch.

    On R^d half of the points are Gaussian at log-uniform scales around the distances of the first layer's kinks from
    the origin, half lie next to a random kink of the first layer, on either side of it: cells are small there, and the
    far side of a distant kink is rarely reached otherwise.

    Returns:
        Shape (count, d).
    """
    d = domain.dimension
    if domain.is_bounded:
        return domain.draw(count, rng)
    w, b = network.weights[0], network.biases[0]
    lengths = np.sqrt((w**2).sum(axis=1))
    moving = lengths > 0
    distances = np.abs(b[moving] / lengths[moving])
    typical = float(np.median(distances)) if moving.any() and distances.any() else 1.0
    scales = typical * np.exp(rng.uniform(-3.0, 3.0, size=(count, 1)))
    points = rng.standard_normal((count, d)) * scales
    if moving.any():
        near = rng.integers(0, int(moving.sum()), size=count // 2)
        rows, offsets = w[moving][near], b[moving][near]
        half = points[: count // 2]
        height = ((half * rows).sum(axis=1) + offsets) / (rows**2).sum(axis=1)
        sides = rng.choice([-1e-3, 1e-3], size=count // 2)
        points[: count // 2] = half - (height * (1 + sides))[:, None] * rows
    return points
