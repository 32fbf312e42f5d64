"""Laws of random ReLU networks.

W_0, ..., W_{L-1} have entries N(0, 2 / n) with n the number of rows (the width of the layer they feed), W_L has entries
N(0, 1); hidden biases are independent, symmetric and come from the table `BIAS_LAWS`; the output bias is zero.
Source: [DFGSV25, Definition 1.1].
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from solvers.errors import InputError
from solvers.networks.relu import ReluNetwork
from tasks.seeding import RandomStreams

__all__ = ["BIAS_LAWS", "draw_network"]

BIAS_LAWS: dict[str, Callable[[np.random.Generator, float, int], np.ndarray]] = {
    "zero": lambda rng, scale, size: np.zeros(size),
    "normal": lambda rng, scale, size: rng.normal(0.0, scale, size),
    "uniform": lambda rng, scale, size: rng.uniform(-scale, scale, size),
    "laplace": lambda rng, scale, size: rng.laplace(0.0, scale, size),
    "cauchy": lambda rng, scale, size: scale * rng.standard_cauchy(size),
}


def draw_network(
    dimension: int, widths: Sequence[int], bias: str, bias_scale: float, streams: RandomStreams
) -> ReluNetwork:
    """One network; weights and biases come from separate streams, so the weights do not depend on the bias law.

    Args:
        dimension: d.
        widths: n_1, ..., n_L.
        bias: a name in `BIAS_LAWS`.
        bias_scale: standard deviation (normal), half width (uniform), or scale parameter (Laplace, Cauchy).
        streams: streams "weights" and "biases" are used.
    Raises:
        InputError: unknown law, or a size below 1.
    """
    if bias not in BIAS_LAWS:
        raise InputError(f"unknown bias law {bias!r} (known: {', '.join(BIAS_LAWS)})")
    if dimension < 1 or not widths or min(widths) < 1:
        raise InputError(f"a network needs d >= 1 and hidden widths >= 1, got d = {dimension}, widths {list(widths)}")
    rng = streams.generator("weights")
    bias_rng = streams.generator("biases")
    sizes = [dimension, *widths]
    weights = [
        rng.normal(0.0, np.sqrt(2.0 / rows), size=(rows, columns)) for columns, rows in itertools.pairwise(sizes)
    ]
    biases = [BIAS_LAWS[bias](bias_rng, bias_scale, rows) for rows in widths]
    return ReluNetwork([*weights, rng.normal(size=(1, sizes[-1]))], [*biases, np.zeros(1)])
