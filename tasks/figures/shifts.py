"""Figures of the experiment on shifted patterns, from measurements alone."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.figures.axes import COLOURS, MARKERS, grid_figure, say_below, style

__all__ = ["width_figures"]

AXES = {
    "patterns": "patterns in each class K",
    "positions": "translations of a pattern H W",
    "noise": "noise, against a pattern's 1",
}
MOST_PANELS = 4


def width_figures(trials: pd.DataFrame) -> dict[str, Figure]:
    """Second-layer widths of both constructions against K, the number of translations, and the noise.

    Args:
        trials: parameters and measurements, with `rows` for H.
    Returns:
        A figure for every axis along which the trials vary, one panel for each setting of the others.
    """
    # 1-D and 2-D data of equally many positions stay apart.
    table = trials.assign(positions=trials["rows"] * trials["width"], signals=trials["rows"] == 1)
    found = {}
    for axis, label in AXES.items():
        others = [name for name in ("signals", "channels", *AXES) if name != axis]
        panels = [(key, part) for key, part in table.groupby(others) if part[axis].nunique() > 1]
        if panels:
            shown = panels[:MOST_PANELS]
            figure, axes = grid_figure(1, len(shown), width=5.2, height=4.2, sharey=True)
            for column, (key, part) in enumerate(shown):
                _panel(axes[0, column], part, axis, label, _title(dict(zip(others, key, strict=True))))
            axes[0, 0].set_ylabel("second-layer neurons for one class")
            axes[0, -1].legend(fontsize=8, frameon=False)
            if len(panels) > len(shown):
                say_below(figure, [f"the first {len(shown)} of {len(panels)} settings"])
            found[f"shifts_against_{axis}"] = figure
    return found


def _title(fixed: dict[str, object]) -> str:
    words = ["1-D" if fixed["signals"] else "2-D"]
    if fixed["channels"] != 1:
        words.append(f"C = {fixed['channels']}")
    if "patterns" in fixed:
        words.append(f"K = {fixed['patterns']}")
    if "positions" in fixed:
        words.append(f"{fixed['positions']} translations")
    if "noise" in fixed:
        words.append(f"noise {fixed['noise']:g}")
    return ", ".join(words)


def _panel(axes: Axes, part: pd.DataFrame, axis: str, label: str, title: str) -> None:
    first = part.sort_values(axis).drop_duplicates(axis)
    for values, line, name in (
        (first["patterns"] * first["positions"], ":", "K H W: samples of the class"),
        (first["patterns"], "--", "K: patterns of the class"),
    ):
        axes.plot(first[axis], values, line, color="0.35", linewidth=1.2, label=name)
    for k, (construction, group) in enumerate(part.groupby("construction")):
        widths = group.groupby(axis)["second_layer_width"].agg(["mean", "min", "max"]).reset_index()
        spread = [widths["mean"] - widths["min"], widths["max"] - widths["mean"]]
        axes.errorbar(
            widths[axis], widths["mean"], yerr=spread, fmt=MARKERS[k] + "-", color=COLOURS[k],
            capsize=2, markersize=5, linewidth=1.2, label=str(construction).replace("-", " "),
        )  # fmt: skip
    axes.set_yscale("log")
    if axis != "noise":
        axes.set_xscale("log", base=2)
    style(axes, title, label, "")
