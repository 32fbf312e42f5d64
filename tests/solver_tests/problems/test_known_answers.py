"""What is known of a problem stays in its answer, and searches begin from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvers.errors import InputError
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain
from solvers.problems.questions import Help, LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import Verdict, check_witness, verify_bounds
from tests.strategies import gaussian_network


def problem(sizes: list[int], p: float = 2.0, domain: Domain | None = None) -> LipschitzProblem:
    return LipschitzProblem(gaussian_network(sizes, np.random.default_rng(0), 0.3), p, domain)


def test_a_certificate_is_not_given_up_for_a_lower_bound_without_while_the_gap_is_open() -> None:
    question = problem([6, 40, 40, 1])
    proved = LIPSCHITZ_SOLVERS["semidefinite"].certifying().solve(question)
    better = replace(proved, upper=0.9 * proved.upper, certificate=None, method="search")
    for answer in (better.joined(proved, Budget()), proved.joined(better, Budget())):
        assert (answer.upper, answer.certificate) == (proved.upper, proved.certificate)
    closed = replace(better, lower=better.upper, status=Status.EXACT, witness=None)
    for answer in (closed.joined(proved, Budget()), proved.joined(closed, Budget())):
        assert (answer.lower, answer.upper, answer.status) == (better.upper, better.upper, Status.EXACT)
        assert answer.certificate is None
    # What closes the gap with a certificate counts before what closes it without.
    wide = Budget(relative_gap=0.2)
    for answer in (closed.joined(proved, wide), proved.joined(closed, wide)):
        assert (answer.lower, answer.upper, answer.status) == (better.upper, proved.upper, Status.EXACT)
        assert answer.certificate is proved.certificate
    bare = replace(proved, certificate=None)
    assert better.joined(bare, Budget()).upper == better.upper


def test_what_is_known_enters_a_search_and_its_answer() -> None:
    question = problem([6, 12, 12, 1], domain=Box.cube(6))
    for name in ("branch-and-bound", "region-enumeration"):
        solver, asked = LIPSCHITZ_SOLVERS[name], question if name[0] == "b" else problem([2, 8, 8, 1])
        plain = solver.solve(asked)
        known = solver.solve(asked.knowing(replace(plain, upper=2 * plain.upper, status=Status.BOUNDED)))
        assert known.status is Status.EXACT
        assert known.lower >= plain.lower
        assert known.stats["nodes"] <= plain.stats["nodes"]
    plain = LIPSCHITZ_SOLVERS["branch-and-bound"].solve(question)
    told = LIPSCHITZ_SOLVERS["branch-and-bound"].solve(question.knowing(plain))
    assert told.stats["nodes"] == 0
    assert (told.lower, told.upper, told.status) == (plain.lower, plain.upper, Status.EXACT)
    with pytest.raises(InputError, match="same p"):
        problem([6, 12, 12, 1], 1.0, Box.cube(6)).knowing(plain)


def test_what_is_known_is_brought_into_the_units_of_a_balanced_network() -> None:
    weights = gaussian_network([3, 6, 5, 1], np.random.default_rng(2), 0.3)
    huge = ReluNetwork([w * 2.0**320 for w in weights.weights], weights.biases)
    question = LipschitzProblem(huge, 2.0, Box.cube(3))
    for name in ("branch-and-bound", "sampling", "norm-product"):
        plain = LIPSCHITZ_SOLVERS["branch-and-bound"].solve(question)
        told = LIPSCHITZ_SOLVERS[name].solve(question.knowing(plain))
        assert (told.lower, told.upper, told.status) == (plain.lower, plain.upper, Status.EXACT)
        assert check_witness(question, told.witness, told.lower).holds


def test_a_search_asks_for_help_once_when_it_is_due_and_takes_what_it_gets() -> None:
    question = problem([6, 12, 12, 1], domain=Box.cube(6))
    search = LIPSCHITZ_SOLVERS["branch-and-bound"]
    plain = search.solve(question)
    asked: list[float] = []

    def ask(deadline: object) -> LipschitzBounds:
        asked.append(plain.stats["nodes"])
        return plain

    helped = search.solve(question.knowing(None, Help(64, ask)))
    assert len(asked) == 1
    assert helped.status is Status.EXACT
    assert 64 <= helped.stats["nodes"] < plain.stats["nodes"]
    assert search.solve(question.knowing(None, Help(10**9, ask))).stats["nodes"] == plain.stats["nodes"]
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["branch-and-bound", "region-enumeration"])
def test_a_certificate_made_above_a_known_lower_bound_is_replayed(name: str) -> None:
    question = problem([3, 5, 4, 1], domain=Box.cube(3))
    known = LIPSCHITZ_SOLVERS["ascent"].solve(question)
    answer = LIPSCHITZ_SOLVERS[name].certifying().solve(question.knowing(known))
    assert answer.certificate is not None
    assert verify_bounds(question, answer).verdict is Verdict.PROVED
