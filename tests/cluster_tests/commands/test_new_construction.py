"""The table of constructions: a new one is a class and a line, and commands, searches and experiments know it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from solvers.bits.features import pack_bits
from solvers.errors import InputError
from solvers.files.threshold_npz import load_threshold_network
from solvers.interpolation._base import AbstractInterpolator, Construction, detected_classes
from solvers.interpolation.convolutional import Convolutional
from solvers.interpolation.width_search import Restart
from solvers.networks.threshold import ThresholdNetwork
from solvers.problems.questions import InterpolationProblem
from solvers.registry import INTERPOLATORS, construction_named, interpolator_named
from tasks.constructions import ConstructionChoice, compute_restart, restart_interpolant
from tasks.data_sets import load_problem
from tasks.experiment import RunContext, Trial
from tasks.experiments.interpolation import Interpolation, InterpolationConfig

LINE = InterpolationProblem(np.linspace(-1, 1, 12)[:, None], (np.arange(12) >= 7).astype(int))


@dataclass(frozen=True)
class Cut(AbstractInterpolator):
    """Points on a line whose classes lie on two sides of a place: one neuron of each layer, whatever the width."""

    width: int
    max_bias: float
    minus: object = None
    device: str = "cpu"
    place: float = 0.5
    name: ClassVar[str] = "cut"
    summary: ClassVar[str] = "one cut between two classes"
    options: ClassVar[tuple[str, ...]] = ("place",)

    def _solve(self, problem: InterpolationProblem, rng: np.random.Generator) -> Construction:
        (k,) = detected_classes(problem, self.minus)
        own, others = problem.points[problem.labels == k, 0], problem.points[problem.labels != k, 0]
        sign = 1.0 if own.mean() < others.mean() else -1.0
        # 1[sign x - s > 0] on the other class alone, so u = 1 and m = 1 fire where it is 0.
        low, high = (sign * own).max(), (sign * others).min()
        bias = -(low + self.place * (high - low))
        network = ThresholdNetwork(
            np.array([[sign]]),
            np.array([bias]),
            (pack_bits(np.ones((1, 1), dtype=np.bool_)),),
            (np.ones(1, dtype=np.int64),),
            (k,),
            problem.classes,
        )
        return Construction(network, (np.flatnonzero(problem.labels == k)[:1],), {})


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(INTERPOLATORS, "cut", Cut)


@pytest.fixture
def line_file(tmp_path: Path) -> str:
    np.savez(tmp_path / "line.npz", X=LINE.points, y=LINE.labels)
    return str(tmp_path / "line.npz")


@pytest.mark.usefixtures("cut")
@pytest.mark.parametrize("place", [0.5, 0.1])
def test_a_restart_of_a_new_construction(place: float) -> None:
    choice, restart = ConstructionChoice("cut", {"place": place}), Restart(1, 0.0, "screen", 0)
    choice.check(LINE)
    answer = restart_interpolant(LINE, choice, restart, ("line", 0))
    assert answer.interpolates
    assert compute_restart(LINE, choice, restart, ("line", 0)).parameters == answer.network.parameters
    # The covered class is the last one, so `place` counts from its side.
    between = LINE.points[7, 0] + place * (LINE.points[6, 0] - LINE.points[7, 0])
    assert -answer.network.biases[0] / answer.network.weights[0, 0] == pytest.approx(between)


@pytest.mark.usefixtures("cut")
def test_an_experiment_of_a_new_construction(line_file: str) -> None:
    experiment = Interpolation()
    config = InterpolationConfig(data=line_file, width=1, max_bias=0.0, construction="cut")
    experiment.check(config, RunContext())
    trial = Trial("t", experiment.name, config.model_dump(), 0, 0)
    (measured,) = experiment.run_batch([config], [experiment.streams(trial)], RunContext())
    assert measured["interpolates"] is True
    assert (measured["second_layer_width"], measured["misclassified"]) == (1, 0)
    with pytest.raises(InputError, match="no choice of activation"):
        experiment.check(config.model_copy(update={"activation": "relu"}), RunContext())


@pytest.mark.usefixtures("cut")
def test_a_command_and_files_of_a_new_construction(line_file: str, tmp_path: Path) -> None:
    place = tmp_path / "net"
    words = ["interpolate", line_file, "--construction", "cut", "--width", "1", "--save", str(place), "--json"]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout)["second_layer_width"] == 1
    network = load_threshold_network(place / "network.npz")
    assert (network.predict(LINE.points) == LINE.labels).all()


def test_the_table_refuses_what_a_construction_does_not_take() -> None:
    with pytest.raises(InputError, match="did you mean 'convolutional'"):
        construction_named("convolutionl")
    with pytest.raises(ValueError, match="unknown construction 'cut'"):
        InterpolationConfig(data="moons:20", width=1, max_bias=0.0, construction="cut")
    with pytest.raises(InputError, match=r"has no setting 'shape' .settings of its own: activation."):
        interpolator_named("fully-connected", 5, 0.5, shape=(1, 1, 2))
    with pytest.raises(InputError, match="needs the setting 'shape'"):
        interpolator_named("convolutional", 5, 0.5)
    with pytest.raises(InputError, match="covers its classes itself"):
        interpolator_named("convolutional", 5, 0.5, shape=(1, 1, 2)).dealt(lambda *_: [])


def test_the_convolutional_construction_in_the_experiment() -> None:
    """The network that the construction itself builds from the trial's stream; the shape is that of the data."""
    experiment = Interpolation()
    config = InterpolationConfig(data="shifts:2,1,7", width=20, max_bias=0.5, construction="convolutional")
    experiment.check(config, RunContext())
    trial = Trial("t", experiment.name, config.model_dump(), 0, 0)
    (measured,) = experiment.run_batch([config], [experiment.streams(trial)], RunContext())
    problem, rng = load_problem(config.data), experiment.streams(trial).generator("construction")
    answer = Convolutional(20, 0.5, (1, 1, 7), minus=problem.classes[1]).solve(problem, rng=rng)
    assert measured["parameters"] == answer.network.parameters
    assert measured["misclassified"] == len(answer.missed)
    with pytest.raises(InputError, match="needs the shape of a point"):
        experiment.check(config.model_copy(update={"data": "moons:20"}), RunContext())
