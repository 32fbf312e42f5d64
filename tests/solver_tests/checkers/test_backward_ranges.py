"""Slopes of lines in certificates: honest ones are replayed, any in [0, 1] give true ranges, others are refused."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from solvers.checkers.backward_ranges import tighten_backward
from solvers.checkers.outward_ranges import Nodes, PieceNetwork, tighten_ranges
from solvers.checkers.slope_multipliers import check_slope_multipliers
from solvers.lipschitz.semidefinite import Semidefinite
from solvers.networks.relu import ReluNetwork
from solvers.problems.balance import balance
from solvers.problems.domains import Box
from solvers.problems.facets import solid_piece
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds
from solvers.verify import Verdict, verify_bounds
from tests.references.exact_points import exact_pre_activations, far_points
from tests.references.random_networks import FAMILIES
from tests.strategies import gaussian_network

CERTIFYING = Semidefinite().certifying()
P_VALUES = (1.0, 1.5, 2.0, 3.0, math.inf)


def certified(problem: LipschitzProblem) -> tuple[LipschitzBounds, dict[str, Any]]:
    answer = CERTIFYING.solve(problem)
    assert answer.certificate is not None
    return answer, json.loads(json.dumps(dict(answer.certificate.data)))


def deep_problem(rng: np.random.Generator, p: float) -> LipschitzProblem:
    d = int(rng.integers(2, 6))
    sizes = [d, *rng.integers(8, 16, size=int(rng.integers(3, 5))).tolist(), 1]
    box = Box.ball(rng.standard_normal(d), 10.0 ** rng.uniform(-1, -0.4))
    return LipschitzProblem(gaussian_network(sizes, rng, 0.5), p, box)


@pytest.mark.parametrize("p", P_VALUES)
def test_honest_slopes_pass_and_are_needed(p: float) -> None:
    rng = np.random.default_rng(round(10 * min(p, 99)))
    needed = 0
    for _ in range(12):
        problem = deep_problem(rng, p)
        answer, data = certified(problem)
        verification = verify_bounds(problem, answer)
        assert verification.verdict is Verdict.PROVED, verification
        if data["ranges"]:
            needed += not check_slope_multipliers(problem, {**data, "ranges": None}, answer.upper).holds
    assert needed >= 3


@pytest.mark.parametrize("radius", [0.03, 0.003])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, math.inf])
def test_chains_of_active_neurons_leave_room_for_the_checker(p: float, radius: float) -> None:
    """Ten layers, of which most neurons are decided: absolute values along paths are far above the sums."""
    network = gaussian_network([10, *[30] * 10, 1], np.random.default_rng(0), 0.5)
    problem = LipschitzProblem(network, p, Box.cube(10, -radius, radius))
    answer, data = certified(problem)
    check = check_slope_multipliers(problem, data, answer.upper)
    assert check.holds, check.reason


def random_named(widths: tuple[int, ...], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Any slopes in [0, 1] for some rows and neurons of every layer."""
    found = []
    for m in range(1, len(widths)):
        rows = rng.permutation(2 * widths[m])[: rng.integers(0, 2 * widths[m] + 1)]
        before = []
        for n in widths[:m]:
            neurons = rng.permutation(n)[: rng.integers(0, n + 1)]
            values = rng.uniform(-0.5, 1.5, (len(rows), len(neurons))).clip(0, 1)
            before.append({"neurons": neurons.tolist(), "values": values.tolist()})
        found.append({"layer": m, "rows": rows.tolist(), "before": before})
    return found


def assert_true_ranges(network: ReluNetwork, piece: PieceNetwork, node: Nodes, points: list[np.ndarray]) -> None:
    for point in points:
        for m, pre in enumerate(exact_pre_activations(network, point)):
            for i, z in enumerate(pre):
                unit = Fraction(2) ** int(piece.ranges[m].exponents[i])
                least, most, sign = (part[m][0, i].item() for part in (node.low, node.high, node.signs))
                assert Fraction(least) * unit <= z <= Fraction(most) * unit
                assert z * sign >= 0


@pytest.mark.parametrize("family", FAMILIES)
def test_any_slopes_give_true_ranges(family: str) -> None:
    rng = np.random.default_rng(sum(map(ord, family)))
    for _ in range(12):
        d = int(rng.integers(1, 5))
        sizes = [d, *rng.integers(2, 7, size=int(rng.integers(2, 4))).tolist(), 1]
        box = Box.ball(rng.standard_normal(d), 10.0 ** rng.uniform(-3, 0.3))
        problem = balance(LipschitzProblem(FAMILIES[family](sizes, rng), 2.0, box)).problem
        network, domain = problem.network, problem.domain
        assert isinstance(domain, Box)
        piece = PieceNetwork(solid_piece(problem, domain), np.inf)
        points = list(far_points(network, domain, rng, 8))
        for named in ([], random_named(network.widths, rng), random_named(network.widths, rng)):
            node = piece.root()
            tighten_ranges(piece, node)
            before = [part.copy() for part in node.low]
            tighten_backward(piece, node, named)
            assert_true_ranges(network, piece, node, points)
            assert all((a <= b).all() for a, b in zip(before, node.low, strict=True))


def some_listed() -> tuple[LipschitzProblem, LipschitzBounds, dict[str, Any]]:
    """A problem whose certificate rests on slopes for two layers at least."""
    rng = np.random.default_rng(2)
    while True:
        problem = deep_problem(rng, 2.0)
        answer, data = certified(problem)
        parts = data["ranges"] or []
        if len(parts) < 2 or not parts[0]["before"][0]["values"]:
            continue
        if not check_slope_multipliers(problem, {**data, "ranges": None}, answer.upper).holds:
            return problem, answer, data


BROKEN: list[tuple[str, Callable[[list[Any]], object]]] = [
    ("[0, 1]", lambda parts: parts[0]["before"][0]["values"][0].__setitem__(0, 1.0000001)),
    ("[0, 1]", lambda parts: parts[0]["before"][0]["values"][0].__setitem__(0, -1e-9)),
    ("[0, 1]", lambda parts: parts[0]["before"][0]["values"][0].__setitem__(0, math.nan)),
    ("[0, 1]", lambda parts: parts[0]["before"][0]["values"][0].__setitem__(0, math.inf)),
    ("shape", lambda parts: parts[0]["before"][0]["values"].pop()),
    ("shape", lambda parts: parts[0]["before"][0].update(values=[])),
    ("replayed", lambda parts: parts[0]["before"][0]["values"][0].pop()),
    ("shape", lambda parts: parts[0]["before"][0]["neurons"].pop()),
    ("different", lambda parts: parts[0]["before"][0]["neurons"].__setitem__(0, -1)),
    ("different", lambda parts: parts[0]["before"][0]["neurons"].__setitem__(0, 10**6)),
    ("different", lambda parts: parts[0]["rows"].append(parts[0]["rows"][0])),
    ("whole numbers", lambda parts: parts[0]["rows"].__setitem__(0, 0.5)),
    ("whole numbers", lambda parts: parts[0].update(rows=[True] * len(parts[0]["rows"]))),
    ("layers", lambda parts: parts[1]["before"].pop()),
    ("layer 0", lambda parts: parts[0].update(layer=0)),
    ("layer 99", lambda parts: parts[0].update(layer=99)),
    ("twice", lambda parts: parts.append(parts[0])),
    ("replayed", lambda parts: parts.append(7)),
    ("replayed", lambda parts: parts[0].pop("before")),
    ("replayed", lambda parts: parts[0]["before"].__setitem__(0, None)),
]


def test_slopes_that_are_none_are_refused() -> None:
    problem, answer, honest = some_listed()
    assert check_slope_multipliers(problem, honest, answer.upper).holds
    for reason, breaks in BROKEN:
        data = copy.deepcopy(honest)
        breaks(data["ranges"])
        check = check_slope_multipliers(problem, data, answer.upper)
        assert not check.holds, reason
        assert reason in check.reason, (reason, check.reason)
    wholes: list[Any] = [7, "ab", {"layer": 1}, [[]]]
    for whole in wholes:
        assert not check_slope_multipliers(problem, {**honest, "ranges": whole}, answer.upper).holds


def test_other_slopes_prove_no_more_than_is_true() -> None:
    """Moved slopes, dropped rows, layers: what still passes passes for a bound that is true, and some no longer do."""
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(40):
        problem = deep_problem(rng, 2.0)
        answer, data = certified(problem)
        if not data["ranges"]:
            continue
        for part in data["ranges"]:
            for before in part["before"]:
                size = 10.0 ** rng.uniform(-3, 1)
                before["values"] = [
                    [min(max(v + size * rng.standard_normal(), 0.0), 1.0) for v in row] for row in before["values"]
                ]
        if rng.random() < 0.3:
            data["ranges"].pop(int(rng.integers(len(data["ranges"]))))
        refused += not check_slope_multipliers(problem, data, answer.upper).holds
        # Multipliers and slopes alike prove nothing below the optimum of the program with the honest signs.
        claim = answer.upper / (1 + answer.stats["gap_to_optimum"]) * (1 - 1e-3)
        data["square"]["t"] = [v * (claim / answer.upper) ** 2 for v in data["square"]["t"]]
        assert not check_slope_multipliers(problem, data, claim).holds
    assert refused


def test_slopes_of_a_small_box_prove_nothing_on_a_larger_one() -> None:
    problem, answer, data = some_listed()
    box = problem.domain
    assert isinstance(box, Box)
    half = 0.5 * (box.upper - box.lower)
    large = LipschitzProblem(problem.network, 2.0, Box(box.lower - 20 * half, box.upper + 20 * half))
    assert check_slope_multipliers(problem, data, answer.upper).holds
    assert not check_slope_multipliers(large, data, answer.upper).holds
