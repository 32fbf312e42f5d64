"""Every method over all exponents, those near 1 and 2 and the huge ones too, and outputs of all sizes.

p just above 1 makes p' so large that the powers |g_k|^p' of an ordinary gradient are 0 in float64. Truths are closed
forms: f(x, y) = u(x) + v(y) with piecewise linear u and v has the longest gradient where both are steepest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.strategies import DETERMINISTIC, eighths

METHODS = [name for name in LIPSCHITZ_SOLVERS if name != "mixed-integer"]
NEXT = 2.0**-52
P_VALUES = (1.0, 1 + 1e-6, 1.001, 1.01, 1.1, 2 - NEXT, 2.0, 2 + 2 * NEXT, 50.0, 1e6, math.inf)
OUTPUTS = (1.0, 1e-2, 1e-4, 1e-6, 1e-100, 1e100)
CELLS = (-0.75, -0.5, -0.25, 0.25, 0.5, 0.75)


def real(value: Fraction) -> mpmath.mpf:
    return mpmath.mpf(value.numerator) / value.denominator


def length(gradient: Sequence[Fraction], p: float) -> mpmath.mpf:
    """||g||_p', 1/p + 1/p' = 1 for this very float p."""
    sizes = [real(abs(value)) for value in gradient if value]
    if p == 1 or not sizes:
        return max(sizes, default=mpmath.mpf(0))
    q = mpmath.mpf(1) if math.isinf(p) else real(Fraction(p) / (Fraction(p) - 1))
    return max(sizes) * mpmath.fsum((size / max(sizes)) ** q for size in sizes) ** (1 / q)


@st.composite
def separable(draw: st.DrawFn) -> tuple[ReluNetwork, tuple[Fraction, Fraction]]:
    """f(x, y) = s (sum_j a_j relu(x - t_j) + sum_k b_k relu(y - u_k)), and its steepest slopes along x and y."""
    output = draw(st.sampled_from(OUTPUTS))
    rows, biases, last, steepest = [], [], [], []
    for axis in range(2):
        places = sorted(draw(st.sets(st.sampled_from(CELLS), min_size=1, max_size=4)))
        jumps = [output * draw(eighths()) * draw(st.sampled_from((1.0, 0.01))) for _ in places]
        rows += [[1.0 - axis, float(axis)]] * len(places)
        biases += [-place for place in places]
        last += jumps
        steepest.append(max(abs(slope) for slope in accumulate(map(Fraction, jumps))))
    return ReluNetwork([rows, [last]], [biases, [0.0]]), (steepest[0], steepest[1])


@settings(DETERMINISTIC, max_examples=15)
@given(case=separable(), everywhere=st.booleans())
@pytest.mark.parametrize("method", METHODS)
def test_no_interval_excludes_the_constant(
    method: str, case: tuple[ReluNetwork, tuple[Fraction, Fraction]], everywhere: bool
) -> None:
    network, steepest = case
    domain = WholeSpace(2) if everywhere else Box.cube(2)
    problems = [LipschitzProblem(network, p, domain) for p in P_VALUES]
    answers = LIPSCHITZ_SOLVERS[method].solve_batch(problems)
    with mpmath.workdps(50):
        for p, answer in zip(P_VALUES, answers, strict=True):
            truth = length(steepest, p)
            told = f"p = {p!r}: [{answer.lower!r}, {answer.upper!r}] {answer.status}, truth {float(truth)!r}"
            assert answer.lower <= truth * (1 + mpmath.mpf(10) ** -40), told
            assert answer.upper >= truth * (1 - mpmath.mpf(10) ** -40), told
            if LIPSCHITZ_SOLVERS[method].exact:
                assert answer.upper <= truth * (1 + mpmath.mpf(10) ** -6), told


@pytest.mark.parametrize("method", METHODS)
def test_a_steep_sliver_counts_for_every_exponent(method: str) -> None:
    # (.01, .001) in the strip -.3 < x < -.3 + 1e-10, y > 0; .001 nearly everywhere.
    network = ReluNetwork(
        [[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[0.01, -0.01, 0.001]]], [[0.3, 0.3 - 1e-10, 0.0], [0.0]]
    )
    problems = [LipschitzProblem(network, p, Box.cube(2)) for p in P_VALUES]
    for p, answer in zip(P_VALUES, LIPSCHITZ_SOLVERS[method].solve_batch(problems), strict=True):
        assert answer.upper >= 0.01, f"p = {p!r}: upper bound {answer.upper!r}"


@pytest.mark.parametrize("method", METHODS)
def test_a_gradient_smaller_than_its_powers_can_be(method: str) -> None:
    network = ReluNetwork([[[3.0, 4.0]], [[1e-4]]], [[10.0], [0.0]])
    gradient = [Fraction(1e-4) * 3, Fraction(1e-4) * 4]
    problems = [LipschitzProblem(network, p, Box.cube(2)) for p in P_VALUES]
    with mpmath.workdps(50):
        for p, answer in zip(P_VALUES, LIPSCHITZ_SOLVERS[method].solve_batch(problems), strict=True):
            assert answer.lower <= length(gradient, p) <= answer.upper
            assert math.isinf(answer.upper) or answer.upper <= 1e-3
            assert np.isfinite(answer.lower)
