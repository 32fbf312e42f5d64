"""Figure of the bound-tightness experiment: bounds over the constant, a line for each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from solvers.arithmetic.norms import exponent_label
from tasks.figures.axes import COLOURS, MARKERS, draw_intervals, grid_figure, say_below, set_log_scale, style
from tasks.statistics import open_intervals

__all__ = ["tightness_figures"]

AXES = {"N": "neurons per hidden layer, N", "L": "hidden layers, L"}


def tightness_figures(
    trials: pd.DataFrame,
    tightness: Callable[[pd.DataFrame, Sequence[str]], pd.DataFrame],
    variants: Sequence[str],
    methods: Mapping[str, str],
) -> dict[str, Figure]:
    """Ratios against N and against L, whichever varies (against N where none does).

    Args:
        trials: one row per trial.
        tightness: medians of ratios by keys (`tasks.experiments.bound_tightness.tightness`).
        variants: further parameters that vary, and so get panels of their own.
        methods: column -> name of the bound.
    """
    shown = [axis for axis in AXES if trials[axis].nunique() > 1] or ["N"]
    return {f"tightness_against_{axis}": _figure(trials, tightness, axis, variants, methods) for axis in shown}


def _figure(
    trials: pd.DataFrame,
    tightness: Callable[[pd.DataFrame, Sequence[str]], pd.DataFrame],
    axis: str,
    variants: Sequence[str],
    methods: Mapping[str, str],
) -> Figure:
    other = "L" if axis == "N" else "N"
    panels = list(trials.groupby(["d", other, *variants]))
    exponents = sorted(trials["p"].unique())
    figure, axes = grid_figure(len(exponents), len(panels), width=3.7, height=3.1, sharex=True, sharey="row")
    columns = [column for column in methods if column in trials]
    unbounded = 0
    for row, p in enumerate(exponents):
        for place, ((d, value, *rest), part) in enumerate(panels):
            ax = axes[row, place]
            ax.set_xscale("log")
            ratios = tightness(part[part["p"] == p], [axis])
            set_log_scale(ax, ratios["low"], ratios["high"])
            ax.axhline(1, color="0.25", linewidth=1)
            for k, column in enumerate(columns):
                line = ratios[ratios["column"] == column].sort_values(axis)
                look = {
                    "color": COLOURS[k % len(COLOURS)],
                    "marker": MARKERS[k % len(MARKERS)],
                    "label": methods[column],
                }
                # Bars of several methods at one size stand beside each other.
                places = line[axis] * 1.05 ** (k - (len(columns) - 1) / 2)
                unbounded += draw_intervals(ax, places, line["low"], line["high"], line["open"], look)
            sizes = sorted(trials[axis].unique())
            ax.set_xticks(sizes, [str(size) for size in sizes])
            ax.minorticks_off()
            if ax.get_yscale() == "log":
                ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                ax.yaxis.set_minor_formatter(NullFormatter())
            ax.yaxis.set_major_formatter("{x:g}")
            settings = "".join(f", {name} = {word}" for name, word in zip(variants, rest, strict=True))
            title = f"p = {exponent_label(float(p)).replace('inf', '∞')}, d = {d}, {other} = {value}{settings}"
            style(ax, title, AXES[axis] if row == len(exponents) - 1 else "", "" if place else "bound / constant")
    lines, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside right center", fontsize=8, frameon=False)
    count = int(open_intervals(trials["lower"], trials["upper"]).sum())
    notes = ["medians over the draws; above the line at 1: upper bounds, below: lower bounds"]
    if count:
        notes.append(
            f"{count} of {len(trials)} constants are known up to an interval alone: a thick bar reaches from the bound "
            f"over its upper end to the bound over its lower end; without either, and so without a bar: {unbounded}"
        )
    say_below(figure, notes)
    return figure
