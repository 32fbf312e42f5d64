"""`interlip replay`: a trial of a run gives its row again, and one that failed fails before one's eyes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.execution.in_process import InProcessExecutor
from tasks.sweeps import Study
from tests.cluster_tests.execution.test_executors import complete
from tests.cluster_tests.fleet.odd_trials import odd_study
from tests.cluster_tests.studies import small_study
from tracking.parts import RunFolder


def finished(study: Study, place: Path) -> RunFolder:
    folder = RunFolder(str(place))
    complete(study, folder, InProcessExecutor())
    return folder


def test_a_trial_gives_the_same_again(tmp_path: Path) -> None:
    folder = finished(small_study(1), tmp_path)
    row = folder.frame("lipschitz").iloc[3]
    answer = CliRunner().invoke(app, ["replay", str(tmp_path), row["trial_key"][:12], "--json"])
    assert answer.exit_code == 0, answer.output
    said = json.loads(answer.stdout)
    assert (said["trial"], said["differs_in"]) == (row["trial_key"], [])
    assert said["measured"]["upper"] == row["upper"]


def test_a_row_that_was_changed_is_seen_to_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finished(odd_study(mates={"grid": {"number": [0, 1]}}), tmp_path)
    key = folder.frame("mates")["trial_key"][0]
    monkeypatch.setattr("tests.cluster_tests.fleet.odd_trials._measure", lambda config, stream: {"value": -1.0})
    answer = CliRunner().invoke(app, ["replay", str(tmp_path), key])
    assert "differs from what was kept in value" in answer.stderr


def test_a_failed_trial_fails_again_with_what_was_kept_of_it(tmp_path: Path) -> None:
    folder = finished(odd_study(mates={"grid": {"kind": ["raises"], "number": [0]}}), tmp_path)
    key = folder.frame("mates")["trial_key"][0]
    answer = CliRunner().invoke(app, ["replay", str(tmp_path), key])
    assert answer.exit_code == 1
    assert "kept as failed: ArithmeticError: this trial cannot be computed" in answer.stderr
    assert "Traceback (most recent call last)" in answer.stderr
    assert "seed 5" in answer.stderr


@pytest.mark.parametrize(("key", "wanted"), [("zz", "has no trial 'zz'"), ("", "begin with ''")])
def test_a_key_of_no_trial_or_of_many_is_refused(tmp_path: Path, key: str, wanted: str) -> None:
    finished(odd_study(mates={"grid": {"number": [0, 1]}}), tmp_path)
    answer = CliRunner().invoke(app, ["replay", str(tmp_path), key])
    assert answer.exit_code == 2
    assert wanted in answer.stderr
