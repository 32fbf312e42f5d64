"""Lists of cells of shallow networks: honest ones pass, degenerate or not, and every lie is named."""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from solvers.checkers.shallow_cells import check_shallow_cells, count_cells
from solvers.lipschitz.shallow import certificates as cell_certificates
from solvers.lipschitz.shallow.exact_cells import exact_cells
from solvers.lipschitz.vertex_enumeration import VertexEnumeration
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds
from solvers.verify import Verdict, verify_bounds
from tests.references.instances import instances
from tests.strategies import DETERMINISTIC, gaussian_network, relu_networks

SOLVER = VertexEnumeration().certifying()


def certified(network: ReluNetwork, p: float, domain: Domain | None = None) -> tuple[LipschitzProblem, LipschitzBounds]:
    problem = LipschitzProblem(network, p, domain)
    return problem, SOLVER.solve(problem)


@pytest.mark.parametrize("bias", [0.0, 0.5], ids=["zero", "normal"])
@pytest.mark.parametrize("sizes", [[1, 7, 1], [2, 12, 1], [3, 9, 1], [4, 3, 1], [5, 8, 1]], ids=str)
def test_honest_lists_pass_on_all_of_space_and_for_every_p(sizes: list[int], bias: float) -> None:
    network = gaussian_network(sizes, np.random.default_rng([1, *sizes]), bias)
    for domain in (WholeSpace(sizes[0]), Box.cube(sizes[0])) if bias == 0 else (WholeSpace(sizes[0]),):
        problems = [LipschitzProblem(network, p, domain) for p in (1.0, 1.5, math.inf)]
        for problem, answer in zip(problems, SOLVER.solve_batch(problems), strict=True):
            assert answer.certificate is not None
            assert answer.certificate.kind == "shallow-cells"
            found = verify_bounds(problem, answer)
            assert found.verdict is Verdict.PROVED, found


@pytest.mark.parametrize("sizes", [[1, 5, 1], [2, 8, 1], [3, 5, 1]], ids=str)
def test_on_a_box_the_list_is_closed_under_crossing_facets(sizes: list[int]) -> None:
    problem, answer = certified(
        gaussian_network(sizes, np.random.default_rng([2, *sizes]), 0.5), 2.0, Box.cube(sizes[0], -0.5, 1.0)
    )
    assert answer.certificate is not None
    assert answer.certificate.kind == "region-list"
    assert verify_bounds(problem, answer).verdict is Verdict.PROVED


def test_degenerate_networks_are_certified_or_the_reason_is_given() -> None:
    proved = 0
    for instance in instances():
        problem = LipschitzProblem(instance.network, 1.5, instance.domain)
        if SOLVER.refuses(problem) is None:
            answer = SOLVER.solve(problem)
            if answer.certificate is None:
                assert answer.reason.startswith("no certificate: ")
            else:
                found = verify_bounds(problem, answer)
                assert found.verdict is Verdict.PROVED, (instance.name, found)
                proved += 1
    assert proved >= 18


@settings(DETERMINISTIC, max_examples=40)
@given(relu_networks(most_inputs=3, most_neurons=5))
def test_networks_in_special_position_pass(network: ReluNetwork) -> None:
    problem, answer = certified(network, 2.0)
    assert answer.certificate is not None, answer.reason
    found = verify_bounds(problem, answer)
    assert found.verdict is Verdict.PROVED, found


def test_cells_are_counted_as_they_are_listed() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        k, m = int(rng.integers(1, 5)), int(rng.integers(0, 7))
        rows = {tuple(Fraction(int(v)) for v in row) for row in rng.integers(-1, 2, (m, k + 1))}
        planes = {tuple(a / next(b for b in row if b) for a in row) for row in rows if any(row[:-1])}
        truth = len(exact_cells([p[:-1] for p in planes], [p[-1] for p in planes], lambda: True)) if planes else 1
        assert count_cells(list(planes), 10**6) == truth
        assert count_cells(list(planes), truth - 1) >= truth


def test_generic_hyperplanes_are_counted_by_the_formula() -> None:
    rng = np.random.default_rng(4)
    for k, m in ((2, 20), (3, 10), (4, 8)):
        rows = [tuple(map(Fraction, row)) for row in rng.standard_normal((m, k + 1)).tolist()]
        assert count_cells(rows, 10**6) == sum(math.comb(m, i) for i in range(k + 1))


def test_lies_are_named() -> None:
    problem, answer = certified(gaussian_network([2, 5, 1], np.random.default_rng(5), 0.5), 2.0)
    assert answer.certificate is not None
    data = dict(answer.certificate.data)
    lies: list[tuple[str, dict[str, Any]]] = []

    def lie(reason: str, points: Any = None, patterns: Any = None) -> None:
        own = copy.deepcopy(data)
        lies.append((reason, {"points": points or own["points"], "patterns": patterns or own["patterns"]}))

    points, patterns = data["points"], data["patterns"]
    lie("not the number", points[1:], patterns[1:])
    lie("listed twice", [*points, points[0]], [*patterns, patterns[0]])
    lie("listed twice", [points[1], *points[1:]], [patterns[1], *patterns[1:]])
    lie("other sign", points[::-1], patterns)
    lie("as many points", points[1:], patterns)
    lie("digits", points, ["11111x", *patterns[1:]])
    lie("digits", points, ["1", *patterns[1:]])
    lie("coordinates", [[0.0], *points[1:]], patterns)
    lie("coordinates", [[math.nan, 0.0], *points[1:]], patterns)
    lie("cannot be replayed", 7)
    for reason, changed in [*lies, ("cannot be replayed", {})]:
        check = check_shallow_cells(problem, changed, answer.upper)
        assert not check.holds
        assert reason in check.reason
    check = check_shallow_cells(problem, data, answer.upper * (1 - 1e-9))
    assert "longer than the upper bound" in check.reason
    deep = LipschitzProblem(gaussian_network([2, 5, 3, 1], np.random.default_rng(5), 0.5), 2.0)
    assert "one hidden layer" in check_shallow_cells(deep, data, answer.upper).reason
    other = LipschitzProblem(gaussian_network([2, 5, 1], np.random.default_rng(6), 0.5), 2.0)
    assert not check_shallow_cells(other, data, 1e9).holds


def test_long_lists_are_left_out_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_certificates, "MOST_CELLS", 5)
    _, answer = certified(gaussian_network([2, 8, 1], np.random.default_rng(7), 0.4), 2.0)
    assert answer.certificate is None
    assert "more than 5 cells" in answer.reason
    plain = VertexEnumeration().solve(LipschitzProblem(gaussian_network([2, 8, 1], np.random.default_rng(7), 0.4), 2.0))
    assert (plain.lower, plain.upper, plain.reason) == (answer.lower, answer.upper, "")
