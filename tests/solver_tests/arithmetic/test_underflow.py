"""Kernels by themselves, in sizes that no balanced network has: underflow is no exact zero, and no square is inf."""

import math

import numpy as np
import pytest

from solvers.lipschitz.bounds.lengths import dominated_length, length_of, unit_of
from solvers.lipschitz.bounds.pattern_bounds import bound_piece
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.small_programs import best_margin, proved_maximum
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box
from solvers.problems.facets import solid_piece
from solvers.problems.questions import LipschitzProblem

TINY = 1e-200


def signs(weight: float, bias: float) -> np.ndarray:
    """What ranges say of the second neuron of f = relu(weight relu(1e-200 x) + bias), x in [-1, 1]."""
    network = ReluNetwork([[[TINY]], [[weight]], [[1.0]]], [[0.0], [bias], [0.0]])
    piece = solid_piece(LipschitzProblem(network, 2), Box.cube(1))
    return bound_piece(PieceArrays.of(piece, None)).signs[1]


def test_a_product_that_underflows_is_not_zero() -> None:
    # 1e-400 relu(x) is positive for x > 0, however float64 rounds it.
    assert signs(TINY, 0.0)[0] != -1
    assert signs(-TINY, 0.0)[0] != 1


def test_an_exact_zero_stays_one() -> None:
    assert signs(0.0, 0.0)[0] == -1
    assert signs(TINY, -1.0)[0] == -1


def test_multipliers_prove_nothing_by_underflow() -> None:
    # x >= 1e-310 on [0, 1], told to be impossible by a multiplier that makes every product 0.
    a, b, errors = np.array([[TINY]]), np.array([-TINY * 1e-50]), np.zeros(1)
    y = np.array([TINY])
    assert proved_maximum(np.zeros(1), 0.0, a, b, errors, np.zeros(1), np.ones(1), y) > 0
    huge = np.array([1e308])
    bound = proved_maximum(np.zeros(1), 0.0, np.array([[1e308]]), -huge, errors, -np.ones(1), np.ones(1), huge)
    assert bound == math.inf  # inf - inf


@pytest.mark.parametrize("size", [1e-200, 1e-170, 1.0, 1e170, 1e200])
def test_margins_of_rows_whose_squares_leave_float64(size: float) -> None:
    # x >= 1/4 and y >= 0 in the unit square.
    a, b = size * np.eye(2), size * np.array([-0.25, 0.0])
    x, y = np.empty(2), np.empty(2)
    margin, _ = best_margin(a, b, np.zeros(2), np.zeros(2), np.ones(2), 0.1, x, y, np.zeros(1, dtype=np.int8))
    assert margin == pytest.approx(0.1)
    assert x[0] >= 0.3


@pytest.mark.parametrize("q", [1.5, 2.0, 3.0, 101.0])
@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e170, 1e300])
def test_dominated_lengths_in_any_unit(q: float, size: float) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((6, 4))
    reach = np.abs(rows).sum(axis=0)
    low, high, near = np.full(6, -1.0), np.ones(6), np.zeros(4)
    plain = dominated_length(rows, low, high, 6, q, near, reach)
    scaled = dominated_length(rows, size * low, size * high, 6, q, near, size * reach)
    assert scaled == pytest.approx(size * plain, rel=1e-6)


def test_units_are_1_for_ordinary_sizes_and_powers_of_two_else() -> None:
    assert unit_of(np.zeros(2)) == unit_of(np.array([1e-50, -3.0])) == 1
    for size in (5e-324, 1e-200, 1e200, 1e307):
        unit = unit_of(np.array([size, -0.5 * size]))
        assert math.frexp(unit)[0] == 0.5
        assert 0.5 <= length_of(np.array([size, 0.0]), np.inf) / unit < 1
