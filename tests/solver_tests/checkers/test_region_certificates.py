"""Lists of regions: honest ones pass, and every lie is named; the exact programs behind it against a general solver."""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from solvers.checkers.exact_programs import facet_points, value_at
from solvers.checkers.region_list import check_region_list
from solvers.lipschitz import region_enumeration
from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds
from solvers.verify import CERTIFICATE_CHECKERS
from tests.references.instances import instances
from tests.strategies import gaussian_network

SOLVER = RegionEnumeration().certifying()


def certified(
    network: ReluNetwork, p: float, domain: Domain
) -> tuple[LipschitzProblem, LipschitzBounds, dict[str, Any]]:
    problem = LipschitzProblem(network, p, domain)
    answer = SOLVER.solve(problem)
    assert answer.certificate is not None
    assert answer.certificate.kind == "region-list"
    return problem, answer, copy.deepcopy(dict(answer.certificate.data))


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("bias", [0.0, 0.5], ids=["zero", "normal"])
@pytest.mark.parametrize("sizes", [[1, 4, 3, 1], [2, 6, 1], [2, 4, 4, 1], [3, 4, 3, 1], [2, 3, 3, 3, 1]], ids=str)
def test_honest_lists_pass(sizes: list[int], bias: float, whole: bool) -> None:
    network = gaussian_network(sizes, np.random.default_rng([1, *sizes]), bias)
    domain: Domain = WholeSpace(sizes[0]) if whole else Box.cube(sizes[0])
    for p in (1.0, 1.5, math.inf):
        problem, answer, data = certified(network, p, domain)
        check = CERTIFICATE_CHECKERS["region-list"](problem, data, answer.upper)
        assert check.holds, check.reason


def test_honest_lists_of_degenerate_networks_pass() -> None:
    seen = 0
    for instance in instances():
        problem = LipschitzProblem(instance.network, 2.0, instance.domain)
        answer = SOLVER.solve(problem)
        if answer.certificate is not None and answer.stats["pieces"] <= 6:
            check = check_region_list(problem, answer.certificate.data, answer.upper)
            assert check.holds, (instance.name, check.reason)
            seen += 1
    assert seen > 15


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
def test_a_dropped_region_is_missed_by_its_neighbours(whole: bool) -> None:
    network = gaussian_network([2, 4, 3, 1], np.random.default_rng(2), 0.4)
    problem, answer, data = certified(network, 2.0, WholeSpace(2) if whole else Box.cube(2))
    for piece in range(len(data["pieces"])):
        count = len(data["pieces"][piece]["points"])
        for k in range(count if count > 1 else 0):
            lie = copy.deepcopy(data)
            del lie["pieces"][piece]["points"][k], lie["pieces"][piece]["patterns"][k]
            check = check_region_list(problem, lie, answer.upper)
            assert not check.holds
            assert "not in the list" in check.reason


def test_lies_are_named() -> None:
    network = gaussian_network([2, 4, 3, 1], np.random.default_rng(2), 0.4)
    problem, answer, data = certified(network, 2.0, Box.cube(2))
    entry = data["pieces"][0]
    lies: list[tuple[str, dict[str, Any]]] = []

    def lie(reason: str, **changes: Any) -> None:
        lies.append((reason, {"pieces": [{**copy.deepcopy(entry), **changes}]}))

    lie("strictly inside the region", points=entry["points"][::-1])
    lie("strictly inside the domain", points=[[2.0, 0.0], *entry["points"][1:]])
    lie("coordinates", points=[[0.0], *entry["points"][1:]])
    lie("digits", patterns=[["1111"], *entry["patterns"][1:]])
    lie("digits", patterns=[["111x", "000"], *entry["patterns"][1:]])
    lie("as many points", points=entry["points"][1:])
    lie("cannot be replayed", points=[[math.nan, 0.0], *entry["points"][1:]])
    lie("cannot be replayed", points=None)
    for reason, data in [*lies, ("bounded pieces", {"pieces": []}), ("cannot be replayed", {})]:
        check = check_region_list(problem, data, answer.upper)
        assert not check.holds
        assert reason in check.reason
    check = check_region_list(problem, {"pieces": [entry]}, answer.upper * (1 - 1e-9))
    assert not check.holds
    assert "longer than the upper bound" in check.reason


def test_a_list_for_another_network_is_refused() -> None:
    _, _, data = certified(gaussian_network([2, 4, 3, 1], np.random.default_rng(2), 0.4), 2.0, Box.cube(2))
    other = gaussian_network([2, 4, 3, 1], np.random.default_rng(3), 0.4)
    assert not check_region_list(LipschitzProblem(other, 2.0, Box.cube(2)), data, 1e9).holds


def test_long_lists_are_left_out_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_enumeration, "MOST_CERTIFIED", 5)
    network = gaussian_network([2, 8, 1], np.random.default_rng(4), 0.4)
    answer = SOLVER.solve(LipschitzProblem(network, 2.0, Box.cube(2)))
    assert answer.certificate is None
    assert answer.stats["certified"] == 0
    plain = RegionEnumeration().solve(LipschitzProblem(network, 2.0, Box.cube(2)))
    assert (plain.lower, plain.upper) == (answer.lower, answer.upper)


def test_facets_are_those_that_linear_programs_find() -> None:
    rng = np.random.default_rng(5)
    for _ in range(25):
        k, m = int(rng.integers(1, 5)), int(rng.integers(1, 14))
        a, b = rng.integers(-8, 9, (m, k)), rng.integers(1, 9, m)
        rows = [[Fraction(int(v)) for v in (*slopes, c)] for slopes, c in zip(a, b, strict=True) if slopes.any()]
        rows = list({tuple(v / max(map(abs, row[:-1])) for v in row): row for row in rows}.values())
        low, high = [Fraction(-2)] * k, [Fraction(3)] * k
        found = facet_points(rows, low, high, [Fraction(0)] * k)
        for i, row in enumerate(rows):
            others = [r for j, r in enumerate(rows) if j != i]
            answer = linprog(
                [float(v) for v in row[:-1]],
                A_ub=[[-float(v) for v in r[:-1]] for r in others] or None,
                b_ub=[float(r[-1]) for r in others] or None,
                bounds=[(-2, 3)] * k,
                method="highs-ds",
            )
            assert (answer.fun + float(row[-1]) < -1e-9) == (i in found)
            if i in found:
                assert value_at(row, found[i]) == 0
                assert all(value_at(r, found[i]) > 0 for r in others)
