"""Memorizing ReLU networks: the constant is that of the network, intervals stay intervals, the radius holds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from solvers.errors import InputError
from tasks.data_sets import load_problem
from tasks.experiment import Measurement, RunContext, Trial
from tasks.experiments.memorizer_robustness import MemorizerRobustness, RobustnessConfig
from tasks.sweeps import parse_study, trials_of

EXPERIMENT = MemorizerRobustness()


def trials(replicates: int, fixed: dict[str, Any], **grid: list[Any]) -> list[Trial]:
    sweep = {"experiment": EXPERIMENT.name, "grid": grid, "fixed": fixed, "replicates": replicates}
    return list(trials_of(parse_study({"name": "t", "seed": 5, "sweeps": {"t": sweep}}, "t")))


def run(batch: list[Trial]) -> list[Measurement]:
    configs = [RobustnessConfig.model_validate(t.params) for t in batch]
    return EXPERIMENT.run_batch(configs, [EXPERIMENT.streams(t) for t in batch], RunContext())


def frame(batch: list[Trial]) -> pd.DataFrame:
    rows = zip(batch, run(batch), strict=True)
    return pd.DataFrame([{**t.params, "replicate": t.replicate, **measured} for t, measured in rows])


def test_two_points_on_a_line_have_the_constant_that_can_be_written_down() -> None:
    """Points -1 (class 0) and 1 (class 1) without biases: a feature w x is on at -1 exactly if w < 0.

    The only neuron is relu(m - <u, Phi(x)>) with u the features off at 1, so <u, Phi(x)> = s relu(-x), s the sum of
    their |w| and m = s. The score falls from m to 0 on [-1, 0] and is m beyond: Lip = s = m and the margin is m / 2.
    """
    for row in run(trials(10, {"data": "blobs:2,0,1", "width": 5, "max_bias": 0.0})):
        if row["second_layer_width"]:
            assert row["interpolates"]
            assert row["status"] == "exact"
            assert row["proved_radius"] == pytest.approx(0.5, rel=1e-6)
            assert row["lower"] == pytest.approx(2 * float(row["margin"]), rel=1e-6)


def test_no_label_changes_within_the_proved_radius_and_slopes_stay_below_the_bound() -> None:
    from solvers.interpolation.fully_connected import FullyConnected
    from solvers.networks.relu_classifier import ReluClassifier

    (trial, *_) = trials(1, {"data": "moons:100", "max_bias": 1.0}, width=[60])
    for t in trials(6, {"data": "moons:100", "max_bias": 1.0}, width=[60]):
        (row,) = run([t])
        if not row["interpolates"]:
            continue
        problem = load_problem("moons:100")
        answer = FullyConnected(60, 1.0, 1, activation="relu").solve(
            problem, rng=EXPERIMENT.streams(t).generator("construction")
        )
        network = answer.network
        assert isinstance(network, ReluClassifier)
        rng = np.random.default_rng(0)
        steps = rng.normal(size=(100, 100, 2))
        steps *= 0.999 * float(row["proved_radius"]) / np.sqrt((steps**2).sum(axis=2, keepdims=True))
        for k, step in enumerate(steps):
            np.testing.assert_array_equal(network.predict(problem.points + step), problem.labels, err_msg=str(k))
        points = rng.uniform(-1, 1, size=(2000, 2))
        scores, moved = (network.network().evaluate(x)[:, 0] for x in (points, points + steps[:20].reshape(-1, 2)))
        slopes = np.abs(moved - scores) / np.sqrt((steps[:20].reshape(-1, 2) ** 2).sum(axis=1))
        assert slopes.max() <= float(row["upper"]) * (1 + 1e-6)
        return
    pytest.fail(f"no network interpolates like {trial.params}")


def test_draws_are_shared_by_all_p_and_ordered_as_norms_are() -> None:
    """At p = 1, 2, inf the constants are maxima of the dual norms of the same gradients: they grow with p."""
    rows = frame(trials(1, {"data": "moons:50", "width": 30, "max_bias": 1.0}, p=[1, 2, "inf"]))
    assert rows["margin"].nunique() == 1
    assert rows["lower"].is_monotonic_increasing
    assert rows["upper"].iloc[2] <= 2 * rows["upper"].iloc[0] * (1 + 1e-6)


def made(rows: list[tuple[int, bool, float, float]]) -> pd.DataFrame:
    """Finished trials (width, interpolates, lower, upper)."""
    return pd.DataFrame(
        [
            {
                **RobustnessConfig(width=width, max_bias=0.5).model_dump(), "replicate": k, "interpolates": success,
                "misclassified": 0 if success else 4, "second_layer_width": 3, "lower": low, "upper": high,
                "status": "exact" if low == high else "budget-spent", "margin": 0.5, "proved_radius": 0.5 / high,
                "answered_by": "region-enumeration", "wall_seconds": 0.1,
            }
            for k, (width, success, low, high) in enumerate(rows)
        ]
    )  # fmt: skip


ROWS = [(20, True, 2.0, 2.0), (20, True, 4.0, 10.0), (20, False, 900.0, 900.0), (40, True, 1.0, math.inf)]


def test_an_unfinished_solve_stays_an_interval_and_a_network_that_misses_points_is_left_out() -> None:
    found = EXPERIMENT.cell_metrics({"relative_gap": 1e-6}, made(ROWS[:3]))
    assert (found["lipschitz_mean_lower"], found["lipschitz_mean_upper"]) == (3.0, 6.0)
    assert found["censored_share"] == 0.5
    assert found["interpolation_probability"] == pytest.approx(2 / 3)
    assert found["proved_radius_mean"] == pytest.approx((0.25 + 0.05) / 2)
    missed = EXPERIMENT.cell_metrics({"relative_gap": 1e-6}, made(ROWS[2:3]))
    assert missed["interpolation_probability"] == 0
    assert "lipschitz_mean_lower" not in missed
    (table,) = EXPERIMENT.summary_tables(made(ROWS))
    assert [row[:4] for row in table.rows] == [("0.5", "20", "2 of 3", "3 to 6"), ("0.5", "40", "1 of 1", "1 to inf")]
    (figure,) = EXPERIMENT.figures(made(ROWS)).values()
    bars = figure.axes[1].containers[0]
    np.testing.assert_array_equal(bars[0].get_ydata(), [3.0, 1.0])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"data": "digits"}, "needs two classes, digits has 10"),
        ({"data": "moons:40", "method": "vertex-enumeration"}, "cannot take a memorizing network"),
        ({"data": "moons:40", "method": "region-enumeratoin"}, "did you mean"),
    ],
)
def test_what_could_never_run_is_said_before_anything_starts(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EXPERIMENT.check(RobustnessConfig(width=5, max_bias=0.5, **params), RunContext())
    EXPERIMENT.check(RobustnessConfig(width=5, max_bias=0.5), RunContext())


def test_files_are_data_too(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", X=[[0.0, 1.0], [1.0, 0.0], [0.0, -1.0]], y=["a", "b", "a"])
    row = run(trials(1, {"data": str(tmp_path / "two.npz"), "width": 40, "max_bias": 1.0}))[0]
    assert row["interpolates"]
    assert set(row) == set(EXPERIMENT.columns)
