"""Which store a command uses, and folders with signs that addresses give a meaning to."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.commands.stores import VARIABLE, chosen_store, sync_tracker
from tests.cluster_tests.commands.test_sync_command import records
from tests.one_sentence import assert_one_sentence

STUDY = """
name = "tiny"
[sweeps.moons]
experiment = "interpolation"
replicates = 1
grid = {width = [20]}
fixed = {data = "moons:30", max_bias = 0.5}
"""


def interlip(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def study(tmp_path: Path) -> str:
    path = tmp_path / "tiny.toml"
    path.write_text(STUDY, encoding="utf-8")
    return str(path)


def test_the_option_comes_before_the_environment_before_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen_store(None) is None
    assert sync_tracker(str(tmp_path), None).uri == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv(VARIABLE, "http://127.0.0.1:1")
    assert chosen_store(None) == "http://127.0.0.1:1"
    assert sync_tracker(str(tmp_path), None).uri == "http://127.0.0.1:1"
    assert chosen_store("http://127.0.0.1:2") == "http://127.0.0.1:2"
    monkeypatch.setenv(VARIABLE, "")
    assert chosen_store(None) is None


def test_a_relative_file_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert chosen_store("sqlite:///runs/x.db") == f"sqlite:///{tmp_path}/runs/x.db"
    assert chosen_store("sqlite:////runs/x.db?timeout=3") == "sqlite:////runs/x.db?timeout=3"


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "sqlite://x.db", "sqlite:///", "sqlite:///:memory:"])
def test_other_stores_are_refused_wherever_they_are_named(
    uri: str, study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "runs")
    options = ("run", study, "--executor", "local", "--out", out)
    assert_one_sentence(interlip(*options, "--tracking-uri", uri), "sqlite:////folder/mlflow.db")
    monkeypatch.setenv(VARIABLE, uri)
    assert_one_sentence(interlip(*options), VARIABLE)
    assert not Path(out).exists()


def test_databases_keep_files_beside_the_run_folders_and_servers_where_they_like(tmp_path: Path) -> None:
    folder = str(tmp_path / "runs")
    assert sync_tracker(folder, "postgresql://host/x")._artifact_folder == f"{folder}/artifacts"
    assert sync_tracker("s3://bucket/runs", "postgresql://host/x")._artifact_folder == "s3://bucket/runs/artifacts"
    assert sync_tracker(folder, f"sqlite:///{tmp_path}/x.db")._artifact_folder == f"{folder}/artifacts"
    assert sync_tracker(folder, "http://host:5000")._artifact_folder is None


@pytest.mark.parametrize("name", ["why?", "a%41"])
def test_a_folder_whose_store_would_be_another_one_is_refused_before_work(
    name: str, study: str, tmp_path: Path
) -> None:
    out = tmp_path / name
    assert_one_sentence(interlip("run", study, "--executor", "local", "--out", str(out)), "because of its ? or %")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_a_folder_with_odd_signs_holds_everything(study: str, tmp_path: Path) -> None:
    """Run, resume, sync, list, export; artifacts are where the store says they are."""
    out = tmp_path / "~a #1 50% [b]::c&d=é"
    answer = interlip("run", study, "--executor", "local", "--out", str(out), "--json")
    assert answer.exit_code == 0, answer.stderr
    said = json.loads(answer.stdout)
    assert (said["tracking_trouble"], said["failed"]) == (None, 0)
    assert said["parent_run_id"] is not None
    assert Path(said["run_dir"]).parent == out
    told = records(said["tracking_uri"], "tiny")
    assert "moons.parquet" in told[Path(said["run_dir"]).name]["files"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own imports
        from mlflow import MlflowClient
    kept = MlflowClient(tracking_uri=said["tracking_uri"]).download_artifacts(said["parent_run_id"], "study.json")
    assert Path(kept).read_bytes() == (Path(said["run_dir"]) / "study.json").read_bytes()
    assert (out / "artifacts").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.toml", out.name]
    again = interlip("run", study, "--executor", "local", "--out", str(out), "--resume", "--json")
    assert json.loads(again.stdout)["resumed"] == 1
    for command in (("sync", said["run_dir"]), ("status", said["run_dir"]), ("list", "--out", str(out))):
        answer = interlip(*command, "--json")
        assert answer.exit_code == 0, answer.stderr
    csv = str(out / "x #1.csv")
    assert interlip("export", said["run_dir"], "--csv", csv).exit_code == 0
    assert Path(csv).read_text(encoding="utf-8").count("\n") == 2
