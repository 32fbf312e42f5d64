"""The clock of a solve, which stands still while kernels are compiled."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numba.core import event

from solvers.arithmetic.compile_clock import COMPILING, CompileClock
from solvers.arithmetic.compiled import is_compiling
from solvers.lipschitz.bounds.alarm import alarm
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from tests.strategies import gaussian_network


def compilation():
    """What numba says of a compilation, without one."""
    return event.trigger_event("numba:compile")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time in seconds, which a test sets."""
    clock = [1000.0]
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: clock[0])
        yield clock


def test_a_deadline_does_not_count_compilation(now: list[float]) -> None:
    with compilation():
        now[0] += 7.0  # before the start: of no concern
    deadline = Budget(seconds=60.0).start()
    now[0] += 10.0
    assert (deadline.elapsed, deadline.spent, deadline.remaining) == (10.0, 10.0, 50.0)
    with compilation():
        assert is_compiling()
        now[0] += 100.0
        with compilation():
            now[0] += 20.0
        assert deadline.remaining == 50.0  # also while it is under way
        now[0] += 30.0
    assert not is_compiling()
    assert (deadline.elapsed, deadline.spent, deadline.remaining) == (160.0, 10.0, 50.0)
    now[0] += 49.0
    assert not deadline.is_over
    now[0] += 1.0
    assert deadline.is_over
    now[0] += 1.0
    assert deadline.remaining == 0.0


def test_a_deadline_that_starts_within_a_compilation_counts_from_its_end(now: list[float]) -> None:
    with compilation():
        now[0] += 5.0
        deadline = Budget(seconds=3.0).start()
        now[0] += 50.0
        assert deadline.remaining == 3.0
    now[0] += 2.0
    assert deadline.remaining == 1.0


def test_no_limit_stays_none(now: list[float]) -> None:
    deadline = Budget().start()
    with compilation():
        now[0] += 50.0
    assert math.isinf(deadline.remaining)
    assert not deadline.is_over


def test_compilations_in_two_threads_count_each_second_once(now: list[float]) -> None:
    clock = CompileClock()
    clock.start()
    now[0] += 1.0
    thread = threading.Thread(target=clock.start)
    thread.start()
    thread.join()
    now[0] += 2.0
    clock.end()
    now[0] += 4.0
    assert (clock.is_running, clock.seconds_until(now[0])) == (True, 7.0)
    clock.end()
    now[0] += 8.0
    assert (clock.is_running, clock.seconds_until(now[0])) == (False, 7.0)


def test_the_alarm_of_a_search_waits_for_the_end_of_a_compilation() -> None:
    with compilation():
        deadline = Budget(seconds=0.01).start()
        with alarm(deadline) as stop:
            time.sleep(0.2)
            assert stop[0] == 0
            COMPILING.end()  # the alarm now goes off, however late
            try:
                while not stop[0]:
                    time.sleep(0.001)
            finally:
                COMPILING.start()
    assert deadline.is_over


def test_a_limit_much_shorter_than_compilation_leaves_a_search_its_time() -> None:
    problem = LipschitzProblem(gaussian_network([4, 8, 8, 1], np.random.default_rng(0), 0.3), 2.0, Box.cube(4))
    with compilation():  # all of the time is that of a compilation
        answer = BranchAndBound().solve(problem, budget=Budget(seconds=1e-3))
    assert answer.status is Status.EXACT
    assert answer.stats["wall_seconds"] > 1e-3
