"""The complexity experiment: nested samples, least widths, tables and figures that say what was measured."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from solvers.complexity.measure import measure_complexity
from solvers.errors import InputError
from solvers.interpolation.fully_connected import FullyConnected
from solvers.interpolation.width_search import width_grid
from tasks.data_sets import load_problem
from tasks.experiment import Measurement, RunContext, Trial
from tasks.experiments.complexity import (
    LARGEST_WIDTH,
    WIDTH_RATIO,
    ComplexityConfig,
    ComplexityExperiment,
    nested_sample,
    questions,
)
from tasks.sweeps import load_study, parse_study, trials_of

EXPERIMENT = ComplexityExperiment()
BLOBS = "blobs:3000,0.1,3"


def trials(replicates: int = 1, fixed: dict[str, Any] | None = None, **grid: list[Any]) -> list[Trial]:
    sweep = {"experiment": EXPERIMENT.name, "grid": grid, "fixed": fixed or {}, "replicates": replicates}
    return list(trials_of(parse_study({"name": "t", "seed": 2, "sweeps": {"t": sweep}}, "t")))


def run(batch: Sequence[Trial]) -> list[Measurement]:
    configs = [ComplexityConfig.model_validate(t.params) for t in batch]
    return EXPERIMENT.run_batch(configs, [EXPERIMENT.streams(t) for t in batch], RunContext())


def frame(batch: Sequence[Trial]) -> pd.DataFrame:
    rows = zip(batch, run(batch), strict=True)
    return pd.DataFrame([{**t.params, "replicate": t.replicate, **measured} for t, measured in rows])


@pytest.fixture(scope="module")
def grown() -> pd.DataFrame:
    return frame(trials(2, {"restarts": 2, "constant": 0.4}, data=[BLOBS, "moons:1000,0.1"], samples=[30, 100, 900]))


def test_balls_stay_where_the_structure_is_simple_and_grow_where_it_is_not(grown: pd.DataFrame) -> None:
    blobs, moons = grown[grown["data"] == BLOBS], grown[grown["data"] != BLOBS]
    # Six separated balls, whatever the number of samples; noise brings the moons closer and closer.
    assert (blobs["balls"] == 6).all()
    assert (blobs["second_layer"] == 3).all()
    by_size = moons.groupby("samples")["balls"].mean()
    assert by_size.is_monotonic_increasing
    assert by_size[900] > 2 * by_size[30]
    metrics = EXPERIMENT.study_metrics(grown)
    key = "growth_exponent_blobs_3000_0.1_3"
    assert metrics[key] == pytest.approx(0.0, abs=1e-12)
    assert set(metrics) == {key, "growth_exponent_moons_1000_0.1"}
    assert 0.2 < metrics["growth_exponent_moons_1000_0.1"] < 1


def test_trials_do_not_depend_on_their_batch() -> None:
    every = trials(2, {"data": "digits", "constant": 1.0}, samples=[40, 80], conv=[False, True])
    alone = {t.key: run([t])[0] for t in every}
    random.Random(0).shuffle(every)
    for t, measured in zip(every, run(every), strict=True):
        for name, value in alone[t.key].items():
            assert name == "wall_seconds" or measured[name] == value or value != value  # NaN


def test_samples_are_nested_and_hold_every_class() -> None:
    problem = load_problem("digits")
    every = trials(1, {"data": "digits"}, samples=[10, 300], constant=[0.5, 1.0])
    assert len({EXPERIMENT.streams(t).digest for t in every}) == 1
    sizes = [10, 11, 300]
    nested = [nested_sample(problem, size, np.random.default_rng(1)) for size in sizes]
    for smaller, larger in itertools.pairwise(nested):
        assert np.array_equal(smaller.points, larger.points[: len(smaller.points)])
    for size, part in zip(sizes, nested, strict=True):
        assert part.points.shape == (size, 64)
        assert part.classes == problem.classes
    # Every sample still carries its own label.
    rows = {point.tobytes(): label for point, label in zip(problem.points, problem.labels, strict=True)}
    assert all(rows[p.tobytes()] == k for p, k in zip(nested[-1].points, nested[-1].labels, strict=True))
    for wrong in (9, 1798):
        with pytest.raises(InputError, match="samples must lie"):
            nested_sample(problem, wrong, np.random.default_rng(1))


def test_the_needed_width_is_the_least_of_the_grid_around_it(grown: pd.DataFrame) -> None:
    (trial,) = trials(1, {"restarts": 3, "constant": 0.4}, data=["moons:1000,0.1"], samples=[100])
    stream, measured = EXPERIMENT.streams(trial), run([trial])[0]
    problem = nested_sample(load_problem("moons:1000,0.1"), 100, stream.generator("order of rows"))

    def built(width: int) -> list[Any]:
        return [
            FullyConnected(width, 0.5).solve(problem, rng=stream.generator(f"construction {k} of width {width}"))
            for k in range(3)
        ]

    grid = width_grid(LARGEST_WIDTH, WIDTH_RATIO)
    place = grid.index(int(measured["needed_first_layer"]))
    enough = built(grid[place])
    assert all(answer.interpolates for answer in enough)
    assert not all(answer.interpolates for answer in built(grid[place - 1]))
    widths = [answer.network.second_layer_width for answer in enough]
    assert measured["needed_second_layer"] == pytest.approx(np.mean(widths))
    assert measured["needed_parameters"] == pytest.approx(np.mean([a.network.parameters for a in enough]))


def test_a_measurement_is_that_of_the_solver() -> None:
    for trial in trials(1, {"constant": 0.7}, data=["digits", "lines:200"]):
        measured, stream = run([trial])[0], EXPERIMENT.streams(trial)
        found = measure_complexity(
            load_problem(trial.params["data"]), constants=(0.7,), draws=200, rng=stream.generator("mean widths")
        )
        assert set(measured) == set(EXPERIMENT.columns)
        centres = [len(pair.covering.minus.centres) for pair in found.pairs[0]]
        if len(found.classes) == 2:
            centres.append(len(found.pairs[0][0].covering.plus.centres))
        assert measured["balls"] == sum(centres)
        assert measured["separation"] == found.separation
        assert measured["first_layer"] == found.network(0).first_layer
        assert measured["worst_case_neurons"] == measured["points"] == len(found.rows)
        assert math.isnan(float(measured["needed_first_layer"]))


def test_tables_figures_and_cells(grown: pd.DataFrame) -> None:
    (table,) = EXPERIMENT.summary_tables(grown)
    assert len(table.rows) == 6
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.rows[0][:3] == (BLOBS, "30", "6.0")
    figures = EXPERIMENT.figures(grown)
    assert set(figures) == {"complexity_against_samples", "complexity_and_needed_widths"}
    curves = figures["complexity_against_samples"].axes[0].get_legend_handles_labels()[1]
    assert curves == ["one ball a point", BLOBS, "moons:1000,0.1"]
    assert len(figures["complexity_and_needed_widths"].axes) == 2
    cell = grown[(grown["data"] == BLOBS) & (grown["samples"] == 900)]
    metrics = EXPERIMENT.cell_metrics({"samples": 900}, cell)
    assert metrics["balls_mean"] == 6
    assert metrics["needed_first_layer_mean_low"] <= metrics["needed_first_layer_mean"]
    # Without a search for widths nothing is said about them.
    bare = cell.assign(needed_first_layer=math.nan, needed_second_layer=math.nan)
    assert not any("needed" in name for name in EXPERIMENT.cell_metrics({"samples": 900}, bare))
    assert EXPERIMENT.summary_tables(bare)[0].rows[0][-2:] == ("", "")
    assert EXPERIMENT.figures(bare) == {}


def test_what_differs_is_named(grown: pd.DataFrame) -> None:
    both = pd.concat([grown, grown.assign(conv=True, shape=[[1, 1, 2]] * len(grown))])
    names = [name for name, _ in questions(both)]
    assert len(names) == 4
    assert all("conv = " in name for name in names)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"data": "moons:50", "samples": 51}, "50 rows"),
        ({"data": "moons:50", "conv": True}, "shape"),
        ({"data": "digits", "shape": [1, 8, 8]}, "conv = true"),
        ({"data": "digits", "conv": True, "shape": [1, 8, 9]}, "72"),
        ({"data": "mnist"}, "--data-dir"),
    ],
)
def test_what_could_never_run_is_refused_before(params: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        EXPERIMENT.check(ComplexityConfig.model_validate(params), RunContext())


def test_the_shipped_study_is_cheap_and_complete() -> None:
    study = load_study("complexity")
    every = list(trials_of(study))
    costs = [EXPERIMENT.cost_seconds(ComplexityConfig.model_validate(t.params)) for t in every]
    assert sum(costs) < 300
    for params in {t.cell: t.params for t in every}.values():
        EXPERIMENT.check(ComplexityConfig.model_validate(params), RunContext())
