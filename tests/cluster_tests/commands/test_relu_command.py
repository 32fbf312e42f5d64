"""`interlip interpolate --activation relu`: a model file that `interlip lipschitz` takes, or one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from solvers.files.models import load_network
from tasks.data_sets import load_data_set


def invoke(*arguments: str) -> tuple[int, Any, str]:
    """Exit code, the JSON document on standard output, standard error."""
    answer = CliRunner().invoke(app, [*arguments, "--json"])
    return answer.exit_code, json.loads(answer.stdout) if answer.stdout else None, answer.stderr


def test_the_constant_of_a_network_that_memorizes(tmp_path: Path) -> None:
    """The file takes the points as they are, and its constant is at least the steepest slope between two of them."""
    file = str(tmp_path / "net.npz")
    code, found, errors = invoke(
        "interpolate", "moons:60", "--width", "60", "--max-bias", "1", "--activation", "relu", "--relu-file", file
    )
    assert code == 0, errors
    assert found["interpolates"] is True
    assert found["relu_file"] == file
    data = load_data_set("moons:60")
    network = load_network(file)
    assert network.widths == (60, found["second_layer_width"])
    scores = network.evaluate(data.points)[:, 0]
    np.testing.assert_array_equal(scores > 0, data.labels == 1)
    code, answer, errors = invoke("lipschitz", file, "--p", "2", "--method", "region-enumeration")
    assert code == 0, errors
    answer = answer[0] if isinstance(answer, list) else answer
    assert answer["status"] == "exact"
    i, j = np.triu_indices(len(scores), 1)
    slopes = np.abs(scores[i] - scores[j]) / np.sqrt(((data.points[i] - data.points[j]) ** 2).sum(axis=1))
    assert 0 < slopes.max() <= answer["upper"]


def test_more_classes_have_an_output_each(tmp_path: Path) -> None:
    file = str(tmp_path / "digits.npz")
    code, found, errors = invoke("interpolate", "digits", "--width", "300", "--activation", "relu", "--relu-file", file)
    assert code == 0, errors
    data = load_data_set("digits")
    scores = load_network(file).evaluate(data.points)
    np.testing.assert_array_equal(scores > 0, data.labels[:, None] == np.arange(10))
    assert found["second_layer_width"] == load_network(file).widths[1]


def test_a_network_that_misses_points_is_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "net.npz"
    code, found, errors = invoke(
        "interpolate", "moons:60", "--width", "3", "--activation", "relu", "--relu-file", str(file)
    )
    assert code == 1
    assert found["interpolates"] is False
    assert found["relu_file"] is None
    assert "not saved: the network misses" in errors
    assert not file.exists()


def test_a_search_takes_relu_neurons_too(tmp_path: Path) -> None:
    file = str(tmp_path / "net.npz")
    code, found, errors = invoke(
        "interpolate", "moons:40", "--activation", "relu", "--relu-file", file, "--max-bias", "1",
        "--probability", "0.6", "--confidence", "0.6", "--workers", "1",
    )  # fmt: skip
    assert code == 0, errors
    assert load_network(file).widths == (found["first_layer_width"], found["second_layer_width"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--activation", "tanh"], "--activation must be threshold or relu"),
        (["--relu-file", "net.npz"], "--relu-file is for --activation relu"),
        (["--activation", "relu", "--relu-file", "net.txt"], "must name a .npz file"),
        (["--activation", "relu", "--relu-file", "no/such/net.npz"], "its folder must exist"),
        (["--activation", "relu", "--save", "folder"], "--save is for threshold neurons"),
        (["--activation", "relu", "--conv", "--shape", "1,1,2"], "leave --conv out"),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(arguments: list[str], message: str) -> None:
    code, found, errors = invoke("interpolate", "moons:40", "--width", "20", *arguments)
    assert (code, found) == (2, None)
    assert message in " ".join(errors.split())
