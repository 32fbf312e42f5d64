"""Replays lists of linear regions: every region is where it is said to be, and no neighbour is missing from the list.

On every bounded piece of the domain (`solvers.problems.facets`), in rational arithmetic:

- the point of a region lies strictly inside the box and on the side of every kink that its pattern says;
- the gradient of the pattern is no longer than the bound;
- across every facet lies a region of the list. The facets are found anew, by linear programs; the region behind one is
  read off the network just behind a point in the facet's relative interior.

The interior of a box without its faces of codimension two is connected, so a list that is not empty and closed under
crossing facets holds all regions.

Source: the adjacency graph of regions is connected, as in reverse search [AF96].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from solvers.arithmetic.rationals import exact_dual, norm_at_most
from solvers.checkers._base import Check
from solvers.checkers.exact_programs import facet_points, value_at
from solvers.problems.facets import BoundedPiece, bounded_pieces
from solvers.problems.questions import LipschitzProblem

__all__ = ["check_region_list"]

SUBJECT = "upper bound"

Matrix: TypeAlias = list[list[Fraction]]
Pattern: TypeAlias = tuple[str, ...]


class _Rejected(Exception):
    """The certificate does not prove the bound; the message says why."""


def check_region_list(problem: LipschitzProblem, data: Mapping[str, Any], upper: float) -> Check:
    """Whether the regions listed are all there are, and none has a gradient longer than `upper`."""
    try:
        listed, pieces = data["pieces"], bounded_pieces(problem)
        if problem.network.depth == 0 or len(listed) != len(pieces):
            raise _Rejected(f"the certificate must list the regions of {len(pieces)} bounded pieces, got {len(listed)}")
        total = 0
        for index, (piece, entry) in enumerate(zip(pieces, listed, strict=True)):
            points, patterns = entry["points"], [tuple(map(str, pattern)) for pattern in entry["patterns"]]
            if len(points) != len(patterns) or not points:
                raise _Rejected(f"piece {index} must have as many points as patterns, and at least one")
            _check_piece(_Piece(piece), index, points, patterns, upper)
            total += len(points)
    except _Rejected as reason:
        return Check(SUBJECT, False, str(reason))
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        return Check(SUBJECT, False, f"the list of regions cannot be replayed: {error!r}")
    return Check(
        SUBJECT, True, f"{total} regions cover the domain, and no gradient among them is longer than the bound"
    )


class _Piece:
    """A bounded piece in rational arithmetic."""

    def __init__(self, piece: BoundedPiece) -> None:
        network = piece.network
        self.weights = [_exact(w) for w in network.weights[:-1]]
        self.biases = [[Fraction(b) for b in bias.tolist()] for bias in network.biases[:-1]]
        self.output = [Fraction(v) for v in network.weights[-1][0].tolist()]
        self.inputs = _exact(piece.inputs)
        self.low = [Fraction(v) for v in piece.box.lower.tolist()]
        self.high = [Fraction(v) for v in piece.box.upper.tolist()]
        self.q = exact_dual(piece.problem.p)

    def rows(self, pattern: Pattern) -> Matrix:
        """Pre-activations of all layers as affine functions on the region of a pattern."""
        k = len(self.low)
        current: Matrix = [[Fraction(int(i == j)) for j in range(k + 1)] for i in range(k)]
        found: Matrix = []
        for w, b, layer in zip(self.weights, self.biases, pattern, strict=True):
            values = []
            for weights, bias in zip(w, b, strict=True):
                row = [Fraction(0)] * k + [bias]
                for factor, source in zip(weights, current, strict=True):
                    if factor:
                        row = [a + factor * s for a, s in zip(row, source, strict=True)]
                values.append(row)
            found += values
            zero = [Fraction(0)] * (k + 1)
            current = [row if on == "1" else zero for row, on in zip(values, layer, strict=True)]
        return found

    def gradient(self, pattern: Pattern) -> list[Fraction]:
        """W_L D ... D_0 `inputs`."""
        row = self.output
        for w, layer in zip(reversed([self.inputs, *self.weights[1:]]), reversed(pattern), strict=True):
            kept = [(v, source) for v, on, source in zip(row, layer, w, strict=True) if on == "1" and v]
            row = [sum((v * source[j] for v, source in kept), Fraction(0)) for j in range(len(w[0]))]
        return row

    def pattern_behind(self, point: Sequence[Fraction], direction: Sequence[Fraction]) -> Pattern:
        """The pattern at point + e direction for all small e > 0; identically zero pre-activations are inactive."""
        values, speeds = list(point), list(direction)
        found = []
        for w, b in zip(self.weights, self.biases, strict=True):
            z = [
                sum((a * x for a, x in zip(row, values, strict=True) if a), bias)
                for row, bias in zip(w, b, strict=True)
            ]
            dz = [sum((a * x for a, x in zip(row, speeds, strict=True) if a), Fraction(0)) for row in w]
            on = [x > 0 or (x == 0 and dx > 0) for x, dx in zip(z, dz, strict=True)]
            values = [x if active else Fraction(0) for x, active in zip(z, on, strict=True)]
            speeds = [dx if active else Fraction(0) for dx, active in zip(dz, on, strict=True)]
            found.append("".join("1" if active else "0" for active in on))
        return tuple(found)


def _exact(matrix: np.ndarray) -> Matrix:
    return [[Fraction(v) for v in row] for row in matrix.tolist()]


def _check_piece(piece: _Piece, index: int, points: list[Any], patterns: list[Pattern], upper: float) -> None:
    widths = [len(w) for w in piece.weights]
    listed = set(patterns)
    for number, (coordinates, pattern) in enumerate(zip(points, patterns, strict=True)):
        name = f"region {number} of piece {index}"
        if [len(layer) for layer in pattern] != widths or set("".join(pattern)) - {"0", "1"}:
            raise _Rejected(f"{name}: the pattern must have layers of {widths} digits 0 and 1")
        point = [Fraction(float(v)) for v in coordinates]
        if len(point) != len(piece.low):
            raise _Rejected(f"{name}: the point must have {len(piece.low)} coordinates, got {len(point)}")
        if not all(a < x < b for a, x, b in zip(piece.low, point, piece.high, strict=True)):
            raise _Rejected(f"{name}: the point is not strictly inside the domain")
        kinks = _signed_rows(piece, name, point, pattern)
        if not norm_at_most(piece.gradient(pattern), piece.q, upper):
            raise _Rejected(f"{name} has a gradient that is longer than the upper bound {upper!r}")
        for row, facet in facet_points(kinks, piece.low, piece.high, point).items():
            behind = piece.pattern_behind(facet, [-a for a in kinks[row][:-1]])
            if behind not in listed:
                raise _Rejected(f"{name} has a neighbour that is not in the list: {'|'.join(behind)}")


def _signed_rows(piece: _Piece, name: str, point: list[Fraction], pattern: Pattern) -> Matrix:
    """The different kinks around a region as rows that are positive inside; the point is checked on the way."""
    kinks: dict[tuple[Fraction, ...], list[Fraction]] = {}
    for row, on in zip(piece.rows(pattern), "".join(pattern), strict=True):
        value = value_at(row, point)
        pivot = next((a for a in row[:-1] if a), None)
        if pivot is None and row[-1] == 0:
            if on == "1":
                raise _Rejected(f"{name}: a neuron that is identically 0 there is listed as active")
            continue
        if value == 0 or (value > 0) != (on == "1"):
            raise _Rejected(f"{name}: the point does not lie strictly inside the region of its pattern")
        if pivot is not None:
            kinks.setdefault(tuple(a / pivot for a in row), row if value > 0 else [-a for a in row])
    return list(kinks.values())
