"""Multipliers at leaves of a tree of splits: honest ones pass, and no altered one proves what is not so."""

from __future__ import annotations

import copy
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest

from solvers.checkers.search_tree import check_search_tree
from solvers.checkers.slope_leaves import SlopeLeaves
from solvers.lipschitz import branch_and_bound
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.verify import Verdict, verify_bounds
from tests.references.random_networks import FAMILIES
from tests.strategies import gaussian_network

P_VALUES = (1.2, 1.5, 2.0, 3.0, math.inf)
SOLVER = BranchAndBound(threads=1).certifying()


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches ask for programs at once, and whatever they give."""
    monkeypatch.setattr(branch_and_bound, "PLAIN", 0)
    monkeypatch.setattr(branch_and_bound, "WORTH", math.inf)
    monkeypatch.setattr(branch_and_bound, "SHALLOW_PLAIN", 0)
    monkeypatch.setattr(branch_and_bound, "SHALLOW_WORTH", math.inf)


def certified(problem: LipschitzProblem, **limits: Any) -> tuple[LipschitzBounds, dict[str, Any]]:
    answer = SOLVER.solve(problem, budget=Budget(**limits))
    assert answer.certificate is not None
    assert answer.certificate.kind == "search-tree"
    return answer, json.loads(json.dumps(answer.certificate.data))


def by_slopes(data: dict[str, Any]) -> list[list[Any]]:
    """The leaves of a certificate that multipliers prove, as they stand in it."""
    return [proof for piece in data["pieces"] for proof in piece["proofs"] if proof[1] == "slopes"]


@pytest.mark.parametrize("p", P_VALUES)
@pytest.mark.parametrize(
    ("sizes", "domain"),
    [([5, 9, 8, 1], Box.cube(5)), ([4, 6, 6, 5, 1], Box.cube(4)), ([3, 6, 5, 1], WholeSpace(3))],
    ids=["two", "three", "global"],
)
def test_honest_multipliers_pass(sizes: list[int], domain: Domain, p: float) -> None:
    network = gaussian_network(sizes, np.random.default_rng([1, *sizes]), 0.3)
    problem = LipschitzProblem(network, p, domain)
    answer, data = certified(problem)
    assert answer.status is Status.EXACT
    # Below p = 2 on facets of R^d ranges may be enough at every leaf.
    assert by_slopes(data) or (p < 2 and isinstance(domain, WholeSpace))
    verification = verify_bounds(problem, answer)
    assert verification.verdict is Verdict.PROVED, verification


@pytest.mark.parametrize("nodes", [8, 40])
@pytest.mark.parametrize("p", P_VALUES)
def test_a_search_that_is_cut_short_keeps_the_multipliers_of_open_nodes(p: float, nodes: int) -> None:
    problem = LipschitzProblem(gaussian_network([8, 20, 16, 1], np.random.default_rng(3), 0.3), p, Box.cube(8))
    answer, data = certified(problem, nodes=nodes)
    assert answer.status is Status.BUDGET_SPENT
    assert by_slopes(data)
    check = check_search_tree(problem, data, answer.upper)
    assert check.holds, check.reason


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_honest_multipliers_of_degenerate_networks_pass(family: str) -> None:
    rng = np.random.default_rng(5)
    for sizes in ([2, 5, 1], [2, 4, 3, 1], [3, 3, 3, 1]):
        network = FAMILIES[family](sizes, rng)
        for domain, p in itertools.product((WholeSpace(sizes[0]), Box.cube(sizes[0])), (1.5, 2.0, math.inf)):
            problem = LipschitzProblem(network, p, domain)
            answer = SOLVER.solve(problem)
            told = (p, [w.tolist() for w in network.weights], domain.describe())
            assert answer.certificate is not None, told
            verification = verify_bounds(problem, answer)
            assert verification.verdict is Verdict.PROVED, (told, verification)


@pytest.mark.parametrize("power", [2.0**-200, 2.0**200])
def test_scales_of_neurons_change_nothing(power: float) -> None:
    network = gaussian_network([4, 7, 6, 1], np.random.default_rng(8), 0.3)
    weights, biases = [w.copy() for w in network.weights], [b.copy() for b in network.biases]
    weights[0][2] *= power
    biases[0][2] *= power
    weights[1][:, 2] /= power
    plain, _ = certified(LipschitzProblem(network, 2.0, Box.cube(4)))
    turned = LipschitzProblem(ReluNetwork(weights, biases), 2.0, Box.cube(4))
    answer, data = certified(turned)
    assert answer.upper == pytest.approx(plain.upper, rel=1e-9)
    assert by_slopes(data)
    check = check_search_tree(turned, data, answer.upper)
    assert check.holds, check.reason


def pattern_lengths(network: ReluNetwork, signs: list[np.ndarray], q: float) -> list[float]:
    """Of the gradients of all patterns, reachable or not, that agree with the signs."""
    lengths = []
    for choice in itertools.product(*([[s > 0] if s else [False, True] for layer in signs for s in layer])):
        on, row, end = np.array(choice), network.weights[-1][0], len(choice)
        for w in reversed(network.weights[:-1]):
            row = (row * on[end - len(w) : end]) @ w
            end -= len(w)
        lengths.append(float(np.linalg.norm(row, q)))
    return lengths


def assert_no_lie_passes(count: int, seed: int) -> None:
    """Random codes, near or far from those that a search found: none proves less than a gradient of some pattern."""
    rng = np.random.default_rng(seed)
    told = proved = 0
    while told < count:
        p = float(rng.choice(P_VALUES))
        sizes = [int(rng.integers(1, 5)), *rng.integers(2, 6, size=int(rng.integers(1, 4))).tolist(), 1]
        network = gaussian_network(sizes, rng, 0.3)
        problem = LipschitzProblem(network, p, Box.cube(sizes[0]))
        d, n = sizes[0], max(network.widths)
        leaves = SlopeLeaves(bounded_pieces(problem)[0])
        data = SOLVER.solve(problem).certificate
        listed = [] if data is None or data.kind != "search-tree" else by_slopes(dict(data.data))
        for _ in range(20):
            signs = [rng.choice([-1, 0, 0, 1], size=width).astype(np.int8) for width in network.widths]
            free = [(m, int(i)) for m, layer in enumerate(signs) for i in np.flatnonzero(layer == 0)]
            codes = [int(c) for c in rng.normal(0, 64 * 10.0 ** rng.uniform(-1, 0.7), len(free))]
            if listed and rng.random() < 0.7:
                # What proves a leaf, at signs that it does not belong to, or with other codes there.
                _, _, places, found = listed[int(rng.integers(len(listed)))]
                known = dict(zip([divmod(place, n) for place in places], found, strict=False))
                codes = [known.get(at, code) for at, code in zip(free, codes, strict=True)]
                size = 64 * 10.0 ** rng.uniform(-2, 0)
                codes = [int(code + size * rng.standard_normal()) for code in codes]
            if rng.random() < 0.5:
                codes += [int(c) for c in rng.normal(0, 30, d)]
            longest = max(pattern_lengths(network, signs, problem.dual_p))
            if longest < 1e-9:
                continue
            lie = longest * (1 - 10.0 ** rng.uniform(-9, -0.5))
            assert not leaves.are_short(signs, free, codes, lie), (p, sizes, signs, codes)
            proved += leaves.are_short(signs, free, codes, 30 * longest)
            told += 1
    assert proved > count // 20  # many are true proofs of something, only not of that


def test_no_lie_passes() -> None:
    assert_no_lie_passes(220, 1)


@pytest.mark.slow
def test_none_of_many_lies_passes() -> None:
    assert_no_lie_passes(2200, 2)


Honest = tuple[LipschitzProblem, LipschitzBounds, dict[str, Any]]


@pytest.fixture
def honest() -> Honest:
    problem = LipschitzProblem(gaussian_network([4, 8, 7, 1], np.random.default_rng(4), 0.3), 2.0, Box.cube(4))
    return problem, *certified(problem)


def test_altered_codes_are_rejected_or_still_prove_it(honest: Honest) -> None:
    problem, answer, data = honest
    rejected = 0
    for number, (_, _, _, codes) in enumerate(by_slopes(data)[:20]):
        for change in (-640, 640):
            lie = copy.deepcopy(data)
            altered = by_slopes(lie)[number][3]
            altered[:] = [code + change for code in codes]
            check = check_search_tree(problem, lie, answer.upper)
            assert check.holds or "multipliers" in check.reason
            rejected += not check.holds
    assert rejected > 10


def test_multipliers_that_are_none_are_refused(honest: Honest) -> None:
    problem, answer, data = honest

    def refused(change: Any) -> str:
        lie = copy.deepcopy(data)
        for proof in by_slopes(lie):
            change(proof)
        check = check_search_tree(problem, lie, answer.upper)
        assert not check.holds
        return check.reason

    assert "code for each" in refused(lambda proof: proof[3].pop())
    assert "whole numbers" in refused(lambda proof: proof[3].__setitem__(0, 0.5))
    assert "size" in refused(lambda proof: proof[3].__setitem__(0, 10**6))
    assert "replayed" in refused(lambda proof: proof[3].__setitem__(0, math.nan))
    assert "replayed" in refused(lambda proof: proof[3].__setitem__(0, "faith"))
    assert "code for each" in refused(lambda proof: proof[2].__setitem__(0, proof[2][-1]))
    assert "no neuron" in refused(lambda proof: proof[2].__setitem__(0, 99))
    assert "no multiplier" in refused(lambda proof: (proof[2].pop(), proof[3].pop()))
    assert "may hold a gradient" in refused(lambda proof: proof.__setitem__(0, proof[0] + 10**6))


def test_a_claim_below_what_the_multipliers_prove_is_rejected(honest: Honest) -> None:
    problem, answer, data = honest
    assert not check_search_tree(problem, data, answer.lower * (1 - 1e-9)).holds
    assert not check_search_tree(problem, data, 0.0).holds
    assert not check_search_tree(problem, data, -1.0).holds
    assert not check_search_tree(problem, data, math.nan).holds


def test_they_prove_nothing_about_another_network_or_norm(honest: Honest) -> None:
    problem, answer, data = honest
    other = gaussian_network([4, 8, 7, 1], np.random.default_rng(5), 0.3)
    for lie in (LipschitzProblem(other, 2.0, Box.cube(4)), LipschitzProblem(problem.network, math.inf, Box.cube(4))):
        assert not check_search_tree(lie, data, answer.upper).holds


def test_no_gradient_of_one_norm_is_bounded_by_them() -> None:
    network = gaussian_network([2, 3, 1], np.random.default_rng(6), 0.3)
    leaves = SlopeLeaves(bounded_pieces(LipschitzProblem(network, 1.0, Box.cube(2)))[0])
    assert not leaves.are_short([np.zeros(3, dtype=np.int8)], [(0, 0), (0, 1), (0, 2)], [64, 64, 64], 1e6)
