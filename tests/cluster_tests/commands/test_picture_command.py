"""`interlip interpolate --plot`: a picture in the units of the data, or one sentence before anything is computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from tasks.figures import pictures as interpolation_pictures

SIGNATURES = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpolation_pictures, "RASTER", 50)


@pytest.mark.parametrize(
    ("ending", "call"),
    [
        (".png", ["moons:60", "--width", "100"]),
        (".pdf", ["shifts:2,1,9", "--conv", "--width", "40"]),
        (".svg", ["blobs:40,0.1,6", "--shape", "1,2,3", "--width", "40"]),
        (".png", ["moons:60", "--width", "2"]),
    ],
)
def test_a_picture_is_drawn(tmp_path: Path, ending: str, call: list[str]) -> None:
    file = tmp_path / f"net{ending}"
    answer = CliRunner().invoke(app, ["interpolate", *call, "--plot", str(file), "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["plot"] == str(file)
    assert file.read_bytes().startswith(SIGNATURES[ending])


def test_axes_are_those_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal((500.0, -20.0), 3.0, (20, 2)), rng.normal((540.0, -20.0), 3.0, (20, 2))])
    np.savez(tmp_path / "far.npz", X=points, y=np.arange(40) // 20)
    figures = []
    true = interpolation_pictures.decision_figure

    def kept(*arguments: Any) -> Any:
        figures.append(true(*arguments))
        return figures[-1]

    monkeypatch.setattr(interpolation_pictures, "decision_figure", kept)
    call = ["interpolate", str(tmp_path / "far.npz"), "--width", "800", "--max-bias", "1"]
    answer = CliRunner().invoke(app, [*call, "--plot", str(tmp_path / "far.png")])
    assert answer.exit_code == 0, answer.output
    assert f"drawn                 {tmp_path / 'far.png'}" in answer.stdout
    low, high = figures[0].axes[0].get_xlim()
    assert 480 < low < points[:, 0].min() < points[:, 0].max() < high < 560


@pytest.mark.parametrize(
    ("name", "call", "said"),
    [
        ("net.txt", ["moons:60"], ".png, .pdf or .svg"),
        ("missing/net.png", ["moons:60"], "there is no folder"),
        ("net.png", ["blobs:40"], "d = 5"),
        ("net.png", ["blobs:40", "--shape", "1,1,6"], "holds 6 numbers"),
        ("net.png", ["blobs:40", "--shape", "five"], "--shape must be C,H,W"),
    ],
)
def test_what_cannot_be_drawn_is_said_first(tmp_path: Path, name: str, call: list[str], said: str) -> None:
    answer = CliRunner().invoke(app, ["interpolate", *call, "--width", "9", "--plot", str(tmp_path / name)])
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert len(answer.stderr.strip().splitlines()) == 1
    assert said in answer.stderr
    assert not (tmp_path / name).exists()


def test_a_picture_that_cannot_be_written_loses_no_answer(tmp_path: Path) -> None:
    (tmp_path / "net.png").mkdir()
    call = ["interpolate", "moons:60", "--width", "100", "--plot", str(tmp_path / "net.png"), "--json"]
    answer = CliRunner().invoke(app, call)
    assert answer.exit_code == 1
    document = json.loads(answer.stdout)
    assert document["interpolates"] is True
    assert document["plot"] is None
    assert "cannot be written" in answer.stderr
