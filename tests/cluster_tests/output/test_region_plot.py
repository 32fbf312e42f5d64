"""`interlip lipschitz --plot`: a picture for two inputs, one sentence for anything else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from solvers.lipschitz.surveys.region_count import count_regions, planar_corners, planar_regions
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.registry import LIPSCHITZ_SOLVERS
from tasks.figures.regions import region_figure
from tests.strategies import gaussian_network

SOLVER = LIPSCHITZ_SOLVERS["region-enumeration"]


def saved(path: Path, network: ReluNetwork) -> str:
    arrays = {f"W{k}": w for k, w in enumerate(network.weights)} | {f"b{k}": b for k, b in enumerate(network.biases)}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_polygons_tile_the_box(bias: float) -> None:
    network = gaussian_network([2, 8, 6, 1], np.random.default_rng(1), bias)
    box = Box([-1.0, -0.5], [0.5, 2.0])
    area, count = 0.0, 0
    for corners, gradient in planar_regions(network, box):
        x, y = corners.T
        own = 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
        assert own > 0  # counterclockwise
        middle = corners.mean(axis=0)
        step = 1e-7 * np.eye(2)
        values = network.evaluate(np.stack([middle + s for s in step] + [middle - s for s in step]))[:, 0]
        if own > 1e-6:
            np.testing.assert_allclose((values[:2] - values[2:]) / 2e-7, gradient, atol=1e-5)
        area, count = area + own, count + 1
    assert area == pytest.approx(1.5 * 2.5, rel=1e-12)
    assert count == count_regions(network, box)


def test_corners_of_the_plane_are_where_lines_cross() -> None:
    network = gaussian_network([2, 6, 1], np.random.default_rng(2), 0.5)
    w, b = network.weights[0], network.biases[0]
    crossings = [np.linalg.solve(w[[i, j]], -b[[i, j]]) for i in range(6) for j in range(i)]
    corners = planar_corners(network)
    assert len(corners) == len(crossings)
    for point in crossings:
        assert np.abs(corners - point).max(axis=1).min() < 1e-7 * (1 + np.abs(point).max())


@pytest.mark.parametrize("domain", [Box.cube(2), WholeSpace(2)], ids=["box", "global"])
def test_a_panel_for_every_p_with_regions_witness_and_scale(domain: Box | WholeSpace) -> None:
    network = gaussian_network([2, 6, 5, 1], np.random.default_rng(3), 0.4)
    answers = SOLVER.solve_batch([LipschitzProblem(network, p, domain) for p in (1.0, 2.0)])
    figure = region_figure(network, answers)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert [("p = 1" in a.get_title(), "p = 2" in a.get_title()) for a in panels] == [(True, False), (False, True)]
    for panel, answer in zip(panels, answers, strict=True):
        drawn = panel.collections[0]
        largest = float(np.max(np.asarray(drawn.get_array())))
        assert f"{len(drawn.get_paths())} linear regions" in panel.get_title()
        assert largest <= answer.upper
        if isinstance(domain, Box):
            assert largest == pytest.approx(answer.upper, rel=1e-12)
        else:
            assert "corners shown" in panel.get_title()
        assert panel.lines[0].get_label() == "witness"


def test_the_command_draws_and_says_where(tmp_path: Path) -> None:
    model = saved(tmp_path / "net.npz", gaussian_network([2, 6, 5, 1], np.random.default_rng(4), 0.4))
    picture = tmp_path / "net.png"
    call = ["lipschitz", model, "--box", "-1", "1", "--method", "region-enumeration", "--plot", str(picture), "--json"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["stats"]["cells"] > 0
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("sizes", "name", "reason"),
    [
        ([3, 4, 1], "net.png", "d = 2 inputs, the network has d = 3"),
        ([2, 4, 1], "net.txt", ".png, .pdf or .svg"),
        ([2, 4, 1], "missing/net.png", "there is no folder"),
    ],
)
def test_what_cannot_be_drawn_is_said_first(tmp_path: Path, sizes: list[int], name: str, reason: str) -> None:
    model = saved(tmp_path / "net.npz", gaussian_network(sizes, np.random.default_rng(5)))
    result = CliRunner().invoke(app, ["lipschitz", model, "--plot", str(tmp_path / name)])
    assert result.exit_code == 2
    assert reason in result.output.replace("\n", " ")
    assert not (tmp_path / name).exists()
