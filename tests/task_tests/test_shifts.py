"""Shifted patterns: the data, the experiment, and what the two constructions must need for them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from solvers.errors import InputError
from solvers.problems.orbits import find_orbits
from tasks.data_sets import load_data_set
from tasks.experiment import RunContext
from tasks.experiments.shifts import Shifts, ShiftsConfig
from tasks.registry import EXPERIMENTS
from tasks.shifts import shifted_patterns
from tasks.sweeps import load_study, parse_study, trials_of
from tests.references.convolution_by_definition import translations

SMALL = {
    "name": "small",
    "seed": 3,
    "sweeps": {
        "patterns": {
            "experiment": "shifts",
            "replicates": 2,
            "grid": {"patterns": [1, 2, 4], "construction": ["fully-connected", "convolutional"]},
            "fixed": {"width": 5, "first_layer_width": 200},
        },
        "signals": {
            "experiment": "shifts",
            "grid": {"width": [6, 12], "construction": ["fully-connected", "convolutional"]},
            "fixed": {"height": 1, "patterns": 2, "noise": 0.05, "channels": 2, "filters": 20},
        },
    },
}


def run(trials):
    experiment = Shifts()
    rows = []
    for trial in trials:
        config = ShiftsConfig.model_validate(trial.params)
        measured = experiment.run_batch([config], [experiment.streams(trial)], RunContext())
        rows.append({**trial.params, "replicate": trial.replicate, **measured[0]})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def small():
    return run(trials_of(parse_study(SMALL, "test")))


@pytest.mark.parametrize(("height", "width", "channels"), [(1, 7, 1), (3, 4, 2), (2, 1, 1)])
def test_a_class_is_its_patterns_in_every_translation(height, width, channels):
    points, labels = shifted_patterns(
        np.random.default_rng(0), patterns=3, height=height, width=width, channels=channels
    )
    images = points.reshape(-1, channels, height, width)
    assert len(images) == 6 * height * width
    assert labels.tolist() == [0] * (len(images) // 2) + [1] * (len(images) // 2)
    orbits = find_orbits(images)
    assert len(orbits.representatives) == 6
    for first in orbits.representatives:
        expected = {moved.tobytes() for _, moved in translations(images[first])}
        rows = np.flatnonzero(orbits.first == first)
        assert {images[row].tobytes() for row in rows} == expected
        assert len(set(labels[rows])) == 1
        assert len(rows) == height * width


def test_noise_moves_every_number_by_its_own_amount():
    arguments = {"patterns": 4, "height": 6, "width": 6}
    clean, _ = shifted_patterns(np.random.default_rng(1), **arguments)
    noisy, _ = shifted_patterns(np.random.default_rng(1), **arguments, noise=0.1)
    # 10 368 numbers: the sample standard deviation is within 5 % but for a chance below 1e-11.
    assert np.std(noisy - clean) == pytest.approx(0.1, rel=0.05)
    assert len(np.unique(noisy - clean)) == clean.size


def test_the_data_set_has_a_name():
    data = load_data_set("shifts:2,1,9,3,0.1", seed=4)
    assert data.points.shape == (2 * 2 * 9, 27)
    assert len(load_data_set("shifts").points) == 2 * 8 * 256
    assert np.array_equal(load_data_set("shifts:2,1,9", seed=1).points, load_data_set("shifts:2,1,9", seed=1).points)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shifts:0", "at least 1"),
        ("shifts:8,1,1", "two positions"),
        ("shifts:2.5", "whole numbers"),
        ("shifts:1,2,3,1,0,6", "whole numbers"),
        ("shifts:many", "must be like shifts:"),
        ("shifts:8,16,16,1,-1", "noise >= 0"),
        ("shifts:8,16,16,1,nan", "noise >= 0"),
        ("shifts:100,300,300", "more than 2 GB"),
    ],
)
def test_a_wrong_name_ends_in_one_sentence(name, message):
    with pytest.raises(InputError, match=message):
        load_data_set(name)


@pytest.mark.parametrize("noise", [0.0, pytest.param(0.05, marks=pytest.mark.slow)])
def test_the_convolutional_layer_counts_patterns_the_fully_connected_one_pattern_times_shift(noise):
    """K = 8 patterns a class on 16 x 16: at most 2 K neurons against at least ten times more, on the same data."""
    sweep = {
        "experiment": "shifts",
        "grid": {"construction": ["fully-connected", "convolutional"], "minus": [0, 1]},
        "fixed": {"patterns": 8, "width": 16, "noise": noise},
    }
    trials = run(trials_of(parse_study({"name": "must-hold", "seed": 1, "sweeps": {"one": sweep}}, "test")))
    assert trials["interpolates"].all()
    widths = trials.pivot_table(index="minus", columns="construction", values="second_layer_width")
    assert (widths["convolutional"] <= 16).all()
    assert (widths["fully-connected"] >= 10 * widths["convolutional"]).all()
    assert (trials["points"] == 4096).all()


def test_both_constructions_of_a_replicate_see_the_same_patterns():
    trials = list(trials_of(parse_study(SMALL, "test")))
    streams: dict[tuple[object, ...], set[object]] = {}
    for trial in trials:
        config = ShiftsConfig.model_validate(trial.params)
        key = (trial.sweep, config.patterns, config.width, trial.replicate)
        streams.setdefault(key, set()).add(Shifts().streams(trial).digest)
    assert all(len(digests) == 1 for digests in streams.values())
    assert len({next(iter(digests)) for digests in streams.values()}) == len(streams)


def test_measurements_tables_and_figures(small):
    experiment = Shifts()
    assert set(experiment.columns) <= set(small.columns)
    assert small["interpolates"].all()
    assert (small["neurons_per_pattern"] == small["second_layer_width"] / small["patterns"]).all()
    metrics = experiment.study_metrics(small)
    data = ["patterns", "width", "height", "noise"]
    pairs = small.pivot_table(index=data, columns="construction", values="second_layer_width", dropna=False)
    ratios = (pairs["fully-connected"] / pairs["convolutional"]).dropna()
    assert metrics["least_width_ratio"] == pytest.approx(ratios.min())
    convolutional = small[small["construction"] == "convolutional"]
    assert metrics["most_convolutional_neurons_per_pattern"] == convolutional["neurons_per_pattern"].max()
    table = experiment.summary_tables(small)[0]
    assert len(table.rows) == 5
    assert all(len(row) == len(table.columns) for row in table.rows)
    figures = experiment.figures(small)
    assert set(figures) == {"shifts_against_patterns", "shifts_against_positions"}
    for figure in figures.values():
        lines = figure.axes[0].get_legend_handles_labels()[1]
        assert {"convolutional", "fully connected"} <= set(lines)
    cell = small[(small["patterns"] == 4) & (small["construction"] == "convolutional")]
    metrics = experiment.cell_metrics({"patterns": 4}, cell)
    assert metrics["second_layer_width_mean"] == cell["second_layer_width"].mean()


def test_one_construction_alone_gives_a_table_without_ratios(small):
    alone = small[small["construction"] == "convolutional"]
    assert "least_width_ratio" not in Shifts().study_metrics(alone)
    assert all(row[-1] == "" for row in Shifts().summary_tables(alone)[0].rows)
    assert Shifts().figures(alone[alone["patterns"] == 1]) == {}


def test_the_shipped_study_is_cheap_and_complete():
    study = load_study("shifts")
    trials = list(trials_of(study))
    costs = [Shifts().cost_seconds(ShiftsConfig.model_validate(trial.params)) for trial in trials]
    assert sum(costs) < 120
    assert {sweep.experiment for sweep in study.sweeps.values()} == {"shifts"}
    for trial in trials:
        EXPERIMENTS["shifts"].check(ShiftsConfig.model_validate(trial.params), RunContext())
    too_large = ShiftsConfig(patterns=100, width=300)
    with pytest.raises(InputError, match="more than 2 GB"):
        Shifts().check(too_large, RunContext())
