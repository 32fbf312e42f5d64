"""`interlip interpolate --save DIR`: every form answers every point of the data as it is, or nothing is left."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.output import saved_networks
from solvers.files import threshold_onnx
from solvers.files.threshold_npz import load_threshold_network
from solvers.files.threshold_onnx import evaluate_threshold_onnx
from tracking.model_store import load_model


def invoke(*arguments: str) -> tuple[int, Any, str]:
    """Exit code, the JSON document on standard output, standard error."""
    answer = CliRunner().invoke(app, ["interpolate", *arguments, "--json"])
    return answer.exit_code, json.loads(answer.stdout) if answer.stdout else None, answer.stderr


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, np.ndarray, np.ndarray]:
    """A file of points far from radius 1, three named classes."""
    rng = np.random.default_rng(3)
    points, labels = 50 + 20 * rng.standard_normal((40, 6)), np.array(["low", "mid", "top"])[np.arange(40) % 3]
    np.savez(tmp_path / "mine.npz", X=points, y=labels)
    return str(tmp_path / "mine.npz"), points, np.unique(labels, return_inverse=True)[1]


@pytest.mark.parametrize("conv", [(), ("--conv", "--shape", "1,2,3", "--kernel", "2")], ids=["full", "conv"])
def test_three_forms_for_the_points_as_they_are(
    tmp_path: Path, data: tuple[str, np.ndarray, np.ndarray], conv: tuple[str, ...]
) -> None:
    file, points, labels = data
    code, document, errors = invoke(file, "--width", "300", *conv, "--save", str(tmp_path / "deep" / "net"))
    assert code == 0, errors
    saved = document["saved"]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["net"]
    assert sorted(path.name for path in (tmp_path / "deep" / "net").iterdir()) == [
        "mlflow",
        "network.npz",
        "network.onnx",
    ]
    network = load_threshold_network(saved["npz"])
    assert network.classes == ("low", "mid", "top")
    assert network.parameters == document["parameters"]
    for answers in (
        network.predict(points),
        evaluate_threshold_onnx(saved["onnx"], points),
        load_model(saved["mlflow"])(points),
    ):
        assert answers.tolist() == labels.tolist()
    # The network is for these points and not for scaled ones.
    assert (network.predict(points / 100) != labels).any()


def test_the_network_of_a_search_is_saved(tmp_path: Path) -> None:
    call = ["moons:30", "--probability", "0.5", "--max-bias", "0.5", "--save", str(tmp_path / "net")]
    answer = CliRunner().invoke(app, ["interpolate", *call])
    assert answer.exit_code == 0, answer.output
    assert f"{tmp_path / 'net' / 'network.onnx'} (onnx)" in answer.stdout
    width = load_threshold_network(tmp_path / "net" / "network.npz").first_layer_width
    assert f"shown                 width {width} " in answer.stdout


def test_a_network_that_misses_points_is_not_saved(tmp_path: Path) -> None:
    code, document, errors = invoke("moons:60", "--width", "2", "--save", str(tmp_path / "net"))
    assert code == 1
    assert document["misclassified"] > 0
    assert document["saved"] is None
    assert f"misses {document['misclassified']} of 60 points" in errors
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_rest_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold_onnx, "onnx_installed", lambda: False)
    code, document, errors = invoke("moons:60", "--width", "100", "--save", str(tmp_path / "net"))
    assert code == 0
    assert document["saved"]["onnx"] is None
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == ["mlflow", "network.npz"]
    assert "pip install 'interlip[onnx]'" in errors


@pytest.mark.parametrize("form", ["npz", "onnx"])
def test_a_form_that_answers_otherwise_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    true = getattr(saved_networks, f"_{form}")

    def wrong(*arguments: Any) -> Any:
        file, answers = true(*arguments)
        return file, np.where(np.arange(len(answers)) == 7, 1 - answers, answers)

    monkeypatch.setattr(saved_networks, f"_{form}", wrong)
    code, document, errors = invoke("moons:60", "--width", "100", "--save", str(tmp_path / "net"))
    assert code == 1
    assert document["interpolates"] is True
    assert document["saved"] is None
    assert f"read back from network.{form}, the network misses 1 of 60 points" in errors
    assert not list(tmp_path.iterdir())


def test_no_room_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saved_networks, "save_threshold_network", full)
    code, document, errors = invoke("moons:60", "--width", "100", "--save", str(tmp_path / "net"))
    assert code == 1
    assert document["interpolates"] is True
    assert errors.strip().splitlines() == [
        f"interlip: not saved: {tmp_path / 'net'} cannot be written (No space left on device)"
    ]
    assert not list(tmp_path.iterdir())


def test_trouble_of_mlflow_loses_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracking import model_store

    def broken(*arguments: Any) -> None:
        raise RuntimeError("the exporter gave up\nat length")

    monkeypatch.setattr(model_store, "save_model", broken)
    code, document, errors = invoke("moons:60", "--width", "100", "--save", str(tmp_path / "net"))
    assert code == 1
    assert document["interpolates"] is True
    assert errors.strip() == ("interlip: not saved: there is no MLflow model of this network (the exporter gave up)")
    assert not list(tmp_path.iterdir())


def test_a_search_without_an_answer_saves_nothing(tmp_path: Path) -> None:
    code, document, _ = invoke("moons:60", "--max-width", "3", "--save", str(tmp_path / "net"))
    assert code == 3
    assert document["saved"] is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "said"), [("full", "not empty"), ("file", "is a file"), ("file/net", "nothing can be written")]
)
def test_a_folder_that_will_not_do_is_refused_first(tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("kept")
    (tmp_path / "file").write_text("kept")
    code, document, errors = invoke("absent.npz", "--width", "3", "--save", str(tmp_path / place))
    assert code == 2
    assert document is None
    assert len(errors.strip().splitlines()) == 1
    assert said in errors
    assert (tmp_path / "full" / "precious").read_text() == "kept"


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    code, _, errors = invoke("moons:60", "--width", "100", "--save", str(tmp_path / "net"))
    assert code == 0, errors
    assert (tmp_path / "net" / "network.npz").is_file()
