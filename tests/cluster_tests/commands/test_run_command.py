"""`interlip run` from the outside: one JSON document, MLflow, Parquet, figures; sync and ui on what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.experiment import Trial
from tasks.sweeps import load_study, trials_of
from tests.cluster_tests.commands.test_bad_input import closed_port

SETTINGS = [
    "--set", "sweeps.lipschitz.replicates=2",
    "--set", "sweeps.lipschitz.grid.d=[2, 3]",
    "--set", "sweeps.lipschitz.grid.p=[1, 2, inf]",
    "--set", "sweeps.moons.replicates=2",
    "--set", "sweeps.moons.grid.width=[50, 100]",
    "--set", "sweeps.moons.grid.max_bias=[0.5, 1.0]",
    "--set", "sweeps.digits.replicates=1",
    "--set", "sweeps.digits.grid.width=[50, 100]",
]  # fmt: skip


def interlip(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A reduced overview on Ray whose tracking server is down: out folder, the JSON, standard error."""
    out = tmp_path_factory.mktemp("runs")
    root = Path(__file__).resolve().parents[3]
    answer = interlip(root, "run", "overview", "--json", "--out", str(out), "--workers", "2", *SETTINGS)
    assert answer.returncode == 0, answer.stderr
    return out, json.loads(answer.stdout), answer.stderr


def planned(*more: str) -> list[Trial]:
    return list(trials_of(load_study("overview", [*SETTINGS[1::2], *more])))


def runs_of(uri: str) -> tuple[Any, list[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own imports
        from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("overview")
    assert experiment is not None
    return client, client.search_runs([experiment.experiment_id], max_results=1000)


@pytest.mark.ray
def test_the_json_names_everything_that_was_written(finished: tuple[Path, dict[str, Any], str]) -> None:
    out, said, _ = finished
    assert {"run_dir", "tracking_uri", "parent_run_id", "trials", "failed", "seconds"} <= set(said)
    assert said["failed"] == 0
    assert said["tracking_uri"] == f"sqlite:///{out}/mlflow.db"
    trials = sum(len(pd.read_parquet(path)) for path in Path(said["run_dir"]).glob("*.parquet"))
    assert trials == said["trials"] == len(planned())
    assert len(list(Path(said["run_dir"]).glob("figures/*.png"))) >= 3
    client, runs = runs_of(said["tracking_uri"])
    (parent,) = (run for run in runs if run.info.run_id == said["parent_run_id"])
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == said["parent_run_id"]]
    assert len(children) == len(runs) - 1 == len({(trial.sweep, trial.cell) for trial in planned()})
    assert all(run.data.params and run.data.metrics and run.info.status == "FINISHED" for run in children)
    assert parent.data.params
    assert parent.data.metrics
    figures = [entry.path for entry in client.list_artifacts(said["parent_run_id"], "figures")]
    assert len([path for path in figures if path.endswith(".png")]) >= 3
    files = {Path(entry.path).name for entry in client.list_artifacts(said["parent_run_id"])}
    assert {"lipschitz.parquet", "moons.parquet", "digits.parquet"} <= files
    assert len(parent.inputs.dataset_inputs) == 2  # moons and digits


@pytest.mark.ray
def test_nothing_is_said_that_a_user_can_do_nothing_about(finished: tuple[Path, dict[str, Any], str]) -> None:
    _, _, stderr = finished
    known = ("study overview:", "figure ", "finished ")
    for line in stderr.strip().splitlines():
        assert line.startswith(known) or "% " in line, line


@pytest.mark.slow
def test_a_tracker_that_is_down_stops_nothing_and_is_told_later(tmp_path: Path, root: Path) -> None:
    server = f"http://127.0.0.1:{closed_port()}"
    small = [*SETTINGS, "--set", "sweeps.lipschitz.grid.p=[2]"]
    answer = interlip(
        root,
        "run",
        "overview",
        "--json",
        "--executor",
        "local",
        "--out",
        str(tmp_path),
        "--tracking-uri",
        server,
        *small,
    )
    assert answer.returncode == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert said["parent_run_id"] is None
    assert "does not answer" in said["tracking_trouble"]
    assert "interlip sync" in answer.stderr
    uri = f"sqlite:///{tmp_path}/later.db"
    for _ in range(2):  # telling it twice changes nothing
        answer = interlip(root, "sync", said["run_dir"], "--tracking-uri", uri, "--json")
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["trials"] == said["trials"]
    _, runs = runs_of(uri)
    assert len([run for run in runs if "mlflow.parentRunId" not in run.data.tags]) == 1
    assert len(runs) - 1 == len({(trial.sweep, trial.cell) for trial in planned("sweeps.lipschitz.grid.p=[2]")})


def test_a_dry_run_computes_nothing(tmp_path: Path, root: Path) -> None:
    answer = interlip(root, "run", "overview", "--dry-run", "--json", "--out", str(tmp_path / "new"))
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["trials"] > 9600
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_dashboard_answers_and_ends(tmp_path: Path, root: Path) -> None:
    answer = interlip(root, "run", "overview", "--json", "--executor", "local", "--out", str(tmp_path), *SETTINGS)
    assert answer.returncode == 0, answer.stderr
    port = closed_port()
    command = [sys.executable, "-m", "cluster.cli", "ui", "--out", str(tmp_path), "--port", str(port)]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as page:
                    assert page.status == 200
                    break
            except OSError:
                time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    deadline = time.monotonic() + 30
    while True:  # its whole process group is gone
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline, "the dashboard left processes behind"
        time.sleep(0.2)
