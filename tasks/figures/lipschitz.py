"""Figures of the Lipschitz experiments, from measurements alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from solvers.arithmetic.norms import FloatArray, exponent_label
from tasks.figures.axes import COLOURS, MARKERS, draw_intervals, grid_figure, say_below, set_log_scale, style
from tasks.statistics import INTERVAL, LEAST_DRAWS, open_intervals

__all__ = ["lipschitz_figures"]

CELL = ("bias", "N", "L", "d", "p")
# Ratios that differ by more than this stand on a logarithmic axis.
WIDE = 50.0
# An error bar without an end leaves every axis of exponents.
LONG = 1e3


def lipschitz_figures(trials: pd.DataFrame, exponents: pd.DataFrame, variants: Sequence[str] = ()) -> dict[str, Figure]:
    """Exponent against p, constants against d, and global over pointwise, whichever the trials allow.

    Args:
        trials: one row per trial.
        exponents: one row per fit (`tasks.experiments.lipschitz_monte_carlo.exponents`).
        variants: further parameters that vary, and so get curves of their own.
    """
    found = {}
    if trials["d"].nunique() > 1:
        found["exponent_against_p"] = _exponent_against_p(exponents, variants)
    if trials["d"].nunique() > 1:
        found["constant_against_dimension"] = _constant_against_dimension(trials, variants)
    found["global_over_pointwise"] = _ratio(trials, variants)
    return found


def _settings(names: Sequence[str], values: Sequence[object]) -> str:
    """`, method = auto`: what tells a curve from its neighbours."""
    return "".join(f", {name.replace('_', ' ')} = {value}" for name, value in zip(names, values, strict=True))


def _label(p: float) -> str:
    return exponent_label(float(p)).replace("inf", "∞")


def _inverse(p: float) -> float:
    return 0.0 if math.isinf(p) else 1 / p


def _exponent_axis(axes: Axes, exponents_shown: list[float]) -> None:
    """1 - 1/p from 0 (p = 1) to 1 (p = inf): theory is piecewise linear there; ticks carry the p themselves."""
    axes.set_xticks([1 - _inverse(p) for p in exponents_shown])
    axes.set_xticklabels([_label(p) for p in exponents_shown])
    axes.set_xlim(-0.04, 1.04)


def _exponent_against_p(exponents: pd.DataFrame, variants: Sequence[str]) -> Figure:
    biases = sorted(exponents["bias"].unique())
    figure, axes = grid_figure(1, len(biases), width=5.2, height=4.2, sharey=True)
    shown = sorted(exponents["p"].unique())
    kink = np.array([0.0, 0.5, 1.0])
    unbounded = 0
    for column, bias in enumerate(biases):
        ax = axes[0, column]
        ax.plot(kink, np.maximum(kink, 0.5), color="0.25", linewidth=1.6, label="theory, Lipschitz constant")
        ax.plot(kink, kink, color="0.25", linewidth=1.2, linestyle=":", label="theory, gradient at a point")
        part = exponents[exponents["bias"] == bias]
        for k, ((n, depth, *rest), group) in enumerate(part.groupby(["N", "L", *variants])):
            colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
            group = group.sort_values("p")
            x = 1 - group["p"].map(_inverse).to_numpy() + 0.008 * (k - 0.5)
            name = f"N = {n}{f', L = {depth}' if depth > 1 else ''}{_settings(variants, rest)}"
            for value, face, what in (("value", colour, "Lipschitz"), ("point", "white", "pointwise")):
                low, high = ("low", "high") if value == "value" else ("point_low", "point_high")
                spread = np.abs(np.stack([group[value] - group[low], group[high] - group[value]]))
                ax.errorbar(
                    x, group[value], yerr=_drawable(spread), fmt=marker, color=colour, markerfacecolor=face,
                    capsize=2, markersize=5, linewidth=1, label=f"{what}, {name}",
                )  # fmt: skip
            unknown = group["value"].isna().to_numpy()
            least, most = group["least"][unknown], group["most"][unknown]
            unbounded += draw_intervals(ax, x[unknown], least, most, [True] * len(least), {"color": colour})
        ax.axvline(0.5, color="0.85", linewidth=1, zorder=0)
        style(ax, f"{bias} biases", "p", "fitted exponent of d" if column == 0 else "")
        _exponent_axis(ax, shown)
    axes[0, -1].legend(fontsize=8, frameon=False, loc="upper left")
    figure.suptitle("How the Lipschitz constant of random networks grows with the input dimension d", fontsize=12)
    known = exponents["value"].notna() & exponents["low"].notna()
    notes = [f"bars: {INTERVAL}s"] if known.any() else []
    few = int((exponents["value"].notna() & exponents["low"].isna()).sum())
    if few:
        notes.append(f"{few} of {len(exponents)} exponents without an interval: fewer than {LEAST_DRAWS} draws a size")
    still_open = int(exponents["value"].isna().sum())
    if still_open:
        notes.append(
            f"{still_open} of {len(exponents)} exponents are not known ({_counted(exponents)}): thick bars are what "
            f"the intervals leave open; without a bound on either side, and so without a bar: {unbounded}"
        )
    say_below(figure, notes)
    return figure


def _counted(exponents: pd.DataFrame) -> str:
    return f"{int(exponents['open'].sum())} of {int(exponents['trials'].sum())} trials open"


def _drawable(spread: FloatArray) -> FloatArray:
    """Lengths of error bars: none where there is no interval, a long one where it has no end."""
    return np.where(np.isinf(spread), LONG, np.nan_to_num(spread, nan=0.0, posinf=LONG))


def _constant_against_dimension(trials: pd.DataFrame, variants: Sequence[str]) -> Figure:
    cells = list(trials.groupby(["bias", "N", "L", *variants]))
    columns = min(len(cells), 4)
    figure, axes = grid_figure(-(-len(cells) // columns), columns, width=3.8, height=3.4, sharex=True, sharey=True)
    for ax in axes.flat[len(cells) :]:
        ax.set_visible(False)
    unbounded = 0
    for place, ((bias, n, depth, *rest), part) in enumerate(cells):
        ax = axes.flat[place]
        ax.set_xscale("log")
        logarithmic = set_log_scale(ax, trials["lower"], trials["upper"], trials["gradient_norm"])
        for k, (p, group) in enumerate(part.groupby("p")):
            means = _means(group, "d")
            colour = COLOURS[k % len(COLOURS)]
            look = {"color": colour, "marker": MARKERS[k % len(MARKERS)], "label": f"p = {_label(p)}"}
            unbounded += draw_intervals(ax, means.index, means["lower"], means["upper"], means["open"] > 0, look)
            few = group[group.groupby("d")["lower"].transform("size") < LEAST_DRAWS]
            draws = few[~open_intervals(few["lower"], few["upper"])] if len(few) else few
            ax.plot(draws["d"], draws["lower"], ".", color=colour, markersize=3)
            drawn = means["gradient_norm"].where(means["gradient_norm"] > 0)
            ax.plot(means.index, drawn, color=colour, linestyle=":", linewidth=1)
        sizes = sorted(part["d"].unique())
        ax.set_xticks(sizes, [str(d) for d in sizes])
        ax.minorticks_off()
        if logarithmic:
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        depth_text = f", L = {depth}" if depth > 1 else ""
        style(
            ax,
            f"{bias} biases, N = {n}{depth_text}{_settings(variants, rest)}{_open_line(part)}",
            "input dimension d",
            "mean constant" if place % columns == 0 else "",
        )
    lines, names = axes.flat[0].get_legend_handles_labels()
    title = "solid: Lipschitz\nthick: open interval\ndotted: at a point"
    figure.legend(
        lines, names, loc="outside right center", fontsize=8, frameon=False, title=title, title_fontsize=8, reverse=True
    )
    notes = _open_notes(trials, unbounded)
    if trials.groupby([*CELL, *variants]).size().min() < LEAST_DRAWS:
        notes.append(f"small dots: the draws of cells with fewer than {LEAST_DRAWS}")
    say_below(figure, notes)
    return figure


def _ratio(trials: pd.DataFrame, variants: Sequence[str]) -> Figure:
    biases = sorted(trials["bias"].unique())
    figure, axes = grid_figure(1, len(biases), width=4.8, height=3.8, sharey=True)
    shown = sorted(trials["p"].unique())
    unbounded = flat = 0
    ratios = [_means(group, "d") for _, group in trials.groupby([*CELL, *variants])]
    ends = np.concatenate([table[end] / table["gradient_norm"] for table in ratios for end in ("lower", "upper")])
    ends = ends[np.isfinite(ends) & (ends > 0)]
    wide = len(ends) > 0 and ends.max() > WIDE * ends.min()
    for column, bias in enumerate(biases):
        ax = axes[0, column]
        if wide:
            set_log_scale(ax, ends)
        part = trials[trials["bias"] == bias]
        several = [name for name in ("L", *variants) if trials[name].nunique() > 1]
        curves = list(part.groupby(["N", "d", *several]))
        for k, ((n, d, *rest), group) in enumerate(curves):
            means = _means(group, "p")
            # Colours tell d and markers N; where more varies, colours and markers in turn.
            colour = k if several else sorted(part["d"].unique()).index(d)
            marker = k if several else sorted(part["N"].unique()).index(n)
            look = {
                "color": COLOURS[colour % len(COLOURS)],
                "marker": MARKERS[marker % len(MARKERS)],
                "label": f"d = {d}, N = {n}{_settings(several, rest)}",
            }
            flat += int((means["gradient_norm"] == 0).sum())
            means = means[means["gradient_norm"] > 0]
            # Bars at one p stand beside each other.
            shift = 0.05 * ((k + 0.5) / len(curves) - 0.5)
            places = [1 - _inverse(float(p)) + shift for p in means.index]
            low, high = means["lower"] / means["gradient_norm"], means["upper"] / means["gradient_norm"]
            unbounded += draw_intervals(ax, places, low, high, means["open"] > 0, look)
        style(
            ax,
            f"{bias} biases{_open_line(part)}",
            "p",
            "mean Lipschitz constant / mean gradient norm" if column == 0 else "",
        )
        _exponent_axis(ax, shown)
    axes[0, -1].legend(fontsize=7, frameon=False, ncols=2)
    notes = _open_notes(trials, unbounded)
    if flat:
        notes.append(f"{flat} cells have no ratio: their gradients at a point are all 0")
    say_below(figure, notes)
    return figure


def _means(group: pd.DataFrame, key: str) -> pd.DataFrame:
    """Mean ends, mean gradient and the number of open intervals for every value of a parameter."""
    marked = group.assign(open=open_intervals(group["lower"], group["upper"]))
    return marked.groupby(key).agg(
        lower=("lower", "mean"), upper=("upper", "mean"), gradient_norm=("gradient_norm", "mean"), open=("open", "sum")
    )


def _open_line(part: pd.DataFrame) -> str:
    """A second line of a title that counts open intervals; nothing where there are none."""
    count = int(open_intervals(part["lower"], part["upper"]).sum())
    return f"\nopen: {count} of {len(part)} trials" if count else ""


def _open_notes(trials: pd.DataFrame, unbounded: int) -> list[str]:
    count = int(open_intervals(trials["lower"], trials["upper"]).sum())
    if not count:
        return []
    bars = (
        f"{count} of {len(trials)} trials are open intervals: a thick bar reaches from the mean lower to the mean upper"
    )
    return [bars + (f" bound; cells with neither, and so without a bar: {unbounded}" if unbounded else " bound")]
