"""Mixed-integer programs where the numbers of a network are far apart, against exact constants in whole numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.mixed_integer import MixedInteger
from solvers.lipschitz.programs.affine_rows import Variables
from solvers.lipschitz.programs.outward import ROOM, OutwardProgram, outward
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from tests.references.rational_constants import exact_constant, exact_regions

P_VALUES = (1.0, math.inf)
# Networks of `far_apart` to a test, and tests.
PART = 20
PARTS = 100


def far_apart(seed: int) -> tuple[ReluNetwork, Box]:
    """Weights from 1e-8 to 1e8 in up to three layers of up to three neurons, most kinks close to one point of a box.

    So that there are thin cells in which steep gradients hide. Boxes are small or large and may lie far from 0.
    """
    rng = np.random.default_rng([49, seed])
    d, depth = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    sizes = [d, *rng.integers(1, 4, depth).tolist(), 1]
    decades = float(rng.choice([1, 3, 8]))
    units_of = rng.choice(["entries", "rows", "layers"])
    radius = 2.0 ** rng.integers(-8, 4)
    centre = np.round(rng.standard_normal(d) * 10.0 ** rng.uniform(-2, 3) * 16) / 16 if rng.random() < 0.5 else 0.0
    x = centre + radius * rng.uniform(-1, 1, d)
    weights, biases = [], []
    for n, m in itertools.pairwise(sizes):
        shape = {"entries": (m, n), "rows": (m, 1), "layers": (1, 1)}[units_of]
        w = rng.standard_normal((m, n)) * 10.0 ** rng.uniform(-decades, decades, shape)
        if rng.random() < 0.3:
            w = np.where(np.abs(w) > 2, np.round(w), w)
        apart = 10.0 ** -rng.uniform(0, 8, m) * rng.choice([0.0, 1.0, 1.0, 1.0], m)
        weights.append(w)
        biases.append(-(w @ x) + np.abs(w) @ np.abs(x) * rng.standard_normal(m) * apart)
        x = np.maximum(w @ x + biases[-1], 0.0)
    biases[-1] = np.zeros(1)
    return ReluNetwork(weights, biases), Box(np.zeros(d) + centre - radius, np.zeros(d) + centre + radius)


def assert_holds(network: ReluNetwork, box: Box, p: float, told: str) -> Status:
    """The interval holds the exact constant; what is open has a reason."""
    corners = (box.lower.tolist(), box.upper.tolist())
    gradients = [region.gradient for region in exact_regions(network.weights, network.biases, corners)]
    low, high = exact_constant(gradients, p)
    answer = MixedInteger().solve(LipschitzProblem(network, p, box), budget=Budget(seconds=10))
    told = f"{told}, p = {p}: [{answer.lower!r}, {answer.upper!r}] {answer.status}, truth {float(low)!r}"
    assert Fraction(answer.lower) <= high, told
    assert math.isinf(answer.upper) or Fraction(answer.upper) >= low, told
    assert answer.reason or answer.status is not Status.NUMERICAL_TROUBLE, told
    return answer.status


@pytest.mark.parametrize("part", [*range(3), *(pytest.param(part, marks=pytest.mark.slow) for part in range(3, PARTS))])
def test_never_wrong_where_weights_are_far_apart(part: int) -> None:
    found = [
        assert_holds(*far_apart(seed), P_VALUES[seed % 2], f"seed {seed}")
        for seed in range(part * PART, (part + 1) * PART)
    ]
    assert found.count(Status.EXACT) >= PART // 2


STEEP = (
    # z = relu(.02 x - 30 y - .2), -6 relu(.5 z - 3) - 2e5 relu(-8e6 z + 6000): steepest in the strip 0 < z < 7.5e-4.
    ([[[0.02, -30.0]], [[0.5], [-8e6]], [[-6.0, -2e5]]], [[-0.2], [-3.0, 6000.0], [0.0]]),
    # The same with the strip a thousand times thinner, and with a third layer that brings the output back to order 1.
    ([[[0.02, -30.0]], [[0.5], [-8e6]], [[-6.0, -2e5]]], [[-0.2], [-3.0, 6.0], [0.0]]),
    (
        [[[0.02, -30.0]], [[0.5], [-8e6]], [[6.0, 2e5]], [[1e-12]]],
        [[-0.2], [-3.0, 6000.0], [-1.0], [0.0]],
    ),
)


@pytest.mark.parametrize("p", P_VALUES)
@pytest.mark.parametrize("case", range(len(STEEP)))
def test_a_steep_gradient_in_a_thin_strip(case: int, p: float) -> None:
    weights, biases = STEEP[case]
    network = ReluNetwork(weights, biases)
    assert_holds(network, Box.cube(2), p, f"case {case}")
    if case == 0:
        upper = MixedInteger().solve(LipschitzProblem(network, p, Box.cube(2))).upper
        # 2e5 * 8e6 times (.02, -30), in the strip, where .5 z < 3.
        assert upper >= (4.8032e13 if math.isinf(p) else 4.8e13) * (1 - 1e-12)


def embedded(variables: Variables, point: Sequence[float], program: OutwardProgram) -> FloatArray:
    """A point of the given program as one of the outward program: defined columns are what its equations say."""
    x, zero, constant = np.array(point) / program.unit, program.zero, program.zero_constant
    row = 0
    for start, rows in variables.definitions:
        for column in range(start, start + len(rows.constant)):
            if row < len(zero) and zero[row, column]:
                x[column] = 0.0
                x[column] = -(zero[row] @ x + constant[row]) / zero[row, column]
                row += 1
    return x


@pytest.mark.parametrize("seed", range(20))
def test_an_outward_program_keeps_every_point_with_room(seed: int) -> None:
    rng = np.random.default_rng([50, seed])
    n, m = 4, 3

    def numbers(*shape: int) -> np.ndarray:
        return np.asarray(rng.standard_normal(shape) * 10.0 ** rng.uniform(-8, 8, shape))

    variables = Variables()
    reach = np.abs(numbers(n))
    free = variables.add(-reach, reach)
    point = reach * rng.uniform(-1, 1, n)
    defining = free.mapped(numbers(m, n)) + numbers(m)
    values = defining.value(point)
    slack = np.abs(values) * 10.0 ** rng.uniform(-14, 1, m)
    defined = variables.define(defining, values - slack, values + slack)
    whole = free.mapped(numbers(6, n)) + defined.mapped(numbers(6, m))
    at = np.concatenate([point, values])
    # Every row is met with equality at the point.
    rows = whole - whole.value(at)
    top = variables.add(np.zeros(1), np.ones(1))
    program = outward(variables, [rows, top - np.ones(1)], n + m)
    x = embedded(variables, [*at, 1.0], program)
    assert (np.abs(program.below) <= 2.0**11).all()
    assert ((program.below == 0) | (np.abs(program.below) >= 1e-9)).all()
    assert (program.low <= x).all()
    assert (x <= program.high).all()
    assert (program.below @ x + program.below_constant <= -0.9 * ROOM).all()
