"""Hypothesis strategies: exponents, small ReLU networks, domains, point clouds; and Gaussian networks from a seed.

Entries are mostly eighths of small whole numbers: sums and products of a few of them are exact in float64, so an
identity that holds in real numbers holds bit by bit, and parallel, opposite, repeated and vanishing neurons are common.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain, WholeSpace

__all__ = [
    "DETERMINISTIC",
    "P_VALUES",
    "boxes",
    "domains",
    "eighths",
    "exponents",
    "gaussian_network",
    "labelled_clouds",
    "matrices",
    "relu_networks",
    "vectors",
]

# The exponents of the shipped study.
P_VALUES = (1.0, 1.25, 1.5, 2.0, 4.0, math.inf)

# The same examples on every run and machine; nothing is written to disk.
DETERMINISTIC = settings(derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


def gaussian_network(sizes: Sequence[int], rng: np.random.Generator, bias: float = 1.0) -> ReluNetwork:
    """A network with layers d, n_1, ..., outputs: entries of W_l are N(0, 2 / rows), hidden biases N(0, bias^2)."""
    shapes = [(rows, columns) for columns, rows in itertools.pairwise(sizes)]
    weights = [rng.standard_normal(shape) * math.sqrt(2 / shape[0]) for shape in shapes]
    hidden = [bias * rng.standard_normal(rows) for rows, _ in shapes[:-1]]
    return ReluNetwork(weights, [*hidden, np.zeros(sizes[-1])])


def exponents() -> st.SearchStrategy[float]:
    """p in [1, inf], the special ones often."""
    return st.sampled_from(P_VALUES) | st.floats(1.0, 50.0)


def eighths(most: int = 16) -> st.SearchStrategy[float]:
    """k / 8 for whole |k| <= most."""
    return st.integers(-most, most).map(lambda k: k / 8)


def vectors(most_entries: int = 6) -> st.SearchStrategy[np.ndarray]:
    """Vectors of any scale that leaves room for a sum of squares in the exponent range of the answer."""
    entries = st.floats(-1e300, 1e300, allow_subnormal=False) | eighths()
    return hnp.arrays(np.float64, st.integers(1, most_entries), elements=entries)


def matrices(most_rows: int = 4, most_columns: int = 4) -> st.SearchStrategy[np.ndarray]:
    """Small matrices with entries in [-2, 2]; zeros and equal entries often."""
    shapes = st.tuples(st.integers(1, most_rows), st.integers(1, most_columns))
    entries = eighths() | st.floats(-2.0, 2.0, allow_subnormal=False)
    return shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=entries))


@st.composite
def relu_networks(
    draw: st.DrawFn, *, most_inputs: int = 3, most_neurons: int = 6, layers: tuple[int, int] = (1, 1), outputs: int = 1
) -> ReluNetwork:
    """Networks with weights and biases in eighths; `layers` gives the least and most hidden layers."""
    depth = draw(st.integers(*layers))
    inputs = draw(st.integers(1, most_inputs))
    sizes = [inputs, *(draw(st.integers(1, most_neurons)) for _ in range(depth)), outputs]
    weights = [draw(hnp.arrays(np.float64, (n, m), elements=eighths())) for m, n in itertools.pairwise(sizes)]
    homogeneous = draw(st.booleans())
    biases = [np.zeros(n) if homogeneous else draw(hnp.arrays(np.float64, n, elements=eighths())) for n in sizes[1:-1]]
    return ReluNetwork(weights, [*biases, np.zeros(outputs)])


@st.composite
def boxes(draw: st.DrawFn, dimension: int) -> Box:
    """Boxes with corners in eighths, sides from 1/8 to 2."""
    lower = draw(hnp.arrays(np.float64, dimension, elements=eighths()))
    sides = draw(hnp.arrays(np.float64, dimension, elements=st.integers(1, 16).map(lambda k: k / 8)))
    return Box(lower, lower + sides)


def domains(dimension: int) -> st.SearchStrategy[Domain]:
    """All of R^d or a box."""
    return st.just(WholeSpace(dimension)) | boxes(dimension)


@st.composite
def labelled_clouds(
    draw: st.DrawFn, *, most_points: int = 30, most_dimensions: int = 4, most_classes: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Different points (N, d) in eighths with labels (N,) of at least two classes, every class inhabited."""
    dimension = draw(st.integers(1, most_dimensions))
    classes = draw(st.integers(2, most_classes))
    rows = draw(st.lists(st.tuples(*[eighths(40)] * dimension), min_size=classes, max_size=most_points, unique=True))
    extra = draw(st.lists(st.integers(0, classes - 1), min_size=len(rows) - classes, max_size=len(rows) - classes))
    return np.array(rows), np.array([*range(classes), *extra])
