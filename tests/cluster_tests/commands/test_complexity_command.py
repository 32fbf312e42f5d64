"""`interlip complexity`: what it prints and what it refuses; large data sets in bounded memory."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.output import progress
from tests.data_folder import DATA_DIR, needs_mnist
from tests.one_sentence import assert_one_sentence, without_progress
from tests.peak_memory import PEAK_KILOBYTES


def invoke(*arguments: str) -> tuple[int, Any, str]:
    """Exit code, the JSON document on standard output, standard error."""
    answer = CliRunner().invoke(app, ["complexity", *arguments, "--json"])
    return answer.exit_code, json.loads(answer.stdout) if answer.stdout else None, answer.stderr


def test_two_classes_are_measured_both_ways_round() -> None:
    code, document, errors = invoke("moons:400", "--constant", "0.5", "--constant", "1", "--seed", "3")
    assert (code, without_progress(errors)) == (0, [])
    assert (document["points"], document["different_points"], document["dimension"]) == (400, 400, 2)
    assert document["radius"] == pytest.approx(1.0)
    assert [row["constant"] for row in document["covering"]] == [0.5, 1.0]
    assert 0 < document["closest"] < document["separation"] < 2
    for row in document["covering"]:
        (pair,) = row["classes"]
        assert {pair["minus"], pair["plus"]} == set(document["classes"]) == {0, 1}
        assert pair["separation"] >= document["separation"]
        both = 2 * pair["centres_minus"] * pair["centres_plus"]
        first = math.log(both) / pair["separation"] + pair["omega"]
        for size, covered, second in zip(
            pair["sizes"], (1, 0), (pair["centres_minus"], pair["centres_plus"]), strict=True
        ):
            assert size["covers"] == covered
            assert size["first_layer"] == pytest.approx(first)
            assert size["second_layer"] == second
            assert size["neurons"] == pytest.approx(first + second)
            assert size["parameters"] == pytest.approx((2 + second) * first)
        assert row["network"]["parameters"] == min(size["parameters"] for size in pair["sizes"])
        assert pair["omega"] == max(pair["omega_minus"]["value"], pair["omega_plus"]["value"])
    assert document["worst_case"][0]["neurons"] == 400
    assert document["worst_case"][1]["neurons"] == 200
    assert [row["up_to_constants_and_logarithms"] for row in document["worst_case"]] == [False, False, True, True]
    # The mean widths alone are random.
    again = invoke("moons:400", "--constant", "0.5", "--constant", "1", "--seed", "3")[1]
    assert again["covering"] == document["covering"]


def test_a_constant_is_measured_the_same_in_any_company() -> None:
    alone = invoke("blobs:300,0.3,3", "--constant", "0.5")[1]["covering"]
    among = invoke("blobs:300,0.3,3", "--constant", "0.25", "--constant", "0.5")[1]["covering"]
    assert alone == among[1:]


def test_more_mean_width_samples_give_a_smaller_error() -> None:
    few, many = (
        invoke("lines:300", "--constant", "0.5", "--mean-width-samples", samples)[1]["covering"][0]["classes"][0]
        for samples in ("50", "5000")
    )
    assert few["omega_error"] > 5 * many["omega_error"] > 0
    assert abs(few["omega"] - many["omega"]) < 4 * (few["omega_error"] + many["omega_error"])


def test_orbits_count_patterns() -> None:
    code, document, errors = invoke("shifts:3,4,4", "--conv", "--constant", "0.5")
    assert code == 0, errors
    assert (document["points"], document["different_points"], document["shape"]) == (96, 6, [1, 4, 4])
    (pair,) = document["covering"][0]["classes"]
    assert (pair["centres_minus"], pair["centres_plus"]) == (3, 3)
    points = invoke("shifts:3,4,4", "--constant", "0.5")[1]["covering"][0]["classes"][0]
    assert (points["centres_minus"], points["centres_plus"]) == (48, 48)


def test_people_read_a_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.array(["cat", "dog", "owl"])[np.arange(60) % 3]
    np.savez(tmp_path / "three.npz", X=rng.standard_normal((60, 3)), y=labels)
    answer = CliRunner().invoke(
        app, ["complexity", str(tmp_path / "three.npz"), "--constant", "0.5"], env={"COLUMNS": "120"}
    )
    assert answer.exit_code == 0, answer.stderr
    assert "60 in dimension 3" in answer.stdout
    for word in ("owl", "the others", "every class", "Huang and Huang 1991", "up to constants and logarithms"):
        assert word in answer.stdout
    assert all(len(line) <= 120 for line in answer.stdout.splitlines())


def test_progress_tells_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", -1.0)
    _, document, errors = invoke("digits", "--constant", "1")
    assert document["points"] == 1797
    assert without_progress(errors) == []
    lines = errors.strip().splitlines()
    assert any("nearest points of every class" in line for line in lines)
    assert any("covering with constant 1" in line for line in lines)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    display = progress.StageDisplay()
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    display.show("covering", 0.0)
    clock[0] = 30.0
    display.show("covering", 0.25)
    assert said[-1] == " 25%  covering, 1 min 30 s left"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    points = np.arange(12.0).reshape(4, 3)
    np.savez(tmp_path / "clash.npz", X=points[[0, 1, 0, 2]], y=[0, 0, 1, 1])
    np.savez(tmp_path / "one_class.npz", X=points, y=np.zeros(4))
    np.savez(tmp_path / "nan.npz", X=np.where(points == 7, np.nan, points), y=[0, 0, 1, 1])
    np.savez(tmp_path / "translated.npz", X=[[1.0, 2.0, 3.0], [3.0, 1.0, 2.0], [5.0, 5.0, 5.0]], y=[0, 1, 1])
    np.savez(tmp_path / "close.npz", X=[[0.0], [1e-300], [1.0]], y=[0, 1, 1])
    return tmp_path


WRONG: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "same point in both classes": (lambda f: [str(f / "clash.npz")], "rows 0 and 2 are the same point"),
    "one class": (lambda f: [str(f / "one_class.npz")], "two classes"),
    "NaN": (lambda f: [str(f / "nan.npz")], "NaN or infinite value at row 2, column 1"),
    "translates": (lambda f: [str(f / "translated.npz"), "--conv", "--shape", "1,1,3"], "row 1"),
    "too close for float64": (lambda f: [str(f / "close.npz")], "rows 0 and 1"),
    "no data": (lambda f: [str(f / "absent.npz")], "absent.npz"),
    "near a name": (lambda f: ["mons:100"], "moons"),
    "negative constant": (lambda f: ["moons:50", "--constant", "-1"], "--constant"),
    "constant of no size": (lambda f: ["moons:50", "--constant", "nan"], "--constant"),
    "no samples": (lambda f: ["moons:50", "--mean-width-samples", "1"], "--mean-width-samples"),
    "negative seed": (lambda f: ["moons:50", "--seed", "-1"], "--seed"),
    "shape without --conv": (lambda f: ["digits", "--shape", "1,8,8"], "--conv"),
    "unknown shape": (lambda f: ["moons:50", "--conv"], "--shape"),
    "wrong shape": (lambda f: ["digits", "--conv", "--shape", "1,8,9"], "72"),
    "shape of two numbers": (lambda f: ["digits", "--conv", "--shape", "8,8"], "C,H,W"),
    "no folder": (lambda f: ["mnist", "--data-dir", str(f / "absent")], "absent"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_sentence(name: str, files: Path) -> None:
    arguments, said = WRONG[name]
    assert_one_sentence(CliRunner().invoke(app, ["complexity", *arguments(files)]), said)


def test_a_constant_feature_and_one_sample_of_a_class_are_no_mistakes(tmp_path: Path) -> None:
    points = np.c_[np.random.default_rng(1).standard_normal((30, 2)), np.full(30, 4.0)]
    np.savez(tmp_path / "lonely.npz", X=points, y=np.arange(30) == 7)
    code, document, errors = invoke(str(tmp_path / "lonely.npz"))
    assert code == 0, errors
    assert [row["classes"][0]["centres_minus"] for row in document["covering"]] == [1, 1, 1]


# The command in a process of its own; the last line on standard error is its peak memory.
MEASURED = f"""
import sys
from cluster.cli import app
try:
    app(sys.argv[1:])
finally:
    print({PEAK_KILOBYTES}, file=sys.stderr)
"""


def measured(root: Path, *arguments: str) -> tuple[Any, float]:
    """The JSON document, and peak memory in GB."""
    command = [sys.executable, "-c", MEASURED, "complexity", *arguments, "--json"]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=3600)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout), int(answer.stderr.strip().splitlines()[-1]) / 2**20


@pytest.mark.slow
@pytest.mark.timeout(3600)
@needs_mnist
def test_mnist_fits_in_four_gigabytes(root: Path) -> None:
    document, gigabytes = measured(root, "mnist", "--data-dir", str(DATA_DIR))
    assert gigabytes < 4
    assert (document["points"], document["dimension"]) == (70000, 784)
    for row in document["covering"]:
        assert [pair["minus"] for pair in row["classes"]] == list(range(10))
        for pair in row["classes"]:
            assert 1 < pair["centres_minus"] <= 7877
            assert pair["separation"] >= document["separation"]
    # A larger constant allows larger balls: far fewer of them on these data.
    second = [row["network"]["second_layer"] for row in document["covering"]]
    assert second[0] > second[1] > second[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_points(root: Path) -> None:
    document, gigabytes = measured(root, "blobs:1000000,0.05,2", "--constant", "0.25")
    assert gigabytes < 4
    (pair,) = document["covering"][0]["classes"]
    # The four balls stand on +-e_1 and +-e_2, classes alternating.
    assert (pair["centres_minus"], pair["centres_plus"]) == (2, 2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_few_points_of_many_dimensions(root: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    labels = np.arange(500) % 2
    patterns = rng.standard_normal((2, 50_000))
    np.savez(tmp_path / "wide.npz", X=patterns[labels] + 0.05 * rng.standard_normal((500, 50_000)), y=labels)
    document, gigabytes = measured(root, str(tmp_path / "wide.npz"), "--constant", "0.5")
    assert gigabytes < 4
    (pair,) = document["covering"][0]["classes"]
    assert (pair["centres_minus"], pair["centres_plus"]) == (1, 1)
