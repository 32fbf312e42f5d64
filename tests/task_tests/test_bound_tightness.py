"""Bounds over the constant: every method is there, on its side of 1, and intervals stay intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from solvers.errors import InputError
from solvers.registry import LIPSCHITZ_SOLVERS
from tasks.ensembles import draw_network
from tasks.experiment import Measurement, RunContext, Trial
from tasks.experiments.bound_tightness import (
    LOWER_BOUNDS,
    UPPER_BOUNDS,
    BoundTightness,
    TightnessConfig,
    tightness,
)
from tasks.sweeps import load_study, parse_study, trials_of
from tests.references.lp_enumeration import lipschitz_by_lp

EXPERIMENT = BoundTightness()
METHODS = UPPER_BOUNDS | LOWER_BOUNDS


def trials(replicates: int, fixed: dict[str, Any], **grid: list[Any]) -> list[Trial]:
    sweep = {"experiment": EXPERIMENT.name, "grid": grid, "fixed": fixed, "replicates": replicates}
    return list(trials_of(parse_study({"name": "t", "seed": 5, "sweeps": {"t": sweep}}, "t")))


def run(batch: list[Trial]) -> list[Measurement]:
    configs = [TightnessConfig.model_validate(t.params) for t in batch]
    return EXPERIMENT.run_batch(configs, [EXPERIMENT.streams(t) for t in batch], RunContext())


def frame(batch: list[Trial]) -> pd.DataFrame:
    rows = zip(batch, run(batch), strict=True)
    return pd.DataFrame([{**t.params, "replicate": t.replicate, **measured} for t, measured in rows])


def test_every_method_that_only_bounds_is_measured() -> None:
    one_sided = {name for name, solver in LIPSCHITZ_SOLVERS.items() if not solver.exact} - {"auto", "bounds"}
    assert set(METHODS.values()) == one_sided
    assert {"ascent", "sampling"} <= set(LOWER_BOUNDS.values())
    assert {"norm-product", "propagation", "semidefinite"} <= set(UPPER_BOUNDS.values())
    assert {*METHODS, *(f"{column}_seconds" for column in METHODS)} < set(EXPERIMENT.columns)


def test_bounds_lie_on_their_side_of_a_constant_from_linear_programs() -> None:
    batch = trials(2, {"d": 2, "bias": "normal"}, N=[6], p=[1.0, 2.0, math.inf])
    for t, row in zip(batch, run(batch), strict=True):
        config = TightnessConfig.model_validate(t.params)
        network = draw_network(2, [6], "normal", 1.0, EXPERIMENT.streams(t))
        problem_dual = math.inf if config.p == 1 else (1.0 if math.isinf(config.p) else 2.0)
        from solvers.problems.domains import WholeSpace

        truth = lipschitz_by_lp(network, WholeSpace(2), [problem_dual])[problem_dual]
        assert set(row) == set(EXPERIMENT.columns)
        assert row["status"] == "exact"
        assert row["lower"] == pytest.approx(truth, rel=1e-6)
        for column in UPPER_BOUNDS:
            assert float(row[column]) >= truth * (1 - 1e-9)
        for column in LOWER_BOUNDS:
            assert float(row[column]) <= truth * (1 + 1e-9)


def test_one_draw_stands_under_all_p() -> None:
    batch = trials(2, {"d": 2, "N": 4}, p=[1.0, 2.0, math.inf])
    streams = {(t.replicate, EXPERIMENT.streams(t).digest) for t in batch}
    assert len(streams) == 2


def made_up(**values: list[float]) -> pd.DataFrame:
    rows = {"d": [2, 2], "N": [8, 8], "L": [1, 1], "p": [2.0, 2.0], **values}
    other = {column: [math.inf, math.inf] for column in UPPER_BOUNDS if column not in values}
    other |= {column: [0.0, 0.0] for column in LOWER_BOUNDS if column not in values}
    seconds = {f"{column}_seconds": [0.1, 0.1] for column in METHODS}
    return pd.DataFrame({**rows, **other, **seconds})


def test_ratios_of_what_is_known_and_of_what_is_not() -> None:
    known = made_up(lower=[2.0, 4.0], upper=[2.0, 4.0], semidefinite=[3.0, 8.0], ascent=[1.0, 4.0])
    found = tightness(known, ["N"]).set_index("column")
    assert found.loc["semidefinite", ["low", "high"]].tolist() == [1.75, 1.75]
    assert found.loc["ascent", ["low", "high"]].tolist() == [0.75, 0.75]
    assert not found["open"].any()
    wide = made_up(lower=[2.0, 2.0], upper=[4.0, 4.0], semidefinite=[4.0, 4.0], ascent=[2.0, 2.0])
    found = tightness(wide, ["N"]).set_index("column")
    assert found.loc["semidefinite", ["low", "high"]].tolist() == [1.0, 2.0]
    assert found.loc["ascent", ["low", "high"]].tolist() == [0.5, 1.0]
    assert found["open"].all()
    zero = made_up(lower=[0.0, 0.0], upper=[0.0, 0.0], semidefinite=[0.0, 0.0], norm_product=[1.0, 1.0])
    found = tightness(zero, ["N"]).set_index("column")
    assert found.loc["semidefinite", ["low", "high"]].tolist() == [1.0, 1.0]
    assert math.isinf(found.loc["norm_product", "high"])


def test_tables_metrics_and_figures_of_a_small_study() -> None:
    rows = frame(trials(2, {"d": 2, "time_limit": 10.0}, N=[4, 6], L=[1, 2], p=[2.0, math.inf]))
    (table,) = EXPERIMENT.summary_tables(rows)
    assert len(table.rows) == 8
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert set(METHODS.values()) < set(table.columns)
    metrics = EXPERIMENT.cell_metrics({}, rows)
    assert metrics["trials"] == len(rows)
    assert metrics["semidefinite_ratio_most"] >= 1 - 1e-9
    assert metrics["ascent_ratio_least"] <= 1 + 1e-9
    figures = EXPERIMENT.figures(rows)
    assert set(figures) == {"tightness_against_N", "tightness_against_L"}
    for figure in figures.values():
        assert len(figure.axes) == 4
        drawn = [line.get_label() for line in figure.axes[0].get_lines()]
        assert set(METHODS.values()) <= set(drawn)


def test_open_intervals_are_drawn_as_bars_and_counted() -> None:
    wide = made_up(
        lower=[2.0, 2.0], upper=[4.0, 4.0], semidefinite=[4.0, 4.0], ascent=[2.0, 2.0], norm_product=[8.0, 8.0]
    )
    (figure,) = EXPERIMENT.figures(wide).values()
    (axes,) = figure.axes
    bars = [container for container in axes.containers if container.get_label() is not None]
    assert len(bars) >= 3
    drawn = [lines for container in bars for lines in getattr(container, "lines", [()] * 3)[2]]
    heights = [segment[:, 1] for lines in drawn for segment in lines.get_segments()]
    assert any(np.allclose(sorted(height), [1.0, 2.0]) for height in heights)
    assert any(np.allclose(sorted(height), [2.0, 4.0]) for height in heights)
    note = figure._supxlabel  # type: ignore[attr-defined]
    assert "2 of 2 constants are known up to an interval" in note.get_text().replace("\n", " ")


def test_the_shipped_study_is_planned() -> None:
    study = load_study("bound-tightness")
    planned = list(trials_of(study))
    assert len(planned) == 10 * 2 * 4 * 3 * 3 + 5 * 2 * 4 * 2 + 5 * 2 * 2 * 2 * 3
    for t in planned:
        EXPERIMENT.check(TightnessConfig.model_validate(t.params), RunContext())


def test_an_unknown_law_is_refused() -> None:
    with pytest.raises((InputError, ValueError), match="unknown bias law"):
        TightnessConfig(d=2, N=3, bias="gamma")
