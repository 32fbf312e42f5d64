"""Where rounding used to stop a search that had come to its end: thin leaves, products over all neurons, ties."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from solvers.arithmetic.rationals import norm_at_least, norm_at_most
from solvers.lipschitz.bounds.exact_patterns import exact_length
from solvers.lipschitz.bounds.gradients import node_slack
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.verify import Verdict, verify_bounds
from tests.strategies import gaussian_network

# Kinks of both layers meet in the corner t = 0 of a facet of R^2.
MEETING = ReluNetwork(
    (
        [[0.18905338, -0.52274844], [-0.41306354, -2.44146738]],
        [[1.79970738, 1.14416587], [-0.32542284, 0.77380659]],
        [[0.39769194, -0.78322377]],
    ),
    ([0.39102698, -0.12422262], [-0.13152956, -0.3168587], [0.0]),
)


def rescaled(network: ReluNetwork, layer: int, factors: np.ndarray) -> ReluNetwork:
    """The same function up to rounding: neurons of a layer times factors, undone behind it."""
    w, b = list(network.weights), list(network.biases)
    w[layer], b[layer], w[layer + 1] = w[layer] * factors[:, None], b[layer] * factors, w[layer + 1] / factors
    return ReluNetwork(w, b)


def gradient_of(network: ReluNetwork, signs: np.ndarray) -> list[Fraction]:
    """Of a full pattern, multiplied out in fractions."""
    row = [Fraction(v) for v in network.weights[-1][0].tolist()]
    for m in range(network.depth - 1, -1, -1):
        w = network.weights[m].tolist()
        live = [i for i in range(len(w)) if signs[m, i] > 0]
        row = [sum((row[i] * Fraction(w[i][j]) for i in live), Fraction(0)) for j in range(len(w[0]))]
    return row


@pytest.mark.parametrize("layer", [0, 1])
def test_neurons_of_very_different_sizes_leave_no_leaf_open(layer: int) -> None:
    plain = BranchAndBound().solve(LipschitzProblem(MEETING, 2.0))
    for powers in itertools.product([0, 40, -12], repeat=2):
        question = LipschitzProblem(rescaled(MEETING, layer, 1.7 ** np.array(powers, dtype=float)), 2.0)
        answer = BranchAndBound(certified=True).solve(question)
        assert answer.status is Status.EXACT
        assert answer.lower == pytest.approx(plain.lower, rel=1e-9)
        assert verify_bounds(question, answer).verdict is Verdict.PROVED


@pytest.mark.parametrize("q", [1.0, 1.7, 2.0, math.inf])
def test_exact_lengths_are_the_least_float_above(q: float) -> None:
    rng = np.random.default_rng(3)
    network = gaussian_network([4, 6, 5, 6, 1], rng, 0.3)
    for _ in range(10):
        signs = rng.choice(np.array([-1, 1], dtype=np.int8), size=(3, 6))
        length = exact_length(network, network.weights[0], signs, q)
        gradient = gradient_of(network, signs)
        assert length is not None
        assert norm_at_most(gradient, q, length)
        assert length == 0 or norm_at_least(gradient, q, math.nextafter(length, 0.0))
    assert exact_length(network, network.weights[0], np.full((3, 6), -1, dtype=np.int8), q) == 0.0


def test_rounding_of_a_node_is_that_of_its_live_neurons() -> None:
    """Large neurons that are inactive add no error; where all may be active, the bound is that of the piece."""
    rng = np.random.default_rng(0)
    w = [rng.standard_normal(shape) for shape in [(8, 3), (8, 8), (8, 8), (1, 8)]]
    w[1][4:] *= 2.0**20
    network = ReluNetwork(w, [np.zeros(8)] * 3 + [np.zeros(1)])
    kernel = PieceArrays.of(bounded_pieces(LipschitzProblem(network, 2.0, Box([0.5] * 3, [1.0] * 3)))[0], None).kernel
    signs = np.zeros((3, 8), dtype=np.int8)
    everything = node_slack(kernel, signs, -math.inf)
    assert everything == pytest.approx(kernel.slack, rel=0.3)
    signs[1, 4:] = -1
    assert node_slack(kernel, signs, -math.inf) < 2.0**-15 * everything
    # Far below the floor the bound of the whole piece will do, and costs nothing.
    assert node_slack(kernel, signs, 1e12) == kernel.slack
    for _ in range(20):
        pattern = np.where(signs < 0, -1, rng.choice(np.array([-1, 1]), size=signs.shape)).astype(np.int8)
        row = w[-1]
        for m in range(2, -1, -1):
            row = (row * (pattern[m] > 0)) @ w[m]
        errors = [abs(Fraction(a) - b) for a, b in zip(row[0].tolist(), gradient_of(network, pattern), strict=True)]
        assert norm_at_most(errors, 2.0, node_slack(kernel, pattern, -math.inf))


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
def test_features_of_very_different_sizes(factor: float, whole: bool) -> None:
    """One feature is measured in another unit: both exact methods still close, on the same constant."""
    network = gaussian_network([3, 5, 4, 1], np.random.default_rng(7), 0.3)
    scale = np.array([1.0, factor, 1.0])
    other = ReluNetwork((network.weights[0] * scale, *network.weights[1:]), network.biases)
    domain: Domain = WholeSpace(3) if whole else Box(-1 / scale, 1 / scale)
    for p in (1.0, 2.0):
        answers = [
            solver.solve(LipschitzProblem(other, p, domain)) for solver in (BranchAndBound(), RegionEnumeration())
        ]
        assert [answer.status for answer in answers] == [Status.EXACT] * 2
        assert answers[0].lower == pytest.approx(answers[1].lower, rel=1e-7)


@pytest.mark.parametrize("gap", [1e-12, 1e-13])
def test_near_duplicates_of_features(gap: float) -> None:
    """Two neurons a hair apart: the sliver between them has a gradient of its own, and float64 points."""
    network = gaussian_network([2, 5, 4, 1], np.random.default_rng(2), 0.3)
    w, b = [*network.weights], [*network.biases]
    w[0], b[0] = np.concatenate([w[0], w[0][:1]]), np.concatenate([b[0], b[0][:1] + gap])
    w[1] = np.concatenate([w[1], -w[1][:, :1]], axis=1)
    twin = ReluNetwork(w, b)
    for p in (1.0, 2.0, math.inf):
        question = LipschitzProblem(twin, p, Box.cube(2))
        answers = [solver.solve(question) for solver in (BranchAndBound(), RegionEnumeration())]
        assert answers[0].status is Status.EXACT
        assert max(answer.lower for answer in answers) <= min(answer.upper for answer in answers)


@pytest.mark.parametrize("seed", range(4))
def test_twins_that_cancel_do_not_widen_the_answer(seed: int) -> None:
    """A neuron twice, read with weights w + 2^30 v and -2^30 v: the product of all sizes is 10^8 times the gradient."""
    rng = np.random.default_rng(seed)
    w = [np.round(8 * rng.standard_normal(shape)) / 8 for shape in [(6, 3), (5, 6), (4, 5), (1, 4)]]
    b = [np.round(8 * rng.standard_normal(n)) / 8 for n in (6, 5, 4)] + [np.zeros(1)]
    large = 2.0**30 * np.round(8 * rng.standard_normal((5, 6))) / 8
    twins = ReluNetwork(
        (np.concatenate([w[0], w[0]]), np.concatenate([w[1] + large, -large], axis=1), *w[2:]),
        (np.concatenate([b[0], b[0]]), *b[1:]),
    )
    for p in (1.0, 2.0, math.inf):
        plain, answer = (
            BranchAndBound().solve(LipschitzProblem(one, p, Box.cube(3))) for one in (ReluNetwork(w, b), twins)
        )
        assert (plain.status, answer.status) == (Status.EXACT, Status.EXACT)
        assert answer.lower == pytest.approx(plain.lower, rel=1e-7)
