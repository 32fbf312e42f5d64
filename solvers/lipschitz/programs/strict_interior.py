"""Whether a full activation pattern has a region with an interior, and if not, what else has none for that reason.

A solver that sees closed constraints may hand over a pattern whose region is a point, an edge or nothing: three kinks
that meet, a corner where a layer dies (`problems.regions`). Layer by layer the pattern is given a point with room
around it, or exact multipliers that leave it none; the neurons with a multiplier, and those that shape their rows, are
then a conflict: no pattern that agrees with them has an interior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.bounds.exact_patterns import empty_by_exact_multipliers, exact_affine_rows
from solvers.lipschitz.bounds.interiors import deep_point
from solvers.problems.facets import BoundedPiece

__all__ = ["Conflict", "Judgement", "judge_pattern"]

# Margins, on a box of size one, from which float64 is asked for a point at all; exact arithmetic checks the point.
LEAST_MARGIN = 1e-12

# (layer, neuron, active)
Literal: TypeAlias = tuple[int, int, bool]


@dataclass(frozen=True, slots=True)
class Conflict:
    """No pattern that agrees with all of the literals has an interior.

    Attributes:
        everywhere: for a reason that holds on every piece of the domain.
    """

    literals: tuple[Literal, ...]
    everywhere: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What is known of a pattern.

    Attributes:
        point: (k,), inside with room as far as float64 can tell; None if no such point was found.
        conflicts: proofs in exact arithmetic that there is none. Neither: undecided.
    """

    point: FloatArray | None
    conflicts: tuple[Conflict, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Half-spaces a x + b > 0 with the neuron that each belongs to."""

    exact: list[list[Fraction]]
    neurons: list[Literal]

    def arrays(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Slopes and constants in float64, scaled to a largest slope of 1, and the scales."""
        table = np.array([[float(value) for value in row] for row in self.exact])
        scales = np.abs(table[:, :-1]).max(axis=1)
        table /= scales[:, None]
        return np.ascontiguousarray(table[:, :-1]), table[:, -1].copy(), scales


def judge_pattern(piece: BoundedPiece, pattern: Sequence[NDArray[np.bool_]]) -> Judgement:
    """Find a point strictly inside the region of a pattern in the piece's box, or prove that there is none.

    A pre-activation that is identically zero given the layers before it is no kink: either sign will do.

    Args:
        piece: with at least one hidden layer.
        pattern: one boolean array (n_k,) per hidden layer of the piece's network.
    """
    network = piece.network
    n = max(network.widths)
    signs = np.zeros((network.depth, n), dtype=np.int8)
    for m, layer in enumerate(pattern):
        signs[m, : len(layer)] = np.where(layer, 1, -1)
    exact = exact_affine_rows(network, signs, network.depth - 1)
    if exact is None:
        return Judgement(None, ())
    before = _Rows([], [])
    point: FloatArray = 0.5 * (piece.box.lower + piece.box.upper)
    for m in range(network.depth):
        prefix = [(layer, i, bool(pattern[layer][i])) for layer in range(m) for i in range(network.widths[layer])]
        conflicts: list[Conflict] = []
        here = _Rows(list(before.exact), list(before.neurons))
        for i, row in enumerate(exact[m]):
            active = bool(pattern[m][i])
            signed = row if active else [-value for value in row]
            if any(row[:-1]):
                here.exact.append(signed)
                here.neurons.append((m, i, active))
            elif signed[-1] < 0:
                conflicts.append(Conflict((*prefix, (m, i, active))))
        if not conflicts and len(here.exact) > len(before.exact):
            inside, conflict = _interior(piece, here, prefix)
            if inside is None:
                # Neurons that the layers before decide by themselves each give a conflict of their own.
                for row, neuron in list(zip(here.exact, here.neurons, strict=True))[len(before.exact) :]:
                    alone = _Rows([*before.exact, row], [*before.neurons, neuron])
                    found = _interior(piece, alone, prefix)[1]
                    if found is not None:
                        conflicts.append(found)
                if not conflicts:
                    return Judgement(None, () if conflict is None else (conflict,))
            else:
                point = inside
        if conflicts:
            return Judgement(None, tuple(dict.fromkeys(conflicts)))
        before = here
    return Judgement(point, ())


def _interior(piece: BoundedPiece, rows: _Rows, prefix: list[Literal]) -> tuple[FloatArray | None, Conflict | None]:
    """A point with room, or a conflict, or neither."""
    a, b, scales = rows.arrays()
    low, high = piece.box.lower.copy(), piece.box.upper.copy()
    margin, _, point, multipliers = deep_point(a, b, np.zeros(len(b)), low, high, np.zeros(1, dtype=np.int8))
    if margin > LEAST_MARGIN * float((high - low).min()):
        return point, None
    if not np.isfinite(margin):
        return None, None
    proof = empty_by_exact_multipliers(rows.exact, low, high, (multipliers / scales).tolist())
    if proof is None:
        return None, None
    total = [sum((y * rows.exact[r][j] for r, y in proof), Fraction(0)) for j in range(len(low) + 1)]
    used = [rows.neurons[r] for r, y in proof if y > 0]
    last = max(layer for layer, _, _ in used)
    literals = dict.fromkeys([*(literal for literal in prefix if literal[0] < last), *used])
    if piece.carries_t:  # t > 0 inside every piece
        widths = piece.network.widths
        literals = {literal: None for literal in literals if literal[1] < widths[literal[0]] - 1}
    # Pre-activations that add up to 0 here add up to 0 as linear forms in (x, t), so on every piece.
    return None, Conflict(tuple(literals), not any(total))
