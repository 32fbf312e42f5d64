"""The shared look of all figures: sober axes, colours that colour-blind readers can tell apart, no pyplot state."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "MARKERS", "grid_figure", "style"]

# [OI08].
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


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
