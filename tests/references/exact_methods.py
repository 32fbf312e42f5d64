"""What the judges of exact methods share: the methods, their answers checked one by one, and against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import check_witness
from tests.references.traps import P_VALUES

__all__ = ["ALL_EXACT", "EXACT", "assert_agreement", "assert_interval_holds", "solved", "some_box"]

# Derived from the registry: a method that is added is judged. Mixed-integer programs take seconds where the others take
# milliseconds: `test_mixed_integer` holds them to the same tests, on fewer problems by default.
ALL_EXACT = {name: solver for name, solver in LIPSCHITZ_SOLVERS.items() if solver.exact}
EXACT = {name: solver for name, solver in ALL_EXACT.items() if name != "mixed-integer"}


def solved(
    solver: AbstractLipschitzSolver, network: ReluNetwork, domain: Domain, *, budget: Budget | None = None,
    exponents: Sequence[float] = P_VALUES,
) -> dict[float, LipschitzBounds]:  # fmt: skip
    """Answers for every p that the method takes, each lower bound proved in exact arithmetic."""
    problems = [LipschitzProblem(network, p, domain) for p in exponents]
    problems = [problem for problem in problems if solver.refuses(problem) is None]
    answers = solver.solve_batch(problems, budget=budget)
    for problem, answer in zip(problems, answers, strict=True):
        check = check_witness(problem, answer.witness, answer.lower)
        assert check.holds, f"{solver.name}, p = {problem.p}: {check.reason}"
    return {problem.p: answer for problem, answer in zip(problems, answers, strict=True)}


def assert_interval_holds(told: str, answer: LipschitzBounds, truth: float) -> None:
    """Lower <= truth <= upper, up to the rounding of the truth."""
    told = f"{told}: interval [{answer.lower!r}, {answer.upper!r}] {answer.status}, truth {truth!r}"
    assert answer.lower <= truth * (1 + 1e-12), told
    assert answer.upper >= truth * (1 - 1e-12), told


def assert_agreement(
    network: ReluNetwork,
    domain: Domain,
    truth: dict[float, float] | None = None,
    methods: Mapping[str, AbstractLipschitzSolver] = EXACT,
) -> dict[float, float]:
    """All exact methods that take a problem end exact, attain the same value to 1e-7, and no interval excludes it.

    Args:
        truth: the constants for each p where known from elsewhere.
    Returns:
        The constants: for each p the longest gradient that any method attained.
    """
    answers = {name: solved(solver, network, domain) for name, solver in methods.items()}
    found: dict[float, float] = {}
    for p in P_VALUES:
        mine = {name: answer[p] for name, answer in answers.items() if p in answer}
        assert len(mine) + (truth is not None) >= 2, f"nothing to compare with for p = {p}"
        found[p] = max(answer.lower for answer in mine.values()) if truth is None else truth[p]
        for name, answer in mine.items():
            layers = [w.tolist() for w in network.weights], [b.tolist() for b in network.biases]
            told = f"{name}, p = {p}, {layers}, {domain.describe()}"
            assert_interval_holds(told, answer, found[p])
            assert answer.status is Status.EXACT, told
            assert answer.lower == pytest.approx(found[p], rel=1e-7, abs=0), told
            assert answer.upper == pytest.approx(found[p], rel=1.1e-6, abs=0), told
    return found


def some_box(d: int, rng: np.random.Generator) -> Box:
    """A box around the origin, or anywhere."""
    middle = rng.choice([0.0, 0.5]) * rng.standard_normal(d)
    return Box(middle - rng.uniform(0.1, 1, d), middle + rng.uniform(0.1, 1, d))
