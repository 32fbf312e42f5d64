"""Every cell of many hyperplane arrangements, once each, through its lowest vertex; batched on a torch device.

For a generic direction c a polyhedral cell that is bounded below along c has exactly one vertex where c x is least. At
a simple vertex v, where k hyperplanes A_S v + b_S = 0 meet in R^k, the cell below is found from y = A_S^{-T} c: its
sign on hyperplane i of S is the sign of y_i, elsewhere the sign at v. So each k-subset of hyperplanes gives one cell.

Cells unbounded below along c cross the hyperplane c x = -K for every large K; scaled by 1/K they are the cells of an
arrangement in R^{k-1} with the normals projected along c and the biases -a c / |c|. The same is done there, down to
dimension 0: in all sum_{i <= k} C(N, i) cells, Zaslavsky's number [Zas75], so none is missed and none is met twice.

On a box every cell is bounded. Its lowest vertex lies on some box faces; fixing those coordinates leaves an arrangement
in the others.

All arithmetic is elementwise with a fixed order of additions: a network gets the same bits alone and in any batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import UNIT_ROUNDOFF
from solvers.problems.domains import Box

if TYPE_CHECKING:
    import torch

__all__ = ["Arrangement", "CellBatch", "box_arrangements", "cells", "generic_direction", "open_arrangements"]

# Elements of one tensor in a chunk: a few of them fit the second-level cache.
CHUNK = 1 << 14
# A device needs enough to do at once; some hundred tensors of this size take a few GB there.
CHUNK_ON_DEVICE = 1 << 21
# Distances below SAFETY * |A_S^{-1}| * size may have the wrong sign.
SAFETY = 4096 * UNIT_ROUNDOFF


def generic_direction(dimension: int) -> FloatArray:
    """A unit vector that is in no special position to structured weights: powers of an irrational number."""
    root = 1.0
    for _ in range(60):  # the generalised golden ratio, x^(k+1) = x + 1
        root = (1.0 + root) ** (1.0 / (dimension + 1))
    powers = root ** -np.arange(1.0, dimension + 1) * np.where(np.arange(dimension) % 2, -1.0, 1.0)
    return np.asarray(powers / np.sqrt((powers**2).sum())) if dimension else np.zeros(0)


def complement(direction: FloatArray) -> FloatArray:
    """Orthonormal columns spanning the orthogonal complement of a unit vector (k,): shape (k, k - 1)."""
    k = direction.size
    reflector = direction.copy()
    reflector[0] += 1.0 if direction[0] >= 0 else -1.0
    reflection = np.eye(k) - 2.0 * np.outer(reflector, reflector) / (reflector @ reflector)
    return reflection[:, 1:]


@dataclass(frozen=True, slots=True, eq=False)
class Arrangement:
    """Hyperplanes a_j x + b_j = 0 in R^k of a batch of B networks, and how their space lies in that of the parent.

    Attributes:
        normals: (N, k, B), unit length except where a normal has vanished.
        biases: (N, B).
        mirrored: every cell stands for its mirror image too (all signs turned): central arrangements.
        direction: c, (k,).
        lower, upper: box in these coordinates, (k,), or None.
        face_normals: for a box, the normals' parts along the fixed coordinates, (N, F, B), in the same scale.
        face_signs: (F,), +1 at the lower face, -1 at the upper one.
        face_direction: c along the fixed coordinates, (F,).
        lift: where a point of this arrangement lies in the parent's space (see `vertex_enumeration`).
    """

    normals: FloatArray
    biases: FloatArray
    direction: FloatArray
    mirrored: bool = False
    lower: FloatArray | None = None
    upper: FloatArray | None = None
    face_normals: FloatArray | None = None
    face_signs: FloatArray = field(default_factory=lambda: np.zeros(0))
    face_direction: FloatArray = field(default_factory=lambda: np.zeros(0))
    lift: tuple[Any, ...] = ()

    @property
    def dimension(self) -> int:
        return int(self.normals.shape[1])


def _scaled(normals: FloatArray, biases: FloatArray, extra: FloatArray | None = None) -> tuple[FloatArray, ...]:
    """Rows rescaled to unit normals; signs do not change."""
    total = np.zeros(biases.shape)
    for k in range(normals.shape[1]):
        total = total + normals[:, k] ** 2
    length = np.sqrt(total)
    length = np.where(length > 0, length, 1.0)
    found = (normals / length[:, None], biases / length)
    return found if extra is None else (*found, extra / length[:, None])


def open_arrangements(normals: FloatArray, biases: FloatArray | None) -> list[Arrangement]:
    """The chain of arrangements whose lowest vertices meet every cell of R^k once.

    Args:
        normals: (N, k, B).
        biases: (N, B), or None for a central arrangement: then the slice c x = 1 stands for all, mirrored.
    """
    mirrored = biases is None
    chain = []
    if biases is None:
        direction = generic_direction(normals.shape[1])
        normals, biases = _slice(normals, direction, 1.0)
        lift: tuple[Any, ...] = ("slice", direction)
    else:
        lift = ("all",)
    normals, biases = _scaled(normals, biases)
    while True:
        direction = generic_direction(normals.shape[1])
        chain.append(Arrangement(normals, biases, direction, mirrored, lift=lift))
        if normals.shape[1] == 0:
            return chain
        lift = ("infinity", direction)
        normals, biases = _scaled(*_slice(normals, direction, -1.0))


def _slice(normals: FloatArray, direction: FloatArray, height: float) -> tuple[FloatArray, FloatArray]:
    """The arrangement that a central one cuts out of the hyperplane c x = height."""
    basis = complement(direction)
    projected = np.zeros((normals.shape[0], basis.shape[1], normals.shape[2]))
    offsets = np.zeros((normals.shape[0], normals.shape[2]))
    for k in range(normals.shape[1]):
        projected = projected + normals[:, k, None, :] * basis[k][None, :, None]
        offsets = offsets + normals[:, k] * (direction[k] * height)
    return projected, offsets


def box_arrangements(normals: FloatArray, biases: FloatArray, box: Box) -> Iterator[Arrangement]:
    """One arrangement per face of the box, of every dimension: 3^d of them."""
    d = box.dimension
    direction = generic_direction(d)
    for free_count in range(d, -1, -1):
        for free in itertools.combinations(range(d), free_count):
            fixed = [k for k in range(d) if k not in free]
            for signs in itertools.product((1.0, -1.0), repeat=len(fixed)):
                moved = biases
                values = [box.lower[k] if s > 0 else box.upper[k] for k, s in zip(fixed, signs, strict=True)]
                for k, value in zip(fixed, values, strict=True):
                    moved = moved + normals[:, k] * value
                inside, offsets, along = _scaled(normals[:, list(free)], moved, normals[:, fixed])
                yield Arrangement(
                    inside,
                    offsets,
                    direction[list(free)],
                    lower=box.lower[list(free)],
                    upper=box.upper[list(free)],
                    face_normals=along,
                    face_signs=np.array(signs),
                    face_direction=direction[fixed],
                    lift=("face", list(free), fixed, values, box),
                )


@dataclass(slots=True, eq=False)
class CellBatch:
    """Cells found at M subsets for B networks.

    Attributes:
        subsets: (M, k) hyperplanes that meet at the vertex.
        positive: (N, M, B) bool: sign of every hyperplane on the cell.
        found: (M, B) bool: the vertex exists, lies in the box and is the lowest of its cell.
        doubtful: (M, B) bool: rounding may hide or invent this cell.
        near: (N, M, B) bool: hyperplanes whose sign is in doubt there.
    """

    subsets: torch.Tensor
    positive: torch.Tensor
    found: torch.Tensor
    doubtful: torch.Tensor
    near: torch.Tensor


def _subset_chunks(count: int, size: int, rows: int) -> Iterator[NDArray[np.int64]]:
    source = itertools.combinations(range(count), size)
    while True:
        block = list(itertools.islice(source, rows))
        if not block:
            return
        yield np.array(block, dtype=np.int64).reshape(len(block), size)


def cells(arrangement: Arrangement, device: str = "cpu") -> Iterator[CellBatch]:
    """Go through the subsets of an arrangement in chunks.

    Yields:
        One `CellBatch` per chunk; between two of them the caller may stop.
    """
    import torch

    count, k, batch = arrangement.normals.shape
    if count < k:
        return
    normals = torch.as_tensor(arrangement.normals, device=device)
    biases = torch.as_tensor(arrangement.biases, device=device)
    chunk = CHUNK if device == "cpu" else CHUNK_ON_DEVICE
    for block in _subset_chunks(count, k, max(1, chunk // batch)):
        subsets = torch.as_tensor(block, device=device)
        inverse, doubtful, size = _inverses(normals, subsets)
        vertex = [_dot([-inverse[i][j] for j in range(k)], [biases[subsets[:, j]] for j in range(k)]) for i in range(k)]
        slope = [_dot([inverse[i][j] for i in range(k)], arrangement.direction.tolist()) for j in range(k)]
        reach = size.new_ones(size.shape)
        for value in vertex:
            reach = torch.maximum(reach, value.abs())
        tolerance = (SAFETY * size) * reach
        values = torch.empty((count, len(block), batch), dtype=torch.float64, device=device)
        for j in range(count):
            total = biases[j].expand(len(block), batch)
            for i in range(k):
                total = total + normals[j, i] * vertex[i]
            values[j] = total
        own = subsets.T[:, :, None].expand(k, len(block), batch)
        near = values.abs() <= tolerance * (1.0 + (biases.abs().amax(0) if count else 0.0))
        positive = values > 0
        if k:
            near.scatter_(0, own, False)
            positive.scatter_(0, own, torch.stack([y > 0 for y in slope]))
        found = torch.ones_like(doubtful)
        doubt = near.any(0) | doubtful
        for y in slope:
            doubt |= y.abs() <= SAFETY * size
        found, doubt = _inside_box(arrangement, subsets, vertex, slope, tolerance, found, doubt)
        yield CellBatch(subsets, positive, found & ~doubt, doubt, near)


def _dot(left: list[Any], right: list[Any]) -> Any:
    total = left[0] * right[0]
    for a, b in zip(left[1:], right[1:], strict=True):
        total = total + a * b
    return total


def _inverses(normals: torch.Tensor, subsets: torch.Tensor) -> tuple[list[list[Any]], torch.Tensor, torch.Tensor]:
    """A_S^{-1} entry by entry, by Gauss-Jordan with partial pivoting, elementwise over the batch.

    Returns:
        k x k lists of (M, B) tensors; where it is singular beyond doubt of rounding; and |A_S^{-1}|_F (>= 1).
    """
    import torch

    k, batch = normals.shape[1], normals.shape[2]
    shape = (subsets.shape[0], batch)
    zero = torch.zeros(shape, dtype=torch.float64, device=normals.device)
    left = [[normals[subsets[:, i], j] for j in range(k)] for i in range(k)]
    right = [[torch.ones_like(zero) if i == j else zero for j in range(k)] for i in range(k)]
    for column in range(k):
        for row in range(column + 1, k):  # bring the largest entry up, element by element
            swap = left[row][column].abs() > left[column][column].abs()
            for matrix in (left, right):
                for j in range(k):
                    a, b = matrix[column][j], matrix[row][j]
                    matrix[column][j], matrix[row][j] = torch.where(swap, b, a), torch.where(swap, a, b)
        scale = 1.0 / left[column][column]
        left[column] = [value * scale for value in left[column]]
        right[column] = [value * scale for value in right[column]]
        for row in range(k):
            if row != column:
                factor = left[row][column]
                left[row] = [a - factor * b for a, b in zip(left[row], left[column], strict=True)]
                right[row] = [a - factor * b for a, b in zip(right[row], right[column], strict=True)]
    total = zero + 1.0
    for line in right:
        for value in line:
            total = total + value * value
    size = total.sqrt()
    bad = ~torch.isfinite(size) | (size > 1e11)
    size = torch.where(bad, torch.full_like(size, 1e300), size)
    right = [[torch.where(bad, zero, value) for value in line] for line in right]
    return right, bad, size


def _inside_box(
    arrangement: Arrangement,
    subsets: torch.Tensor,
    vertex: list[torch.Tensor],
    slope: list[torch.Tensor],
    tolerance: torch.Tensor,
    found: torch.Tensor,
    doubt: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep vertices in the box whose cell lies above them along c; doubt matters only where they may be inside."""
    import torch

    if arrangement.lower is None or arrangement.upper is None or arrangement.face_normals is None:
        return found, doubt
    possible = torch.ones_like(found)
    for i, value in enumerate(vertex):
        low, high = value - float(arrangement.lower[i]), float(arrangement.upper[i]) - value
        found &= (low > 0) & (high > 0)
        doubt |= (low.abs() <= tolerance) | (high.abs() <= tolerance)
        possible &= (low >= -tolerance) & (high >= -tolerance)
    along = torch.as_tensor(arrangement.face_normals, device=found.device)
    for f, sign in enumerate(arrangement.face_signs.tolist()):
        rest = torch.full_like(tolerance, float(arrangement.face_direction[f]))
        scale = torch.ones_like(tolerance)
        for i, y in enumerate(slope):
            part = along[subsets[:, i], f]
            rest = rest - part * y
            scale = scale + (part * y).abs()
        height = rest * sign
        margin = (SAFETY * scale) * torch.clamp(tolerance / SAFETY, min=1.0)
        found &= height > 0
        doubt |= height.abs() <= margin
        possible &= height >= -margin
    return found, doubt & possible
