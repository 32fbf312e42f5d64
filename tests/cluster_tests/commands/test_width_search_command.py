"""`interlip interpolate`: the search without --width, the convolutional network, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.execution.least_width import SearchResult, find_least_width
from cluster.output import search_progress
from solvers.errors import InputError
from solvers.interpolation.width_search import Restart, WidthSearch
from tasks.constructions import ConstructionChoice, known_shape, restart_interpolant
from tasks.data_sets import load_problem
from tests.one_sentence import assert_one_sentence, without_progress

MOONS, SOURCE = "moons:200", ("moons:200", 0)
SETTINGS = WidthSearch(probability=0.8, max_biases=(0.5, 1.0))


def invoke(*arguments: str) -> tuple[int, Any, str]:
    """Exit code, the JSON document on standard output, standard error."""
    answer = CliRunner().invoke(app, ["interpolate", *arguments, "--json"])
    return answer.exit_code, json.loads(answer.stdout) if answer.stdout else None, answer.stderr


def told(result: SearchResult) -> tuple[Any, ...]:
    """All of an answer that may not depend on who computed it."""
    assert result.interpolant is not None
    network = result.interpolant.network
    return result.found, result.restarts, network.parameters, network.second_layer_widths


def search(executor: str, workers: int) -> SearchResult:
    return find_least_width(
        load_problem(MOONS), ConstructionChoice(), SOURCE, SETTINGS, executor=executor, workers=workers
    )


@pytest.fixture(scope="module")
def alone() -> SearchResult:
    return search("local", 1)


def test_the_command_finds_what_the_search_finds(alone: SearchResult) -> None:
    code, document, errors = invoke(MOONS, "--probability", "0.8", "--max-bias", "0.5", "--max-bias", "1")
    assert code == 0, errors
    assert document["interpolates"] is True
    assert document["misclassified"] == 0
    assert document["first_layer_width"] == alone.found.width
    assert document["max_bias"] == alone.found.max_bias
    assert document["numbers"] == 400
    assert document["parameters_per_number"] == pytest.approx(document["parameters"] / 400)
    assert [counts["parameters"] for counts in document["worst_case"]][:2] == [200 * 4 + 1, 100 * 4 + 1]
    sources = [counts["source"].split()[0] for counts in document["worst_case"]]
    assert sources == ["Huang", "Baum", "Vershynin", "Rajput"]
    found = document["search"]
    assert found["status"] == "found"
    assert 0 < found["least_width_above"] < found["least_width_at_most"] == document["first_layer_width"]
    assert found["successes"] <= found["of_restarts"] <= found["restarts"]
    assert (found["probability"], found["confidence"]) == (0.8, 0.95)


def test_people_read_the_same(alone: SearchResult) -> None:
    answer = CliRunner().invoke(
        app, ["interpolate", MOONS, "--probability", "0.8", "--max-bias", "0.5", "--max-bias", "1"]
    )
    assert answer.exit_code == 0
    lines = dict(line.split("  ", 1) for line in answer.stdout.splitlines() if not line.startswith(" "))
    assert lines["first-layer width"].strip() == str(alone.found.width)
    assert "200 x 2" in lines["parameters"]
    assert "10^2.9 parameters (Huang and Huang 1991" in lines["in the worst case"]
    assert "probability >= 0.8" in lines["shown"]


def test_the_network_is_the_smallest_of_those_that_showed_the_width(alone: SearchResult) -> None:
    found = alone.found
    assert found.width is not None
    assert found.max_bias is not None
    assert alone.interpolant is not None
    assert alone.interpolant.interpolates
    networks = [
        restart_interpolant(
            load_problem(MOONS), ConstructionChoice(), Restart(found.width, found.max_bias, "certify", k), SOURCE
        )
        for k in range(found.restarts)
    ]
    assert sum(network.interpolates for network in networks) == found.successes
    smallest = min(network.network.parameters for network in networks if network.interpolates)
    assert alone.interpolant.network.parameters == smallest


def test_two_threads_give_the_answer_of_one(alone: SearchResult) -> None:
    assert told(search("local", 2)) == told(alone)


def test_restarts_are_independent_of_each_other_and_of_the_seed() -> None:
    problem = load_problem(MOONS)
    restart = Restart(60, 0.5, "screen", 0)
    others = [
        (restart, ("moons:200", 1)),
        (replace(restart, number=1), SOURCE),
        (replace(restart, stage="certify"), SOURCE),
    ]
    drawn = [
        restart_interpolant(problem, ConstructionChoice(), *question).network.weights[0, 0]
        for question in [(restart, SOURCE), *others]
    ]
    assert len(set(drawn)) == 4


def test_progress_is_told(alone: SearchResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_progress, "LINE_SECONDS", -1.0)
    _, _, errors = invoke(MOONS, "--probability", "0.8", "--max-bias", "0.5", "--max-bias", "1")
    lines = errors.strip().splitlines()
    assert len(lines) > 10
    assert without_progress(errors) == []
    assert all("width" in line and "restarts" in line for line in lines)
    assert lines[-1].startswith("showing too narrow")


def test_a_search_out_of_time_says_how_far_it_came() -> None:
    code, document, errors = invoke("digits", "--time-limit", "0.3")
    assert code == 3
    assert document["interpolates"] is None
    assert document["search"]["status"] == "out-of-time"
    assert document["search"]["least_width_at_most"] is None
    assert len(without_progress(errors)) == 1
    assert "allow more time" in errors


def test_a_search_without_an_answer_says_what_to_change() -> None:
    code, document, errors = invoke(MOONS, "--max-width", "4")
    assert code == 3
    assert document["search"]["status"] == "not-found"
    assert "--max-width" in errors


def test_translated_patterns_take_few_filters(tmp_path: Path) -> None:
    code, document, errors = invoke("shifts:2,4,4", "--conv", "--probability", "0.7", "--max-bias", "0.5")
    assert code == 0, errors
    assert document["interpolates"] is True
    # One of two classes is covered, and every pattern in all its translations by one neuron.
    assert document["second_layer_width"] <= 2
    assert document["first_layer_width"] == document["search"]["least_width_at_most"] < 40


def test_a_convolutional_network_at_a_given_width(tmp_path: Path) -> None:
    data = "shifts:2,4,5"
    documents = {}
    for kernel, weights in (("3", 9), ("1,5", 5), (None, 20)):
        code, document, errors = invoke(data, "--conv", "--width", "30", *(["--kernel", kernel] if kernel else []))
        assert code == 0, errors
        # n (kh kw + 1) for the filters, n H W + 2 for every neuron of the second layer, and one output.
        hidden = document["second_layer_width"]
        assert document["parameters"] == 30 * (weights + 1) + hidden * (30 * 20 + 2) + 1
        documents[kernel] = document
    problem = load_problem(data)
    np.savez(tmp_path / "mine.npz", X=problem.points, y=problem.labels)
    code, same, _ = invoke(str(tmp_path / "mine.npz"), "--conv", "--shape", "1,4,5", "--kernel", "3", "--width", "30")
    assert code == 0
    assert same["first_layer_width"] == 30
    assert same["numbers"] == documents["3"]["numbers"] == 80 * 20


def test_shapes_that_are_known() -> None:
    assert known_shape("digits") == (1, 8, 8)
    assert known_shape("mnist") == (1, 28, 28)
    assert known_shape("shifts:2,1,7,3") == (3, 1, 7)
    assert known_shape("shifts") == (1, 16, 16)
    assert known_shape("moons:100") is None
    for name in ("digits", "shifts:2,3,5,2"):
        assert load_problem(name).points.shape[1] == np.prod(known_shape(name) or ())
    with pytest.raises(InputError, match="shifts"):
        known_shape("shifts:x")


@pytest.fixture
def translated(tmp_path: Path) -> Path:
    """Classes that are translates of each other: no translation-invariant network can tell them apart."""
    points = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 1.0, 1.0, 1.0], [4.0, 1.0, 2.0, 3.0]])
    np.savez(tmp_path / "translated.npz", X=points, y=[0, 0, 1])
    return tmp_path / "translated.npz"


WRONG: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "search and width": (lambda f: [MOONS, "--width", "9", "--probability", "0.9"], "--probability"),
    "executor and width": (lambda f: [MOONS, "--width", "9", "--executor", "local"], "--executor"),
    "workers and width": (lambda f: [MOONS, "--width", "9", "--workers", "2"], "--workers"),
    "images on ray": (lambda f: ["digits", "--conv", "--width", "9", "--executor", "ray"], "leave --conv out"),
    "two biases and a width": (lambda f: [MOONS, "--width", "9", "--max-bias", "0", "--max-bias", "1"], "--max-bias"),
    "sure beyond doubt": (lambda f: [MOONS, "--probability", "1"], "probability"),
    "no confidence": (lambda f: [MOONS, "--confidence", "0"], "confidence"),
    "negative bias": (lambda f: [MOONS, "--max-bias", "-1"], "biases"),
    "no room for a width": (lambda f: [MOONS, "--max-width", "0"], "width"),
    "no time": (lambda f: [MOONS, "--time-limit", "0"], "--time-limit"),
    "unknown executor": (lambda f: [MOONS, "--executor", "spark"], "ray or local"),
    "no workers": (lambda f: [MOONS, "--workers", "0"], "at least 1"),
    "address for threads": (lambda f: [MOONS, "--address", "auto"], "--executor ray"),
    "no such class": (lambda f: [MOONS, "--minus", "7"], "7"),
    "covered class of many": (lambda f: ["digits", "--minus", "7"], "two classes only"),
    "shape of no image": (lambda f: [MOONS, "--shape", "1,1,2"], "--conv"),
    "kernel of no image": (lambda f: [MOONS, "--width", "9", "--kernel", "3"], "--conv"),
    "image of unknown shape": (lambda f: [MOONS, "--conv", "--width", "9"], "--shape"),
    "shape of two numbers": (lambda f: ["digits", "--conv", "--shape", "8,8", "--width", "9"], "C,H,W"),
    "shape of words": (lambda f: ["digits", "--conv", "--shape", "a,b,c", "--width", "9"], "C,H,W"),
    "shape of another size": (lambda f: ["digits", "--conv", "--shape", "1,8,9", "--width", "9"], "72"),
    "shape of another size, searched": (lambda f: ["digits", "--conv", "--shape", "1,8,9"], "72"),
    "kernel beyond the image": (lambda f: ["digits", "--conv", "--kernel", "9,9", "--width", "9"], "9 x 9"),
    "kernel of nothing": (lambda f: ["digits", "--conv", "--kernel", "0", "--width", "9"], "K or KH,KW"),
    "translates": (lambda f: [str(f), "--conv", "--shape", "1,1,4", "--width", "9"], "translate"),
    "translates, searched": (lambda f: [str(f), "--conv", "--shape", "1,1,4"], "translate"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_sentence(name: str, translated: Path) -> None:
    arguments, said = WRONG[name]
    assert_one_sentence(CliRunner().invoke(app, ["interpolate", *arguments(translated)]), said)


def test_the_fewest_parameters_with_their_curve(tmp_path: Path) -> None:
    asked = [MOONS, "--probability", "0.8", "--max-bias", "0.5", "--max-bias", "1", "--max-width", "400"]
    picture = tmp_path / "sizes.svg"
    code, least, errors = invoke(*asked, "--minimise", "parameters", "--masks", "cluster", "--curve", str(picture))
    assert code == 0, errors
    assert picture.read_text().lstrip().startswith("<?xml")
    curve = least["search"]["curve"]
    assert least["search"]["minimise"] == "parameters"
    assert least["interpolates"] is True
    assert (least["first_layer_width"], least["max_bias"]) in {(cell["width"], cell["max_bias"]) for cell in curve}
    # The network kept is the smallest of those that showed the width, so no larger than the median there.
    here = (least["first_layer_width"], least["max_bias"])
    (size,) = {cell["size"] for cell in curve if (cell["width"], cell["max_bias"]) == here}
    assert least["parameters"] <= 1.2 * size


@pytest.mark.parametrize("centres", ["random", "greedy", "minimal"])
def test_centres_at_a_given_width(centres: str) -> None:
    code, document, errors = invoke(MOONS, "--width", "250", "--centres", centres)
    assert code == 0, errors
    assert document["interpolates"] is True
    at_least = document["second_layer_at_least"]
    assert (at_least is None) == (centres != "minimal")
    if centres == "minimal":
        assert at_least == document["second_layer_width"]
        answer = CliRunner().invoke(app, ["interpolate", MOONS, "--width", "250", "--centres", centres])
        assert f"at least {at_least} for these candidates" in answer.stdout
