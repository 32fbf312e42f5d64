"""How far a study is: what the runner reports, and the time left that it comes to."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from cluster.execution.executor import Progress
from cluster.execution.in_process import InProcessExecutor
from cluster.execution.runner import StudyRun
from cluster.output import progress as display
from tasks.experiment import RunContext
from tests.cluster_tests.studies import small_study
from tests.one_sentence import without_progress
from tracking.memory_tracker import MemoryTracker
from tracking.parts import RunFolder


@pytest.mark.parametrize(
    ("share", "elapsed", "left"),
    [(0.25, 10.0, 30.0), (0.5, 10.0, 10.0), (0.8, 60.0, 15.0), (1.0, 10.0, 0.0), (0.0, 10.0, math.inf)],
)
def test_the_time_left_follows_the_share_of_work_done(share: float, elapsed: float, left: float) -> None:
    assert Progress(7, 100, 0, share, elapsed).seconds_left == pytest.approx(left)


def test_people_read_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(display, "say", said.append)
    monkeypatch.setattr(display, "LINE_SECONDS", -1.0)
    shown = display.ProgressDisplay()
    shown.show(Progress(20, 80, 1, 0.25, 10.0))
    shown.show(Progress(0, 80, 0, 0.0, 0.0))
    assert said == [" 25%  20 of 80 trials, 1 failed, 2 a second, 30 s left", "  0%  0 of 80 trials, 0 a second"]
    assert all(without_progress(line) == [] for line in said)


def test_a_run_reports_from_nothing_to_everything(tmp_path: Path) -> None:
    run = StudyRun(small_study(2), RunFolder(str(tmp_path)), MemoryTracker(), RunContext())
    told: list[Progress] = []
    with InProcessExecutor() as executor:
        result = run.execute(executor, told.append)
    batches, _ = StudyRun(small_study(2), RunFolder(str(tmp_path / "new")), MemoryTracker(), RunContext()).batches()
    assert len(told) == len(batches) + 1
    assert [p.done for p in told] == sorted(p.done for p in told)
    assert [p.share for p in told] == sorted(p.share for p in told)
    assert (told[0].done, told[0].share, told[0].seconds_left) == (0, 0.0, math.inf)
    assert (told[-1].done, told[-1].total) == (result.trials, result.trials)
    assert told[-1].share == pytest.approx(1.0)
    assert told[-1].seconds_left == pytest.approx(0.0, abs=1e-6 * (1 + told[-1].elapsed_seconds))
