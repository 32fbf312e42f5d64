"""Figures of the experiment on memorizing ReLU networks, from measurements alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from tasks.figures.axes import COLOURS, MARKERS, draw_intervals, grid_figure, say_below, set_log_scale, style
from tasks.statistics import open_intervals

__all__ = ["robustness_figures"]


def robustness_figures(questions: Sequence[tuple[str, pd.DataFrame]]) -> dict[str, Figure]:
    """Per data set: share that interpolates, Lipschitz constant and proved radius against width, a curve per bias.

    Constants and radii are those of the networks that interpolate: the mean constant, where intervals are open a bar
    from the mean of the lower to the mean of the upper bounds; the median radius.
    """
    found = {}
    for name, part in questions:
        figure, axes = grid_figure(1, 3, width=4.6, height=4.0)
        set_log_scale(axes[0, 1], part["lower"], part["upper"])
        still_open = asked = unbounded = 0
        for k, (bias, curve) in enumerate(part.groupby("max_bias")):
            look = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)], "label": f"λ = {bias:g}"}
            shares = curve.groupby("width")["interpolates"].mean()
            axes[0, 0].plot(shares.index, shares.astype(float), markersize=5, linewidth=1.2, **look)
            fitting = curve[curve["interpolates"].astype(bool)]
            fitting = fitting.assign(open=open_intervals(fitting["lower"], fitting["upper"]) if len(fitting) else [])
            means = fitting.groupby("width").agg(low=("lower", "mean"), high=("upper", "mean"), open=("open", "sum"))
            still_open, asked = still_open + int(means["open"].sum()), asked + len(fitting)
            unbounded += draw_intervals(axes[0, 1], means.index, means["low"], means["high"], means["open"] > 0, look)
            radius = fitting.groupby("width")["proved_radius"].median()
            axes[0, 2].plot(radius.index, radius, markersize=5, linewidth=1.2, **look)
        style(axes[0, 0], f"{name}: share that interpolates", "first-layer width n", "")
        style(axes[0, 1], "Lipschitz constant, lower to upper bound", "first-layer width n", "")
        style(axes[0, 2], "proved radius: margin / constant", "first-layer width n", "")
        widths = sorted(part["width"].unique().tolist())
        axes[0, 0].set_ylim(-0.03, 1.03)
        for one in axes[0]:
            one.set_xscale("log", base=2)
            one.set_xticks(widths, [str(width) for width in widths])
        if axes[0, 2].has_data():
            set_log_scale(axes[0, 2], part["proved_radius"])
        notes = [f"constants and radii: of the {asked} of {len(part)} networks that interpolate"]
        if still_open:
            notes.append(
                f"{still_open} of {asked} constants are open intervals: a thick bar reaches from the mean lower to the "
                f"mean upper bound; without either, and so without a bar: {unbounded}"
            )
        say_below(figure, notes)
        axes[0, 0].legend(fontsize=8, frameon=False)
        found[f"memorizer_robustness_{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}"] = figure
    return found
