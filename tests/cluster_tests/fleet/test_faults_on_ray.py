"""Faults in real studies on Ray, each compared bit for bit with a run of one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.execution.fleet.ray_executor import RayExecutor
from cluster.execution.in_process import InProcessExecutor
from tests.cluster_tests.execution.test_executors import complete
from tests.cluster_tests.fleet.node_faults import STUDIES
from tests.cluster_tests.fleet.odd_trials import odd_study
from tracking.parts import RunFolder

CONTAINED = {
    "raises": "ArithmeticError: this trial cannot be computed",
    "leaves": "SystemExit: 3",
    "hungry": "MemoryError: out of memory",
    "object": "TypeError: the measurement 'value' is of type object",
    "large": "OverflowError: the measurement 'value' is a whole number beyond 64 bits",
    "clash": "ValueError: the column 'kind' is taken twice",
}


def values(folder: RunFolder) -> dict[int, float]:
    """Number -> value of the trials that were computed."""
    frame = folder.frame("mates")
    frame = frame[~frame["failed"]]
    return dict(zip(frame["number"].tolist(), frame["value"].tolist(), strict=True))


def undisturbed(tmp_path: Path, numbers: int) -> dict[int, float]:
    """The values of a study without any odd trial, in one process."""
    alone = RunFolder(str(tmp_path / "alone"))
    complete(odd_study(mates={"grid": {"number": list(range(numbers))}}), alone, InProcessExecutor())
    return values(alone)


@pytest.mark.parametrize("place", ["local", pytest.param("ray", marks=pytest.mark.ray)])
def test_a_trial_that_fails_oddly_fails_alone_with_its_traceback(
    tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    if place == "ray":
        request.getfixturevalue("ray_runtime")
    study = odd_study(mates={"grid": {"kind": ["fine", *CONTAINED], "number": [0, 1, 2]}})
    folder = RunFolder(str(tmp_path / "found"))
    result, _ = complete(study, folder, RayExecutor(2) if place == "ray" else InProcessExecutor())
    assert (result.trials, result.failed) == (21, 18)
    frame = folder.frame("mates")
    for kind, error in CONTAINED.items():
        rows = frame[frame["kind"] == kind]
        assert rows["failed"].all()
        assert rows["error"].str.startswith(error).all()
        assert rows["traceback"].str.contains(error.partition(":")[0]).all()
    assert values(folder) == undisturbed(tmp_path, 3)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kills", "exits"])
def test_twenty_mates_of_a_trial_that_ends_its_worker_survive(tmp_path: Path, ray_runtime: None, kind: str) -> None:
    study = odd_study(mates={"grid": {"number": list(range(21))}, "fixed": {"kind": kind, "only": 20}})
    folder = RunFolder(str(tmp_path / "found"))
    result, _ = complete(study, folder, RayExecutor(2))
    assert (result.trials, result.failed) == (21, 1)
    failed = folder.frame("mates").query("failed")
    assert failed["number"].tolist() == [20]
    assert "with this trial alone: its process crashed or was killed" in failed["error"].iloc[0]
    expected = undisturbed(tmp_path, 21)
    assert values(folder) == {number: expected[number] for number in range(20)}


@pytest.mark.ray
@pytest.mark.slow
def test_a_trial_that_hangs_is_named_and_timed_out(tmp_path: Path, ray_runtime: None) -> None:
    study = odd_study(mates={"grid": {"kind": ["fine", "hangs"], "number": [0]}})
    folder = RunFolder(str(tmp_path / "found"))
    result, _ = complete(study, folder, RayExecutor(2, trial_timeout=5.0))
    assert (result.trials, result.failed) == (2, 1)
    frame = folder.frame("mates")
    assert frame["error"][frame["kind"] == "hangs"].tolist() == ["timed out: it did not end in 5 s"]
    assert values(folder) == undisturbed(tmp_path, 1)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("scenario", STUDIES)
def test_nodes_that_come_and_go_change_nothing(tmp_path: Path, root: Path, scenario: str) -> None:
    command = [sys.executable, "-m", "tests.cluster_tests.fleet.node_faults", scenario, str(tmp_path / "found")]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=300)
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout.strip().splitlines()[-1])
    trials, _ = STUDIES[scenario]
    assert values(RunFolder(str(tmp_path / "found"))) == undisturbed(tmp_path, trials)
    assert said["trials"] == trials
    assert said["failed"] == 0
    texts = [text for _, text in said["notes"]]
    if scenario in ("lost", "all-lost"):
        assert any("a worker is gone" in text for text in texts)
    if scenario in ("all-lost", "busy"):
        assert any("waiting for a free CPU" in text for text in texts)
    if scenario == "joined":
        assert said["workers"] == 2
        assert said["joined_after"] < 30.0
