"""Figures of the Lipschitz experiments, from measurements alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from solvers.arithmetic.norms import exponent_label
from tasks.figures.axes import COLOURS, MARKERS, grid_figure, style

__all__ = ["lipschitz_figures"]


def lipschitz_figures(trials: pd.DataFrame, exponents: pd.DataFrame, variants: Sequence[str] = ()) -> dict[str, Figure]:
    """Exponent against p, constants against d, and global over pointwise, whichever the trials allow.

    Args:
        trials: one row per trial.
        exponents: one row per fit (`tasks.experiments.lipschitz_monte_carlo.exponents`).
        variants: further parameters that vary, and so get curves of their own.
    """
    found = {}
    if len(exponents):
        found["exponent_against_p"] = _exponent_against_p(exponents, variants)
    if trials["d"].nunique() > 1:
        found["constant_against_dimension"] = _constant_against_dimension(trials, variants)
    found["global_over_pointwise"] = _ratio(trials, variants)
    return found


def _settings(names: Sequence[str], values: Sequence[object]) -> str:
    """`, method = auto`: what tells a curve from its neighbours."""
    return "".join(f", {name.replace('_', ' ')} = {value}" for name, value in zip(names, values, strict=True))


def _inverse(p: float) -> float:
    return 0.0 if math.isinf(p) else 1 / p


def _exponent_axis(axes: Axes, exponents_shown: list[float]) -> None:
    """1 - 1/p from 0 (p = 1) to 1 (p = inf): theory is piecewise linear there; ticks carry the p themselves."""
    axes.set_xticks([1 - _inverse(p) for p in exponents_shown])
    axes.set_xticklabels([exponent_label(p).replace("inf", "∞") for p in exponents_shown])
    axes.set_xlim(-0.04, 1.04)


def _exponent_against_p(exponents: pd.DataFrame, variants: Sequence[str]) -> Figure:
    biases = sorted(exponents["bias"].unique())
    figure, axes = grid_figure(1, len(biases), width=5.2, height=4.2, sharey=True)
    shown = sorted(exponents["p"].unique())
    kink = np.array([0.0, 0.5, 1.0])
    for column, bias in enumerate(biases):
        ax = axes[0, column]
        ax.plot(kink, np.maximum(kink, 0.5), color="0.25", linewidth=1.6, label="theory, Lipschitz constant")
        ax.plot(kink, kink, color="0.25", linewidth=1.2, linestyle=":", label="theory, gradient at a point")
        part = exponents[exponents["bias"] == bias]
        for k, ((n, depth, *rest), group) in enumerate(part.groupby(["N", "L", *variants])):
            colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
            group = group.sort_values("p")
            x = 1 - group["p"].map(_inverse).to_numpy() + 0.008 * (k - 0.5)
            for name, face, what in (("value", colour, "Lipschitz"), ("point", "white", "pointwise")):
                low, high = ("low", "high") if name == "value" else ("point_low", "point_high")
                spread = np.abs(np.stack([group[name] - group[low], group[high] - group[name]]))
                layers = f", L = {depth}" if depth > 1 else ""
                ax.errorbar(
                    x, group[name], yerr=spread, fmt=marker, color=colour, markerfacecolor=face,
                    capsize=2, markersize=5, linewidth=1, label=f"{what}, N = {n}{layers}{_settings(variants, rest)}",
                )  # fmt: skip
        ax.axvline(0.5, color="0.85", linewidth=1, zorder=0)
        style(ax, f"{bias} biases", "p", "fitted exponent of d (95 % interval)" if column == 0 else "")
        _exponent_axis(ax, shown)
    axes[0, -1].legend(fontsize=8, frameon=False, loc="upper left")
    figure.suptitle("How the Lipschitz constant of random networks grows with the input dimension d", fontsize=12)
    return figure


def _constant_against_dimension(trials: pd.DataFrame, variants: Sequence[str]) -> Figure:
    cells = list(trials.groupby(["bias", "N", "L", *variants]))
    columns = min(len(cells), 4)
    figure, axes = grid_figure(-(-len(cells) // columns), columns, width=3.8, height=3.4, sharex=True, sharey=True)
    for ax in axes.flat[len(cells) :]:
        ax.set_visible(False)
    for place, ((bias, n, depth, *rest), part) in enumerate(cells):
        ax = axes.flat[place]
        for k, (p, group) in enumerate(part.groupby("p")):
            means = group.groupby("d")[["lower", "upper", "gradient_norm"]].mean()
            label = exponent_label(float(p)).replace("inf", "∞")
            colour = COLOURS[k % len(COLOURS)]
            ax.plot(means.index, means["lower"], marker=MARKERS[k % len(MARKERS)], color=colour, label=f"p = {label}",
                    markersize=4)  # fmt: skip
            finite = np.isfinite(means["upper"])
            ax.fill_between(
                means.index[finite], means["lower"][finite], means["upper"][finite], color=colour, alpha=0.2
            )
            ax.plot(means.index, means["gradient_norm"], color=colour, linestyle=":", linewidth=1)
        ax.set_xscale("log")
        ax.set_yscale("log")
        sizes = sorted(part["d"].unique())
        ax.set_xticks(sizes, [str(d) for d in sizes])
        ax.minorticks_off()
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        depth_text = f", L = {depth}" if depth > 1 else ""
        style(
            ax,
            f"{bias} biases, N = {n}{depth_text}{_settings(variants, rest)}",
            "input dimension d",
            "mean constant" if place % columns == 0 else "",
        )
    lines, names = axes.flat[0].get_legend_handles_labels()
    title = "solid: Lipschitz\ndotted: at a point"
    figure.legend(
        lines, names, loc="outside right center", fontsize=8, frameon=False, title=title, title_fontsize=8, reverse=True
    )
    return figure


def _ratio(trials: pd.DataFrame, variants: Sequence[str]) -> Figure:
    biases = sorted(trials["bias"].unique())
    figure, axes = grid_figure(1, len(biases), width=4.8, height=3.8, sharey=True)
    shown = sorted(trials["p"].unique())
    for column, bias in enumerate(biases):
        ax = axes[0, column]
        part = trials[trials["bias"] == bias]
        several = [name for name in ("L", *variants) if trials[name].nunique() > 1]
        for (n, d, *rest), group in part.groupby(["N", "d", *several]):
            means = group.groupby("p")[["lower", "gradient_norm"]].mean()
            sizes = sorted(part["d"].unique())
            ax.plot(
                [1 - _inverse(float(p)) for p in means.index],
                means["lower"] / means["gradient_norm"],
                color=COLOURS[sizes.index(d) % len(COLOURS)],
                marker=MARKERS[sorted(part["N"].unique()).index(n) % len(MARKERS)],
                linewidth=1, markersize=4, label=f"d = {d}, N = {n}{_settings(several, rest)}",
            )  # fmt: skip
        style(ax, f"{bias} biases", "p", "mean Lipschitz constant / mean gradient norm" if column == 0 else "")
        _exponent_axis(ax, shown)
    axes[0, -1].legend(fontsize=7, frameon=False, ncols=2)
    return figure
