"""The checker: honest witnesses pass, every kind of lie is named."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from solvers.arithmetic.norms import vector_norm
from solvers.arithmetic.rationals import DyadicArray, norm_at_least, norm_at_most
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import LinearRegion, pattern_at
from solvers.problems.results import Witness
from solvers.problems.witnesses import exact_gradient
from solvers.verify import check_witness

P_VALUES = (1.0, 1.25, 2.0, 3.0, float("inf"))


def random_network(seed: int, widths: tuple[int, ...] = (3, 6, 5, 1)) -> ReluNetwork:
    rng = np.random.default_rng(seed)
    sizes = list(zip(widths[1:], widths[:-1], strict=True))
    return ReluNetwork([rng.standard_normal(size) for size in sizes], [rng.standard_normal(size[0]) for size in sizes])


def witness_at(network: ReluNetwork, point: np.ndarray) -> Witness:
    pattern = pattern_at(network, point)
    return Witness(point, pattern, LinearRegion(network, pattern).gradient()[0])


def honest_lower(problem: LipschitzProblem, witness: Witness) -> float:
    return float(vector_norm(witness.gradient, problem.dual_p)) * (1 - 1e-13)


def test_dyadic_products_are_exact() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.standard_normal((3, 4)) * 2.0**-40, rng.standard_normal((4, 2)) * 2.0**60
    found = (DyadicArray.of(left) @ DyadicArray.of(right)).fractions()
    wanted = [
        sum((Fraction(a) * Fraction(b) for a, b in zip(row, column, strict=True)), Fraction(0))
        for row in left.tolist()
        for column in right.T.tolist()
    ]
    assert found == wanted


@pytest.mark.parametrize("exponent", [1.0, 1.1, 5 / 3, 2.0, 7.5, 1e4, float("inf")])
def test_norm_comparisons_are_sharp_to_the_last_bit(exponent: float) -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        values = rng.standard_normal(4) * 10.0 ** rng.integers(-100, 100)
        vector = [Fraction(v) for v in values.tolist()]
        with mpmath.workdps(60):
            sizes = [abs(mpmath.mpf(v)) for v in values.tolist()]
            truth = (
                max(sizes)
                if exponent == float("inf")
                else sum(s ** mpmath.mpf(exponent) for s in sizes) ** (1 / mpmath.mpf(exponent))
            )
            near = float(truth)
            below, above = np.nextafter(near, 0.0), np.nextafter(near, np.inf)
        assert norm_at_least(vector, exponent, float(below))
        assert not norm_at_least(vector, exponent, float(above))
        assert norm_at_most(vector, exponent, float(above))
        assert not norm_at_most(vector, exponent, float(below))


def test_norm_of_zero() -> None:
    zero = [Fraction(0), Fraction(0)]
    assert norm_at_most(zero, 3.0, 0.0)
    assert norm_at_least(zero, 3.0, 0.0)
    assert not norm_at_least(zero, 3.0, 5e-324)


@pytest.mark.parametrize("p", P_VALUES)
@pytest.mark.parametrize("seed", range(5))
def test_an_honest_witness_passes(seed: int, p: float) -> None:
    network = random_network(seed)
    problem = LipschitzProblem(network, p, Box.cube(3))
    witness = witness_at(network, np.random.default_rng(seed).uniform(-1, 1, 3))
    assert check_witness(problem, witness, honest_lower(problem, witness)).holds


def test_the_exact_gradient_is_the_gradient() -> None:
    network = random_network(7)
    witness = witness_at(network, np.array([0.1, -0.4, 0.7]))
    found = exact_gradient(network, witness.point, witness.pattern)
    assert not isinstance(found, str)
    np.testing.assert_allclose([float(value) for value in found], witness.gradient, rtol=1e-12)


@pytest.mark.parametrize("p", P_VALUES)
def test_lies_are_named(p: float) -> None:
    network = random_network(11)
    problem = LipschitzProblem(network, p, Box.cube(3))
    honest = witness_at(network, np.array([0.2, 0.3, -0.5]))
    lower = honest_lower(problem, honest)
    flipped = tuple(layer.copy() for layer in honest.pattern)
    flipped[1][2] ^= True
    lies = {
        "without a witness": (None, lower),
        "strictly inside the box": (dataclasses.replace(honest, point=np.array([1.0, 0.3, -0.5])), lower),
        "other sign": (dataclasses.replace(honest, pattern=flipped), lower),
        "not the gradient": (dataclasses.replace(honest, gradient=honest.gradient * 1.001), lower),
        "shorter than the lower bound": (honest, lower * (1 + 1e-12)),
        "widths": (dataclasses.replace(honest, pattern=honest.pattern[:1]), lower),
        "must have shape": (dataclasses.replace(honest, point=np.zeros(2)), lower),
        "not a point": (dataclasses.replace(honest, point=np.array([np.nan, 0, 0])), lower),
    }
    for reason, (witness, claim) in lies.items():
        check = check_witness(problem, witness, claim)
        assert not check.holds
        assert reason in check.reason


def test_a_point_on_a_kink_is_refused() -> None:
    network = ReluNetwork([[[1.0], [-1.0]], [[1.0, 1.0]]], [[0.0, 0.0], [0.0]])
    problem = LipschitzProblem(network, 2.0)
    both = Witness(np.array([0.0]), (np.array([True, False]),), np.array([1.0]))
    check = check_witness(problem, both, 1.0)
    assert not check.holds
    assert "kink" in check.reason


def test_an_identically_zero_neuron_adds_nothing_under_either_sign() -> None:
    # Layer 2 sees relu(x0) only; where x0 < 0 its pre-activation is identically zero.
    network = ReluNetwork([[[1.0]], [[2.0]], [[3.0]]], [[0.0], [0.0], [0.0]])
    for on in (False, True):
        witness = Witness(np.array([-1.0]), (np.array([False]), np.array([on])), np.array([0.0]))
        assert exact_gradient(network, witness.point, witness.pattern) == [Fraction(0)]
