"""Branch and bound against vertex enumeration and linear programs, on traps of weak feasibility, and in its parts."""

from __future__ import annotations

import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from solvers.arithmetic.norms import dual_exponent
from solvers.checkers.zonotopes import dominated_lengths
from solvers.lipschitz.bounds.directions import dual_directions
from solvers.lipschitz.bounds.lengths import dominated_length
from solvers.lipschitz.bounds.norm_products import norm_product_bound
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.small_programs import best_margin, proved_maximum, solve_program
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.propagation import Propagation, propagation_bound
from solvers.lipschitz.search.expansion import expand, root_node
from solvers.lipschitz.vertex_enumeration import VertexEnumeration
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.verify import check_witness
from tests.references.instances import instances
from tests.references.lp_enumeration import lipschitz_by_lp
from tests.strategies import gaussian_network

P_VALUES = (1.0, 1.3, 2.0, 3.0, math.inf)
SOLVER = BranchAndBound()
NEVER = np.zeros(1, dtype=np.int8)


def solved(network: ReluNetwork, p: float, domain: Domain, **limits: Any) -> LipschitzBounds:
    problem = LipschitzProblem(network, p, domain)
    answer = SOLVER.solve(problem, budget=Budget(**limits))
    check = check_witness(problem, answer.witness, answer.lower)
    assert check.holds, check.reason
    return answer


def assert_exact(network: ReluNetwork, domain: Domain, truth: dict[float, float]) -> None:
    for p in P_VALUES:
        answer = solved(network, p, domain)
        assert answer.status is Status.EXACT
        assert answer.lower == pytest.approx(truth[dual_exponent(p)], rel=1e-7)
        assert answer.upper == pytest.approx(truth[dual_exponent(p)], rel=1e-7)


def some_box(d: int, rng: np.random.Generator) -> Box:
    return Box(rng.uniform(-1, -0.2, d), rng.uniform(0.2, 1, d))


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("bias", [0.0, 0.5], ids=["zero", "normal"])
@pytest.mark.parametrize("seed", range(10))
def test_shallow_networks_agree_with_vertex_enumeration(seed: int, bias: float, whole: bool) -> None:
    rng = np.random.default_rng([3, seed, int(2 * bias), whole])
    d = 1 + seed % 4
    network = gaussian_network([d, int(rng.integers(2, 11)), 1], rng, bias)
    domain: Domain = WholeSpace(d) if whole else some_box(d, rng)
    answers = VertexEnumeration().solve_batch([LipschitzProblem(network, p, domain) for p in P_VALUES])
    assert_exact(network, domain, {dual_exponent(a.p): a.upper for a in answers})


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("bias", [0.0, 0.5], ids=["zero", "normal"])
@pytest.mark.parametrize("seed", range(8))
def test_deep_networks_agree_with_linear_programs(seed: int, bias: float, whole: bool) -> None:
    # With zero biases regions where a whole layer is dead are common: the corner that other exact codes get wrong.
    rng = np.random.default_rng([4, seed, int(2 * bias), whole])
    d, depth = 1 + seed % 3, 2 + seed % 2
    network = gaussian_network([d, *rng.integers(1, 6 if depth == 2 else 5, depth).tolist(), 1], rng, bias)
    domain: Domain = WholeSpace(d) if whole else some_box(d, rng)
    assert_exact(network, domain, lipschitz_by_lp(network, domain, [dual_exponent(p) for p in P_VALUES]))


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("seed", range(10))
def test_degenerate_networks_agree_with_linear_programs(seed: int, whole: bool) -> None:
    # Small whole numbers: parallel, opposite, repeated, vanishing neurons in every layer, many kinks through one point.
    rng = np.random.default_rng([5, seed, whole])
    d = 2 + seed % 2
    sizes = [d, 5, 1] if seed % 2 else [d, 4, 3, 1]
    weights = [rng.integers(-1, 2, size=(m, n)).astype(float) for n, m in itertools.pairwise(sizes)]
    weights[-1] = rng.integers(-3, 4, size=weights[-1].shape).astype(float)
    scale = 0.0 if seed % 3 == 0 else 0.5
    network = ReluNetwork(weights, [*(scale * rng.integers(-1, 2, m) for m in sizes[1:-1]), np.zeros(1)])
    domain: Domain = WholeSpace(d) if whole else Box.cube(d)
    assert_exact(network, domain, lipschitz_by_lp(network, domain, [dual_exponent(p) for p in P_VALUES]))


def test_an_exact_zero_that_rounding_hides() -> None:
    # 0.1 x + 0.2 y - (0.1 x + 0.2 y) through two layers: the second layer's neuron is identically 0, its copies too.
    w = np.array([[0.1, 0.2], [-0.1, -0.2], [0.1, 0.2]])
    network = ReluNetwork([w, [[1.0, 1.0, -1.0], [3.0, 0.0, -3.0]], [[7.0, 5.0]]], [np.zeros(3), np.zeros(2), [0.0]])
    # First row: relu(-s) with s = 0.1 x + 0.2 y, so f = 7 relu(-s); second row: 0.
    assert_exact(
        network, WholeSpace(2), {q: 7 * float(np.linalg.norm([0.1, 0.2], q)) for q in map(dual_exponent, P_VALUES)}
    )


def test_three_lines_through_a_point_need_exact_arithmetic() -> None:
    # Normals add up to 0 and so do the biases: all three pre-activations are never positive at once, but in a point
    # they vanish together, and float64 has no margin to tell.
    w = np.array([[0.7, 0.1], [-0.3, 0.4], [-0.4, -0.5]])
    w[2] = -(w[0] + w[1])
    b = np.array([0.25, -0.125, -0.125])
    network = ReluNetwork([w, [[1.0, 1.0, 1.0]]], [b, [0.0]])
    truth = lipschitz_by_lp(network, Box.cube(2), [dual_exponent(p) for p in P_VALUES])
    assert_exact(network, Box.cube(2), truth)


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("d", [2, 4, 8])
def test_zero_bias_deep_networks_have_the_same_constant_on_every_box(d: int, depth: int) -> None:
    rng = np.random.default_rng([6, d, depth])
    network = gaussian_network([d, *[5 if d < 8 else 3] * depth, 1], rng, 0.0)
    for p in (1.0, 2.0, math.inf):
        whole, cube = solved(network, p, WholeSpace(d)), solved(network, p, Box.cube(d, -0.1, 0.3))
        assert whole.status is cube.status is Status.EXACT
        assert whole.upper == pytest.approx(cube.upper, rel=1e-9)


def test_global_is_at_least_local() -> None:
    rng = np.random.default_rng(7)
    network = gaussian_network([3, 7, 6, 1], rng, 0.4)
    for p in P_VALUES:
        values = [solved(network, p, Box.cube(3, -r, r)).upper for r in (0.1, 0.5, 2.0)]
        values.append(solved(network, p, WholeSpace(3)).upper)
        assert values == sorted(values) or np.diff(values).min() >= -1e-9 * values[-1]


@pytest.mark.parametrize("limits", [{"seconds": 0.0}, {"seconds": 0.01}, {"seconds": 0.05}, {"nodes": 3}], ids=str)
def test_budgets_end_in_a_valid_interval(limits: dict[str, float]) -> None:
    rng = np.random.default_rng(8)
    for bias in (0.0, 0.5):
        network = gaussian_network([4, 8, 8, 1], rng, bias)
        for domain in (Box.cube(4), WholeSpace(4)):
            for p in (1.0, 2.0, math.inf):
                truth = solved(network, p, domain)
                assert truth.status is Status.EXACT
                answer = solved(network, p, domain, **limits)
                assert answer.lower <= truth.upper * (1 + 1e-12)
                assert answer.upper >= truth.lower * (1 - 1e-12)
                assert answer.status in (Status.EXACT, Status.BUDGET_SPENT)


def test_a_raised_flag_leaves_nodes_as_they_were() -> None:
    problem = LipschitzProblem(gaussian_network([4, 10, 8, 1], np.random.default_rng(16), 0.3), 2.0, Box.cube(4))
    stop = np.zeros(1, dtype=np.int8)
    pieces = [PieceArrays.of(piece, None, stop) for piece in bounded_pieces(problem)]
    nodes = root_node(pieces, 0, 0.0, 0.0).nodes
    nodes = expand(nodes, pieces, 0.0, 0.0, 3).nodes
    stop[0] = 1
    found = expand(nodes, pieces, 0.0, 0.0, 10, keep=True)
    assert (found.expanded, found.programs, found.proofs) == (0, 0, [])
    assert [node.bound for node in found.nodes] == [node.bound for node in nodes]
    for one, other in zip(found.nodes, nodes, strict=True):
        np.testing.assert_array_equal(one.signs, other.signs)
        assert one.split == other.split
    root = root_node(pieces, 0, 0.0, 0.0).nodes
    assert [node.bound for node in root] == [math.inf]


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
def test_a_time_limit_is_kept_inside_a_node(whole: bool) -> None:
    # One node of this network takes a good part of the limit, and its linear programs much more.
    solved(gaussian_network([3, 4, 4, 1], np.random.default_rng(17), 0.3), 2.0, WholeSpace(3) if whole else Box.cube(3))
    network = gaussian_network([400, 150, 150, 1], np.random.default_rng(17), 0.3)
    domain: Domain = WholeSpace(400) if whole else Box.cube(400)
    for p in (1.0, 2.0, math.inf):
        answer = SOLVER.solve(LipschitzProblem(network, p, domain), budget=Budget(seconds=0.5))
        assert answer.status is Status.BUDGET_SPENT
        # How long it took is the machine's; in the time that one node takes no search gets far.
        assert answer.stats["nodes"] < 1000
        # Singular values may have been too long for the limit: then products of cheaper norms are what is known.
        assert 0 < answer.lower <= answer.upper <= norm_product_bound(network, p, 0.0)


def test_a_wide_gap_ends_the_search_early() -> None:
    network = gaussian_network([5, 12, 8, 1], np.random.default_rng(9), 0.3)
    exact, wide = (solved(network, 2.0, Box.cube(5), relative_gap=gap) for gap in (1e-6, 0.2))
    assert wide.status is Status.EXACT
    assert wide.stats["nodes"] < exact.stats["nodes"]
    assert wide.lower <= exact.upper
    assert wide.upper >= exact.lower
    assert wide.upper <= wide.lower * 1.25 * (1 + 1e-9)


def test_expansion_is_a_pure_function_that_pickles() -> None:
    network = gaussian_network([3, 6, 5, 1], np.random.default_rng(10), 0.3)
    problem = LipschitzProblem(network, math.inf)
    directions = dual_directions(network, problem.dual_p)
    pieces = [PieceArrays.of(piece, directions) for piece in bounded_pieces(problem)]
    nodes = [node for k in range(len(pieces)) for node in root_node(pieces, k, 0.0, 0.0).nodes]
    before = pickle.dumps(nodes)
    again_nodes, again_pieces = pickle.loads(pickle.dumps((nodes, pieces)))
    first, second = expand(nodes, pieces, 0.0, 0.0), expand(again_nodes, again_pieces, 0.0, 0.0)
    assert pickle.dumps(nodes) == before
    assert first.discarded == second.discarded
    assert len(first.nodes) == len(second.nodes) > 0
    for one, other in zip(first.nodes, second.nodes, strict=True):
        assert one.bound == other.bound
        np.testing.assert_array_equal(one.signs, other.signs)
        parent = next(n for n in nodes if n.piece == one.piece)
        assert one.bound <= parent.bound


def test_threads_find_what_one_thread_finds() -> None:
    network = gaussian_network([5, 24, 1], np.random.default_rng(21), 0.3)
    problem = LipschitzProblem(network, 2.0, Box.cube(5))
    one, two = (BranchAndBound(batch=8, steps=4, threads=count).solve(problem) for count in (1, 2))
    assert one.stats["nodes"] > 100
    for field in ("lower", "upper", "status"):
        assert getattr(one, field) == getattr(two, field)
    assert {**one.stats, "wall_seconds": 0} == {**two.stats, "wall_seconds": 0}


def test_no_gradient_inside_a_node_is_longer_than_its_bound() -> None:
    rng = np.random.default_rng(11)
    network = gaussian_network([3, 6, 5, 4, 1], rng, 0.3)
    for p in P_VALUES:
        problem = LipschitzProblem(network, p, Box.cube(3))
        directions = dual_directions(problem.network, problem.dual_p)
        pieces = [PieceArrays.of(piece, directions) for piece in bounded_pieces(problem)]
        nodes = root_node(pieces, 0, 0.0, 0.0).nodes
        for _ in range(4):
            leaves = [n for n in nodes if n.split[0] == 3]
            nodes = [*leaves, *expand([n for n in nodes if n.split[0] < 3], pieces, 0.0, 0.0).nodes]
        points = rng.uniform(-1, 1, (3000, 3))
        signs = [z > 0 for z in network.pre_activations(points)]
        rows = np.broadcast_to(network.weights[-1], (len(points), network.widths[-1]))
        for w, active in zip(reversed(network.weights[:-1]), reversed(signs), strict=True):
            rows = (rows * active) @ w
        lengths = np.linalg.norm(rows, problem.dual_p, axis=1)
        covered = np.zeros(len(points), dtype=bool)
        for node in nodes:
            inside = np.ones(len(points), dtype=bool)
            for m, width in enumerate(network.widths):
                fixed = node.signs[m, :width]
                inside &= ((fixed == 0) | (signs[m] == (fixed > 0))).all(axis=1)
            assert (lengths[inside] <= node.bound).all()
            covered |= inside
        assert covered.all()  # a floor of 0 drops nothing but empty nodes


@pytest.mark.parametrize("q", [1.25, 1.5, 2.0, 2.5, 3.0, 6.0])
def test_dominated_lengths_bound_every_corner(q: float) -> None:
    """||sum c_i rows_i||_q is convex in c, so its maximum over a box of coefficients stands at a corner."""
    rng = np.random.default_rng([6, int(4 * q)])
    tightest = math.inf
    for _ in range(200):
        count, d = int(rng.integers(1, 9)), int(rng.integers(1, 6))
        rows = rng.standard_normal((count, d)) * 10.0 ** rng.integers(-3, 4)
        low = np.where(rng.random(count) < 0.5, 0.0, -rng.random(count))
        high = np.where(rng.random(count) < 0.2, low, rng.random(count))
        rows[rng.random(rows.shape) < 0.2] = 0.0
        corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
        gradients = corners @ rows
        largest = np.maximum(low[:, None] * rows, high[:, None] * rows).sum(axis=0)
        smallest = np.minimum(low[:, None] * rows, high[:, None] * rows).sum(axis=0)
        near = np.maximum(np.maximum(smallest, -largest), 0.0)
        reach = np.maximum(largest, -smallest)
        bound = dominated_length(rows, low, high, count, q, near, reach)
        truth = (np.abs(gradients) ** q).sum(axis=1).max() ** (1 / q)
        assert bound >= truth * (1 - 1e-12)
        # The checker's own is no wider, or it would refuse what the search has proved.
        middle, half = 0.5 * (low + high), 0.5 * (high - low)
        (checked,) = dominated_lengths(rows[None], middle[None], half[None], q, near[None], reach[None])
        assert truth * (1 - 1e-12) <= checked <= bound * (1 + 1e-11)
        if truth:
            tightest = min(tightest, bound / truth)
    assert tightest < 1.001  # it is reached where there is one row, or one dimension


def test_propagation_lies_between_the_constant_and_the_product_of_norms() -> None:
    rng = np.random.default_rng(12)
    for sizes in ([3, 8, 1], [3, 6, 6, 1], [2, 5, 5, 5, 1]):
        network = gaussian_network(sizes, rng, 0.5)
        for p in P_VALUES:
            for domain in (Box.cube(sizes[0], -0.2, 0.2), WholeSpace(sizes[0])):
                problem = LipschitzProblem(network, p, domain)
                upper = Propagation().solve(problem).upper
                assert solved(network, p, domain).lower <= upper <= norm_product_bound(network, p)
    # A box inside one linear region has one gradient, and propagation finds it.
    tiny = LipschitzProblem(network, 2.0, Box.ball(np.array([0.31, -0.47]), 1e-7))
    assert propagation_bound(tiny) == pytest.approx(solved(network, 2.0, tiny.domain).upper, rel=1e-9)


def test_small_programs_agree_with_highs_and_prove_what_they_say() -> None:
    rng = np.random.default_rng(13)
    infeasible = 0
    for _ in range(150):
        k, m = int(rng.integers(1, 9)), int(rng.integers(1, 25))
        a, b, c = rng.normal(size=(m, k)), 0.5 * rng.normal(size=m) + rng.choice([0.0, 1.0]), rng.normal(size=k)
        low, high = rng.uniform(-2, -0.5, k), rng.uniform(0.5, 2, k)
        x, y, zero = np.zeros(k), np.zeros(m), np.zeros(m)
        status = solve_program(c, a, b, low, high, 500, x, y, NEVER)
        truth = linprog(-c, A_ub=-a, b_ub=b, bounds=np.column_stack([low, high]), method="highs-ds")
        assert (y >= 0).all()
        if truth.status == 2:
            infeasible += 1
            assert status == 0
            assert proved_maximum(np.zeros(k), 0.0, a, b, zero, low, high, y) < 0
        else:
            assert status == 1
            assert proved_maximum(c, 0.0, a, b, zero, low, high, y) == pytest.approx(-truth.fun, abs=1e-8)
            assert proved_maximum(c, 0.0, a, b, zero, low, high, rng.uniform(0, 1, m)) >= -truth.fun - 1e-9
        margin, bound = best_margin(a, b, zero, low, high, 10.0, x, y, NEVER)
        lengths = np.linalg.norm(a, axis=1)
        deepest = linprog(
            np.append(np.zeros(k), -1.0),
            A_ub=np.column_stack([-a, lengths]),
            b_ub=b,
            bounds=[*zip(low, high, strict=True), (None, 10.0)],
            method="highs-ds",
        )
        assert margin == pytest.approx(-deepest.fun, abs=1e-8)
        assert (bound < 0) == (deepest.fun > 1e-12)
    assert infeasible > 10


@pytest.mark.parametrize("p", P_VALUES, ids=str)
def test_closed_forms_are_exact(p: float) -> None:
    for instance in instances():
        answer = solved(instance.network, p, instance.domain)
        assert answer.status is Status.EXACT
        assert answer.upper == pytest.approx(instance.constant(dual_exponent(p)), rel=1e-9)
