"""Every tracker keeps a study once, however often it is told; one that is down never raises."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracking.memory_tracker import MemoryTracker
from tracking.mlflow_tracker import CELL_TAG, PARENT_TAG, MlflowTracker, _name, embedded_uri
from tracking.tracker import AbstractTracker, StudyHandle, without_password

STUDY = StudyHandle("run-1", "overview", {"seed": 3}, {"git": "abc"})


def tell(tracker: AbstractTracker, figure: Path) -> str | None:
    """A whole study, with fixed times."""
    run_id = tracker.start(STUDY)
    tracker.progress(1, {"trials done": 10.0}, 100.0)
    for d in (2, 3):
        tracker.cell(f"cell-{d}", f"d={d}", {"d": d, "p": "inf"}, {"upper_mean": 1.5 * d, "upper_low": 1.0}, 101.0)
    tracker.metrics({"exponent p=2": 0.5}, 102.0)
    tracker.artifact(str(figure), "figures")
    tracker.data_set("points", np.zeros((4, 2)), np.array([0, 1, 0, 1]))
    tracker.finish("FINISHED")
    return run_id


@pytest.fixture
def figure(tmp_path: Path) -> Path:
    path = tmp_path / "plot.png"
    path.write_bytes(b"\x89PNG")
    return path


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def client_of(uri: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own imports
        from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def test_the_memory_tracker_keeps_a_study_once(figure: Path) -> None:
    tracker = MemoryTracker()
    assert tell(tracker, figure) == tell(tracker, figure)
    assert tracker.status == "FINISHED"
    assert set(tracker.cells) == {"cell-2", "cell-3"}
    assert tracker.cells["cell-3"] == ("d=3", {"d": 3, "p": "inf"}, {"upper_mean": 4.5, "upper_low": 1.0})
    assert tracker.artifacts == ["figures/plot.png"]
    assert tracker.data_sets == {"points": (4, 2)}
    assert tracker.trouble is None


def test_mlflow_holds_a_parent_with_nested_children_once(store: str, figure: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own imports
        ids = []
        for _ in range(2):  # the second time is a resume or a sync in another process
            tracker = MlflowTracker(embedded_uri(store), f"{store}/artifacts")
            ids.append(tell(tracker, figure))
            assert tracker.trouble is None
    assert ids[0] == ids[1] is not None
    client = client_of(embedded_uri(store))
    experiment = client.get_experiment_by_name("overview")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if PARENT_TAG not in run.data.tags)
    children = [run for run in runs if run.data.tags.get(PARENT_TAG) == parent.info.run_id]
    assert len(runs) == 3
    assert {run.data.tags[CELL_TAG]: run.data.metrics["upper_mean"] for run in children} == {
        "cell-2": 3.0,
        "cell-3": 4.5,
    }
    assert all(run.info.status == "FINISHED" for run in runs)
    assert children[0].data.params["p"] == "inf"
    assert parent.data.params == {"seed": "3"}
    assert parent.data.tags["git"] == "abc"
    assert parent.data.metrics == {"trials done": 10.0, _name("exponent p=2"): 0.5}
    assert len(client.get_metric_history(parent.info.run_id, "trials done")) == 1
    assert [entry.path for entry in client.list_artifacts(parent.info.run_id, "figures")] == ["figures/plot.png"]
    assert [entry.dataset.name for entry in parent.inputs.dataset_inputs] == ["points"]


def test_a_server_that_is_down_is_trouble_and_no_exception(figure: Path) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tracker = MlflowTracker(f"http://127.0.0.1:{port}")
    assert tell(tracker, figure) is None
    assert tracker.trouble is not None
    assert "does not answer" in tracker.trouble


def test_a_store_that_breaks_half_way_is_trouble_from_then_on(store: str, figure: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracker = MlflowTracker(embedded_uri(store), f"{store}/artifacts")
        assert tracker.start(STUDY) is not None
        tracker.artifact(str(figure.with_name("absent.png")))
        assert tracker.trouble is not None
        tracker.cell("cell-2", "d=2", {}, {}, 1.0)
        tracker.finish("FINISHED")
    client = client_of(embedded_uri(store))
    experiment = client.get_experiment_by_name("overview")
    (parent,) = client.search_runs([experiment.experiment_id])
    assert parent.info.status == "RUNNING"  # and `interlip sync` will tell it again


def test_names_that_mlflow_would_make_equal_stay_apart() -> None:
    keys = ["p≤2", "p≥2", "p_2", "x=1", "x_1", "plain", "a/b", "/a/b", "a//b", "a/./b", "../a/b", "k" * 300, "k" * 301]
    found = {key: _name(key) for key in keys}
    assert len(set(found.values())) == len(keys)
    assert all(found[key] == key for key in ("p_2", "x_1", "plain", "a/b"))
    assert found["x=1"].startswith("x_1-")


def test_passwords_are_not_shown() -> None:
    for uri in ("postgresql://ann:secret@db:5432/m", "https://ann:secret@host/path?x=1"):
        assert "secret" not in without_password(f"cannot reach {uri} now")
        assert without_password(uri).count("ann:***@") == 1
    for plain in ("sqlite:////a/b.db", "http://host:5000", "a@b.c"):
        assert without_password(plain) == plain
    tracker = MlflowTracker("postgresql://ann:secret@127.0.0.1:1/m")
    assert "secret" not in tracker.uri
