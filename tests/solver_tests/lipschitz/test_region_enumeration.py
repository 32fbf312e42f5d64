"""Region enumeration against linear programs over all patterns, Zaslavsky's counts, closed forms and other methods."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from solvers.arithmetic.norms import dual_exponent
from solvers.errors import UnsupportedProblemError
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.region_enumeration import MOST_INPUTS, RegionEnumeration
from solvers.lipschitz.regions.exact_vertices import ExactVertices
from solvers.lipschitz.regions.geometry import CellRows, Solver, locate
from solvers.lipschitz.regions.pieces import region_pieces, start_of
from solvers.lipschitz.regions.state import IMPROVED, TOP
from solvers.lipschitz.regions.stream import RegionStream, new_record, padded_network, stream_regions
from solvers.lipschitz.surveys.region_count import count_regions
from solvers.lipschitz.vertex_enumeration import VertexEnumeration
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import LinearRegion
from solvers.problems.results import LipschitzBounds, Status
from solvers.verify import check_witness
from tests.references.instances import instances
from tests.references.lp_enumeration import lipschitz_by_lp, regions
from tests.strategies import gaussian_network

P_VALUES = (1.0, 1.3, 2.0, 3.0, math.inf)
SOLVER = RegionEnumeration()


def solved(network: ReluNetwork, domain: Domain, **limits: Any) -> dict[float, LipschitzBounds]:
    """Answers for all p in one pass, their witnesses checked in exact arithmetic."""
    problems = [LipschitzProblem(network, p, domain) for p in P_VALUES]
    answers = SOLVER.solve_batch(problems, budget=Budget(**limits))
    for problem, answer in zip(problems, answers, strict=True):
        check = check_witness(problem, answer.witness, answer.lower)
        assert check.holds, check.reason
    return dict(zip(P_VALUES, answers, strict=True))


def assert_exact(network: ReluNetwork, domain: Domain, truth: dict[float, float]) -> None:
    for p, answer in solved(network, domain).items():
        assert answer.status is Status.EXACT
        assert answer.lower == pytest.approx(truth[dual_exponent(p)], rel=1e-7)
        assert answer.upper == pytest.approx(truth[dual_exponent(p)], rel=1e-7)


def some_box(d: int, rng: np.random.Generator) -> Box:
    return Box(rng.uniform(-1, -0.2, d), rng.uniform(0.2, 1, d))


def whole_numbers(sizes: list[int], scale: float, rng: np.random.Generator) -> ReluNetwork:
    """Weights and biases in {-1, 0, 1}: parallel, opposite, repeated, vanishing neurons, many kinks through a point."""
    weights = [rng.integers(-1, 2, size=(m, n)).astype(float) for n, m in itertools.pairwise(sizes)]
    weights[-1] = rng.integers(-3, 4, size=weights[-1].shape).astype(float)
    return ReluNetwork(weights, [*(scale * rng.integers(-1, 2, m) for m in sizes[1:-1]), np.zeros(1)])


def patterns_by_lp(network: ReluNetwork, domain: Domain) -> set[tuple[tuple[bool, ...], ...]]:
    found = (pattern for pattern, _ in regions(network, domain))
    return {tuple(tuple(layer.tolist()) for layer in pattern) for pattern in found}


def patterns_by_solver(network: ReluNetwork, domain: Domain) -> list[tuple[tuple[bool, ...], ...]]:
    found = []
    for piece in region_pieces(LipschitzProblem(network, 2.0, domain)):
        for region in stream_regions(piece):
            gradient = LinearRegion(network, region.pattern).gradient()[0]
            np.testing.assert_allclose(region.gradient, gradient, rtol=1e-12, atol=1e-12)
            found.append(tuple(tuple(layer.tolist()) for layer in region.pattern))
    return found


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("kind", ["zero bias", "normal bias", "whole numbers", "whole numbers, zero bias"])
@pytest.mark.parametrize("seed", range(9))
def test_patterns_are_those_that_linear_programs_find(seed: int, kind: str, whole: bool) -> None:
    rng = np.random.default_rng([1, seed, len(kind), whole])
    d, depth = 1 + seed % 3, 1 + seed // 3
    sizes = [d, *rng.integers(2, 6 if depth < 3 else 5, depth).tolist(), 1]
    if kind.startswith("whole"):
        network = whole_numbers(sizes, 0.0 if kind.endswith("zero bias") else 0.5, rng)
    else:
        network = gaussian_network(sizes, rng, 0.0 if kind.startswith("zero") else 0.5)
    domain: Domain = WholeSpace(d) if whole else some_box(d, rng)
    theirs = patterns_by_lp(network, domain)
    ours = patterns_by_solver(network, domain)
    assert set(ours) == theirs
    assert count_regions(network, domain) == len(theirs)
    if len(region_pieces(LipschitzProblem(network, 2.0, domain))) == 1:
        assert len(ours) == len(theirs)  # each once
        counted = RegionEnumeration(every=True).solve(LipschitzProblem(network, 2.0, domain))
        assert counted.stats["regions"] == len(theirs)


@pytest.mark.parametrize(("d", "n"), [(1, 9), (2, 12), (3, 9), (4, 7), (5, 6)])
def test_generic_shallow_networks_have_the_regions_of_zaslavsky(d: int, n: int) -> None:
    network = gaussian_network([d, n, 1], np.random.default_rng([2, d]), 0.5)
    assert count_regions(network) == sum(math.comb(n, i) for i in range(d + 1))
    central = gaussian_network([d, n, 1], np.random.default_rng([2, d]), 0.0)
    assert count_regions(central) == 2 * sum(math.comb(n - 1, i) for i in range(d))
    assert count_regions(central, Box.cube(d, -0.5, 2.0)) == count_regions(central)


def test_more_facets_than_bits_in_a_word() -> None:
    # 80 tangents of a circle: the cell in the middle has 80 sides.
    angles = 2 * np.pi * np.arange(80) / 80
    w = np.column_stack([np.cos(angles), np.sin(angles)])
    network = ReluNetwork([w, np.ones((1, 80))], [np.full(80, -0.5), np.zeros(1)])
    piece = bounded_pieces(LipschitzProblem(network, 2.0, Box.cube(2)))[0]
    middle = [region for region in stream_regions(piece) if not region.pattern[0].any()]
    assert [len(region.vertices) for region in middle] == [80]


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("bias", [0.0, 0.5], ids=["zero", "normal"])
@pytest.mark.parametrize("seed", range(6))
def test_constants_agree_with_linear_programs(seed: int, bias: float, whole: bool) -> None:
    rng = np.random.default_rng([3, seed, int(2 * bias), whole])
    d, depth = 1 + seed % 3, 2 + seed % 2
    network = gaussian_network([d, *rng.integers(1, 6 if depth == 2 else 5, depth).tolist(), 1], rng, bias)
    domain: Domain = WholeSpace(d) if whole else some_box(d, rng)
    assert_exact(network, domain, lipschitz_by_lp(network, domain, [dual_exponent(p) for p in P_VALUES]))


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("bias", [0.0, 0.5], ids=["zero", "normal"])
@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_the_three_exact_methods_agree(d: int, bias: float, whole: bool) -> None:
    rng = np.random.default_rng([4, d, int(2 * bias), whole])
    domain: Domain = WholeSpace(d) if whole else some_box(d, rng)
    for depth in (1, 2, 3):
        network = gaussian_network([d, *rng.integers(3, 9 - d, depth).tolist(), 1], rng, bias)
        other = VertexEnumeration() if depth == 1 else BranchAndBound()
        answers = other.solve_batch([LipschitzProblem(network, p, domain) for p in P_VALUES])
        assert_exact(network, domain, {dual_exponent(a.p): a.upper for a in answers})


@pytest.mark.parametrize("p", P_VALUES, ids=str)
def test_closed_forms_are_exact(p: float) -> None:
    for instance in instances():
        answer = SOLVER.solve(LipschitzProblem(instance.network, p, instance.domain))
        assert answer.status is Status.EXACT
        assert answer.upper == pytest.approx(instance.constant(dual_exponent(p)), rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_degenerate_networks_agree_with_linear_programs(seed: int) -> None:
    rng = np.random.default_rng([5, seed])
    d = 2 + seed % 2
    network = whole_numbers([d, 5, 4, 1], 0.0 if seed % 3 == 0 else 0.5, rng)
    for domain in (WholeSpace(d), Box.cube(d)):
        assert_exact(network, domain, lipschitz_by_lp(network, domain, [dual_exponent(p) for p in P_VALUES]))


def test_an_exact_zero_that_rounding_hides() -> None:
    # Second layer: 0.1 x + 0.2 y minus itself, so identically 0 where float64 sees noise; f = 7 relu(-(0.1 x + 0.2 y)).
    w = np.array([[0.1, 0.2], [-0.1, -0.2], [0.1, 0.2]])
    network = ReluNetwork([w, [[1.0, 1.0, -1.0], [3.0, 0.0, -3.0]], [[7.0, 5.0]]], [np.zeros(3), np.zeros(2), [0.0]])
    truth = {q: 7 * float(np.linalg.norm([0.1, 0.2], q)) for q in map(dual_exponent, P_VALUES)}
    for domain in (WholeSpace(2), Box.cube(2)):
        assert_exact(network, domain, truth)
        assert count_regions(network, domain) == 2


def test_a_sliver_thinner_than_rounding_is_found_and_its_neighbour_is_not_invented() -> None:
    # Three lines through a point cut the plane into six; moved apart by 2^-60, into seven.
    w = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    off_the_origin = ReluNetwork([w, np.ones((1, 3))], [[-0.25, -0.5, -0.75], [0.0]])
    assert count_regions(off_the_origin, Box.cube(2)) == 6
    for shift, count in ((2.0**-60, 7), (0.0, 6), (-(2.0**-60), 7)):
        network = ReluNetwork([w, np.ones((1, 3))], [[shift, 0.0, 0.0], [0.0]])
        assert count_regions(network, Box.cube(2)) == count
        assert count_regions(network) == count


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("d", [2, 3, 4])
def test_zero_bias_networks_have_the_same_constant_on_every_box(d: int, depth: int) -> None:
    rng = np.random.default_rng([6, d, depth])
    network = gaussian_network([d, *[6 if d < 4 else 5] * depth, 1], rng, 0.0)
    whole, cube = solved(network, WholeSpace(d)), solved(network, Box.cube(d, -0.1, 0.3))
    for p in P_VALUES:
        assert whole[p].status is cube[p].status is Status.EXACT
        assert whole[p].upper == pytest.approx(cube[p].upper, rel=1e-9)


@pytest.mark.parametrize("limits", [{"seconds": 0.0}, {"seconds": 0.01}, {"nodes": 0}, {"nodes": 7}], ids=str)
def test_budgets_end_in_a_valid_interval(limits: dict[str, float]) -> None:
    rng = np.random.default_rng(8)
    for bias in (0.0, 0.5):
        network = gaussian_network([4, 8, 8, 1], rng, bias)
        for domain in (Box.cube(4), WholeSpace(4)):
            truth, answers = solved(network, domain), solved(network, domain, **limits)
            for p, answer in answers.items():
                assert truth[p].status is Status.EXACT
                assert answer.lower <= truth[p].upper
                assert answer.upper >= truth[p].lower
                assert answer.status in (Status.EXACT, Status.BUDGET_SPENT)


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("widths", [(9,), (12, 9), (6, 5, 5), (4, 4, 4, 4)], ids=str)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_cells_are_passed_over_only_where_nothing_longer_lies(d: int, widths: tuple[int, ...], whole: bool) -> None:
    passed = 0.0
    for seed in range(3):
        rng = np.random.default_rng([12, d, len(widths), seed])
        network = gaussian_network([d, *widths, 1], rng, 0.3)
        domain: Domain = WholeSpace(d) if whole else some_box(d, rng)
        problems = [LipschitzProblem(network, p, domain) for p in P_VALUES]
        quick, every = SOLVER.solve_batch(problems), RegionEnumeration(every=True).solve_batch(problems)
        for one, other in zip(quick, every, strict=True):
            assert one.status is other.status is Status.EXACT
            assert one.upper == pytest.approx(other.upper, rel=1e-14)
            assert one.lower == pytest.approx(other.lower, rel=1e-11)
        alone = SOLVER.solve(problems[2])
        assert (alone.lower, alone.upper) == (quick[2].lower, quick[2].upper)
        assert alone.stats["cells"] <= quick[2].stats["cells"]
        passed += alone.stats["passed"]
    assert passed > 0


def test_too_many_inputs_are_refused_in_a_clear_clause() -> None:
    network = gaussian_network([MOST_INPUTS + 1, 3, 1], np.random.default_rng(9))
    with pytest.raises(UnsupportedProblemError, match=rf"at most {MOST_INPUTS} inputs.*d = {MOST_INPUTS + 1}"):
        SOLVER.solve(LipschitzProblem(network, 2.0))


@pytest.mark.parametrize("bias", [0.0, 0.5], ids=["zero", "normal"])
@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_cones_cover_all_of_space_once(d: int, bias: float) -> None:
    rng = np.random.default_rng([11, d])
    pieces = region_pieces(LipschitzProblem(gaussian_network([d, d + 1, 1], rng, bias), 2.0))
    assert len(pieces) == d + 1
    points = rng.standard_normal((200, d))
    if bias:
        points = np.column_stack([points, np.ones(200)])
    covered = np.zeros(200, dtype=int)
    for piece in pieces:
        start = start_of(piece)
        heights = start.given[:-1, :-1] @ points.T
        covered += (heights > 0).all(axis=0)
        # Along the rays every point has the coordinates that the facets measure; at a corner all but one are 0.
        np.testing.assert_allclose((heights.T / heights.sum(axis=0)[:, None]).sum(axis=1), 1.0)
        values = start.corners @ start.given[:, :-1].T + start.given[:, -1]
        assert ((values == 0) == start.through).all()
        assert (values[~start.through] > 0).all()
        inside = start.corners.mean(axis=0)
        np.testing.assert_allclose(inside @ start.given[-1, :-1], 1.0)
        assert (start.low <= start.corners).all()
        assert (start.corners <= start.high).all()
    assert (covered == 1).all()


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("d", [2, 4, 6])
def test_vertices_lie_within_their_error_bounds(d: int, whole: bool) -> None:
    rng = np.random.default_rng([10, d])
    network = gaussian_network([d, 8, 8, 1], rng, 0.3)
    piece = region_pieces(LipschitzProblem(network, 2.0, WholeSpace(d) if whole else Box.cube(d)))[0]
    start = start_of(piece)
    stream = RegionStream(piece, new_record([2.0], [-1.0], d, every=True))
    exact = ExactVertices(piece.network, start.given, start.bias_row, len(piece.network.weights[0]))
    seen = 0
    while stream.advance(200) == IMPROVED or seen < 20:
        stack = stream._stack
        cell = int(stack.state[TOP])
        if cell < 0:
            break
        start, count = stack.cells[cell, :2]
        for v in range(start, start + min(count, 8)):
            truth = exact.vertex(stack.signs[cell], stack.masks[v])
            for x, t in zip(stack.points[v, :-1].tolist(), truth, strict=True):
                assert abs(t - type(t)(x)) <= stack.points[v, -1]
        stream.record.screen[:] = stream.record.top
        seen += 1
    assert seen > 3


def test_a_vertex_is_located_from_more_facets_than_needed() -> None:
    # Three kinks and a face of the box through one point in the plane.
    network = ReluNetwork([[[1.0, 0.0], [0.0, 3.0], [1.0, 1.0]], np.ones((1, 3))], [[-0.5, -3.0, -1.5], [0.0]])
    piece = bounded_pieces(LipschitzProblem(network, 2.0, Box.cube(2)))[0]
    net = padded_network(piece, start_of(piece))
    cell = CellRows(*(np.zeros(shape) for shape in ((1, 3, 3), (1, 3), (1, 3), (1, 3), (1, 2, 3))))
    cell.rows[0, :2], cell.rows[0, 2] = network.weights[0].T, network.biases[0]
    room = Solver(
        np.zeros((7, 3)), np.zeros(7), np.zeros((7, 2)), np.zeros((2, 4)), np.zeros(2, dtype=np.int64), np.zeros(2),
        np.zeros(7, dtype=np.bool_), np.zeros(2, dtype=np.bool_),
    )  # fmt: skip
    error = locate(net, cell, np.array([0b1111000], dtype=np.uint64), room)
    assert error < 1e-14
    np.testing.assert_allclose(room.place, [0.5, 1.0], atol=1e-15)
