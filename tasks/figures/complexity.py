"""Figures of the complexity experiment, from measurements alone."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.figures.axes import COLOURS, MARKERS, grid_figure, say_below, style

__all__ = ["size_figures"]

MOST_PANELS = 4
NEEDED = (
    ("worst_case_neurons", "worst case: N neurons", "0.35", ":", None),
    ("needed_first_layer", "first layer, needed", COLOURS[0], "-", "o"),
    ("first_layer", "first layer, order of the theorem", COLOURS[0], "--", "v"),
    ("needed_second_layer", "second layer, needed", COLOURS[1], "-", "s"),
    ("second_layer", "second layer, theorem", COLOURS[1], "--", "D"),
)


def size_figures(questions: Sequence[tuple[str, pd.DataFrame]]) -> dict[str, Figure]:
    """Balls of the covering against the number of points; needed widths beside the theorem's, where looked for.

    Args:
        questions: trials that differ in samples and replicate alone, with the name that they go by.
    """
    grown = [(name, part) for name, part in questions if part["points"].nunique() > 1]
    found = {}
    if grown:
        figure, axes = grid_figure(1, 1, width=6.4, height=4.4)
        _balls(axes[0, 0], grown)
        found["complexity_against_samples"] = figure
    needed = [(name, part) for name, part in grown if part["needed_first_layer"].notna().any()]
    if needed:
        shown = needed[:MOST_PANELS]
        figure, axes = grid_figure(1, len(shown), width=4.8, height=4.2)
        for column, (name, part) in enumerate(shown):
            _widths(axes[0, column], name, part)
        axes[0, 0].legend(fontsize=8, frameon=False)
        if len(needed) > len(shown):
            say_below(figure, [f"the first {len(shown)} of {len(needed)} questions"])
        found["complexity_and_needed_widths"] = figure
    return found


def _balls(axes: Axes, grown: Sequence[tuple[str, pd.DataFrame]]) -> None:
    points = sorted(pd.concat([part["points"] for _, part in grown]).unique())
    axes.plot([points[0], points[-1]], [points[0], points[-1]], ":", color="0.35", label="one ball a point")
    for k, (name, part) in enumerate(grown):
        balls = part.groupby("points")["balls"].agg(["mean", "min", "max"]).reset_index()
        spread = [balls["mean"] - balls["min"], balls["max"] - balls["mean"]]
        axes.errorbar(
            balls["points"], balls["mean"], yerr=spread, fmt=MARKERS[k % len(MARKERS)] + "-",
            color=COLOURS[k % len(COLOURS)], capsize=2, markersize=5, linewidth=1.2, label=name,
        )  # fmt: skip
    _logarithmic(axes)
    style(axes, "Mutual covering: flat where the structure is simple", "points N", "balls of all classes")
    axes.legend(fontsize=8, frameon=False)


def _widths(axes: Axes, name: str, part: pd.DataFrame) -> None:
    for column, label, colour, line, marker in NEEDED:
        means = part.groupby("points")[column].mean().dropna()
        axes.plot(means.index, means, line, color=colour, marker=marker, markersize=5, linewidth=1.2, label=label)
    _logarithmic(axes)
    style(axes, name, "points N", "neurons")


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
