"""Validated questions: what a solver is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvers.arithmetic.norms import FloatArray, check_exponent, dual_exponent
from solvers.errors import InputError
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Deadline
from solvers.problems.domains import Domain, WholeSpace
from solvers.problems.results import LipschitzBounds

__all__ = ["Help", "InterpolationProblem", "LipschitzProblem"]


@dataclass(frozen=True, slots=True, eq=False)
class Help:
    """Bounds that a long search may ask for once: they cost more than a short one.

    Attributes:
        nodes, seconds: one of which the search is to have split, or taken, before; a quarter of its time at most.
        ask: is given the deadline of the search; the best answer then known.
    """

    nodes: int
    ask: Callable[[Deadline], LipschitzBounds]
    seconds: float = 5.0

    def is_due(self, nodes: int, deadline: Deadline) -> bool:
        """Whether a search that has split so many nodes is a long one."""
        return nodes >= self.nodes or deadline.spent >= min(self.seconds, 0.25 * deadline.budget.seconds)


@dataclass(frozen=True, slots=True, eq=False)
class LipschitzProblem:
    """Lip_p(f; X) = max of ||grad f||_{p'} over the linear regions that meet the interior of X, 1/p + 1/p' = 1.

    Attributes:
        network: one output; reduce a vector-valued network with `select_output` or `margin` first.
        p: exponent in [1, inf] of the norm on the inputs.
        domain: X; all of R^d when left out.
        known: an answer so far, where there is one. No method's answer is worse; a search drops what stays below its
            lower bound and ends when it attains the upper one.
        help: where a long search gets such an answer.
    """

    network: ReluNetwork
    p: float
    domain: Domain
    known: LipschitzBounds | None
    help: Help | None

    def __init__(
        self,
        network: ReluNetwork,
        p: float,
        domain: Domain | None = None,
        *,
        known: LipschitzBounds | None = None,
        help: Help | None = None,
    ) -> None:
        if network.output_dimension != 1:
            raise InputError(
                f"the network has {network.output_dimension} outputs: choose one (--output K), "
                "a margin (--margin I J) or the largest constant of all (--all-outputs)"
            )
        where = WholeSpace(network.input_dimension) if domain is None else domain
        if where.dimension != network.input_dimension:
            raise InputError(f"the domain has dimension {where.dimension}, the network d = {network.input_dimension}")
        object.__setattr__(self, "network", network)
        object.__setattr__(self, "p", check_exponent(p))
        object.__setattr__(self, "domain", where)
        if known is not None and (known.p, known.domain.key) != (self.p, where.key):
            raise InputError("what is known must be an answer to the same question: the same p on the same domain")
        object.__setattr__(self, "known", known)
        object.__setattr__(self, "help", help)

    def knowing(self, known: LipschitzBounds | None, help: Help | None = None) -> Self:
        """The same question with an answer to improve on, and where a long search gets a better one."""
        return type(self)(self.network, self.p, self.domain, known=known, help=help)

    @property
    def dual_p(self) -> float:
        """p', the exponent of the norm on gradients."""
        return dual_exponent(self.p)


@dataclass(frozen=True, slots=True, eq=False)
class InterpolationProblem:
    """A labelled point cloud that a network has to fit exactly.

    Attributes:
        points: shape (N, d), float64, finite.
        labels: shape (N,), whole numbers 0..K-1 indexing `classes`.
        classes: the K >= 2 original labels, sorted.

    Construction checks shapes, finiteness and the number of classes; the same point under two labels, which no
    function can fit, is refused by naming the two rows.
    """

    points: FloatArray
    labels: NDArray[np.int64]
    classes: tuple[object, ...]

    def __init__(self, points: ArrayLike, labels: ArrayLike) -> None:
        try:
            x = np.ascontiguousarray(points, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError("points must be an array of real numbers of shape (N, d)") from None
        y = np.asarray(labels)
        if x.ndim != 2 or 0 in x.shape:
            raise InputError(f"points must have shape (N, d) with N, d >= 1, got {x.shape}")
        if y.shape != (x.shape[0],):
            raise InputError(f"labels must have shape (N,) = ({x.shape[0]},), got {y.shape}")
        if not np.isfinite(x).all():
            row, column = np.argwhere(~np.isfinite(x))[0]
            raise InputError(f"points holds a NaN or infinite value at row {row}, column {column}")
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            raise InputError(f"labels holds a NaN or infinite value at row {int(np.argmin(np.isfinite(y)))}")
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise InputError(f"interpolation needs at least two classes, got one class only: {classes.tolist()[0]!r}")
        clash = _first_clash(x, codes)
        if clash is not None:
            i, j = clash
            first, second = classes[codes[[i, j]]].tolist()
            raise InputError(
                f"rows {i} and {j} are the same point with labels {first!r} and {second!r}: no network can fit both"
            )
        x.setflags(write=False)
        codes = codes.astype(np.int64)
        codes.setflags(write=False)
        object.__setattr__(self, "points", x)
        object.__setattr__(self, "labels", codes)
        object.__setattr__(self, "classes", tuple(classes.tolist()))

    @property
    def radius(self) -> float:
        """R = max ||x||_2."""
        return float(np.sqrt((self.points**2).sum(axis=1).max()))

    def distinct_rows(self) -> NDArray[np.int64]:
        """The first row of every different point, increasing."""
        sums = _row_sums(self.points)
        _, first, group, count = np.unique(sums, return_index=True, return_inverse=True, return_counts=True)
        again = np.flatnonzero(count[group] > 1)
        if not len(again):
            return np.arange(len(sums))
        _, place = np.unique(_row_keys(self.points[again]), return_index=True)
        return np.sort(np.concatenate([first[count == 1], again[place]]))


def _first_clash(points: FloatArray, labels: NDArray[np.int64]) -> tuple[int, int] | None:
    """Two rows that hold the same point under different labels, or None. -0.0 and 0.0 are the same number.

    Rows are compared by a 64-bit sum first; only those whose sum occurs under several labels are compared in full.
    """
    sums = _row_sums(points)
    order = np.lexsort((labels, sums))
    again = sums[order[1:]] == sums[order[:-1]]
    doubtful = np.unique(sums[order[1:]][again & (labels[order[1:]] != labels[order[:-1]])])
    if not len(doubtful):
        return None
    chosen = np.flatnonzero(np.isin(sums, doubtful))
    order = chosen[np.lexsort((labels[chosen], np.unique(_row_keys(points[chosen]), return_inverse=True)[1]))]
    same = (points[order[1:]] == points[order[:-1]]).all(axis=1) & (labels[order[1:]] != labels[order[:-1]])
    if not same.any():
        return None
    first = int(np.argmax(same))
    i, j = sorted((int(order[first]), int(order[first + 1])))
    return i, j


def _row_keys(points: FloatArray) -> NDArray[np.void]:
    """One sortable value per row, equal for equal rows and for no others; -0.0 and 0.0 are the same number."""
    rows = np.ascontiguousarray(points + 0.0)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()


def _row_sums(points: FloatArray) -> NDArray[np.uint64]:
    """The same number for equal rows, nearly always another for others: bits times odd factors, modulo 2^64."""
    factors = np.random.default_rng(0).integers(0, 2**64, size=points.shape[1], dtype=np.uint64) | np.uint64(1)
    sums = np.empty(len(points), dtype=np.uint64)
    step = max(1, 2**17 // points.shape[1])
    for start in range(0, len(points), step):
        bits = (points[start : start + step] + 0.0).view(np.uint64)
        # The high bits of a float64 tell most; folded down, they reach every bit of the product.
        sums[start : start + step] = ((bits ^ (bits >> np.uint64(32))) * factors).sum(axis=1, dtype=np.uint64)
    return sums
