"""Figures and tables of the Monte Carlo experiment: exponents, open intervals, draws that are few or flat."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D

from tasks.experiments.lipschitz_monte_carlo import (
    LipschitzConfig,
    LipschitzMonteCarlo,
    exponents,
)
from tests.task_tests.test_lipschitz_monte_carlo import frame, run, trials

EXPERIMENT = LipschitzMonteCarlo()
EXPERIMENT = LipschitzMonteCarlo()


def made(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Finished trials with the defaults of the configuration."""
    defaults = LipschitzConfig(d=1, N=8, p=2).model_dump()
    measured = {"status": "exact", "gradient_norm": 1.0, "answered_by": "auto", "wall_seconds": 0.1}
    return pd.DataFrame([{**defaults, **measured, "upper": row.get("lower"), **row} for row in rows])


def power_law(exponent: float, point: float, **params: Any) -> list[dict[str, Any]]:
    return [
        {"d": d, "replicate": k, "lower": c * d**exponent, "gradient_norm": c * d**point, **params}
        for d in (2, 4, 8)
        for k, c in enumerate((1.0, 2.0, 3.0, 2.0, 1.0))
    ]


def test_exponents_of_exact_power_laws() -> None:
    table = exponents(made(power_law(0.5, 0.25, p=1.5) + power_law(1.0, 0.75, p=4.0)))
    assert table[["N", "L", "bias", "p"]].to_numpy().tolist() == [[8, 1, "zero", 1.5], [8, 1, "zero", 4.0]]
    np.testing.assert_allclose(table["value"], [0.5, 1.0], atol=1e-12)
    np.testing.assert_allclose(table["point"], [0.25, 0.75], atol=1e-12)
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    again = exponents(made(power_law(0.5, 0.25, p=1.5) + power_law(1.0, 0.75, p=4.0)))
    pd.testing.assert_frame_equal(again, table, check_exact=True)


def test_unlike_settings_are_never_fitted_together() -> None:
    rows = power_law(0.5, 0.5, method="auto") + power_law(1.0, 0.5, method="vertex-enumeration")
    table = exponents(made(rows))
    assert dict(zip(table["method"], table["value"].round(9), strict=True)) == {"auto": 0.5, "vertex-enumeration": 1.0}
    metrics = EXPERIMENT.study_metrics(made(rows))
    assert metrics["exponent_N8_L1_zero_p2_method_auto"] == pytest.approx(0.5)
    assert metrics["exponent_N8_L1_zero_p2_method_vertex-enumeration"] == pytest.approx(1.0)
    (summary,) = EXPERIMENT.summary_tables(made(rows))
    assert "method" in summary.columns
    assert {len(row) for row in summary.rows} == {len(summary.columns)}


@pytest.mark.parametrize("upper", [math.inf, 1e3])
def test_a_cell_with_open_intervals_is_not_fitted_but_counted(upper: float) -> None:
    rows = power_law(0.5, 0.5)
    rows[6] |= {"upper": upper, "status": "budget-spent"}  # d = 4, the draw of 2
    trials_table = made(rows)
    (row,) = exponents(trials_table).itertuples()
    assert math.isnan(row.value)
    assert (row.open, row.trials) == (1, 15)
    assert row.point == pytest.approx(0.5)
    # d = 4 is the middle size, of no weight in the slope: whatever its mean, the exponent is 1/2.
    assert (row.least, row.most) == (pytest.approx(0.5), pytest.approx(0.5))
    metrics = EXPERIMENT.study_metrics(trials_table)
    wanted = 1.0 if math.isinf(upper) else 1 - rows[6]["lower"] / upper
    assert metrics["largest_relative_gap"] == pytest.approx(wanted)
    assert metrics["open_trials"] == metrics["open_trials_N8_L1_zero_p2"] == 1.0
    assert "exponent_N8_L1_zero_p2" not in metrics
    (summary,) = EXPERIMENT.summary_tables(trials_table)
    assert [line[-1] for line in summary.rows] == ["1 of 15"]
    cell = trials_table[trials_table["d"] == 4]
    found = EXPERIMENT.cell_metrics(cell.iloc[0][list(LipschitzConfig.model_fields)].to_dict(), cell)
    assert found["censored_share"] == pytest.approx(1 / 5)
    assert found["open_trials"] == 1.0
    assert found["lipschitz_mean_lower"] == pytest.approx(np.mean([2, 4, 6, 4, 2]))
    assert found["lipschitz_mean_upper"] == pytest.approx(np.mean([2, upper, 6, 4, 2]))
    assert found["lipschitz_mean_ci_high"] >= found["lipschitz_mean_upper"]
    assert (found["status_exact"], found["status_budget-spent"], found["trials"]) == (4.0, 1.0, 5.0)
    assert (found["lipschitz_q50_lower"], found["lipschitz_q95_upper"]) == (4.0, max(upper, 6.0))


@pytest.mark.parametrize(
    ("lower", "upper", "least", "most", "text"),
    [
        (0.25, 2.0, -0.5, 1.0, "from -0.5 to 1"),
        (1.0, math.inf, 0.5, math.inf, "from 0.5"),
        (0.0, 1.0, -math.inf, 0.5, "up to 0.5"),
        (0.0, math.inf, -math.inf, math.inf, "not known"),
    ],
)
def test_open_intervals_leave_a_range_of_exponents(
    lower: float, upper: float, least: float, most: float, text: str
) -> None:
    """Constants d^(1/2); at d = 8 = 2 * 4 known up to the factors: the slope over d = 2, 8 moves by log_4 of them."""
    rows = [row for row in power_law(0.5, 0.5) if row["d"] != 4]
    for row in rows:
        if row["d"] == 8:
            row |= {"lower": lower * row["lower"], "upper": upper * row["lower"]}
    table = made(rows)
    (row,) = exponents(table).itertuples()
    assert (row.least, row.most) == (pytest.approx(least, abs=1e-12), pytest.approx(most))
    (summary,) = EXPERIMENT.summary_tables(table)
    (line,) = summary.rows
    assert (line[4], line[-1]) == (text, "5 of 10")
    assert "1 of 1 rows" in summary.notes[0]
    figure = EXPERIMENT.figures(table)["exponent_against_p"]
    assert "1 of 1 exponents are not known (5 of 10 trials open)" in figure.get_supxlabel()
    axes = EXPERIMENT.figures(table)["constant_against_dimension"].axes[0]
    assert "open: 5 of 10 trials" in axes.get_title()
    curve = np.asarray(axes.get_lines()[0].get_xydata(), dtype=float)
    np.testing.assert_allclose(curve[:, 1], [1.8 * math.sqrt(2), math.nan])  # no line runs through what is not known
    ends = [segment[:, 1] for bar in cast(Any, axes.collections) for segment in bar.get_segments()]
    if lower > 0 and upper < math.inf:
        assert [end.tolist() for end in ends] == [
            [pytest.approx(1.8 * lower * math.sqrt(8)), pytest.approx(1.8 * upper * math.sqrt(8))]
        ]
    else:
        assert len(ends) == (lower > 0) + (upper < math.inf)


def test_too_few_draws_are_shown_as_points_without_an_interval() -> None:
    rows = made([row for row in power_law(0.5, 0.5) if row["replicate"] < 3])
    (row,) = exponents(rows).itertuples()
    assert row.value == pytest.approx(0.5)
    assert math.isnan(row.low)
    metrics = EXPERIMENT.study_metrics(rows)
    assert not any("low" in name or "high" in name for name in metrics)
    (summary,) = EXPERIMENT.summary_tables(rows)
    assert "too few draws" in summary.rows[0][4]
    cell = rows[rows["d"] == 4]
    found = EXPERIMENT.cell_metrics(cell.iloc[0][list(LipschitzConfig.model_fields)].to_dict(), cell)
    assert not any(math.isnan(value) or "_ci_" in name for name, value in found.items())
    figures = EXPERIMENT.figures(rows)
    assert "1 of 1 exponents without an interval" in figures["exponent_against_p"].get_supxlabel()
    panel = figures["constant_against_dimension"].axes[0]
    drawn = [np.asarray(line.get_xydata()).tolist() for line in panel.get_lines()]
    assert rows[["d", "lower"]].to_numpy().tolist() in drawn


def test_one_dimension_gives_a_table_of_constants() -> None:
    rows = [row | {"lower": 0.0, "upper": 7.0} if k == 0 else row for k, row in enumerate(power_law(0.5, 0.5))]
    (summary,) = EXPERIMENT.summary_tables(made([row for row in rows if row["d"] == 2]))
    (line,) = summary.rows
    assert summary.columns[-3:] == ("Lipschitz", "gradient at a point", "open")
    low, high = 1.6 * math.sqrt(2), 1.6 * math.sqrt(2) + 7 / 5
    assert line[-3] == f"from {low:.3g} to {high:.3g}"
    assert line[-1] == "1 of 5"


def test_draws_that_are_all_flat_are_no_trouble() -> None:
    rows = [{**row, "lower": 0.0, "gradient_norm": 0.0} for row in power_law(0.5, 0.5)]
    table = made(rows)
    (row,) = exponents(table).itertuples()
    assert math.isnan(row.value)
    assert math.isnan(row.point)
    assert EXPERIMENT.study_metrics(table) == {"largest_relative_gap": 0.0, "open_trials": 0.0}
    assert all(EXPERIMENT.figures(table).values())
    cell = table[table["d"] == 2]
    found = EXPERIMENT.cell_metrics(cell.iloc[0][list(LipschitzConfig.model_fields)].to_dict(), cell)
    assert (found["lipschitz_mean_upper"], found["censored_share"]) == (0.0, 0.0)


def test_figures_show_what_was_measured() -> None:
    rows = frame(trials(replicates=6, fixed={"N": 8}, d=[2, 3], bias=["zero", "normal"], p=[1.0, 2.0, math.inf]))
    figures = EXPERIMENT.figures(rows)
    assert set(figures) == {"exponent_against_p", "constant_against_dimension", "global_over_pointwise"}
    table = exponents(rows)
    for axes, bias in zip(figures["exponent_against_p"].axes, ("normal", "zero"), strict=True):
        assert axes.get_title() == f"{bias} biases"
        drawn = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        kink = drawn["theory, Lipschitz constant"]
        assert isinstance(kink, Line2D)
        np.testing.assert_allclose(np.asarray(kink.get_xydata()), np.array([[0, 0.5], [0.5, 0.5], [1, 1]]))
        bars = axes.containers[0]
        assert isinstance(bars, ErrorbarContainer)
        fitted = np.asarray(bars.lines[0].get_ydata(), dtype=np.float64)
        np.testing.assert_allclose(fitted, table[table["bias"] == bias].sort_values("p")["value"].to_numpy(float))
    (summary,) = EXPERIMENT.summary_tables(rows)
    assert len(summary.rows) == len(table) == 6
    one = rows[rows["d"] == 2]
    assert set(EXPERIMENT.figures(one)) == {"global_over_pointwise"}


def test_many_kinds_of_network_still_make_a_figure() -> None:
    """More curves than colours and markers."""
    rows = [row for n in range(9) for row in power_law(0.5, 0.5, N=10 + n)]
    assert "exponent_against_p" in EXPERIMENT.figures(made(rows))


def test_the_drawn_law_has_the_predicted_pointwise_size() -> None:
    """d = N = 1 without biases: f = v relu(w x), |w|^2 / 2 and v standard normal: the constant is |v w|, whose mean is
    sqrt(2) * 2 / pi; 2000 draws of variance 2 - 8 / pi^2, within 5.5 standard errors but for a chance of 4e-8."""
    batch = trials(replicates=2000, fixed={"d": 1, "N": 1, "p": 2.0})
    measured = run(batch)
    values = np.array([row["lower"] for row in measured])
    mean, variance = math.sqrt(2) * 2 / math.pi, 2 - 8 / math.pi**2
    assert values.mean() == pytest.approx(mean, abs=5.5 * math.sqrt(variance / 2000))
    gradients = np.array([row["gradient_norm"] for row in measured])
    # The point is -1 or 1: the neuron is active on half of the draws, within 5.5 standard deviations.
    assert abs((gradients > 0).mean() - 0.5) < 5.5 * 0.5 / math.sqrt(2000)


def test_a_lower_bound_is_never_drawn_as_a_constant() -> None:
    """One dimension, deep networks: intervals from 0 or 8 to a thousand times more, gradients of mean 3."""
    rows = [
        {"d": 10, "N": 64, "L": depth, "replicate": k, "lower": lower, "upper": upper, "gradient_norm": 3.0}
        for depth, lower, upper in ((10, 9.0, 9e3), (18, 0.0, 3e9), (26, 0.0, math.inf))
        for k in range(5)
    ]
    (figure,) = EXPERIMENT.figures(made(rows)).values()
    (axes,) = figure.axes
    assert axes.get_title() == "zero biases\nopen: 15 of 15 trials"
    assert "15 of 15 trials are open" in figure.get_supxlabel().replace("\n", " ")
    assert "without a bar: 1" in figure.get_supxlabel().replace("\n", " ")
    curves = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    assert len(curves) == 3
    assert all(np.isnan(np.asarray(line.get_ydata(), dtype=float)).all() for line in curves)
    ends = [segment[:, 1].tolist() for bar in cast(Any, axes.collections) for segment in bar.get_segments()]
    assert ends[0] == [pytest.approx(3.0), pytest.approx(3e3)]
    assert ends[1][-1] == pytest.approx(1e9)  # an arrow down from the upper end: 0 is no end on this axis
    assert len(ends) == 2
