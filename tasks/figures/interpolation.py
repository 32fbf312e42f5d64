"""Heat maps and curves of the interpolation experiment, from measurements alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.figures.axes import COLOURS, MARKERS, grid_figure, say_below, style
from tasks.statistics import varying

__all__ = ["heat_maps", "size_curves", "size_search_curve"]

# Beyond this many cells the numbers in them would not be readable.
MOST_WRITTEN = 120
# Labels on an axis; of more values every second, third, ... is named.
MOST_TICKS = 14
MOST_CURVES = 12
SYMBOLS = {"width": "n", "max_bias": "λ"}


def heat_maps(questions: Sequence[tuple[str, pd.DataFrame]]) -> dict[str, Figure]:
    """Per data set: interpolation probability and mean second-layer width over width and maximal bias.

    Args:
        questions: trials that differ in width, maximal bias and replicate alone, with the name that they go by.
    """
    found = {}
    for data, part in questions:
        figure, axes = grid_figure(1, 2, width=5.4, height=4.2)
        shares = part.pivot_table(index="max_bias", columns="width", values="interpolates", aggfunc="mean")
        widths = part.pivot_table(index="max_bias", columns="width", values="second_layer_width", aggfunc="mean")
        restarts = int(part.groupby(["max_bias", "width"]).size().min())
        _panel(
            figure,
            axes[0, 0],
            shares.astype(float),
            f"{data}: share of {restarts} restarts that interpolate",
            (0.0, 1.0),
        )
        _panel(figure, axes[0, 1], widths, f"{data}: mean second-layer width", None)
        found[f"interpolation_{re.sub(r'[^A-Za-z0-9]+', '_', data).strip('_')}"] = figure
    return found


def size_curves(trials: pd.DataFrame, variants: Sequence[str]) -> dict[str, Figure]:
    """Per kind of data that comes in several sizes: neurons and share of successes against the number of samples.

    Args:
        trials: with `data` like moons:1000; a kind is the name without its first number.
        variants: columns beside width and maximal bias that must not be mixed in one curve.
    """
    kinds = trials["data"].str.replace(r"^([^:.]+)(:[^,]*)?", r"\1", regex=True)
    found = {}
    for kind, part in trials.groupby(kinds):
        if part["points"].nunique() < 2:
            continue
        figure, axes = grid_figure(1, 2, width=5.2, height=4.2)
        keys = varying(part, ["width", "max_bias", *variants])
        curves = list(part.groupby(keys, dropna=False)) if keys else [((), part)]
        for k, (values, curve) in enumerate(curves[:MOST_CURVES]):
            words = [f"{SYMBOLS.get(name, name)} = {value}" for name, value in zip(keys, values, strict=True)]
            look = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)], "label": ", ".join(words)}
            sizes = curve.groupby("points")["second_layer_width"].agg(["mean", "min", "max"])
            spread = [sizes["mean"] - sizes["min"], sizes["max"] - sizes["mean"]]
            axes[0, 0].errorbar(sizes.index, sizes["mean"], yerr=spread, capsize=2, markersize=5, linewidth=1.2, **look)
            shares = curve.groupby("points")["interpolates"].mean()
            axes[0, 1].plot(shares.index, shares.astype(float), markersize=5, linewidth=1.2, **look)
        style(axes[0, 0], f"{kind}: neurons of the second layers", "samples N", "mean, least and most of the restarts")
        style(axes[0, 1], f"{kind}: share of restarts that interpolate", "samples N", "")
        axes[0, 1].set_ylim(-0.03, 1.03)
        for one in axes[0]:
            one.set_xscale("log")
        axes[0, 0].set_yscale("symlog", linthresh=1.0)
        if keys:
            axes[0, 1].legend(fontsize=7, frameon=False)
        if len(curves) > MOST_CURVES:
            say_below(figure, [f"the first {MOST_CURVES} of {len(curves)} curves"])
        found[f"interpolation_sizes_{re.sub(r'[^A-Za-z0-9]+', '_', str(kind)).strip('_')}"] = figure
    return found


def size_search_curve(cells: Sequence[tuple[int, float, float]], what: str, chosen: int | None) -> Figure:
    """How large networks come out against the first-layer width, a curve per maximal bias.

    Args:
        cells: (n, lambda, size), inf where no restart interpolates. what: the size, "neurons" or "parameters".
        chosen: n of the network that was kept, None without one.
    """
    figure, axes = grid_figure(1, 1, width=5.6, height=4.2)
    for k, bias in enumerate(sorted({bias for _, bias, _ in cells})):
        points = [(width, size) for width, this, size in cells if this == bias and np.isfinite(size)]
        if points:
            look = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
            axes[0, 0].plot(*zip(*points, strict=True), markersize=5, linewidth=1.2, label=f"λ = {bias:g}", **look)
    if chosen is not None:
        axes[0, 0].axvline(chosen, color="grey", linewidth=1.0, linestyle=":", label=f"kept: n = {chosen}")
    style(axes[0, 0], "", "first-layer width n", f"{what}, median of the restarts that interpolate")
    axes[0, 0].set_xscale("log")
    axes[0, 0].set_yscale("log")
    axes[0, 0].legend(fontsize=8, frameon=False)
    return figure


def _panel(figure: Figure, axes: Axes, table: pd.DataFrame, title: str, limits: tuple[float, float] | None) -> None:
    values = table.to_numpy(dtype=float)
    low, high = limits if limits else (0.0, float(np.nanmax(values)))
    image = axes.imshow(values, origin="lower", aspect="auto", cmap="viridis", vmin=low, vmax=max(high, 1e-9))
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("first-layer width n")
    axes.set_ylabel("maximal bias λ")
    for axis, sizes in ((axes.xaxis, table.columns), (axes.yaxis, table.index)):
        step = -(-len(sizes) // MOST_TICKS)
        axis.set_ticks(range(0, len(sizes), step), [f"{size:g}" for size in sizes[::step]])
    axes.tick_params(axis="x", labelrotation=45)
    if values.size <= MOST_WRITTEN:
        for i, j in np.ndindex(values.shape):
            shade = "white" if values[i, j] < (low + high) * 0.6 else "black"
            text = f"{values[i, j]:.2f}" if limits else f"{values[i, j]:.0f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=7, color=shade)
    figure.colorbar(image, ax=axes)
