"""Figures of the experiment on memorizing ReLU networks, from measurements alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tasks.figures.axes import COLOURS, MARKERS, grid_figure, style

__all__ = ["robustness_figures"]


def robustness_figures(questions: Sequence[tuple[str, pd.DataFrame]]) -> dict[str, Figure]:
    """Per data set: share that interpolates, Lipschitz constant and proved radius against width, a curve per bias.

    The constant's bar reaches from the mean of the lower to the mean of the upper bounds of the networks that
    interpolate; the radius is their median.
    """
    found = {}
    for name, part in questions:
        figure, axes = grid_figure(1, 3, width=4.6, height=4.0)
        for k, (bias, curve) in enumerate(part.groupby("max_bias")):
            look = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)], "label": f"λ = {bias:g}"}
            shares = curve.groupby("width")["interpolates"].mean()
            axes[0, 0].plot(shares.index, shares.astype(float), markersize=5, linewidth=1.2, **look)
            fitting = curve[curve["interpolates"].astype(bool)].groupby("width")
            low, high = fitting["lower"].mean(), fitting["upper"].mean()
            # An interval without an upper end is drawn as an arrow.
            open_ended = np.isinf(high)
            spread = [np.zeros(len(low)), np.where(open_ended, 0.0, high.where(~open_ended, low) - low)]
            axes[0, 1].errorbar(
                low.index, low, yerr=spread, lolims=open_ended.to_numpy(), capsize=3, markersize=5, linewidth=1.2,
                **look,
            )  # fmt: skip
            radius = fitting["proved_radius"].median()
            axes[0, 2].plot(radius.index, radius, markersize=5, linewidth=1.2, **look)
        style(axes[0, 0], f"{name}: share that interpolates", "first-layer width n", "")
        style(axes[0, 1], "Lipschitz constant, lower to upper bound", "first-layer width n", "")
        style(axes[0, 2], "proved radius: margin / constant", "first-layer width n", "")
        widths = sorted(part["width"].unique().tolist())
        axes[0, 0].set_ylim(-0.03, 1.03)
        for one in axes[0]:
            one.set_xscale("log", base=2)
            one.set_xticks(widths, [str(width) for width in widths])
        for one in axes[0, 1:]:
            if one.has_data():
                one.set_yscale("log")
        axes[0, 0].legend(fontsize=8, frameon=False)
        found[f"memorizer_robustness_{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}"] = figure
    return found
