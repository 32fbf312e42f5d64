"""Time limits hold for networks of any size: steps of a method are small, and what is too long is not begun."""

from __future__ import annotations

import time

import numpy as np
import pytest

from solvers.lipschitz import sampling
from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.lipschitz.mixed_integer import MixedInteger
from solvers.lipschitz.sampling import Sampling
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.problems.witnesses import gradients_at
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.strategies import gaussian_network


def test_sampling_looks_at_the_clock_after_a_bounded_amount_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sizes = [100.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def measured(network: ReluNetwork, points: np.ndarray) -> np.ndarray:
        now[0] += 1.0
        sizes.append(len(points))
        return gradients_at(network, points)

    monkeypatch.setattr(sampling, "gradients_at", measured)
    monkeypatch.setattr(sampling, "BLOCK_WORK", 10_000)
    network = gaussian_network([10, 40, 1], np.random.default_rng(0), 0.3)
    answer = Sampling().solve(LipschitzProblem(network, 2.0, Box.cube(10)), budget=Budget(seconds=2.5))
    assert answer.status is Status.BUDGET_SPENT
    assert len(sizes) == 3
    assert max(sizes) * 2 * 440 <= 10_000 + 2 * 440


def test_no_program_is_written_down_for_too_many_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    from solvers.lipschitz import mixed_integer

    monkeypatch.setattr(mixed_integer, "MOST_BINARIES", 5)
    network = gaussian_network([2, 12, 1], np.random.default_rng(1), 0.1)
    answer = MixedInteger().solve(LipschitzProblem(network, 1.0, Box.cube(2)))
    assert answer.stats["programs"] == 0
    assert answer.status is Status.BOUNDED
    assert "5 hidden neurons" in answer.reason
    assert answer.lower < answer.upper


@pytest.mark.slow
@pytest.mark.parametrize("p", [1.0, 2.0, float("inf")])
@pytest.mark.parametrize("name", sorted(LIPSCHITZ_SOLVERS))
def test_a_large_network_ends_in_time(name: str, p: float) -> None:
    solver: AbstractLipschitzSolver = LIPSCHITZ_SOLVERS[name]
    sizes = [784, 2048, 2048, 2048, 2048, 10]
    network = gaussian_network(sizes, np.random.default_rng(2), 0.1).select_output(0)
    problem = LipschitzProblem(network, p, Box.cube(784, 0.0, 1.0))
    if solver.refuses(problem) is not None:
        pytest.skip("the method does not take it")
    start = time.perf_counter()
    answer = solver.solve(problem, budget=Budget(seconds=5.0))
    # Five seconds and a tenth and one more on a machine of its own; tests share theirs.
    assert time.perf_counter() - start < 45.0
    assert answer.lower <= answer.upper
