"""Distances within a finite set of different points, exact up to float64 rounding, in memory that does not grow as N^2.

Two ways to the same numbers: a k-d tree in few dimensions, blocks of inner products in many. A block is screened with
a bound on its rounding error; whatever the screen leaves open is decided by the sum of squared differences in float64,
so no answer depends on the size of a block or on the precision of the screen.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import SINGLE_ROUNDOFF, UNIT_ROUNDOFF
from solvers.arithmetic.threads import process_threads
from solvers.bits.images import as_images
from solvers.complexity.distance_kernels import (
    aligned_differences,
    keep_nearest,
    mark_inside,
    measured_lengths,
    measured_pairs,
)
from solvers.complexity.far_neighbours import far_neighbours

__all__ = [
    "AbstractDistances",
    "BlockDistances",
    "OrbitDistances",
    "Rows",
    "Tell",
    "TreeDistances",
    "distances_between",
    "unheard",
]

Rows: TypeAlias = NDArray[np.int64]
# Told the share of the work that is done.
Tell: TypeAlias = Callable[[float], None]

# Beyond this many dimensions a k-d tree looks at nearly every point.
TREE_DIMENSIONS = 8
# From so many dimensions, and queries, on a tree is slow for sets that lie far apart, and it is worth finding out.
FAR_DIMENSIONS, FAR_ROWS = 3, 10_000
# Inner products in a block, at most: 64 MB of float32.
BLOCK_NUMBERS = 2**24
BLOCK_ROWS = 1024
# From so many multiplications on the screen is float32, which is twice as fast.
SINGLE_FROM = 2e11
# A ball of the tree is asked for a little larger, and its points are then measured.
TREE_SLACK = 1.0 + 1e-9


def unheard(share: float) -> None:
    """Progress that nobody listens to."""
    del share


class AbstractDistances(abc.ABC):
    """A metric on rows 0 ... N-1. Rows are different points: their distances are positive.

    Attributes:
        size: N.
        dimension: d, numbers of a point.
    """

    size: int
    dimension: int

    @abc.abstractmethod
    def nearest(self, rows: Rows, targets: Rows, tell: Tell = unheard) -> tuple[FloatArray, Rows]:
        """For every one of `rows` the nearest other one of `targets`.

        Returns:
            Distances (inf where there is none) and the rows that they lead to (-1 where there is none).
        """

    def nearest_by_class(self, labels: Rows, classes: int, tell: Tell = unheard) -> tuple[FloatArray, Rows]:
        """For every row the nearest other one of every class.

        Args:
            labels: (N,), class 0 ... K-1 of every row.
        Returns:
            Distances (N, K) and rows (N, K), as those of `nearest`.
        """
        everything = np.arange(self.size)
        near = np.empty((self.size, classes))
        leads = np.empty((self.size, classes), dtype=np.int64)
        for k in range(classes):
            near[:, k], leads[:, k] = self.nearest(everything, np.flatnonzero(labels == k))
            tell((k + 1) / classes)
        return near, leads

    @abc.abstractmethod
    def balls(self, centres: Rows, radii: FloatArray, targets: Rows) -> list[Rows]:
        """For every centre the `targets` within its radius, the rim included."""

    @abc.abstractmethod
    def differences(self, centre: int, rows: Rows) -> FloatArray:
        """Vectors of shape (len(rows), d) from the centre to the rows; their lengths are the distances."""


class TreeDistances(AbstractDistances):
    """Euclidean distances by k-d trees: for few dimensions and any number of points.

    Args:
        points: shape (N, d).
        threads: for queries; -1 for all.
    Source: [Bentley75]; scipy's cKDTree.
    """

    def __init__(self, points: FloatArray, threads: int = 1) -> None:
        self.points = np.ascontiguousarray(points, dtype=np.float64)
        self.size, self.dimension = self.points.shape
        self.threads = threads
        # The trees of the last sets of targets: a covering asks for many balls in one of two.
        self._trees: list[tuple[Rows, Any]] = []

    def _tree(self, targets: Rows) -> Any:
        from scipy.spatial import cKDTree

        for kept, tree in self._trees:
            if kept is targets:
                return tree
        tree = cKDTree(self.points[targets])
        self._trees = [*self._trees[-1:], (targets, tree)]
        return tree

    def nearest(self, rows: Rows, targets: Rows, tell: Tell = unheard) -> tuple[FloatArray, Rows]:
        found = np.full(len(rows), -1, dtype=np.int64)
        if len(targets) == 0:
            return np.full(len(rows), np.inf), found
        left = np.arange(len(rows))
        if self.dimension >= FAR_DIMENSIONS and len(rows) >= FAR_ROWS and not np.isin(rows, targets).any():
            answered, leads = far_neighbours(self.points, rows, targets, self._far_threads())
            found[answered] = leads
            left = np.flatnonzero(found < 0)
        if len(left):
            # The second nearest too: the nearest may be the row itself.
            _, places = self._tree(targets).query(self.points[rows[left]], k=2, workers=self.threads)
            others = np.append(targets, -1)[places]
            found[left] = np.where(others[:, 0] == rows[left], others[:, 1], others[:, 0])
        tell(1.0)
        return measured_pairs(self.points, rows, found), found

    def nearest_by_class(self, labels: Rows, classes: int, tell: Tell = unheard) -> tuple[FloatArray, Rows]:
        # Class by class: what lies far apart is answered in another way than what lies together.
        near = np.empty((self.size, classes))
        leads = np.empty((self.size, classes), dtype=np.int64)
        members = [np.flatnonzero(labels == k) for k in range(classes)]
        for done, (here, there) in enumerate(itertools.product(range(classes), repeat=2)):
            rows = members[here]
            near[rows, there], leads[rows, there] = self.nearest(rows, members[there])
            tell((done + 1) / classes**2)
        return near, leads

    def _far_threads(self) -> int:
        return process_threads() if self.threads < 1 else self.threads

    def balls(self, centres: Rows, radii: FloatArray, targets: Rows) -> list[Rows]:
        tree = self._tree(targets)
        near = tree.query_ball_point(self.points[centres], radii * TREE_SLACK, workers=self.threads)
        found = []
        for centre, radius, places in zip(centres, radii, near, strict=True):
            rows = targets[np.array(places, dtype=np.int64)]
            found.append(rows[measured_lengths(self.points, int(centre), rows) <= radius])
        return found

    def differences(self, centre: int, rows: Rows) -> FloatArray:
        return self.points[rows] - self.points[centre]


class _ScreenedDistances(AbstractDistances):
    """Distances whose squares are |x|^2 + |y|^2 - 2 m(x, y), with m found by matrix products.

    Attributes:
        points: shape (N, d), |x_i| at most about 1 (no overflow in float32).
        shape: (C, H, W) for distances between orbits; (d, 1, 1) has one translation, the identity.
        screen: shape (N, d), the points about a centre, in the precision of the screen.
        squares: shape (N,), squared lengths of the rows of `screen`.
    """

    def __init__(
        self, points: FloatArray, centre: FloatArray, shape: tuple[int, int, int], single: bool | None
    ) -> None:
        self.points = np.ascontiguousarray(points, dtype=np.float64)
        self.size, self.dimension = self.points.shape
        self.shape = shape
        if single is None:
            single = float(self.size) ** 2 * self.dimension * shape[1] * shape[2] >= SINGLE_FROM
        self.screen: Any = np.empty(self.points.shape, dtype=np.float32 if single else np.float64)
        self.squares = np.empty(self.size)
        longest = 0.0
        for start in range(0, self.size, BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            self.screen[block] = self.points[block] - centre
            self.squares[block] = (self.screen[block].astype(np.float64) ** 2).sum(axis=1)
            longest = max(longest, float((self.points[block] ** 2).sum(axis=1).max()))
        # With u the unit roundoff of the screen, a product <a, b> is off by at most (d + 2) u |a||b| in whatever
        # order it is summed [Hig02, section 3.1]; a and b differ from the shifted points by u |a|, u |b| and
        # by the rounding of the shift, below 4 * 2^-53 times the largest |x|. Twice that covers the rest, the
        # rounding of the distance in float64 included.
        roundoff = SINGLE_ROUNDOFF if single else UNIT_ROUNDOFF
        self._relative = 2.0 * (self.dimension + 8) * roundoff
        self._absolute = 2.0**-49 * math.sqrt(longest)
        # Numbers below float32's range.
        self._least = self.dimension * 1e-36 if single else 0.0

    @abc.abstractmethod
    def _products(self, rows: Rows, targets: Rows) -> Any:
        """m(x, y), shape (rows, targets)."""

    @property
    @abc.abstractmethod
    def _block_columns(self) -> int:
        """Targets in a block beside `BLOCK_ROWS` rows."""

    def _doubt(self, rows: Rows) -> FloatArray:
        """How far a screened squared distance may be off, between each of the rows and any other."""
        both = np.sqrt(self.squares[rows]) + math.sqrt(self.squares.max())
        doubt: FloatArray = self._relative * both**2 + self._absolute * both + self._least
        return doubt

    def nearest(self, rows: Rows, targets: Rows, tell: Tell = unheard) -> tuple[FloatArray, Rows]:
        squares = np.full(len(rows), np.inf)
        found = np.full(len(rows), -1, dtype=np.int64)
        doubt = self._doubt(np.arange(self.size))
        done, whole = 0, max(1, len(rows) * len(targets))
        for begin in range(0, len(targets), self._block_columns):
            part = targets[begin : begin + self._block_columns]
            for start in range(0, len(rows), BLOCK_ROWS):
                block = slice(start, start + BLOCK_ROWS)
                self._keep(rows[block], part, doubt, squares[block], found[block], None)
                done += len(rows[block]) * len(part)
                tell(done / whole)
        return np.sqrt(squares), found

    def _keep(
        self,
        rows: Rows,
        columns: Rows,
        doubt: FloatArray,
        squares: FloatArray,
        found: Rows,
        back: tuple[FloatArray, Rows] | None,
    ) -> None:
        """`keep_nearest` of a block, the other way round too with `back`; no row is its own neighbour."""
        products = self._products(rows, columns)
        _, same_rows, same_columns = np.intersect1d(rows, columns, assume_unique=True, return_indices=True)
        products[same_rows, same_columns] = -np.inf
        best, lead = (np.full(len(columns), -1.0), np.empty(len(columns), np.int64)) if back is None else back
        keep_nearest(self.points, self.shape, products, self.squares, rows, columns, doubt, squares, found, best, lead)

    def nearest_by_class(self, labels: Rows, classes: int, tell: Tell = unheard) -> tuple[FloatArray, Rows]:
        # Every product serves both of its rows, which halves the work.
        squares = np.full((classes, self.size), np.inf)
        found = np.full((classes, self.size), -1, dtype=np.int64)
        everything = np.arange(self.size)
        doubt = self._doubt(everything)
        rows = min(BLOCK_ROWS, self._block_columns)
        blocks = [
            (k, members[begin : begin + rows])
            for k in range(classes)
            for members in [np.flatnonzero(labels == k)]
            for begin in range(0, len(members), rows)
        ]
        done, whole = 0, self.size * (self.size + rows) / 2
        for index, (k, block) in enumerate(blocks):
            for other_class, other in blocks[index:]:
                best, lead = squares[other_class, block], found[other_class, block]
                back = None if other is block else (squares[k, other], found[k, other])
                self._keep(block, other, doubt, best, lead, back)
                squares[other_class, block], found[other_class, block] = best, lead
                if back is not None:
                    squares[k, other], found[k, other] = back
                done += len(block) * len(other)
                tell(min(1.0, done / whole))
        return np.sqrt(squares).T, found.T

    def balls(self, centres: Rows, radii: FloatArray, targets: Rows) -> list[Rows]:
        parts: list[list[Rows]] = [[] for _ in centres]
        doubt = self._doubt(centres)
        columns = self._block_columns * max(1, BLOCK_ROWS // max(1, len(centres)))
        for begin in range(0, len(targets), columns):
            part = targets[begin : begin + columns]
            products = self._products(centres, part)
            inside = np.zeros(products.shape, dtype=np.bool_)
            mark_inside(self.points, self.shape, products, self.squares, centres, part, radii, doubt, inside)
            for k, marks in enumerate(inside):
                parts[k].append(part[marks])
        return [np.concatenate(pieces) for pieces in parts]


class BlockDistances(_ScreenedDistances):
    """Euclidean distances by blocks of inner products: for any dimension.

    Args:
        points: shape (N, d), |x_i| at most about 1 (no overflow in float32).
        single: whether the screen is float32; chosen by size when left out.
    """

    def __init__(self, points: FloatArray, single: bool | None = None) -> None:
        # Shorter vectors have smaller rounding errors, and differences do not notice a shift.
        super().__init__(points, points.mean(axis=0), (points.shape[1], 1, 1), single)

    def _products(self, rows: Rows, targets: Rows) -> Any:
        return self.screen[rows] @ self.screen[targets].T

    @property
    def _block_columns(self) -> int:
        return max(1, BLOCK_NUMBERS // BLOCK_ROWS)

    def differences(self, centre: int, rows: Rows) -> FloatArray:
        return self.points[rows] - self.points[centre]


class OrbitDistances(_ScreenedDistances):
    """min over cyclic translations T of ||x - T y||_2: the distance of the convolutional construction.

    Translations are isometries, so this is a metric on orbits. Rows must lie in different orbits.

    Args:
        points: shape (N, C H W), |x_i| at most about 1.
        shape: (C, H, W).
        single: whether the screen is float32; chosen by size when left out.
    """

    def __init__(self, points: FloatArray, shape: tuple[int, int, int], single: bool | None = None) -> None:
        images = as_images(points, shape)
        # One number a channel: such a shift commutes with translations.
        centre = np.broadcast_to(images.mean(axis=(0, 2, 3))[:, None, None], shape).reshape(-1)
        super().__init__(points, centre, shape, single)

    def _products(self, rows: Rows, targets: Rows) -> Any:
        # max over T of <x, T y> is that of <T x, y>: the fewer ones are translated.
        if len(rows) < len(targets):
            return self._best_translates(rows, targets)
        return np.ascontiguousarray(self._best_translates(targets, rows).T)

    def _best_translates(self, rows: Rows, others: Rows) -> Any:
        """max over T of <T x, y>, shape (rows, others), by one matrix product: many small ones are slow."""
        images = self.screen[rows].reshape(len(rows), *self.shape)
        shifts = list(itertools.product(range(self.shape[1]), range(self.shape[2])))
        moved = np.empty((len(shifts), len(rows), self.dimension), dtype=self.screen.dtype)
        for k, shift in enumerate(shifts):
            moved[k] = np.roll(images, shift, axis=(2, 3)).reshape(len(rows), -1)
        products = moved.reshape(-1, self.dimension) @ self.screen[others].T
        return products.reshape(len(shifts), len(rows), len(others)).max(axis=0)

    @property
    def _block_columns(self) -> int:
        positions = self.shape[1] * self.shape[2]
        return max(1, BLOCK_NUMBERS // (max(BLOCK_ROWS, self.dimension) * positions))

    def differences(self, centre: int, rows: Rows) -> FloatArray:
        return aligned_differences(self.points, self.shape, centre, rows)


def distances_between(
    points: FloatArray, shape: tuple[int, int, int] | None = None, threads: int = 1
) -> AbstractDistances:
    """The quickest way for these points: Euclidean, or between orbits with a shape (C, H, W)."""
    if shape is not None:
        return OrbitDistances(points, shape)
    if points.shape[1] <= TREE_DIMENSIONS:
        return TreeDistances(points, threads)
    return BlockDistances(points)
