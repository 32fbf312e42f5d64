"""The shared look of all figures: sober axes, colours that colour-blind readers can tell apart, no pyplot state."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

__all__ = ["COLOURS", "MARKERS", "draw_intervals", "grid_figure", "say_below", "set_log_scale", "style"]

# [OI08].
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


# Of the small print under a figure.
LETTERS_AN_INCH = 15


def grid_figure(rows: int, columns: int, width: float = 4.6, height: float = 3.6, **options: Any) -> tuple[Figure, Any]:
    """A figure with rows x columns axes (always a 2-D array), each of a size in inches."""
    figure = Figure(figsize=(width * columns, height * rows), dpi=144, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def style(axes: Axes, title: str, x: str, y: str) -> None:
    """Labels, a light grid, no box on top and right."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def set_log_scale(axes: Axes, *values: ArrayLike) -> bool:
    """A logarithmic y axis if any of these values can stand on it; whether it is one.

    To be called before intervals are drawn: on such an axis a lower end of 0 is no end.
    """
    found = np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in values])
    if not (np.isfinite(found) & (found > 0)).any():
        return False
    axes.set_yscale("log")
    return True


def draw_intervals(
    axes: Axes, x: ArrayLike, low: ArrayLike, high: ArrayLike, is_open: ArrayLike, look: dict[str, Any]
) -> int:
    """Known values as a curve; open intervals as bars with both ends and no marker, an arrow where an end is missing.

    Args:
        x, low, high: arrays of one length; on a logarithmic axis a lower end of 0 is a missing one.
        is_open: where [low, high] is no value but an interval.
        look: colour, marker and label of the curve.
    Returns:
        How many intervals have neither end, and so cannot be drawn.
    """
    places, bottom, top = (np.asarray(values, dtype=np.float64) for values in (x, low, high))
    wide = np.asarray(is_open, dtype=bool)
    # A gap in the curve, so that no line runs through what is not known.
    axes.plot(places, np.where(wide, np.nan, bottom), markersize=5, linewidth=1.2, **look)
    has_low = np.isfinite(bottom) & ((bottom > 0) | (axes.get_yscale() != "log"))
    has_high = np.isfinite(top)
    bar: dict[str, Any] = {
        "fmt": "none",
        "color": look["color"],
        "ecolor": look["color"],
        "elinewidth": 2.5,
        "alpha": 0.55,
    }
    both = wide & has_low & has_high
    middle = (bottom[both] + top[both]) / 2
    axes.errorbar(places[both], middle, yerr=[middle - bottom[both], top[both] - middle], capsize=5, **bar)
    for known, ends, missing in (
        (wide & has_low & ~has_high, bottom, "lolims"),
        (wide & ~has_low & has_high, top, "uplims"),
    ):
        for place, end in zip(places[known], ends[known], strict=True):
            # An arrow from the end that is known; its length says nothing.
            length = 0.4 * abs(end) or 0.1
            axes.errorbar([place], [end], yerr=[length], capsize=3, **bar | {missing: True})
            axes.plot([place], [end], marker="_", markersize=11, color=look["color"], alpha=0.55)
    return int((wide & ~has_low & ~has_high).sum())


def say_below(figure: Figure, notes: list[str]) -> None:
    """What the figure leaves out or shows as an interval, in small letters under it."""
    lines = [line for note in notes for line in textwrap.wrap(note, int(LETTERS_AN_INCH * figure.get_figwidth()))]
    if lines:
        figure.supxlabel("\n".join(lines), fontsize=8, color="0.3")
