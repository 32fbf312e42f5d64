"""The interpolation experiment: trials are the construction's own, alone as in any batch; tables pick what they say."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from solvers.errors import InputError
from solvers.interpolation.fully_connected import FullyConnected
from tasks.data_sets import load_problem
from tasks.experiment import Measurement, RunContext, Trial
from tasks.experiments.interpolation import Interpolation, InterpolationConfig
from tasks.seeding import RandomStreams
from tasks.statistics import wilson_share
from tasks.sweeps import parse_study, trials_of

EXPERIMENT = Interpolation()
VARYING = {"wall_seconds"}


def trials(seed: int = 5, replicates: int = 2, fixed: dict[str, Any] | None = None, **grid: list[Any]) -> list[Trial]:
    sweep = {"experiment": EXPERIMENT.name, "grid": grid, "fixed": fixed or {}, "replicates": replicates}
    return list(trials_of(parse_study({"name": "t", "seed": seed, "sweeps": {"t": sweep}}, "t")))


def run(batch: Sequence[Trial], context: RunContext | None = None) -> list[Measurement]:
    configs = [InterpolationConfig.model_validate(t.params) for t in batch]
    return EXPERIMENT.run_batch(configs, [EXPERIMENT.streams(t) for t in batch], context or RunContext())


def stable(measured: Measurement) -> dict[str, Any]:
    return {name: value for name, value in measured.items() if name not in VARYING}


def frame(batch: Sequence[Trial]) -> pd.DataFrame:
    rows = zip(batch, run(batch), strict=True)
    return pd.DataFrame([{**t.params, "replicate": t.replicate, **measured} for t, measured in rows])


@pytest.mark.parametrize("data", ["moons:200", "blobs:120,0.3,3", "digits"])
def test_a_trial_does_not_depend_on_its_batch(data: str) -> None:
    """Alone, all together, shuffled, in uneven parts and among other data: the same numbers."""
    widths = [30, 64, 130] if data != "digits" else [60]
    every = trials(fixed={"data": data}, width=widths, max_bias=[0.0, 0.5])
    alone = {t.key: stable(run([t])[0]) for t in every}
    order = every + trials(fixed={"data": "lines:40", "width": 20, "max_bias": 0.5})
    random.Random(1).shuffle(order)
    cuts = [0, 1, 4, len(order)]
    for batch in (every, order, *(order[a:b] for a, b in itertools.pairwise(cuts))):
        for t, measured in zip(batch, run(batch), strict=True):
            assert t.key not in alone or stable(measured) == alone[t.key]


@pytest.mark.parametrize("data", ["moons:150", "lines:60", "digits"])
@pytest.mark.parametrize("width", [8, 300])
def test_the_measurements_are_those_of_the_network(data: str, width: int) -> None:
    """Everything is counted again from the construction's exported network, as its torch module evaluates it."""
    for t in trials(fixed={"data": data, "width": width, "max_bias": 0.5}, replicates=2):
        measured = run([t])[0]
        problem = load_problem(data)
        covered = 1 if len(problem.classes) == 2 else None
        construction = FullyConnected(width, 0.5, covered)
        answer = construction.solve(problem, rng=EXPERIMENT.streams(t).generator("construction"))
        wrong = answer.network.predict(problem.points) != problem.labels
        assert measured["misclassified"] == wrong.sum()
        assert measured["interpolates"] == (not wrong.any())
        assert measured["status"] == ("misses-points" if wrong.any() else "interpolates")
        assert measured["accuracy"] == pytest.approx(1 - wrong.mean())
        assert measured["points"] == len(problem.points)
        assert measured["second_layer_width"] == sum(len(centres) for centres in answer.centres)
        d, n, m = problem.points.shape[1], width, int(measured["second_layer_width"])
        # One output for two classes, one per class beyond; each second-layer neuron feeds a single one.
        outputs = 1 if covered == 1 else len(problem.classes)
        assert measured["parameters"] == n * (d + 1) + m * (n + 1) + m + outputs


def test_two_points_are_told_apart_as_theory_says() -> None:
    """The points -1 and 1 with maximal bias 0: a feature w x is on at exactly one of them, so n = 1 tells the covered
    point from the other one exactly when the feature is on at the other: on half of the draws. 400 draws are within 5.5
    standard deviations of a half but for a chance of 4e-8; n = 40 fails with a chance of 2^-40 a draw."""
    single = np.array([row["interpolates"] for row in run(trials(replicates=400, **two_points(1)))])
    assert abs(single.mean() - 0.5) < 5.5 * 0.5 / np.sqrt(400)
    many = run(trials(replicates=20, **two_points(40)))
    assert all(row["interpolates"] and row["second_layer_width"] == 1 for row in many)


def two_points(width: int) -> dict[str, Any]:
    # Two blobs of radius 0 in dimension 1: the points 1 and -1.
    return {"fixed": {"data": "blobs:2,0,1", "width": width, "max_bias": 0.0}}


def test_points_on_one_ray_need_biases(tmp_path: Path) -> None:
    """Without biases every feature is equal on 1/2 and 1, so they cannot be told apart; with biases they can."""
    np.savez(tmp_path / "ray.npz", X=[[0.5, 0.5], [1.0, 1.0]], y=["near", "far"])
    without, with_biases = (
        run(trials(replicates=5, fixed={"data": str(tmp_path / "ray.npz"), "width": 300, "max_bias": bias}))
        for bias in (0.0, 1.0)
    )
    assert not any(row["interpolates"] for row in without)
    assert {row["misclassified"] for row in without} == {1}
    assert all(row["interpolates"] for row in with_biases)


def test_replicates_differ_and_data_stay() -> None:
    rows = frame(trials(replicates=12, fixed={"data": "moons:300", "width": 60, "max_bias": 0.5}))
    assert rows["second_layer_width"].nunique() > 1
    first = load_problem("moons:300", seed=0)
    np.testing.assert_array_equal(first.points, load_problem("moons:300").points)
    assert not np.array_equal(first.points, load_problem("moons:300", seed=1).points)


@pytest.mark.parametrize("minus", [0, 1])
def test_the_covered_class_is_the_asked_one(minus: int, tmp_path: Path) -> None:
    """Class "a" is one cluster, class "b" two on either side: covering "a" takes one neuron, covering "b" two."""
    rng = np.random.default_rng(0)
    middle, ends = rng.normal(0, 0.01, (20, 2)), rng.normal(0, 0.01, (20, 2))
    ends += np.where(np.arange(20)[:, None] % 2, [1.0, 0.0], [-1.0, 0.0])
    np.savez(tmp_path / "three.npz", X=np.vstack([middle, ends]), y=["a"] * 20 + ["b"] * 20)
    fixed = {"data": str(tmp_path / "three.npz"), "width": 400, "max_bias": 1.0, "minus": minus}
    rows = frame(trials(replicates=4, fixed=fixed))
    assert rows["interpolates"].all()
    assert set(rows["second_layer_width"]) == {minus + 1}


def test_every_measurement_has_the_declared_columns() -> None:
    for row in run(trials(fixed={"data": "moons:50", "width": 20, "max_bias": 0.5})):
        assert set(row) == set(EXPERIMENT.columns)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"data": "mnist"}, "--data-dir"),
        ({"data": "moon:20"}, "did you mean 'moons'"),
        ({"data": "no_such.csv"}, "there is no file no_such.csv"),
        ({"data": "moons:20", "label": "y"}, "a label column is for"),
    ],
)
def test_what_could_never_run_is_said_before_anything_starts(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EXPERIMENT.check(InterpolationConfig(width=5, max_bias=0.5, **params), RunContext())


def test_costs_grow_with_the_work_and_names_without_numbers_have_one() -> None:
    def cost(data: str, width: int = 100) -> float:
        return EXPERIMENT.cost_seconds(InterpolationConfig(data=data, width=width, max_bias=0.5))

    assert 0 < cost("moons:100") < cost("moons:1000") < cost("moons:10000") < cost("mnist")
    assert cost("moons:100") < cost("moons:100", 200)
    assert cost("moons") == cost("moons:1000") == cost("moons:1000,0.05") == cost("some/file.csv")
    assert cost("digits") > cost("moons")


def made(rows: list[tuple[int, float, int, bool, int]], **params: Any) -> pd.DataFrame:
    """Finished trials (width, maximal bias, replicate, interpolates, second-layer width)."""
    found = []
    for width, bias, replicate, success, neurons in rows:
        config = InterpolationConfig(**{"data": "moons:100", "width": width, "max_bias": bias, **params})
        measured = {
            "interpolates": success, "second_layer_width": neurons, "misclassified": 0 if success else 3,
            "accuracy": 1.0 if success else 0.97, "parameters": 3 * width + neurons * (width + 1), "points": 100,
            "status": "interpolates" if success else "misses-points", "wall_seconds": 0.1,
        }  # fmt: skip
        found.append({**config.model_dump(), "replicate": replicate, **measured})
    return pd.DataFrame(found)


ROWS = [
    (10, 0.0, 0, False, 9), (10, 0.0, 1, False, 9), (10, 0.5, 0, True, 8), (10, 0.5, 1, False, 6),
    (20, 0.0, 0, True, 7), (20, 0.0, 1, True, 9), (20, 0.5, 0, True, 4), (20, 0.5, 1, True, 6),
    (40, 0.0, 0, True, 3), (40, 0.0, 1, True, 3), (40, 0.5, 0, True, 3), (40, 0.5, 1, False, 1),
]  # fmt: skip


def test_the_table_names_the_bias_that_its_numbers_belong_to() -> None:
    """At width 20 both biases always interpolate; 0.5 with 5 neurons on average, 0 with 8."""
    (table,) = EXPERIMENT.summary_tables(made(ROWS))
    assert [tuple(row) for row in table.rows] == [
        ("10", "0.5", "50%", "7.0"),
        ("20", "0.5", "100%", "5.0"),
        ("40", "0", "100%", "3.0"),
    ]
    assert table.title == "Interpolation of moons:100 (100 points)"
    assert EXPERIMENT.study_metrics(made(ROWS)) == {"smallest_sure_width_moons_100": 20.0}


def test_unlike_settings_are_never_averaged() -> None:
    """Covering class 0 always works from width 10 on, covering class 1 as above."""
    easy = [(width, bias, replicate, True, 2) for width, bias, replicate, _, _ in ROWS]
    both = pd.concat([made(ROWS, minus=1), made(easy, minus=0)])
    metrics = EXPERIMENT.study_metrics(both)
    assert metrics == {
        "smallest_sure_width_moons_100_minus_0": 10.0,
        "smallest_sure_width_moons_100_minus_1": 20.0,
    }
    assert [table.title.split(" (")[0] for table in EXPERIMENT.summary_tables(both)] == [
        "Interpolation of moons:100, minus = 0",
        "Interpolation of moons:100, minus = 1",
    ]
    assert set(EXPERIMENT.figures(both)) == {"interpolation_moons_100_minus_0", "interpolation_moons_100_minus_1"}


def test_nothing_sure_is_no_metric() -> None:
    assert EXPERIMENT.study_metrics(made(ROWS[:4])) == {}


def test_cell_metrics_are_the_shares_and_means() -> None:
    cell = made(ROWS[2:4])
    found = EXPERIMENT.cell_metrics({"width": 10}, cell)
    share = wilson_share(1, 2)
    assert found["interpolation_probability"] == 0.5
    assert (found["interpolation_probability_low"], found["interpolation_probability_high"]) == (share.low, share.high)
    assert found["second_layer_width_mean"] == 7.0
    assert "second_layer_width_mean_low" not in found  # two draws are too few
    many = EXPERIMENT.cell_metrics({"width": 10}, pd.concat([cell] * 3))
    assert 5.0 < many["second_layer_width_mean_low"] < 7.0 < many["second_layer_width_mean_high"] < 9.0
    assert found["accuracy_mean"] == pytest.approx(0.985)
    assert found["trials"] == 2.0
    assert EXPERIMENT.cell_metrics({"width": 10}, cell) == found


def test_heat_maps_show_the_shares_and_widths() -> None:
    figures = EXPERIMENT.figures(made(ROWS))
    assert set(figures) == {"interpolation_moons_100"}
    shares, widths = (axes for axes in figures["interpolation_moons_100"].axes if axes.images)
    for axes, values in ((shares, [[0.0, 1.0, 1.0], [0.5, 1.0, 0.5]]), (widths, [[9.0, 8.0, 3.0], [7.0, 5.0, 2.0]])):
        np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), np.array(values))
    assert [label.get_text() for label in shares.get_xticklabels()] == ["10", "20", "40"]
    assert [label.get_text() for label in shares.get_yticklabels()] == ["0", "0.5"]
    assert "share of 2 restarts" in shares.get_title()


def test_a_grid_with_holes_still_makes_heat_maps() -> None:
    figures = EXPERIMENT.figures(made([ROWS[0], ROWS[6]]))
    assert set(figures) == {"interpolation_moons_100"}


def test_activations_share_their_draws_and_stand_apart_in_tables() -> None:
    """ReLU neurons ask another question of the same first layer; two answers are never averaged."""
    fixed = {"data": "moons:100", "width": 120, "max_bias": 1.0}
    batch = trials(replicates=2, fixed=fixed, activation=["threshold", "relu"])
    assert len({EXPERIMENT.streams(t).digest for t in batch}) == 2
    rows = frame(batch)
    assert rows["interpolates"].any()
    assert {table.title.split(" (")[0] for table in EXPERIMENT.summary_tables(rows)} == {
        "Interpolation of moons:100, activation = relu",
        "Interpolation of moons:100, activation = threshold",
    }


def test_centres_share_their_draws_and_random_ones_keep_the_numbers_they_had() -> None:
    """Random order is what the theorem speaks of: its streams and intervals know nothing of other choices."""
    fixed = {"data": "moons:100", "width": 120, "max_bias": 1.0}
    random_ones = trials(replicates=2, fixed=fixed)
    others = trials(replicates=2, fixed={**fixed, "masks": "cluster"}, centres=["greedy", "minimal"])
    assert {EXPERIMENT.streams(t).digest for t in random_ones} == {EXPERIMENT.streams(t).digest for t in others}
    before = {name: value for name, value in random_ones[0].params.items() if name not in ("centres", "masks")}
    drawn = {name: value for name, value in before.items() if name != "activation"}
    first = random_ones[0]
    told = RandomStreams.of([EXPERIMENT.name, drawn, first.replicate, first.seed])
    assert EXPERIMENT.streams(first).digest == told.digest
    rows = frame(random_ones)
    assert EXPERIMENT.cell_metrics(first.params, rows) == EXPERIMENT.cell_metrics(before, rows)
    assert frame(others)["second_layer_width"].max() <= rows["second_layer_width"].max()


def test_centres_that_fit_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="around greedy or minimal centres"):
        InterpolationConfig(data="moons:20", width=5, max_bias=0.5, masks="cluster")
    conv = InterpolationConfig(
        data="shifts:1,8,2,4", width=5, max_bias=0.5, construction="convolutional", centres="greedy", masks="cluster"
    )
    with pytest.raises(InputError, match="no choice of masks"):
        EXPERIMENT.check(conv, RunContext())


def test_curves_over_sizes_show_each_size() -> None:
    parts = [made(ROWS[4:6], data=f"moons:{size}").assign(points=size) for size in (100, 1000)]
    figures = EXPERIMENT.figures(pd.concat(parts))
    curve = figures["interpolation_sizes_moons"].axes[0].containers[0]
    np.testing.assert_array_equal(curve[0].get_xdata(), [100, 1000])
    np.testing.assert_array_equal(curve[0].get_ydata(), [8.0, 8.0])
    assert "interpolation_sizes_moons" not in EXPERIMENT.figures(parts[0])
