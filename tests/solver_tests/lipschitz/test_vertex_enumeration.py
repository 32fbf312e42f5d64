"""Vertex enumeration against linear programs, degenerate input, invariances, and batches bit by bit."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from solvers.arithmetic.norms import dual_exponent
from solvers.lipschitz.shallow.cell_enumeration import cells, open_arrangements
from solvers.lipschitz.vertex_enumeration import VertexEnumeration
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.registry import lipschitz_solver_named
from solvers.verify import check_witness
from tests.references.lp_enumeration import lipschitz_by_lp

P_VALUES = (1.0, 1.25, 1.5, 2.0, 4.0, math.inf)
SOLVER = VertexEnumeration()
AUTO = lipschitz_solver_named("auto")


def random_network(d: int, n: int, bias: float, rng: np.random.Generator) -> ReluNetwork:
    w = rng.normal(size=(n, d)) * np.sqrt(2 / n)
    return ReluNetwork([w, rng.normal(size=(1, n))], [bias * rng.normal(size=n), [0.0]])


def constants(network: ReluNetwork, domain: Domain) -> list[float]:
    answers = SOLVER.solve_batch([LipschitzProblem(network, p, domain) for p in P_VALUES])
    for answer in answers:
        assert answer.status is Status.EXACT
        check = check_witness(LipschitzProblem(network, answer.p, domain), answer.witness, answer.lower)
        assert check.holds, check.reason
    return [answer.upper for answer in answers]


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("bias", [0.0, 0.5], ids=["zero", "normal"])
@pytest.mark.parametrize("seed", range(14))
def test_agrees_with_linear_programs(seed: int, bias: float, whole: bool) -> None:
    rng = np.random.default_rng([seed, int(2 * bias), whole])
    d = 1 + seed % 4
    n = int(rng.integers(1, 13 if d < 4 else 10))
    network = random_network(d, n, bias, rng)
    domain: Domain = WholeSpace(d) if whole else Box(rng.uniform(-1, -0.2, d), rng.uniform(0.2, 1, d))
    truth = lipschitz_by_lp(network, domain, [dual_exponent(p) for p in P_VALUES])
    np.testing.assert_allclose(constants(network, domain), [truth[dual_exponent(p)] for p in P_VALUES], rtol=1e-9)


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("seed", range(6))
def test_degenerate_networks_agree_with_linear_programs(seed: int, whole: bool) -> None:
    # Small whole-number weights: parallel, opposite, repeated and zero rows, many kinks through one point.
    rng = np.random.default_rng([77, seed])
    d = 2 + seed % 2
    w = rng.integers(-1, 2, size=(7, d)).astype(float)
    network = ReluNetwork([w, rng.integers(-3, 4, size=(1, 7))], [rng.integers(-1, 2, size=7) / 4, [0.0]])
    domain: Domain = WholeSpace(d) if whole else Box.cube(d)
    truth = lipschitz_by_lp(network, domain, [dual_exponent(p) for p in P_VALUES])
    np.testing.assert_allclose(constants(network, domain), [truth[dual_exponent(p)] for p in P_VALUES], rtol=1e-9)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_rank_deficient_weights(d: int) -> None:
    rng = np.random.default_rng(d)
    # Multiples by powers of two are exact, so the rank is 1 in exact arithmetic too.
    w = np.outer([1.0, -2.0, 0.5, 4.0, 1.0, -0.25], rng.normal(size=d)) if d == 2 else rng.normal(size=(2, d))
    network = ReluNetwork([w, rng.normal(size=(1, len(w)))], [rng.normal(size=len(w)), [0.0]])
    truth = lipschitz_by_lp(network, WholeSpace(d), [dual_exponent(p) for p in P_VALUES])
    np.testing.assert_allclose(
        constants(network, WholeSpace(d)), [truth[dual_exponent(p)] for p in P_VALUES], rtol=1e-9
    )


def test_a_rank_hidden_by_rounding_leaves_an_interval() -> None:
    # Rounded multiples of one row are not quite parallel: their kinks meet 1e16 away, beyond what float64 can witness.
    rng = np.random.default_rng(2)
    w = np.outer(rng.normal(size=6), rng.normal(size=2))
    network = ReluNetwork([w, rng.normal(size=(1, 6))], [rng.normal(size=6), [0.0]])
    near = lipschitz_by_lp(network, WholeSpace(2), [2.0])[2.0]
    for answer in (SOLVER.solve(LipschitzProblem(network, 2.0)), AUTO.solve(LipschitzProblem(network, 2.0))):
        assert answer.lower <= near * (1 + 1e-12) <= answer.upper * (1 + 1e-12)
    assert answer.lower > 0.5 * near


def test_cells_are_counted_as_zaslavsky_says() -> None:
    rng = np.random.default_rng(4)
    for d, n in [(1, 5), (2, 7), (3, 8), (4, 8)]:
        normals, biases = rng.normal(size=(n, d, 1)), rng.normal(size=(n, 1))
        patterns: set[bytes] = set()
        visits = 0
        for arrangement in open_arrangements(normals, biases):
            for batch in cells(arrangement):
                signs = batch.positive[:, :, 0].T.numpy()[batch.found[:, 0].numpy()]
                visits += len(signs)
                patterns.update(row.tobytes() for row in signs)
        assert visits == len(patterns) == sum(math.comb(n, k) for k in range(d + 1))


def test_many_networks_at_once_get_the_same_bits_as_alone() -> None:
    rng = np.random.default_rng(9)
    networks = [random_network(3, 9, 1.0, rng) for _ in range(40)]
    problems = [LipschitzProblem(network, p) for network in networks for p in P_VALUES]
    together = SOLVER.solve_batch(problems)
    for problem, answer in zip(problems[:: len(P_VALUES) + 1], together[:: len(P_VALUES) + 1], strict=True):
        alone = SOLVER.solve(problem)
        assert (answer.lower, answer.upper) == (alone.lower, alone.upper)
        assert answer.witness is not None
        assert alone.witness is not None
        np.testing.assert_array_equal(answer.witness.point, alone.witness.point)


def test_permuting_neurons_and_scaling_through_them_changes_nothing() -> None:
    rng = np.random.default_rng(12)
    network = random_network(3, 8, 0.7, rng)
    order, scale = rng.permutation(8), rng.uniform(0.1, 10, 8)
    w, b, v = network.weights[0], network.biases[0], network.weights[1]
    other = ReluNetwork([(w * scale[:, None])[order], (v / scale)[:, order]], [(b * scale)[order], [0.0]])
    np.testing.assert_allclose(constants(other, WholeSpace(3)), constants(network, WholeSpace(3)), rtol=1e-12)


def test_a_shift_of_input_and_domain_changes_nothing() -> None:
    rng = np.random.default_rng(13)
    network, shift = random_network(2, 9, 0.7, rng), np.array([0.3, -0.2])
    moved = ReluNetwork(network.weights, [network.biases[0] - network.weights[0] @ shift, network.biases[1]])
    np.testing.assert_allclose(constants(moved, Box(shift - 1, shift + 1)), constants(network, Box.cube(2)), rtol=1e-12)


def test_a_larger_domain_never_lowers_the_constant() -> None:
    rng = np.random.default_rng(14)
    network = random_network(3, 10, 1.0, rng)
    sizes = [constants(network, Box.cube(3, -r, r)) for r in (0.1, 0.5, 1.0, 3.0)]
    sizes.append(constants(network, WholeSpace(3)))
    for small, large in itertools.pairwise(sizes):
        assert (np.array(large) >= np.array(small) * (1 - 1e-12)).all()


def test_a_spent_budget_is_an_interval() -> None:
    rng = np.random.default_rng(15)
    network = random_network(4, 24, 1.0, rng)
    problem = LipschitzProblem(network, 1.5)
    truth = SOLVER.solve(problem)
    for nodes in (0, 1, 2000):
        answer = SOLVER.solve(problem, budget=Budget(nodes=nodes))
        assert answer.status is Status.BUDGET_SPENT
        assert answer.lower <= truth.upper
        assert answer.upper >= truth.lower


def test_nearly_coincident_kinks_are_not_trusted_to_rounding() -> None:
    # Two hyperplanes 1e-14 apart: between them a sliver with gradient (1, 0), no float64 witness can be inside safely.
    network = ReluNetwork([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[1.0, -1.0, 0.1]]], [[0.0, 1e-14, 0.3], [0.0]])
    answer = SOLVER.solve(LipschitzProblem(network, 2.0))
    truth = math.hypot(1.0, 0.1)
    assert answer.lower <= truth <= answer.upper
    assert answer.status is Status.NUMERICAL_TROUBLE
