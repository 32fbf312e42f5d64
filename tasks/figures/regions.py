"""The linear regions of a network with two inputs, coloured by the length of their gradients."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from solvers.arithmetic.norms import FloatArray, dual_exponent, exponent_label, vector_norm
from solvers.errors import InputError
from solvers.lipschitz.surveys.region_count import planar_corners, planar_regions
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box
from solvers.problems.results import LipschitzBounds
from tasks.figures.axes import COLOURS, grid_figure, style

__all__ = ["region_figure"]

# Thin lines between regions help the eye up to here, and cover the colours beyond.
MOST_OUTLINED = 4000
# A window on all corners is drawn if it is at most this many times wider than one on nine tenths of them.
WIDEST = 8.0


def region_figure(network: ReluNetwork, answers: list[LipschitzBounds]) -> Figure:
    """One panel for every p, the witness marked.

    Args:
        network: one output, d = 2.
        answers: for one domain. A box is shown as it is; of all the plane a square that holds all corners of regions,
            or, where a few lie far out, nine tenths of them: the title says which.
    Raises:
        InputError: d is not 2.
    """
    if network.input_dimension != 2:
        raise InputError(
            f"--plot draws regions for d = 2 inputs, the network has d = {network.input_dimension}: leave it out"
        )
    domain = answers[0].domain
    box, shown = _window(network) if domain.bounds is None else (Box(*domain.bounds), "")
    polygons, gradients = [], []
    for corners, gradient in planar_regions(network, box):
        polygons.append(corners)
        gradients.append(gradient)
    figure, axes = grid_figure(1, len(answers), width=5.4, height=4.6)
    for panel, answer in zip(axes[0], answers, strict=True):
        q = dual_exponent(answer.p)
        outlined = len(polygons) <= MOST_OUTLINED
        colours = vector_norm(np.array(gradients), q)
        drawn = PolyCollection(
            polygons,
            array=colours,
            cmap="viridis",
            edgecolors="white" if outlined else "face",
            linewidths=0.3 if outlined else 0.1,
        )
        panel.add_collection(drawn)
        label = f"p = {exponent_label(answer.p)}"
        style(panel, f"{len(polygons)} linear regions, {label}{shown}", "$x_1$", "$x_2$")
        panel.grid(False)
        bar = figure.colorbar(drawn, ax=panel)
        bar.set_label(rf"gradient norm $\|\nabla f\|_{{{exponent_label(q)}}}$ (dual to {label})")
        if answer.witness is not None:
            x, y = answer.witness.point
            # A witness far out is drawn where the line to it leaves the window.
            x, y = np.clip(x, box.lower[0], box.upper[0]), np.clip(y, box.lower[1], box.upper[1])
            panel.plot([x], [y], "*", color=COLOURS[1], markeredgecolor="white", markersize=14, label="witness")
            panel.legend(loc="upper right", framealpha=0.9)
        panel.set_xlim(box.lower[0], box.upper[0])
        panel.set_ylim(box.lower[1], box.upper[1])
    return figure


def _window(network: ReluNetwork) -> tuple[Box, str]:
    """A square around the corners of regions in all the plane, and what it shows."""
    corners = planar_corners(network)
    if not len(corners):
        return Box.cube(2), ", part of the plane"
    middle: FloatArray = np.median(corners, axis=0)
    distances = np.abs(corners - middle).max(axis=1)
    all_of_them, most = float(distances.max()), float(np.quantile(distances, 0.9))
    if all_of_them <= WIDEST * most or most == 0:
        return Box.ball(middle, 1.1 * all_of_them if all_of_them > 0 else 1.0), ", all corners shown"
    inside = int((distances <= most).sum())
    return Box.ball(middle, 1.1 * most), f",\n{inside} of {len(corners)} corners shown"
