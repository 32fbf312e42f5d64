"""Progress of one solve: what a line says, and that methods report bounds which hold."""

from __future__ import annotations

import math
import time

import numba
import numpy as np
import pytest
from numba.core import event

from cluster.output.solve_progress import SolveProgress, progress_line
from solvers.arithmetic.compiled import is_compiling
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.one_sentence import without_progress
from tests.strategies import gaussian_network


@pytest.mark.parametrize(
    ("elapsed", "limit", "bounds", "line"),
    [
        (12.0, math.inf, None, "solving for 12 s"),
        (12.0, 60.0, None, "solving for 12 s, at most 48 s left"),
        (61.0, 60.0, (2.0, 3.0, 4.0), "solving for 1 min 01 s, at most 0 s left; p = 2: 3 <= L <= 4, gap 25.00%"),
        (5.0, math.inf, (math.inf, 3.0, math.inf), "solving for 5 s; p = inf: L >= 3"),
        (5.0, math.inf, (1.5, 0.0, 0.0), "solving for 5 s; p = 1.5: 0 <= L <= 0, gap 0.00%"),
    ],
)
def test_lines(elapsed: float, limit: float, bounds: tuple[float, float, float] | None, line: str) -> None:
    assert progress_line(elapsed, limit, bounds) == line
    assert without_progress(line) == []


def test_compiling_is_told_apart_from_solving() -> None:
    seen = []

    class Hears(event.Listener):
        def on_start(self, event: object) -> None:
            seen.append(is_compiling())

        def on_end(self, event: object) -> None:
            return

    assert not is_compiling()
    with event.install_listener("numba:compile", Hears()):
        numba.njit(lambda x: 2.0 * x)(1.0)  # not of the cache, where a second run of the tests would find it
    assert seen
    assert all(seen)
    assert not is_compiling()
    line = progress_line(12.0, 5.0, None, compiling=True)
    assert without_progress(line) == []
    assert line == "compiling the solver for 12 s, once after an installation (about a minute)"


def test_a_line_now_and_then_and_none_after_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    progress = SolveProgress(30.0, every=0.05)
    progress.watch(2.0, 1.0, 2.0)
    said = ""
    with progress:
        while not said:
            time.sleep(0.05)
            said = capsys.readouterr().err
    said += capsys.readouterr().err
    assert without_progress(said) == []
    assert all(line.endswith("p = 2: 1 <= L <= 2, gap 50.00%") for line in said.splitlines())
    time.sleep(0.15)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("method", ["branch-and-bound", "region-enumeration", "auto"])
def test_reported_bounds_hold_and_change_no_answer(method: str) -> None:
    told: list[tuple[float, float, float]] = []
    network = gaussian_network([3, 24, 24, 1], np.random.default_rng(0), 0.3)
    questions = [LipschitzProblem(network, p, Box.cube(3)) for p in (1.0, 2.0)]
    budget = Budget(watch=lambda p, lower, upper: told.append((p, lower, upper)))
    watched = LIPSCHITZ_SOLVERS[method].solve_batch(questions, budget=budget)
    alone = LIPSCHITZ_SOLVERS[method].solve_batch(questions)
    assert [(a.lower, a.upper) for a in watched] == [(a.lower, a.upper) for a in alone]
    assert {p for p, _, _ in told} == {1.0, 2.0}
    truth = {answer.p: answer for answer in alone}
    for p, lower, upper in told:
        assert lower <= truth[p].upper
        assert upper >= truth[p].lower
