"""Ray jobs on a head node of our own: both ways to submit, the log, MLflow and the parts, with and without a token."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.execution.jobs import JobRequest
from solvers.errors import InputError
from tasks.sweeps import load_study, trials_of
from tracking.parts import RunFolder

SMALL = [
    "sweeps.lipschitz.replicates=2",
    "sweeps.lipschitz.grid.d=[2, 3]",
    "sweeps.lipschitz.grid.N=[16]",
    "sweeps.lipschitz.grid.p=[1, 2]",
    "sweeps.moons.replicates=1",
    "sweeps.moons.grid.width=[50, 100]",
    "sweeps.moons.grid.max_bias=[0.5, 1.0]",
    "sweeps.digits.replicates=1",
    "sweeps.digits.grid.width=[50]",
]
RAY = str(Path(sys.executable).parent / "ray")


@dataclass(frozen=True)
class Head:
    """A head node: its dashboard's address and the environment of its clients."""

    address: str
    environment: dict[str, str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=[pytest.param("open", marks=pytest.mark.slow), "token"])
def head(request: pytest.FixtureRequest) -> Iterator[Head]:
    """A head node on loopback, with token authentication off or on; ended by SIGTERM to the one process."""
    home = tempfile.mkdtemp(prefix="ilh-", dir="/tmp")
    # The entry point of a plain job is the `python` that the cluster finds first.
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # A Ray runtime that an earlier test started in this process has left its own settings behind.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_AUTH", "RAY_ADDR"))}
    environment = {**inherited, "HOME": home, "RAY_TMPDIR": home, "PATH": search}
    server = dict(environment)
    if request.param == "token":
        subprocess.run([RAY, "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
        server["RAY_AUTH_MODE"] = "token"
    else:
        server["RAY_AUTH_MODE"] = "disabled"
    port, dashboard = free_port(), free_port()
    command = [RAY, "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=2"]
    command += ["--disable-usage-stats", "--node-ip-address=127.0.0.1", f"--temp-dir={home}/r"]
    # The agent of a runtime that an earlier test started holds the default port; without an agent no job is taken.
    command.append(f"--dashboard-agent-listen-port={free_port()}")
    process = subprocess.Popen(command, env=server, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{dashboard}"
    try:
        wait_for(address, process)
        yield Head(address, environment)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(home, ignore_errors=True)


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, "the head node ended at once"
        try:
            with urllib.request.urlopen(f"{address}/api/version", timeout=2):
                return
        except urllib.error.HTTPError:
            return  # it wants a token: it is there
        except OSError:
            time.sleep(0.3)
    raise AssertionError("the head node did not answer")


def check_run(out: Path) -> None:
    """The parts are complete, and MLflow holds one parent with a child for every cell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own imports
        from mlflow import MlflowClient

    study = load_study("overview", SMALL)
    trials = list(trials_of(study))
    folders = list(out.glob("overview-*"))
    assert len(folders) == 1
    folder = RunFolder(str(folders[0]))
    assert sum(len(folder.finished_keys(sweep)) for sweep in study.sweeps) == len(trials)
    client = MlflowClient(tracking_uri=f"sqlite:///{out}/mlflow.db")
    experiment = client.get_experiment_by_name("overview")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"
    assert parents[0].data.tags["ray.job_submission_id"]
    assert len(runs) - 1 == len({(trial.sweep, trial.cell) for trial in trials})
    figures = client.list_artifacts(parents[0].info.run_id, "figures")
    assert len([entry for entry in figures if entry.path.endswith(".png")]) >= 3


def start(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_a_job_is_called_as_the_command_would_be() -> None:
    plain = JobRequest("overview", "http://127.0.0.1:8265")
    assert plain.arguments("overview") == ["run", "overview", "--out", str(Path("runs").resolve())]
    full = JobRequest(
        "mine.toml",
        "http://far:8265",
        overrides=("seed=1", "title=x"),
        workers=3,
        out="s3://bucket/runs",
        tracking_uri="http://far:5000",
        resume=True,
        data_dir="/data",
    )
    said = (
        "run study.toml --out s3://bucket/runs --workers 3 --tracking-uri http://far:5000 --data-dir /data "
        "--set seed=1 --set title=x --resume"
    )
    assert " ".join(full.arguments("study.toml")) == said


def test_a_cluster_elsewhere_wants_a_place_for_the_results() -> None:
    with pytest.raises(InputError, match="--out"):
        JobRequest("overview", "http://far:8265").arguments("overview")


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_reduced_overview_runs_as_a_job_submitted_both_ways(head: Head, tmp_path: Path, root: Path) -> None:
    settings = [text for override in SMALL for text in ("--set", override)]
    ours, plain = tmp_path / "ours", tmp_path / "plain"
    submit = [sys.executable, "-m", "cluster.cli", "submit", "overview", "--address", head.address]
    submit += ["--follow", "--json", "--workers", "1", "--out", str(ours), *settings]

    environment = dict(head.environment)
    if (Path(environment["HOME"]) / ".ray" / "auth_token").is_file():
        environment["RAY_AUTH_MODE"] = "token"  # Ray's own client does not follow the server
    staged = tmp_path / "project"
    for package in ("cluster", "tasks", "solvers", "tracking"):
        shutil.copytree(root / package, staged / package, ignore=shutil.ignore_patterns("__pycache__"))
    run = [RAY, "job", "submit", "--address", head.address, "--working-dir", ".", "--"]
    run += ["python", "-m", "cluster.cli", "run", "overview", "--workers", "1", "--out", str(plain), *settings]

    # Both at once: a job mostly waits for its processes to start.
    jobs = [start(submit, root, head.environment), start(run, staged, environment)]
    (said, log), (plain_said, plain_log) = (job.communicate() for job in jobs)
    assert jobs[0].returncode == 0, log
    assert json.loads(said)["status"] == "SUCCEEDED"
    assert "finished" in log  # the log was followed to its last line
    check_run(ours)
    assert jobs[1].returncode == 0, plain_said + plain_log
    check_run(plain)
