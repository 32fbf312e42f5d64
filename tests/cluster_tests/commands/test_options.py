"""Requests check themselves when they are made, and commands are made of them."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from cluster.commands.interpolation_request import InterpolationRequest
from cluster.commands.lipschitz_request import LipschitzRequest
from cluster.commands.options import command_of
from solvers.errors import InputError
from tests.one_sentence import assert_one_sentence

MOST_ARGUMENTS, MOST_LINES = 12, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Numbers to add."""

    first: Annotated[int, typer.Argument()]
    second: Annotated[list[int] | None, typer.Option("--and")] = None

    def __post_init__(self) -> None:
        if self.first < 0:
            raise InputError(f"FIRST must be at least 0, got {self.first}")


def added(request: Sum) -> None:
    """Add numbers."""
    if request.first == 13:
        raise RuntimeError("unlucky")
    print(request.first + sum(request.second or ()))


class TestCommandOf:
    APP = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    APP.command()(command_of(Sum, added))

    def test_fields_are_its_options(self) -> None:
        assert list(inspect.signature(command_of(Sum, added)).parameters) == ["first", "second", "debug"]
        answer = CliRunner().invoke(self.APP, ["1", "--and", "2", "--and", "4"])
        assert (answer.exit_code, answer.stdout) == (0, "7\n")
        shown = CliRunner().invoke(self.APP, ["--help"]).output
        assert "Add numbers." in shown
        assert "--debug" in shown

    def test_a_refused_request_is_one_sentence(self) -> None:
        assert_one_sentence(CliRunner().invoke(self.APP, ["--", "-1"]), "FIRST must be at least 0, got -1")
        assert CliRunner().invoke(self.APP, []).exit_code == 2

    def test_debug_shows_the_traceback(self) -> None:
        assert "Traceback" not in CliRunner().invoke(self.APP, ["13"]).stderr
        answer = CliRunner().invoke(self.APP, ["13", "--debug"])
        assert answer.exit_code == 1
        assert 'raise RuntimeError("unlucky")' in answer.stderr


@pytest.mark.parametrize("kind", [InterpolationRequest, LipschitzRequest])
def test_requests_are_frozen(kind: Callable[..., Any]) -> None:
    request = kind(**{"data" if kind is InterpolationRequest else "model": "digits"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.json = True


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 5, "probability": 0.9}, "--probability is for the search"),
        ({"width": 5, "workers": 2}, "--workers is for the search"),
        ({"width": 5, "executor": "ray", "time_limit": 3.0}, "--time-limit is for the search"),
        ({"width": 5, "max_bias": [0.1, 0.2]}, "one --max-bias"),
        ({"seed": -1}, "--seed"),
        ({"executor": "spark"}, "ray or local"),
        ({"workers": 0}, "at least 1"),
        ({"address": "auto"}, "--address is for"),
        ({"time_limit": 0.0}, "positive number of seconds"),
        ({"probability": 2.0}, "probability"),
        ({"kernel": "3"}, "--kernel is for --conv"),
        ({"shape": "1,8,8"}, "--shape is for --conv"),
        ({"conv": True, "kernel": "3,x"}, "K or KH,KW"),
        ({"conv": True, "activation": "relu"}, "leave --conv out"),
        ({"activation": "tanh"}, "threshold or relu"),
        ({"activation": "relu", "save": "there"}, "--save is for threshold neurons"),
        ({"activation": "relu", "plot": "there.png"}, "--plot is for threshold neurons"),
        ({"relu_file": "net.npz"}, "--relu-file is for"),
        ({"width": 5, "executor": "ray", "conv": True}, "leave --conv out"),
        ({"width": 5, "executor": "ray", "activation": "relu"}, "leave --activation relu out"),
        ({"data_dir": "/no/such/folder"}, "no folder"),
        ({"centres": "best"}, "random, greedy or minimal"),
        ({"centres": "random", "masks": "cluster"}, "around greedy or minimal centres"),
        ({"masks": "ball"}, "point or cluster"),
        ({"masks": "cluster", "activation": "relu"}, "take point masks"),
        ({"masks": "cluster", "conv": True, "shape": "1,8,8"}, "leave --masks out"),
        ({"minimise": "weight"}, "width, neurons or parameters"),
        ({"width": 5, "minimise": "neurons"}, "--minimise is for the search"),
        ({"curve": "sizes.png"}, "--curve is for --minimise"),
    ],
)
def test_an_interpolation_that_makes_no_sense_is_refused_before_data_are_read(
    options: dict[str, Any], said: str
) -> None:
    InterpolationRequest(data="digits")
    with pytest.raises(InputError, match=said):
        InterpolationRequest(data="digits", **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"p": ["2", "0.5"]}, "p must lie in"),
        ({"all_outputs": True, "output": 1}, "--all-outputs excludes"),
        ({"whole": True, "box": (-1.0, 1.0)}, "exclude each other"),
        ({"center": "x.npy"}, "go together"),
    ],
)
def test_a_constant_that_makes_no_sense_is_refused_before_the_model_is_read(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        LipschitzRequest(model="absent.npz", **options)


def test_commands_stay_short(root: Path) -> None:
    for path in (root / "cluster" / "commands").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                count = len(node.args.args) + len(node.args.kwonlyargs)
                assert count <= MOST_ARGUMENTS, f"{path.name}: {node.name} takes {count} arguments"
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= MOST_LINES, f"{path.name}: {node.name} has {lines} lines"
