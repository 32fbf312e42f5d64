"""Ranges of pre-activations and bounds on gradients under partial patterns, many at once, rounded outward.

Written for checkers: NumPy alone, a second implementation of what the search claims and no import of it. Error bounds
hold for any order of additions, so also for the matrix products of any BLAS.

A partial pattern decides neurons with 1 (active), -1 (inactive) or leaves them 0. What is meant is: on every linear
region of the node the pre-activation of a decided neuron has that sign strictly, or is identically 0, where its
neuron adds nothing under either sign.

Layers are scaled first (`balanced`): once for ranges, biases included, once for gradients. So no size leaves the range
of float64, and error bounds count what underflow can hide. A comparison with NaN proves nothing.

Sources: CROWN [ZWCHD18] for lines below and above a neuron; Fast-Lip [Weng18] for ranges pulled back through the
Jacobian; [Hig02, section 3.1] for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.rounding import UNIT_ROUNDOFF
from solvers.checkers.balanced import FLOOR, balanced, bound_below, product_rounding, unit_box
from solvers.checkers.zonotopes import RELATIVE, dominated_lengths, householder
from solvers.problems.facets import BoundedPiece

__all__ = ["BLOCK", "LEAST_ERROR", "Nodes", "PieceNetwork", "U", "gradients_are_short", "tighten_ranges"]

# The unit roundoff, with room for terms of second order.
U = 1.001 * UNIT_ROUNDOFF
# Added to all errors that are not exactly 0: times a size, from FLOOR on, they do not vanish.
LEAST_ERROR = 2.0**-50 * FLOOR
# All sign vectors are directions up to so many inputs (of shallow networks: up to more), and so many that still count.
MOST_SIGNED, MOST_SCREENED, MOST_KEPT = 12, 22, 8192
# Entries of the largest array that is made.
BLOCK = 2_000_000


@dataclass(slots=True, eq=False)
class Nodes:
    """B partial patterns on one piece.

    Attributes:
        signs: for every layer (B, n_m).
        low, high: ranges of pre-activations, (B, n_m) each, in the units of `PieceNetwork.ranges`.
        turned_on: code of the neuron at which the last split took the active side while the inactive one is looked at
            too, (B,); -1 where the last split had one side only, or this is the inactive one.
    """

    signs: list[NDArray[np.int8]]
    low: list[FloatArray]
    high: list[FloatArray]
    turned_on: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.signs[0])

    def take(self, which: NDArray[np.int64]) -> Nodes:
        """Copies of some of them."""
        ranges = [z[which] for z in self.low], [z[which] for z in self.high]
        return Nodes([s[which] for s in self.signs], *ranges, self.turned_on[which])

    def decided_layers(self) -> NDArray[np.int64]:
        """The first layer with an undecided neuron, (B,); L where there is none."""
        first = np.full(len(self), len(self.signs))
        for m in reversed(range(len(self.signs))):
            first[(self.signs[m] == 0).any(axis=1)] = m
        return first


class PieceNetwork:
    """A bounded piece as arrays: scaled weights split by sign, families of parallel neurons, directions of gradients.

    Attributes:
        ranges: the layers as they map the box, with biases; low, high (k,): the box in units of its own.
        slopes: the layers as they multiply gradients, the output last; the first is `inputs` (n_1, d).
        slack: bounds the rounding of a gradient's length.
        directions: (d, C): ||g||_q is the largest |<g, c>| over the columns; None where no such finite set is used.
    """

    def __init__(self, piece: BoundedPiece, upper: float) -> None:
        network = piece.network
        weights, biases = network.weights[:-1], network.biases[:-1]
        self.low, self.high, exponents = unit_box(piece.box.lower, piece.box.upper)
        reach = np.maximum(np.abs(self.low), np.abs(self.high))
        self.ranges = balanced(weights, biases, exponents, reach)
        d = piece.inputs.shape[1]
        chain = [piece.inputs, *network.weights[1:]]
        self.slopes = balanced(chain, None, np.zeros(d, dtype=np.int64), np.full(d, 0.5))
        self.weights = [layer.plus + layer.minus for layer in self.slopes[:-1]]
        self.inputs, self.output = self.weights[0], (self.slopes[-1].plus + self.slopes[-1].minus)[0]
        self.q = piece.problem.dual_p
        self.slack = 4 * float(product_rounding(self.slopes, self.q)[0])
        self.families = [_families(w, b) for w, b in zip(weights, biases, strict=True)]
        self.directions = self._directions(self.limit(upper))

    def root(self) -> Nodes:
        """The whole piece: nothing decided, nothing known."""
        shapes = [(1, len(layer.biases)) for layer in self.ranges]
        return Nodes(
            [np.zeros(shape, np.int8) for shape in shapes],
            [np.full(shape, -np.inf) for shape in shapes],
            [np.full(shape, np.inf) for shape in shapes],
            np.array([-1]),
        )

    def limit(self, upper: float) -> float:
        """A bound on lengths in the units of gradients, rounded downward; negative for one that nothing keeps."""
        return bound_below(upper, int(self.slopes[-1].exponents[0]))

    def rounding(self, nodes: Nodes) -> FloatArray:
        """`slack` of every node by itself, (B,): over the neurons that may be active there."""
        return 4 * product_rounding(self.slopes, self.q, [signs >= 0 for signs in nodes.signs])

    def _directions(self, limit: float) -> FloatArray | None:
        d = self.inputs.shape[1]
        if np.isinf(self.q) or d == 1:
            return np.eye(d)
        shallow = len(self.ranges) == 1
        if self.q != 1 or d > (MOST_SCREENED if shallow else MOST_SIGNED):
            return None
        kept, count = [], 0
        step = 1 << 14
        for start in range(0, 1 << (d - 1), step):
            codes = np.arange(start, min(start + step, 1 << (d - 1)))
            signs = 1.0 - 2.0 * ((codes[:, None] >> np.arange(d)) & 1)
            if shallow:  # whatever the domain, <grad f, c> is at most the sum of its positive terms
                along = signs @ (self.inputs * self.output[:, None]).T
                reach = np.maximum(np.maximum(along, 0.0).sum(axis=1), np.maximum(-along, 0.0).sum(axis=1))
                signs = signs[~(reach * (1 + RELATIVE) + self.slack <= limit)]
            kept.append(signs)
            count += len(signs)
            if count > MOST_KEPT:
                return None
        return np.concatenate(kept).T.copy()


def _families(w: FloatArray, b: FloatArray) -> list[tuple[int, int, int]]:
    """(neuron, earlier one, sign) where (w, b) of the one is exactly a multiple, of that sign, of the other's."""
    found: list[tuple[int, int, int]] = []
    heads: dict[tuple[Fraction, ...], tuple[int, bool]] = {}
    for j, row in enumerate(np.column_stack([w, b]).tolist()):
        pivot = next((Fraction(v) for v in row if v), None)
        if pivot is not None:
            key = tuple(Fraction(v) / pivot for v in row)
            head, positive = heads.setdefault(key, (j, pivot > 0))
            if head != j:
                found.append((j, head, 1 if positive == (pivot > 0) else -1))
    return found


def tighten_ranges(piece: PieceNetwork, nodes: Nodes) -> NDArray[np.bool_]:
    """Tighten ranges and decide neurons, layer by layer, in place; tells which nodes hold no linear region, (B,)."""
    low, high = piece.low, piece.high
    k = len(low)
    reach = np.maximum(np.abs(low), np.abs(high))
    empty, affine = np.zeros(len(nodes), dtype=bool), np.ones(len(nodes), dtype=bool)
    # Of the layer before: ranges, lines below and above (constant last), their errors in the box, their sizes there.
    least, most = low[None], high[None]
    under = over = np.eye(k, k + 1)[None]
    carried, span = np.zeros((1, k)), reach[None]
    for m, layer in enumerate(piece.ranges):
        plus, minus, b = layer.plus, layer.minus, layer.biases
        large_plus, large_minus, large_b = layer.large_plus, layer.large_minus, layer.large_biases
        inputs = plus.shape[1]
        unit = (inputs + 6) * U
        near, far = np.abs(least), np.abs(most)
        sizes = [a @ large_plus.T + c @ large_minus.T + large_b for a, c in ((near, far), (far, near))]
        lower = least @ plus.T + most @ minus.T + b - unit * sizes[0]
        upper = most @ plus.T + least @ minus.T + b + unit * sizes[1]
        below, above = plus @ under + minus @ over, plus @ over + minus @ under
        below[..., k] += b
        above[..., k] += b
        unit = (inputs + k + 12) * U
        error = (carried * (1 + unit) + unit * span) @ layer.large.T + unit * large_b
        slopes, tops = below[..., :k], above[..., :k]
        lower = np.maximum(lower, np.minimum(slopes * low, slopes * high).sum(axis=-1) + below[..., k] - error)
        upper = np.minimum(upper, np.maximum(tops * low, tops * high).sum(axis=-1) + above[..., k] + error)
        lower, upper = np.maximum(lower, nodes.low[m]), np.minimum(upper, nodes.high[m])
        s = nodes.signs[m]
        # Affine and not constant: it vanishes on a flat set only.
        moving = affine[:, None] & ((np.abs(slopes) * (high - low)).sum(axis=-1) > 4 * error)
        nowhere = lower > upper
        nowhere |= (s > 0) & ((upper < 0) | ((upper == 0) & moving))
        nowhere |= (s < 0) & ((lower > 0) | ((lower == 0) & moving))
        empty |= nowhere.any(axis=1)
        s[(s > 0) & (upper == 0)] = -1
        s[(s == 0) & (upper <= 0)] = -1
        s[(s == 0) & (lower >= 0)] = 1
        _decide_families(piece.families[m], s)
        lower[(s > 0) & (lower < 0)] = 0.0
        upper[(s < 0) & (upper > 0)] = 0.0
        nodes.low[m], nodes.high[m] = lower, upper
        affine &= (s != 0).all(axis=1)
        on, open_, dead = s > 0, s == 0, s < 0
        # A neuron that is not dead has terms, so no size of it is exactly 0.
        least, most = np.where(~dead & (lower >= FLOOR), lower, 0.0), np.where(dead, 0.0, np.maximum(upper, FLOOR))
        slope = np.where(open_, upper / np.where(open_ & (upper > lower), upper - lower, 1.0), 1.0)
        under = np.where((on | (open_ & (upper > -lower)))[..., None], below, 0.0)
        over = np.where(dead[..., None], 0.0, slope[..., None] * above)
        over[..., k] -= np.where(open_, slope * lower, 0.0)
        carried = np.where(dead, 0.0, error + LEAST_ERROR)
        span = np.abs(below[..., k]) + np.abs(above[..., k]) + np.maximum(np.abs(slopes), np.abs(tops)) @ reach
        span = np.where(dead, 0.0, span + np.where(open_, np.abs(lower) + np.abs(upper), 0.0))
    return empty


def _decide_families(families: list[tuple[int, int, int]], signs: NDArray[np.int8]) -> None:
    for j, head, turn in families:
        open_ = signs[:, head] == 0
        signs[open_, head] = signs[open_, j] * turn
    for j, head, turn in families:
        open_ = signs[:, j] == 0
        signs[open_, j] = signs[open_, head] * turn


def gradients_are_short(
    piece: PieceNetwork, nodes: Nodes, alive: NDArray[np.bool_], upper: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether no gradient of a node is longer in l_q than `upper`, (B,), and the directions that may still reach there.

    Args:
        alive: (B, C): directions that may reach beyond `upper`; (B, 0) where there are none to use.
    """
    short, left = np.zeros(len(nodes), dtype=bool), alive.copy()
    limit = piece.limit(upper)
    split = np.minimum(nodes.decided_layers(), len(piece.ranges) - 1)
    for m in np.unique(split).tolist():
        width = max(len(layer.biases) for layer in piece.ranges) * max(piece.inputs.shape[1], alive.shape[1])
        members = np.flatnonzero(split == m)
        for part in np.array_split(members, 1 + len(members) * width // BLOCK):
            if len(part):
                here = nodes.take(part)
                ranges = _Ahead(piece, here, m)
                if piece.directions is None:
                    reach = _longest(ranges, piece.q)[:, None]
                else:
                    least, most = ranges.along(ranges.rows @ piece.directions)
                    reach = np.maximum(most, -least)
                beyond = ~(reach * (1 + RELATIVE) + piece.slack <= limit)
                if beyond.any():
                    beyond &= ~(reach * (1 + RELATIVE) + piece.rounding(here)[:, None] <= limit)
                if piece.directions is not None:
                    left[part] &= beyond
                    beyond = left[part]
                short[part] = ~beyond.any(axis=1)
    return short, left


class _Ahead:
    """grad f = sum_i c_i rows_i at a layer whose earlier ones are decided, and likewise at later layers.

    Attributes:
        rows: (B or 1, n, d) at the layer.
        low, high: for it and every later layer the ranges of the coefficients c, (B, n_m).
    """

    def __init__(self, piece: PieceNetwork, nodes: Nodes, layer: int) -> None:
        self.piece, self.layer, self.signs = piece, layer, nodes.signs
        self.rows = piece.inputs[None]
        for m in range(1, layer + 1):
            self.rows = piece.weights[m] @ (self.rows * (nodes.signs[m - 1] > 0)[..., None])
        low = high = np.broadcast_to(piece.output, (len(nodes), len(piece.output)))
        self.low, self.high = [low], [high]
        for m in range(len(piece.weights) - 1, layer - 1, -1):
            s = nodes.signs[m]
            low = np.where(s > 0, low, np.where(s == 0, np.minimum(low, 0.0), 0.0))
            high = np.where(s > 0, high, np.where(s == 0, np.maximum(high, 0.0), 0.0))
            self.low[0], self.high[0] = low, high
            if m > layer:
                plus, minus = piece.slopes[m].plus, piece.slopes[m].minus
                low, high = low @ plus + high @ minus, high @ plus + low @ minus
                self.low.insert(0, low)
                self.high.insert(0, high)

    def along(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Ranges (B, C) of <g, c> for directions with <rows_i, c> = x, (B or 1, n, C): the narrowest of all layers."""
        y = x
        least = most = None
        for m, low, high in zip(range(self.layer, len(self.piece.weights)), self.low, self.high, strict=True):
            if m > self.layer:
                plus, minus = self.piece.slopes[m].plus, self.piece.slopes[m].minus
                x, y = plus @ x + minus @ y, plus @ y + minus @ x
            products = [c[..., None] * z for c in (low, high) for z in (x, y)]
            here = np.min(products, axis=0).sum(axis=1), np.max(products, axis=0).sum(axis=1)
            least = here[0] if least is None else np.maximum(least, here[0])
            most = here[1] if most is None else np.minimum(most, here[1])
            s = self.signs[m][..., None]
            x = np.where(s > 0, x, np.where(s == 0, np.minimum(x, 0.0), 0.0))
            y = np.where(s > 0, y, np.where(s == 0, np.maximum(y, 0.0), 0.0))
        assert least is not None
        assert most is not None
        return least, most


def _longest(ranges: _Ahead, q: float) -> FloatArray:
    """Bounds (B,) in l_q: by components, by chords, along turned axes, by a dominating diagonal."""
    low, high = ranges.low[0], ranges.high[0]
    rows = np.broadcast_to(ranges.rows, (len(low), *ranges.rows.shape[1:]))
    d = rows.shape[2]
    middle, half = 0.5 * (low + high), 0.5 * (high - low)
    least, most = ranges.along(rows)
    reach, near = np.maximum(most, -least), np.maximum(np.maximum(least, -most), 0.0)
    centre = 0.5 * (least + most)
    turned = householder(centre)
    across = np.abs((turned @ (middle[:, None] @ rows).transpose(0, 2, 1))[..., 0])
    across += (half[:, None] @ np.abs(rows @ turned.transpose(0, 2, 1)))[:, 0]
    euclid = np.minimum(vector_norm(reach, 2.0), vector_norm(across, 2.0))
    length = np.minimum(vector_norm(reach, q), _by_chords(ranges, rows, least, most, q))
    if q <= 2:
        length = np.minimum(length, euclid * d ** (1 / q - 0.5))
        length = np.minimum(length, reach.sum(axis=1) ** (2 / q - 1) * euclid ** (2 - 2 / q))
    else:
        length = np.minimum(length, euclid ** (2 / q) * reach.max(axis=1) ** (1 - 2 / q))
    return np.minimum(length, dominated_lengths(rows, middle, half, q, near, reach))


def _by_chords(ranges: _Ahead, rows: FloatArray, least: FloatArray, most: FloatArray, q: float) -> FloatArray:
    """|x|^q lies below its chord over a range, so sum |g_k|^q below a sum of chords: one direction, and a constant."""
    reach = np.maximum(most, -least)
    scale = reach.max(axis=1, keepdims=True)
    scale = np.where(scale > 0, scale, 1.0)
    a, b = least / scale, most / scale
    at_a, at_b = np.abs(a) ** q, np.abs(b) ** q
    wide = b - a > 1e-6 * np.maximum(np.abs(a), np.abs(b))
    slopes = np.where(wide, (at_b - at_a) / np.where(wide, b - a, 1.0), 0.0)
    constants = np.where(wide, at_a - slopes * a, np.maximum(at_a, at_b))
    _, top = ranges.along(rows @ slopes[..., None])
    total = constants.sum(axis=1) + top[:, 0] / scale[:, 0]
    sizes = (at_a + at_b + np.abs(slopes) * np.maximum(np.abs(a), np.abs(b))).sum(axis=1)
    total += 1e-15 * (rows.shape[1] + rows.shape[2] + 8) * sizes
    # Rounding of the rows weighs (|reach| / bound)^(q - 1) times more here than in a norm: kept below 8.
    floor = vector_norm(reach, q) * 8 ** (-1 / (q - 1)) if q > 1 else 0.0
    return np.asarray(np.maximum(scale[:, 0] * np.maximum(total, 0.0) ** (1 / q), floor))
