"""Points strictly inside cells that were found by `cell_enumeration`, lifted back to the inputs of the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.shallow.cell_enumeration import Arrangement, complement

__all__ = ["point_in_cell"]


def point_in_cell(
    chain: Sequence[Arrangement],
    place: int,
    subset: Sequence[int],
    signs: NDArray[np.bool_],
    network: int,
    mirror: bool,
) -> FloatArray | None:
    """A point of the cell, in the coordinates of the first arrangement's parent.

    Args:
        chain: all arrangements; those before `place` are its parents (for faces of a box: only itself).
        place: index of the arrangement that holds the vertex.
        subset: hyperplanes through the vertex.
        signs: (M,): sign of every hyperplane on the cell (before mirroring).
        network: column in the batch.
        mirror: whether the mirrored cell is meant.
    Returns:
        Shape (k,), or None where rounding leaves no room inside.
    """
    arrangement = chain[place]
    sign = np.where(signs, 1.0, -1.0)
    if arrangement.lift[0] == "face":
        return _point_off_face(arrangement, subset, sign, network)
    point = _point_at_vertex(arrangement, subset, sign, network)
    for level in range(place, 0, -1):
        if point is None:
            return None
        point = _back_from_infinity(chain[level], chain[level - 1], point, sign, network)
    if point is None:
        return None
    if chain[0].lift[0] == "slice":
        direction = chain[0].lift[1]
        point = direction + complement(direction) @ point
        return -point if mirror else point
    return point


def _point_at_vertex(
    arrangement: Arrangement, subset: Sequence[int], sign: FloatArray, network: int
) -> FloatArray | None:
    """From the vertex into the cell, half-way to the first hyperplane on the way."""
    if arrangement.dimension == 0:
        return np.zeros(0)
    # Contiguous copies: BLAS may add in another order along strides, and the batch decides the strides.
    a, b = np.ascontiguousarray(arrangement.normals[:, :, network]), arrangement.biases[:, network].copy()
    here = list(subset)
    try:
        inverse = np.linalg.inv(a[here])
    except np.linalg.LinAlgError:
        return None
    vertex, step = -inverse @ b[here], inverse @ sign[here]
    others = np.setdiff1d(np.arange(len(b)), here)
    return vertex + step * _reach(a[others] @ vertex + b[others], a[others] @ step, float(np.abs(vertex).sum() + 1))


def _reach(values: FloatArray, speeds: FloatArray, limit: float) -> float:
    """Half the way to the first zero of values + t * speeds, at most `limit`."""
    towards = values * speeds < 0
    return 0.5 * float(np.min(np.abs(values[towards] / speeds[towards]), initial=limit))


def _back_from_infinity(
    lower: Arrangement, upper: Arrangement, point: FloatArray, sign: FloatArray, network: int
) -> FloatArray | None:
    """A direction in R^k along which the cell goes to infinity, followed until the biases no longer matter."""
    direction = lower.lift[1]
    ray = complement(direction) @ point - direction
    heights = (np.ascontiguousarray(upper.normals[:, :, network]) @ ray) * sign
    if (heights <= 0).any():
        return None
    return ray * (2.0 * float(np.max(np.abs(upper.biases[:, network]) / heights, initial=0.0)) + 1.0)


def _point_off_face(
    arrangement: Arrangement, subset: Sequence[int], sign: FloatArray, network: int
) -> FloatArray | None:
    """From a vertex on a face of the box into the cell and off the face."""
    assert arrangement.face_normals is not None
    _, free, fixed, values, box = arrangement.lift
    d = len(free) + len(fixed)
    a = np.zeros((len(sign), d))
    a[:, free] = arrangement.normals[:, :, network]
    a[:, fixed] = arrangement.face_normals[:, :, network]
    offsets = arrangement.biases[:, network] - a[:, fixed] @ np.array(values)
    here = list(subset)
    system = np.zeros((d, d))
    system[: len(here)] = a[here]
    for i, (k, side) in enumerate(zip(fixed, arrangement.face_signs, strict=True)):
        system[len(here) + i, k] = side
    vertex = np.zeros(d)
    vertex[fixed] = values
    try:
        if here:
            vertex[free] = np.linalg.solve(a[np.ix_(here, free)], -arrangement.biases[here, network])
        step = np.linalg.solve(system, np.concatenate([sign[here], np.ones(len(fixed))]))
    except np.linalg.LinAlgError:
        return None
    others = np.setdiff1d(np.arange(len(sign)), here)
    values_at = [a[others] @ vertex + offsets[others], vertex - box.lower, box.upper - vertex]
    speeds = [a[others] @ step, step, -step]
    return vertex + step * _reach(np.concatenate(values_at), np.concatenate(speeds), np.inf)
