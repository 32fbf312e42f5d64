"""Pictures of one interpolating network: its regions in the plane, or the images its neurons were made from."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.networks.detectors import BuiltNetwork
from solvers.networks.margins import neuron_margins
from solvers.problems.questions import InterpolationProblem
from tasks.figures.axes import COLOURS, MARKERS, style

__all__ = ["centre_figure", "decision_figure", "interpolation_figure", "picture_shape"]

# Pixels a side of the raster that regions are read from.
RASTER = 400
# Beyond this many outlines or points the eye finds nothing.
MOST_OUTLINED = 60
MOST_POINTS = 4000
# Centres shown of every class, classes, and points of a class that shares are counted on.
MOST_CENTRES, MOST_CLASSES, MOST_COUNTED = 12, 20, 400
# Fewer pixels a side are no picture unless --shape says that they are.
LEAST_SIDE = 4


def picture_shape(dimension: int, shape: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
    """(C, H, W) of a point as a picture; None where the plane is drawn instead.

    Args:
        shape: what is known; otherwise points with a square number of features, 16 or more, are images.
    Raises:
        InputError: no picture can be made of such points.
    """
    if dimension == 2:
        return None
    if shape is not None and math.prod(shape) == dimension:
        if shape[0] not in (1, 3):
            raise InputError(f"--plot shows images of 1 or 3 channels, the shape {shape} has {shape[0]}")
        return shape
    if shape is not None:
        raise InputError(f"shape (C, H, W) = {shape} holds {math.prod(shape)} numbers, but points have d = {dimension}")
    side = math.isqrt(dimension)
    if side * side == dimension and side >= LEAST_SIDE:
        return (1, side, side)
    raise InputError(
        f"--plot draws points of d = 2 numbers, or images: d = {dimension} is neither 2 nor the square of a number >= "
        f"{LEAST_SIDE}, so give --shape C,H,W (H = 1 for a signal) or leave --plot out"
    )


def interpolation_figure(
    network: BuiltNetwork,
    problem: InterpolationProblem,
    centres: tuple[NDArray[np.int64], ...],
    shape: tuple[int, int, int] | None,
) -> Figure:
    """`decision_figure` for points in the plane (shape None), `centre_figure` for images.

    Args:
        network: for the points of the problem as they stand.
        centres: per detector the rows its neurons were made from.
    """
    if shape is None:
        return decision_figure(network, problem, centres)
    return centre_figure(network, problem, centres, shape)


def decision_figure(
    network: BuiltNetwork, problem: InterpolationProblem, centres: tuple[NDArray[np.int64], ...]
) -> Figure:
    """Left: the answer all over the plane and the region of every neuron; right: how one neuron comes by its region.

    A second-layer neuron fires where <u, Phi(x)> < m: in a union of intersections of half-spaces around its centre x*.
    """
    x, y, raster = _raster(problem.points)
    shape = float((y[-1] - y[0]) / (x[-1] - x[0]))
    figure = Figure(figsize=(12.4, min(9.0, max(3.6, 1.3 + 5.0 * shape))), dpi=144, layout="constrained")
    left, right = figure.subplots(1, 2)
    silent = _answers(left, network, problem, x, y, raster)
    owners = np.repeat(network.detector_classes, network.second_layer_widths)
    rows = np.concatenate(centres)
    outlined = np.arange(len(rows)) if len(rows) <= MOST_OUTLINED else np.zeros(0, np.int64)
    margins = neuron_margins(network, raster, outlined)
    for neuron in outlined.tolist():
        values = margins[:, neuron].reshape(len(y), len(x))
        left.contour(x, y, values, levels=[0.0], colors=[_dark(_colour(owners[neuron]))], linewidths=1.1)
    _points(left, problem)
    missed = np.flatnonzero(network.predict(problem.points) != problem.labels)
    if len(missed):
        size, edge = (9.0, 1.2) if len(missed) <= 50 else (6.0, 0.5)
        name = f"missed ({len(missed)})"
        left.plot(*problem.points[missed].T, "o", ms=size, mfc="none", mec="black", mew=edge, label=name)
    if len(rows):
        left.plot(*problem.points[rows].T, "*", ms=13, mfc="white", mec="black", mew=0.9, label="centre of a neuron")
    if silent:
        left.plot([], [], "s", ms=9, mfc="white", mec="0.6", label="no answer")
    what = "outlined" if len(outlined) else f"not outlined, as there are more than {MOST_OUTLINED}"
    neurons = "1 neuron" if len(rows) == 1 else f"{len(rows)} neurons"
    _frame(left, f"Decision regions; regions of {neurons} {what}", x, y)
    if len(rows):
        _one_neuron(figure, right, network, problem, rows, owners, (x, y, raster))
    else:
        _points(right, problem)
        _frame(right, "no second-layer neuron", x, y)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)
    return figure


def _raster(points: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Coordinates of a raster with some room around the points, and its points (RASTER^2, 2)."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.08 * max(float((high - low).max()), 1e-300)
    x, y = (np.linspace(low[k] - room, high[k] + room, RASTER) for k in (0, 1))
    return x, y, np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _answers(
    axes: Axes, network: BuiltNetwork, problem: InterpolationProblem, x: FloatArray, y: FloatArray, raster: FloatArray
) -> bool:
    """The class answered at every pixel in a light tone, white where there is none; whether there are such."""
    found = network.predict(raster).reshape(len(y), len(x))
    tones = ListedColormap([(1.0, 1.0, 1.0), *(_light(_colour(k)) for k in range(len(problem.classes)))])
    extent = (float(x[0]), float(x[-1]), float(y[0]), float(y[-1]))
    axes.imshow(
        found + 1,
        origin="lower",
        extent=extent,
        cmap=tones,
        vmin=-0.5,
        vmax=len(problem.classes) + 0.5,
        interpolation="nearest",
        aspect="equal",
    )
    return bool((found < 0).any())


def _points(axes: Axes, problem: InterpolationProblem) -> None:
    """The points, a colour and a marker for every class; evenly spaced rows where there are many."""
    step = -(-len(problem.points) // MOST_POINTS)
    size = 4.5 if len(problem.points) // step <= 500 else 2.6
    for k, label in enumerate(problem.classes):
        shown = problem.points[np.flatnonzero(problem.labels == k)[::step]]
        name = f"class {label}" if step == 1 else f"class {label} (one of {step} points)"
        axes.plot(*shown.T, _marker(k), ms=size, color=_colour(k), mec="white", mew=0.25, label=name)


def _one_neuron(
    figure: Figure,
    axes: Axes,
    network: BuiltNetwork,
    problem: InterpolationProblem,
    rows: NDArray[np.int64],
    owners: NDArray[np.int64],
    window: tuple[FloatArray, FloatArray, FloatArray],
) -> None:
    """The count <u, Phi(x)> of the neuron that covers most points, and where it stays below m.

    u chooses the half-spaces of the first layer that do not hold the centre; the count is of those that hold x.
    """
    x, y, raster = window
    step = -(-len(problem.points) // MOST_POINTS)
    fires = neuron_margins(network, problem.points[::step], np.arange(len(rows))) > 0
    best = int(fires.sum(axis=0).argmax())
    limit = int(np.concatenate(network.thresholds)[best])
    counts = limit - 0.5 - neuron_margins(network, raster, np.array([best]))[:, 0].reshape(len(y), len(x))
    extent = (float(x[0]), float(x[-1]), float(y[0]), float(y[-1]))
    image = axes.imshow(
        counts, origin="lower", extent=extent, cmap="cividis_r", interpolation="nearest", aspect="equal"
    )
    _points(axes, problem)
    axes.contour(x, y, counts, levels=[limit - 0.5], colors="black", linewidths=1.8)
    axes.plot(*problem.points[rows[best]], "*", ms=17, mfc="white", mec="black", mew=1.1)
    _frame(
        axes,
        rf"Widest neuron (class {problem.classes[owners[best]]}) fires where "
        rf"$\langle u, \Phi(x)\rangle < m = {limit}$",
        x,
        y,
    )
    bar = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, shrink=0.85)
    bar.set_label(r"$\langle u, \Phi(x)\rangle$: chosen half-spaces that hold $x$")


def _frame(axes: Axes, title: str, x: FloatArray, y: FloatArray) -> None:
    style(axes, title, "$x_1$", "$x_2$")
    axes.grid(False)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])


def centre_figure(
    network: BuiltNetwork,
    problem: InterpolationProblem,
    centres: tuple[NDArray[np.int64], ...],
    shape: tuple[int, int, int],
) -> Figure:
    """A contact sheet: for every covered class the images its first neurons were made from, in order of acceptance.

    Under each the share of its class on which the neuron fires, counted on at most 400 evenly spaced points.
    """
    shown = centres[:MOST_CLASSES]
    columns = max(1, min(MOST_CENTRES, max(len(rows) for rows in shown)))
    signal = shape[1] == 1
    figure = Figure(figsize=(1.0 * columns + 2.2, 1.25 * len(shown) + 0.9), dpi=144, layout="constrained")
    axes = figure.subplots(len(shown), columns, squeeze=False)
    starts = np.cumsum((0, *network.second_layer_widths))
    limits = float(problem.points.min()), float(problem.points.max())
    for k, (rows, line) in enumerate(zip(shown, axes, strict=True)):
        owner = network.detector_classes[k]
        own = np.flatnonzero(problem.labels == owner)
        counted = problem.points[own[:: -(-len(own) // MOST_COUNTED)]]
        neurons = starts[k] + np.arange(min(len(rows), columns))
        shares = (neuron_margins(network, counted, neurons) > 0).mean(axis=0)
        for j, panel in enumerate(line):
            panel.set_xticks([])
            panel.set_yticks([])
            if j >= len(neurons):
                panel.set_axis_off()
                continue
            _picture(panel, problem.points[rows[j]].reshape(shape), limits, _colour(owner) if signal else None)
            panel.set_xlabel(_percent(float(shares[j])), fontsize=8, labelpad=2)
            for side in panel.spines.values():
                side.set_color("0.7")
        line[0].set_axis_on()
        count = "no neuron" if not len(rows) else f"{len(rows)} neuron{'s' * (len(rows) > 1)}"
        line[0].set_ylabel(f"class {problem.classes[owner]}\n{count}", rotation=0, ha="right", va="center", fontsize=9)
        if not len(rows):
            for side in line[0].spines.values():
                side.set_visible(False)
    more = f" (the first {columns} of each)" if any(len(rows) > columns for rows in shown) else ""
    some = f", {len(shown)} of {len(centres)} classes" if len(shown) < len(centres) else ""
    figure.suptitle(
        f"Centres of the second-layer neurons{more}{some}\nbelow: share of its class that a neuron covers", fontsize=11
    )
    return figure


def _picture(axes: Axes, point: FloatArray, limits: tuple[float, float], colour: str | None) -> None:
    """One point (C, H, W): grey or red-green-blue, or for a signal (colour given) a line for every channel."""
    low, high = limits
    if colour is not None:
        for channel in point[:, 0]:
            axes.plot(channel, color=colour, linewidth=1.2, drawstyle="steps-mid")
        room = 0.05 * (high - low)
        axes.set_ylim(low - room, high + room)
        axes.set_xlim(-0.5, point.shape[2] - 0.5)
        return
    if len(point) == 3:
        axes.imshow(np.clip((point.transpose(1, 2, 0) - low) / (high - low), 0, 1), interpolation="nearest")
        return
    axes.imshow(point[0], cmap="gray_r", vmin=low, vmax=high, interpolation="nearest")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.095 or share == 0 else f"{100 * share:.1f} %"


def _colour(k: Any) -> str:
    return COLOURS[int(k) % len(COLOURS)]


def _marker(k: int) -> str:
    """Classes that share a colour differ in their marker."""
    return MARKERS[(k + k // len(COLOURS)) % len(MARKERS)]


def _light(colour: str) -> tuple[float, float, float]:
    r, g, b = to_rgb(colour)
    return (0.72 + 0.28 * r, 0.72 + 0.28 * g, 0.72 + 0.28 * b)


def _dark(colour: str) -> tuple[float, float, float]:
    r, g, b = to_rgb(colour)
    return (0.7 * r, 0.7 * g, 0.7 * b)
