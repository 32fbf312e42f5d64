"""Trees of splits as certificates: honest ones pass, and every lie is rejected with its reason."""

from __future__ import annotations

import copy
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest

from solvers.checkers.outward_ranges import PieceNetwork, gradients_are_short, tighten_ranges
from solvers.checkers.search_tree import check_search_tree
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.search import kept_proofs
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.verify import CERTIFICATE_CHECKERS, Verdict, verify_bounds
from tests.references.instances import instances
from tests.strategies import gaussian_network

P_VALUES = (1.0, 1.3, 2.0, 3.0, math.inf)
SOLVER = BranchAndBound().certifying()


def certified(problem: LipschitzProblem, **limits: Any) -> tuple[LipschitzBounds, dict[str, Any]]:
    answer = SOLVER.solve(problem, budget=Budget(**limits))
    assert answer.certificate is not None
    assert answer.certificate.kind == "search-tree"
    return answer, json.loads(json.dumps(answer.certificate.data))


def assert_proved(problem: LipschitzProblem, **limits: Any) -> LipschitzBounds:
    answer, data = certified(problem, **limits)
    check = CERTIFICATE_CHECKERS["search-tree"](problem, data, answer.upper)
    assert check.holds, check.reason
    return answer


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("bias", [0.0, 0.5], ids=["zero", "normal"])
@pytest.mark.parametrize("sizes", [[1, 4, 3, 1], [2, 8, 1], [3, 6, 6, 1], [4, 5, 3, 3, 1], [5, 5, 4, 1]], ids=str)
def test_honest_trees_pass(sizes: list[int], bias: float, whole: bool) -> None:
    network = gaussian_network(sizes, np.random.default_rng([1, *sizes]), bias)
    domain: Domain = WholeSpace(sizes[0]) if whole else Box.cube(sizes[0])
    for p in P_VALUES if sizes[0] < 3 else (1.0, 1.3, math.inf):
        problem = LipschitzProblem(network, p, domain)
        answer = assert_proved(problem)
        assert answer.status is Status.EXACT
        plain = BranchAndBound().solve(problem)
        assert answer.upper == pytest.approx(plain.upper, rel=1e-9)


@pytest.mark.parametrize("p", [1.1, 1.5, 1.9])
@pytest.mark.parametrize("seed", range(3))
def test_honest_trees_of_wide_shallow_networks_pass(seed: int, p: float) -> None:
    # For 1 < p < 2 most of their leaves are closed by chords in the squares of components.
    network = gaussian_network([6, 36, 1], np.random.default_rng([3, seed]), 0.3)
    answer = assert_proved(LipschitzProblem(network, p, Box.cube(6)))
    assert answer.status is Status.EXACT
    assert answer.stats["nodes"] > 50


def test_honest_trees_of_closed_forms_pass() -> None:
    kinds = []
    for instance in instances():
        for p in (1.0, 1.3, math.inf) if instance.depth else ():
            problem = LipschitzProblem(instance.network, p, instance.domain)
            answer = SOLVER.solve(problem)
            assert answer.status is Status.EXACT, instance.name
            assert answer.certificate is not None
            kinds.append(answer.certificate.kind)  # norms of the weights where they are exact already
            check = CERTIFICATE_CHECKERS[kinds[-1]](problem, answer.certificate.data, answer.upper)
            assert check.holds, (instance.name, check.reason)
    assert kinds.count("search-tree") > 20


@pytest.mark.parametrize("seed", range(8))
def test_honest_trees_of_degenerate_networks_pass(seed: int) -> None:
    # Parallel, opposite, repeated and vanishing neurons in every layer: leaves in fractions, constants, families.
    rng = np.random.default_rng([2, seed])
    d = 2 + seed % 2
    sizes = [d, 5, 1] if seed % 2 else [d, 4, 3, 1]
    weights = [rng.integers(-1, 2, size=(m, n)).astype(float) for n, m in itertools.pairwise(sizes)]
    weights[-1] = rng.integers(-3, 4, size=weights[-1].shape).astype(float)
    scale = 0.0 if seed % 3 == 0 else 0.5
    network = ReluNetwork(weights, [*(scale * rng.integers(-1, 2, m) for m in sizes[1:-1]), np.zeros(1)])
    for domain in (Box.cube(d), WholeSpace(d)):
        for p in P_VALUES:
            assert assert_proved(LipschitzProblem(network, p, domain)).status is Status.EXACT


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf], ids=str)
def test_a_search_that_is_cut_short_certifies_what_it_reached(p: float) -> None:
    problem = LipschitzProblem(gaussian_network([5, 20, 12, 1], np.random.default_rng(3), 0.3), p, Box.cube(5))
    kinds = []
    # Before the search says anything, norms of the weights do.
    for limits in ({"seconds": 1e-9}, {"nodes": 100}, {"nodes": 400}):
        answer = SOLVER.solve(problem, budget=Budget(**limits))
        assert answer.status is Status.BUDGET_SPENT
        assert answer.certificate is not None
        kinds.append(answer.certificate.kind)
        check = CERTIFICATE_CHECKERS[kinds[-1]](problem, answer.certificate.data, answer.upper)
        assert check.holds, check.reason
    assert kinds[0] == "norm-product"
    assert kinds[2] == "search-tree"


def test_long_trees_are_left_out_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_proofs, "MOST_LEAVES", 20)
    problem = LipschitzProblem(gaussian_network([5, 14, 10, 1], np.random.default_rng(3), 0.3), 2.0, Box.cube(5))
    answer = SOLVER.solve(problem)
    assert answer.certificate is None
    assert answer.stats["certified"] == 0
    assert answer.status is Status.EXACT


@pytest.fixture(scope="module")
def honest() -> tuple[LipschitzProblem, LipschitzBounds, dict[str, Any]]:
    problem = LipschitzProblem(gaussian_network([3, 7, 5, 1], np.random.default_rng(4), 0.3), 2.0, Box.cube(3))
    return problem, *certified(problem)


Honest = tuple[LipschitzProblem, LipschitzBounds, dict[str, Any]]


def reason_against(honest: Honest, data: dict[str, Any], upper: float | None = None) -> str:
    problem, answer, _ = honest
    check = check_search_tree(problem, data, answer.upper if upper is None else upper)
    assert not check.holds
    return check.reason


def test_a_nudged_bound_is_rejected(honest: Honest) -> None:
    _, answer, data = honest
    assert "longer than the upper bound" in reason_against(honest, data, answer.upper * (1 - 1e-9))
    assert "longer than the upper bound" in reason_against(honest, data, 0.0)


def test_every_dropped_leaf_is_noticed(honest: Honest) -> None:
    *_, data = honest
    splits = data["pieces"][0]["splits"]
    for place in [place for place, split in enumerate(splits) if split == -1]:
        lie = copy.deepcopy(data)
        del lie["pieces"][0]["splits"][place]
        assert "lacks a side" in reason_against(honest, lie)


def test_a_leaf_too_many_is_noticed(honest: Honest) -> None:
    lie = copy.deepcopy(honest[2])
    lie["pieces"][0]["splits"].append(-1)
    assert "ends before" in reason_against(honest, lie)


def test_a_subtree_cut_down_to_a_leaf_is_rejected(honest: Honest) -> None:
    lie = copy.deepcopy(honest[2])
    lie["pieces"][0] = {"splits": [-1], "proofs": []}
    assert "may hold a gradient" in reason_against(honest, lie)


def test_altered_multipliers_are_rejected(honest: Honest) -> None:
    *_, data = honest
    proofs = data["pieces"][0]["proofs"]
    rejected = 0
    assert {kind for _, kind, _, _ in proofs} == {"rows"}
    for number, (_, _, _, multipliers) in enumerate(proofs[:8]):
        for k, change in itertools.product(range(len(multipliers)), (0.0, 10.0)):
            lie = copy.deepcopy(data)
            lie["pieces"][0]["proofs"][number][3][k] *= change
            check = check_search_tree(honest[0], lie, honest[1].upper)
            assert check.holds or "multipliers" in check.reason
            rejected += not check.holds
    # Not every multiplier is needed, and some leaves are empty by their ranges too.
    assert rejected >= 8
    lie = copy.deepcopy(data)
    lie["pieces"][0]["proofs"][0][3][0] *= -1.0
    assert "one multiplier >= 0" in reason_against(honest, lie)


def test_a_proof_left_out_is_missed(honest: Honest) -> None:
    lie = copy.deepcopy(honest[2])
    lie["pieces"][0]["proofs"] = []
    assert "may hold a gradient" in reason_against(honest, lie)


def test_swapped_splits_are_rejected(honest: Honest) -> None:
    *_, data = honest
    splits = data["pieces"][0]["splits"]
    inner = [place for place, split in enumerate(splits) if split >= 0]
    rejected = 0
    for place in inner[:40]:
        lie = copy.deepcopy(data)
        lie["pieces"][0]["splits"][place] = 99
        assert "no neuron 99" in reason_against(honest, lie)
        # Another neuron of the layer: what was proved for the one holds for the other by chance only.
        width = 7 if splits[place] < 7 else 5
        lie["pieces"][0]["splits"][place] = splits[place] // 7 * 7 + (splits[place] + 1) % width
        rejected += not check_search_tree(honest[0], lie, honest[1].upper).holds
    assert rejected > len(inner[:40]) // 2


def test_false_constants_are_rejected(honest: Honest) -> None:
    lie = copy.deepcopy(honest[2])
    lie["pieces"][0] = {"splits": [0, -1, -1], "proofs": [[0, "constant", [0], [1]], [1, "constant", [0], [1]]]}
    assert "not constant" in reason_against(honest, lie)
    lie["pieces"][0]["proofs"][0][1] = "faith"
    assert "not known" in reason_against(honest, lie)
    lie["pieces"][0]["proofs"][0][1:] = ["rows", [1], [1.0]]
    assert "undecided" in reason_against(honest, lie)


def test_multipliers_of_what_vanishes_identically_prove_nothing() -> None:
    # Second layer: relu(s) + relu(-s) - |s| = 0, so its neuron is identically 0 whatever the pattern of the first says.
    weights = [np.array([[1.0], [-1.0]]), np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 1.0, 1.0]])]
    network = ReluNetwork(weights, [np.zeros(2), np.zeros(3), np.zeros(1)])
    problem = LipschitzProblem(network, 2.0, Box([-1.0], [2.0]))
    honest = assert_proved(problem)
    assert honest.upper == pytest.approx(1.0)
    # Inactive, the second layer's first neuron vanishes identically: no proof that nothing is there.
    data = {
        "pieces": [{"splits": [0, 3, -1, -1, -1], "proofs": [[1, "rows", [3], [1.0]]]}] * len(bounded_pieces(problem))
    }
    assert not check_search_tree(problem, data, 0.5).holds


def test_a_tree_for_another_network_norm_or_domain_is_refused(honest: Honest) -> None:
    problem, answer, data = honest
    other = gaussian_network([3, 7, 5, 1], np.random.default_rng(5), 0.3)
    for lie in (
        LipschitzProblem(other, 2.0, Box.cube(3)),
        LipschitzProblem(problem.network, math.inf, Box.cube(3)),
        LipschitzProblem(problem.network, 2.0, Box.cube(3, -2.0, 2.0)),
        LipschitzProblem(problem.network, 2.0, WholeSpace(3)),
        LipschitzProblem(gaussian_network([3, 4, 4, 1], np.random.default_rng(5), 0.3), 2.0, Box.cube(3)),
    ):
        assert not check_search_tree(lie, data, answer.upper).holds


def test_what_is_no_tree_is_refused(honest: Honest) -> None:
    odd: list[dict[str, Any]] = [{}, {"pieces": None}, {"pieces": [{}]}, {"pieces": [{"splits": ["a"], "proofs": []}]}]
    for data in odd:
        assert "replayed" in reason_against(honest, data)
    assert "bounded pieces" in reason_against(honest, {"pieces": []})
    assert "lacks a side" in reason_against(honest, {"pieces": [{"splits": [], "proofs": []}]})
    lie = copy.deepcopy(honest[2])
    lie["pieces"][0]["proofs"][0][3][0] = math.nan
    assert "replayed" in reason_against(honest, lie)


def test_ranges_and_bounds_of_the_checker_hold_at_points() -> None:
    rng = np.random.default_rng(6)
    for sizes in ([3, 6, 5, 4, 1], [2, 8, 1]):
        network = gaussian_network(sizes, rng, 0.3)
        for p in P_VALUES:
            problem = LipschitzProblem(network, p, Box.cube(sizes[0]))
            arrays = PieceNetwork(bounded_pieces(problem)[0], 0.0)
            nodes = arrays.root().take(np.zeros(40, dtype=np.int64))
            nodes.signs[0][:] = np.sign(rng.standard_normal(nodes.signs[0].shape)) * (
                rng.random(nodes.signs[0].shape) < 0.4
            )
            asked = [s.copy() for s in nodes.signs]
            empty = tighten_ranges(arrays, nodes)
            points = rng.uniform(-1, 1, (2000, sizes[0]))
            values = network.pre_activations(points)
            rows = np.broadcast_to(network.weights[-1], (len(points), network.widths[-1]))
            for w, z in zip(reversed(network.weights[:-1]), reversed(values), strict=True):
                rows = (rows * (z > 0)) @ w
            lengths = np.linalg.norm(rows, problem.dual_p, axis=1)
            count = 0 if arrays.directions is None else arrays.directions.shape[1]
            for b in range(len(nodes)):
                inside = ((asked[0][b] == 0) | ((values[0] > 0) == (asked[0][b] > 0))).all(axis=1)
                if not inside.any():
                    continue
                assert not empty[b]
                for m, layer in enumerate(arrays.ranges):
                    z = np.ldexp(values[m][inside], -layer.exponents.astype(np.int32))
                    assert (z >= nodes.low[m][b]).all()
                    assert (z <= nodes.high[m][b]).all()
                longest = float(lengths[inside].max())
                alive = np.ones((1, count), dtype=bool)
                assert not gradients_are_short(arrays, nodes.take(np.array([b])), alive, longest * (1 - 1e-9))[0][0]


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("scale", [1.0, 1e37])
def test_a_layer_that_is_silent_all_over_leaves_nothing_to_round(p: float, scale: float) -> None:
    """The second layer is never active: every gradient is exactly 0, and no rounding of the others hides it."""
    layers = [[[3.4 * scale, 2.4, -1.4]], [[-2.0], [-1.0]], [[1.0, 1.0]], [[scale]]]
    network = ReluNetwork([np.array(w) for w in layers], [np.zeros(len(w)) for w in layers])
    problem = LipschitzProblem(network, p, Box.cube(3))
    answer = BranchAndBound().certifying().solve(problem)
    assert (answer.lower, answer.upper) == (0.0, 0.0)
    assert verify_bounds(problem, answer).verdict is Verdict.PROVED
