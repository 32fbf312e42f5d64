"""The shipped interpolation studies: planned from the command line, and each run once in small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from tests.data_folder import DATA_DIR, needs_mnist

# Trials of the whole study, and settings that leave seconds of work with every kind of cell still there.
STUDIES: dict[str, tuple[int, list[str]]] = {
    "moons": (27500, ["sweeps.moons.replicates=2", "sweeps.moons.grid.width=[50, 300]"]),
    "moons-size": (60, ["sweeps.size.replicates=1", 'sweeps.size.grid.data=["moons:100000", "moons:1000000"]']),
    "digits": (1000, ["sweeps.digits.replicates=1", "sweeps.digits.grid.width=[50, 400]"]),
    "mnist": (150, ["sweeps.mnist.replicates=1", "sweeps.mnist.grid.width=[300]", "sweeps.mnist.grid.max_bias=[0, 1]"]),
    "mnist-size": (126, ["sweeps.size.replicates=1", 'sweeps.size.grid.data=["mnist:1000", "mnist:5000"]']),
    "memorizer-robustness": (960, ["sweeps.planar.replicates=2", "sweeps.planar.grid.width=[40, 80]"]),
}
FIGURES = {
    "moons": {"moons_interpolation_moons_1000_0_05.png"},
    "moons-size": {"size_interpolation_sizes_moons.png"},
    "digits": {"digits_interpolation_digits.png"},
    "mnist": {"mnist_interpolation_mnist.png"},
    "mnist-size": {"size_interpolation_sizes_mnist.png"},
    "memorizer-robustness": {"planar_memorizer_robustness_moons_100.png", "planar_memorizer_robustness_lines_100.png"},
}


def invoke(*arguments: str) -> tuple[int, Any, str]:
    """Exit code, the JSON document on standard output, standard error."""
    answer = CliRunner().invoke(app, ["run", *arguments, "--json"])
    return answer.exit_code, json.loads(answer.stdout) if answer.stdout else None, answer.stderr


def folder(name: str) -> list[str]:
    return ["--data-dir", str(DATA_DIR)] if "mnist" in name else []


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_mnist if "mnist" in n else ()) for n in STUDIES])
def test_a_dry_run_plans_every_trial(name: str, tmp_path: Path) -> None:
    code, plan, errors = invoke(name, "--dry-run", "--out", str(tmp_path), *folder(name))
    assert code == 0, errors
    assert plan["trials"] == STUDIES[name][0]
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mnist", "mnist-size"])
def test_mnist_asks_for_its_folder_in_one_sentence(name: str) -> None:
    code, plan, errors = invoke(name, "--dry-run")
    assert (code, plan) == (2, None)
    assert "--data-dir" in errors
    assert len(errors.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_mnist if "mnist" in n else ()) for n in STUDIES])
def test_a_reduced_run_ends_with_its_figures(name: str, tmp_path: Path) -> None:
    settings = [word for setting in STUDIES[name][1] for word in ("--set", setting)]
    code, document, errors = invoke(name, "--executor", "local", "--out", str(tmp_path), *folder(name), *settings)
    assert code == 0, errors
    assert document["failed"] == 0
    trials = pd.concat([pd.read_parquet(part) for part in Path(document["run_dir"]).rglob("*.parquet")])
    assert len(trials) >= document["trials"] > 0
    assert trials["interpolates"].any()
    assert {path.name for path in tmp_path.rglob("*.png")} >= FIGURES[name]
