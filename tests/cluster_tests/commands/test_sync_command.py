"""`interlip sync`: every study comes back from its run folder, measured times stay, telling it twice adds nothing."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from tasks.sweeps import load_study, shipped_studies, stored_study
from tests.cluster_tests.commands.test_shipped_studies import STUDIES, folder
from tests.data_folder import needs_mnist
from tracking.parts import RunFolder, StorageError, plain_name

# Sweeps whose names differ in one sign, or hold signs that file systems and trackers refuse; infinite values.
ODD = """
name = "odd-names"
title = "Depth × width – ℓ₂ & “quotes” 🙂"
[sweeps."ℓ2: p=2, [box] #1/50%"]
experiment = "lipschitz-monte-carlo"
replicates = 2
grid = {d = [2, 3], p = [1.0, inf]}
fixed = {N = 6, bias = "normal", time_limit = inf}
[sweeps."p≤2"]
experiment = "lipschitz-monte-carlo"
replicates = 5
grid = {d = [2, 3], p = [1.0, 2.0]}
fixed = {N = 6}
[sweeps."p≥2"]
experiment = "lipschitz-monte-carlo"
replicates = 5
grid = {d = [2, 3], p = [2.0, inf]}
fixed = {N = 6}
"""
# What leaves seconds of work of the studies that are not in `STUDIES`.
MORE = {
    "complexity": [
        *(f"sweeps.{name}.replicates=1" for name in ("size", "digits", "widths")),
        'sweeps.size.grid.data=["lines:2000"]', "sweeps.size.grid.samples=[100, 300]",
        "sweeps.digits.grid.samples=[50, 100]", 'sweeps.widths.grid.data=["lines:1000"]',
        "sweeps.widths.grid.samples=[100, 300]", "sweeps.widths.fixed.restarts=1",
    ],
    "overview": [
        "sweeps.lipschitz.replicates=2", "sweeps.lipschitz.grid.d=[2, 3]", "sweeps.lipschitz.grid.p=[1, 2, inf]",
        "sweeps.moons.replicates=2", "sweeps.moons.grid.width=[50, 100]", "sweeps.digits.replicates=1",
        "sweeps.digits.grid.width=[50, 100]",
    ],
    "shifts": [f"sweeps.{name}.replicates=1" for name in ("patterns", "size", "signals", "noise")],
}  # fmt: skip


def interlip(*arguments: str) -> Any:
    answer = CliRunner().invoke(app, [*arguments, "--json"])
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)


def records(uri: str, study: str) -> dict[str, Any]:
    """All that a store holds of a study, by the runs' names: parameters, whole histories of metrics, times, files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own imports
        from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    found: dict[str, Any] = {}
    for run in runs:
        histories = {
            key: [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
        name = run.data.tags.get("interlip.cell") or run.data.tags["interlip.run"]
        assert name not in found, "logged twice"
        tags = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
        files = sorted(entry.path for entry in client.list_artifacts(run.info.run_id))
        files += sorted(entry.path for entry in client.list_artifacts(run.info.run_id, "figures"))
        found[name] = {
            "params": run.data.params, "metrics": histories, "tags": tags, "files": files,
            "times": (run.info.start_time, run.info.end_time), "status": run.info.status,
            "data": sorted(entry.dataset.name for entry in (run.inputs.dataset_inputs if run.inputs else ())),
        }  # fmt: skip
    return found


def check_sync(source: str, out: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run, then sync twice into the run's own store and once into a new one, the run folder not to be written."""
    options = [word for setting in settings for word in ("--set", setting)]
    said = interlip("run", source, "--executor", "local", "--out", str(out), *folder(source), *options)
    assert said["tracking_trouble"] is None
    place = RunFolder(said["run_dir"])
    study = load_study(source, settings)
    assert stored_study(place.read_json("study.json"), "study.json") == study
    told = records(said["tracking_uri"], study.name)
    files = {path: path.read_bytes() for path in Path(place.uri).rglob("*") if path.is_file()}
    write = RunFolder.write

    def guarded(self: RunFolder, name: str, content: bytes) -> None:
        if self.uri == place.uri:
            raise StorageError("read-only")
        write(self, name, content)

    later = f"sqlite:///{out}/later.db"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write", guarded)
        for uri in (said["tracking_uri"], said["tracking_uri"], later):
            again = interlip("sync", place.uri, "--tracking-uri", uri, *folder(source))
            assert again["trials"] == said["trials"]
            assert records(said["tracking_uri"], study.name) == told
    assert files == {path: path.read_bytes() for path in Path(place.uri).rglob("*") if path.is_file()}
    assert records(later, study.name) == told
    return {"run_dir": place.uri, "records": told}


def test_sweeps_with_odd_names_and_infinite_values_are_logged_and_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "odd.toml"
    source.write_text(ODD, encoding="utf-8")
    found = check_sync(str(source), tmp_path / "runs", [], monkeypatch)
    run_dir, told = Path(found["run_dir"]), found["records"]
    assert (run_dir / "study.toml").read_text(encoding="utf-8") == ODD
    assert len(told) == 1 + 12
    parent = told[run_dir.name]
    low, high = plain_name("p≤2"), plain_name("p≥2")
    assert low != high
    assert parent["params"][f"{low}.p"] == "[1.0, 2.0]"
    assert parent["params"][f"{high}.p"] == "[2.0, inf]"
    for prefix, exponents in ((low, ("1", "2")), (high, ("2", "inf"))):
        for p in exponents:
            assert f"{prefix}.exponent_N6_L1_zero_p{p}" in parent["metrics"]
    assert parent["metrics"]["seconds"][0][2] > 0
    assert len(parent["metrics"]["seconds"]) == 1
    start, end = parent["times"]
    assert end - start >= 0
    assert {name.split(".")[-1] for name in parent["files"]} >= {"json", "toml", "parquet", "png"}
    # Two replicates are too few for an interval: a metric that is not there, not one that is no number.
    cells = [run["metrics"] for name, run in told.items() if name.startswith("ℓ2")]
    assert len(cells) == 4
    for metrics in cells:
        assert "lipschitz_mean_lower" in metrics
        assert not any("ci_" in key or math.isnan(points[0][2]) for key, points in metrics.items())


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_every_shipped_study_comes_back_from_its_json(name: str, tmp_path: Path) -> None:
    study = load_study(name)
    place = RunFolder(str(tmp_path))
    place.write_json("study.json", study.model_dump(mode="json"))
    assert stored_study(place.read_json("study.json"), "study.json") == study


def test_a_run_folder_of_an_older_version_wrote_infinite_values_as_null(tmp_path: Path) -> None:
    study = load_study("overview")
    described = json.loads(json.dumps(study.model_dump(mode="json")).replace("Infinity", "null"))
    assert described["sweeps"]["lipschitz"]["grid"]["p"][-1] is None
    assert stored_study(described, "study.json") == study


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_mnist if "mnist" in name else ()) for name in sorted(shipped_studies())]
)
def test_every_shipped_study_is_synced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_sync(name, tmp_path, MORE[name] if name in MORE else STUDIES[name][1], monkeypatch)
