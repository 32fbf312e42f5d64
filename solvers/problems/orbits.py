"""Orbits under cyclic translation: which rows of a data set are translates of each other, exactly.

The translation T_(a,b) of an image x in R^{C x H x W} is (T x)[c, i, j] = x[c, i - a, j - b], indices modulo H and W;
a 1-D signal has H = 1. Two rows lie in one orbit exactly when their canonical translates are equal, number by number.
Source: the translation-invariant construction of [FinkeThesis]; see also [Booth80] on least rotations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError

__all__ = [
    "Orbits",
    "canonical_translates",
    "find_orbits",
    "refuse_translated_classes",
    "translate",
]

BLOCK = 4096


def translate(images: FloatArray, shift: tuple[int, int]) -> FloatArray:
    """T_shift of arrays of shape (..., H, W): moved down by shift[0] and right by shift[1], cyclically."""
    return np.roll(images, shift, axis=(-2, -1))


@compiled
def _canonical_starts(images: FloatArray, starts: NDArray[np.int64]) -> None:
    """For every image the start (a, b) from which reading it cyclically gives the lexicographically largest text.

    Starts are knocked out position by position; the largest text, not the least, because images are mostly background
    of value 0, where least texts stay tied for long. Ties to the end mean a periodic image: the first start stands.
    """
    number, channels, height, width = images.shape
    alive = np.empty(height * width, np.int64)
    for s in range(number):
        count = height * width
        for start in range(count):
            alive[start] = start
        for c in range(channels):
            for i in range(height):
                for j in range(width):
                    if count == 1:
                        break
                    best = -np.inf
                    kept = 0
                    for k in range(count):
                        row = (alive[k] // width + i) % height
                        column = (alive[k] % width + j) % width
                        value = images[s, c, row, column]
                        if value > best:
                            best = value
                            kept = 0
                        if value == best:
                            alive[kept] = alive[k]
                            kept += 1
                    count = kept
        starts[s, 0] = alive[0] // width
        starts[s, 1] = alive[0] % width


def _read_from(images: FloatArray, starts: NDArray[np.int64]) -> FloatArray:
    """Every image read cyclically from its start; adding 0.0 turns -0.0 into 0.0, which is the same number."""
    height, width = images.shape[-2:]
    rows = (starts[:, :1] + np.arange(height)) % height
    columns = (starts[:, 1:] + np.arange(width)) % width
    index = np.arange(len(images))[:, None, None]
    moved: FloatArray = images.transpose(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return np.ascontiguousarray(moved.transpose(0, 3, 1, 2)) + 0.0


def canonical_translates(images: FloatArray) -> FloatArray:
    """The canonical member of every image's orbit: equal arrays exactly for translates of each other.

    Args:
        images: shape (N, C, H, W), no NaN.
    Returns:
        Same shape.
    """
    starts = np.empty((len(images), 2), np.int64)
    _canonical_starts(np.ascontiguousarray(images, dtype=np.float64), starts)
    return _read_from(images, starts)


@dataclass(frozen=True, slots=True, eq=False)
class Orbits:
    """Which rows are translates of each other.

    Attributes:
        first: shape (N,), for every row the first row of its orbit.
        starts: shape (N, 2), where each row's canonical reading starts.
        shape: (H, W).
    """

    first: NDArray[np.int64]
    starts: NDArray[np.int64]
    shape: tuple[int, int]

    @property
    def representatives(self) -> NDArray[np.int64]:
        """The first row of every orbit, increasing."""
        return np.unique(self.first)

    def shift(self, source: int, target: int) -> tuple[int, int]:
        """(a, b) with x_target = T_(a,b) x_source, for two rows of one orbit."""
        moved = self.starts[target] - self.starts[source]
        return int(moved[0]) % self.shape[0], int(moved[1]) % self.shape[1]


def find_orbits(images: FloatArray) -> Orbits:
    """Group images by orbit. Exact: equal digests are compared number by number.

    Args:
        images: shape (N, C, H, W), finite.
    """
    number, height, width = len(images), images.shape[2], images.shape[3]
    starts = np.empty((number, 2), np.int64)
    first = np.empty(number, np.int64)
    seen: dict[bytes, list[int]] = {}

    def canonical(row: int) -> FloatArray:
        return _read_from(images[row : row + 1], starts[row : row + 1])[0]

    for begin in range(0, number, BLOCK):
        block = slice(begin, min(begin + BLOCK, number))
        _canonical_starts(np.ascontiguousarray(images[block], dtype=np.float64), starts[block])
        for row, values in enumerate(_read_from(images[block], starts[block]), begin):
            bucket = seen.setdefault(hashlib.blake2b(values.tobytes(), digest_size=16).digest(), [])
            for other in bucket:
                if np.array_equal(values, canonical(other)):
                    first[row] = other
                    break
            else:
                first[row] = row
                bucket.append(row)
    return Orbits(first, starts, (height, width))


def refuse_translated_classes(orbits: Orbits, labels: NDArray[np.int64], classes: Sequence[object]) -> None:
    """Raise InputError, naming two rows and the shift, when an orbit holds two classes.

    A translation-invariant network gives all translates one label, and with enough filters the construction separates
    different orbits: it can interpolate exactly when this check passes.
    """
    wrong = np.flatnonzero(labels != labels[orbits.first])
    if not len(wrong):
        return
    target = int(wrong[0])
    source = int(orbits.first[target])
    shift = orbits.shift(source, target)
    collided = len(np.unique(orbits.first[wrong]))
    raise InputError(
        f"row {target} (class {classes[labels[target]]!r}) is row {source} (class {classes[labels[source]]!r}) "
        f"translated cyclically by {shift} ({collided} such {'orbit' if collided == 1 else 'orbits'} in all): "
        "no translation-invariant network can fit both, so drop one row or use the fully connected construction"
    )
