"""A resume takes the newest run of the same question, and over study edits every trial that is the same."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.execution.in_process import InProcessExecutor
from cluster.execution.ledger import Ledger, earlier_runs, open_run
from cluster.execution.runner import StudyRun
from tasks.experiment import RunContext
from tasks.sweeps import Study, trials_of
from tests.cluster_tests.execution.test_executors import complete
from tests.cluster_tests.fleet.odd_trials import odd_study
from tests.cluster_tests.studies import stable
from tracking.memory_tracker import MemoryTracker
from tracking.parts import RunFolder
from tracking.provenance import KERNELS, kernels_digest


def study(numbers: int = 10, replicates: int = 2, **more: Any) -> Study:
    made = odd_study(mates={"grid": {"number": list(range(numbers))}, "replicates": replicates})
    return made.model_copy(update=more)


def begun(asked: Study, out: Path) -> RunFolder:
    folder, _ = open_run(asked, str(out), resume=False)
    complete(asked, folder, InProcessExecutor())
    return folder


@pytest.mark.parametrize(
    ("edited", "same"),
    [(study(14), 20), (study(10, 5), 20), (study(6, 3), 12), (study(title="another"), 20), (study(seed=9), 0)],
)
def test_finished_trials_are_taken_over_when_the_study_is_edited(tmp_path: Path, edited: Study, same: int) -> None:
    begun(study(), tmp_path)
    folder, old = open_run(edited, str(tmp_path), resume=True)
    assert not old
    job = StudyRun(edited, folder, MemoryTracker(), RunContext())
    assert job.ledger.adopt(earlier_runs(edited, str(tmp_path))) == same
    with InProcessExecutor() as engine:
        result = job.execute(engine, lambda progress: None)
    assert (result.resumed, result.trials) == (same, len(job.trials))
    whole = RunFolder(str(tmp_path / "whole"))
    complete(edited, whole, InProcessExecutor())
    pd.testing.assert_frame_equal(stable(folder, "mates"), stable(whole, "mates"), check_exact=True)


def test_a_failed_trial_is_not_taken_over(tmp_path: Path) -> None:
    asked = odd_study(mates={"grid": {"number": [0, 1]}, "fixed": {"kind": "raises", "only": 1}})
    begun(asked, tmp_path)
    fresh = RunFolder(str(tmp_path / "fresh"))
    assert Ledger(fresh, list(trials_of(asked))).adopt(earlier_runs(asked, str(tmp_path))) == 1


def test_the_newest_run_is_that_of_the_clock_whatever_the_time_zone_was(tmp_path: Path) -> None:
    older, newer = begun(study(), tmp_path), begun(study(), tmp_path)
    # As a run begun later, but farther west, was named before names held UTC.
    moved = Path(newer.uri).with_name(Path(newer.uri).name.replace("-20", "-10", 1))
    os.rename(newer.uri, moved)
    found, old = open_run(study(), str(tmp_path), resume=True)
    assert old
    assert found.uri == str(moved)
    assert found != older


def test_rows_of_other_sources_are_kept_apart(tmp_path: Path) -> None:
    folder = begun(study(), tmp_path)
    path = Path(folder.uri) / "provenance.json"
    told = json.loads(path.read_text())
    assert told[KERNELS] == kernels_digest()
    path.write_text(json.dumps({**told, KERNELS: "0" * 64}))
    found, old = open_run(study(), str(tmp_path), resume=True)
    assert not old
    assert found != folder
    assert earlier_runs(study(20), str(tmp_path)) == [found]
    # A run of before this question was asked is trusted.
    del told[KERNELS]
    path.write_text(json.dumps(told))
    assert folder in earlier_runs(study(), str(tmp_path))


def test_the_command_says_what_it_takes_over(tmp_path: Path) -> None:
    text = """
name = "grow"
[sweeps.nets]
experiment = "lipschitz-monte-carlo"
replicates = 3
fixed = {d = 2, N = 4, p = 2.0}
"""
    (tmp_path / "grow.toml").write_text(text)
    command = ["run", str(tmp_path / "grow.toml"), "--executor", "local", "--out", str(tmp_path / "runs"), "--json"]
    assert CliRunner().invoke(app, command).exit_code == 0
    answer = CliRunner().invoke(app, [*command, "--resume", "--set", "sweeps.nets.replicates=5"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["resumed"] == 3
    assert "3 finished trials of earlier runs are taken over" in answer.stderr
