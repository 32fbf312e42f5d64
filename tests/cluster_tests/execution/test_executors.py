"""The same bits from every executor, from a resumed run, and past workers that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import pandas as pd
import pytest

from cluster.execution.executor import AbstractExecutor
from cluster.execution.in_process import InProcessExecutor
from cluster.execution.ledger import open_run
from cluster.execution.runner import RunResult, StudyRun
from tasks.experiment import AbstractExperiment, Config, Measurement, RunContext
from tasks.registry import EXPERIMENTS
from tasks.seeding import RandomStreams
from tasks.sweeps import Study, parse_study
from tests.cluster_tests.studies import small_study, stable
from tracking.memory_tracker import MemoryTracker
from tracking.parts import RunFolder

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def complete(study: Study, folder: RunFolder, executor: AbstractExecutor) -> tuple[RunResult, MemoryTracker]:
    tracker = MemoryTracker()
    run = StudyRun(study, folder, tracker, RunContext())
    with executor:
        result = run.execute(executor, lambda progress: None)
    run.conclude(result)
    return result, tracker


def test_a_finished_run_is_not_computed_again(tmp_path: Path) -> None:
    study = small_study()
    folder = RunFolder(str(tmp_path))
    first, _ = complete(study, folder, InProcessExecutor())
    before = {path: os.stat(path).st_mtime_ns for path in folder.part_names("lipschitz")}
    again, tracker = complete(study, folder, InProcessExecutor())
    assert (first.resumed, again.resumed) == (0, first.trials)
    assert before == {path: os.stat(path).st_mtime_ns for path in folder.part_names("lipschitz")}
    assert tracker.status == "FINISHED"
    assert len(tracker.cells) == 16


def test_growing_a_study_keeps_its_numbers(tmp_path: Path) -> None:
    small, large = RunFolder(str(tmp_path / "a")), RunFolder(str(tmp_path / "b"))
    complete(small_study(2), small, InProcessExecutor())
    complete(small_study(5), large, InProcessExecutor())
    for sweep in ("lipschitz", "moons"):
        few, many = stable(small, sweep), stable(large, sweep)
        kept = many[many["trial_key"].isin(few["trial_key"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(few, kept, check_exact=True)


@pytest.mark.ray
def test_a_killed_driver_is_resumed_to_the_same_bits(tmp_path: Path, root: Path) -> None:
    text = """
name = "kill"
[sweeps.nets]
experiment = "lipschitz-monte-carlo"
replicates = 150
grid = {p = [1.0, 2.0], bias = ["zero", "normal"]}
fixed = {d = 4, N = 24}
"""
    (tmp_path / "kill.toml").write_text(text)
    out = tmp_path / "runs"
    command = [sys.executable, "-m", "cluster.cli", "run", str(tmp_path / "kill.toml"), "--out", str(out)]
    driver = subprocess.Popen([*command, "--workers", "2"], cwd=root, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and driver.poll() is None:
        if len(list(out.glob("kill-*/parts/nets/*.parquet"))) >= 2:
            break
        time.sleep(0.02)
    assert driver.poll() is None, "the study ended before it could be killed"
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(2.0)  # actors whose driver is gone may still finish the part they write
    before = {path: path.stat().st_mtime_ns for path in out.glob("kill-*/parts/nets/*.parquet")}
    again = [*command, "--executor", "local", "--resume", "--json"]
    resumed = subprocess.run(again, cwd=root, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    folders = list(out.glob("kill-*"))
    assert len(folders) == 1
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    folder = RunFolder(str(folders[0]))
    study = parse_study(folder.read_json("study.json"), "kill")
    rows = pd.concat([table.to_pandas() for table in folder.tables("nets")])
    assert len(rows) == rows["trial_key"].nunique() == 600
    whole = RunFolder(str(tmp_path / "whole"))
    complete(study, whole, InProcessExecutor())
    pd.testing.assert_frame_equal(stable(folder, "nets"), stable(whole, "nets"), check_exact=True)


class TroubleConfig(Config):
    kind: str = "fine"
    number: int = 0


class Trouble(AbstractExperiment[TroubleConfig]):
    """Trials that fail, or kill their worker."""

    name = "trouble"
    summary = "for tests"
    config_type = TroubleConfig
    columns: ClassVar[dict[str, str]] = {"value": "a number"}

    def cost_seconds(self, config: TroubleConfig) -> float:
        return 1.0

    def run_batch(
        self, configs: Sequence[TroubleConfig], streams: Sequence[RandomStreams], context: RunContext
    ) -> list[Measurement]:
        for config in configs:
            if config.kind == "raises":
                raise ArithmeticError("this trial cannot be computed")
            if config.kind == "kills":
                os.kill(os.getpid(), signal.SIGKILL)
        return [{"value": float(s.generator("value").random())} for s in streams]


def troubled(kinds: list[str], monkeypatch: pytest.MonkeyPatch, numbers: int = 4) -> Study:
    monkeypatch.setitem(EXPERIMENTS, "trouble", Trouble())
    grid: dict[str, Any] = {"kind": kinds, "number": list(range(numbers))}
    return parse_study({"name": "t", "sweeps": {"t": {"experiment": "trouble", "grid": grid}}}, "t")


def test_a_failing_trial_costs_only_itself_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = troubled(["fine", "raises"], monkeypatch)
    monkeypatch.setattr(Trouble, "cost_seconds", lambda self, config: 0.01)
    folder = RunFolder(str(tmp_path))
    result, tracker = complete(study, folder, InProcessExecutor())
    assert (result.trials, result.failed) == (8, 4)
    assert result.first_error == "ArithmeticError: this trial cannot be computed"
    monkeypatch.setattr(Trouble, "run_batch", lambda self, configs, streams, context: [{"value": 1.0}] * len(configs))
    again, _ = complete(study, folder, InProcessExecutor())
    assert (again.resumed, again.failed) == (4, 0)
    frame = folder.frame("t")
    assert len(frame) == 8
    assert not frame["failed"].any()
    assert sum(metrics["failed"] for _, _, metrics in tracker.cells.values()) == 4


def test_a_run_is_found_again_by_its_content(tmp_path: Path) -> None:
    first, old = open_run(small_study(), str(tmp_path), resume=False)
    assert not old
    found, old = open_run(small_study(), str(tmp_path), resume=True)
    assert old
    assert found == first
    other, old = open_run(small_study(7), str(tmp_path), resume=True)
    assert not old
    assert other != first
