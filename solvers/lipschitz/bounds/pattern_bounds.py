"""Ranges and a bound on all gradients under a partial pattern, and of a whole piece: kernels and exact arithmetic.

Pre-activations that float64 cannot tell from constants are settled in rationals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.errors import SoundnessError
from solvers.lipschitz.bounds.exact_patterns import exact_affine_rows, exact_length
from solvers.lipschitz.bounds.gradients import gradient_bound, gradient_of, node_slack
from solvers.lipschitz.bounds.lengths import length_of
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.ranges import EMPTY, STOPPED, flat_rows, propagate

__all__ = ["Constant", "Settled", "WholePiece", "bound_gradients", "bound_piece", "longest_of_pattern", "settle"]

# Rounding of a gradient, relative to its length, from which exact arithmetic computes it.
ROUGH = 1e-11


class Constant(NamedTuple):
    """A pre-activation that is constant under a partial pattern, in exact arithmetic.

    Attributes:
        active: whether it is positive; at 0 it adds no gradient.
        loose: another one was found since ranges were tightened.
    """

    layer: int
    neuron: int
    active: bool
    loose: bool


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """What propagation makes of a partial pattern.

    Attributes:
        first: the first undecided layer, L without one; or `ranges.EMPTY`, `ranges.STOPPED`.
        below: (L, n, k + 1), errors: (L, n): lines below the pre-activations, as in `ranges.propagate`.
        constants: found on the way and decided.
    """

    first: int
    below: FloatArray
    errors: FloatArray
    constants: list[Constant]


@dataclass(frozen=True, slots=True, eq=False)
class WholePiece:
    """What ranges say of all of a piece.

    Attributes:
        signs: (L, n) int8: -1 and 1 where a neuron is decided.
        z_low, z_high: (L, n): ranges of the pre-activations.
        bound: no gradient is longer, rounded upward.
    """

    signs: NDArray[np.int8]
    z_low: FloatArray
    z_high: FloatArray
    bound: float


def bound_piece(p: PieceArrays) -> WholePiece:
    """Ranges and a bound without any split; an infinite bound where the kernels were stopped.

    Raises:
        SoundnessError: propagation leaves nothing of the piece, which has an interior: a bug of ours.
    """
    shape = p.kernel.biases.shape
    signs, z_low, z_high = np.zeros(shape, dtype=np.int8), np.full(shape, -np.inf), np.full(shape, np.inf)
    first = settle(p, signs, z_low, z_high).first
    if first == EMPTY:
        raise SoundnessError("propagation left nothing of a whole piece")
    if first == STOPPED or p.kernel.stop[0]:
        return WholePiece(signs, z_low, z_high, np.inf)
    bound, _, _ = bound_gradients(p, signs, first, np.arange(p.kernel.directions.shape[1], dtype=np.int32), -np.inf)
    return WholePiece(signs, z_low, z_high, bound)


def settle(
    p: PieceArrays, signs: NDArray[np.int8], z_low: FloatArray, z_high: FloatArray, tightened: bool = False
) -> Settled:
    """Propagate a partial pattern and decide what is constant, until neither says more; arrays change in place.

    Args:
        tightened: the ranges come from propagation. They stay as they are, so that a checker that tightens once per
            split comes to the same.
    """
    k, n = p.kernel, p.padded
    below, above = np.empty((p.depth, n, len(k.low) + 1)), np.empty((p.depth, n, len(k.low) + 1))
    errors = np.zeros((p.depth, n))
    constants: list[Constant] = []
    seen: set[tuple[int, int]] = set()
    while True:
        state = (signs.copy(), z_low.copy(), z_high.copy()) if tightened else (signs, z_low, z_high)
        first = int(
            propagate(
                k.weights, k.biases, k.widths, k.group, k.turn, k.low, k.high, *state, below, above, errors,
                k.stop,
            )
        )  # fmt: skip
        if tightened and first not in (EMPTY, STOPPED):
            undecided = np.flatnonzero([(signs[m, : k.widths[m]] == 0).any() for m in range(p.depth)])
            first = int(undecided[0]) if len(undecided) else p.depth
        if first in (EMPTY, STOPPED, p.depth):
            return Settled(first, below, errors, constants)
        tightened = False
        flat = np.empty(n, dtype=np.int64)
        count = flat_rows(k.widths, first, k.low, k.high, signs, below, errors, flat)
        fresh = [int(i) for i in flat[:count] if (first, int(i)) not in seen]
        if not fresh:
            return Settled(first, below, errors, constants)
        seen.update((first, i) for i in fresh)
        rows = exact_affine_rows(p.network, signs, first)
        decided = 0
        for i in fresh:
            if rows is not None and not any(rows[first][i][:-1]):
                active = rows[first][i][-1] > 0
                signs[first, i] = 1 if active else -1
                constants.append(Constant(first, i, active, decided > 0))
                decided += 1
        if not decided:
            return Settled(first, below, errors, constants)


def bound_gradients(
    p: PieceArrays, signs: NDArray[np.int8], first: int, chosen: NDArray[np.int32], floor: float
) -> tuple[float, NDArray[np.int32], tuple[int, int, int]]:
    """A bound on all gradients under a partial pattern, the directions that reach beyond the floor, what to split.

    Args:
        first: the first undecided layer, from `settle`.
        chosen: directions that are looked at.
    Returns:
        What to split as in `search.nodes.Node`.
    """
    k = p.kernel
    if first == p.depth:
        return longest_of_pattern(p, signs, floor), chosen, (first, -1, 1)
    rounding = float(node_slack(k, signs, floor))
    left = chosen.astype(np.int64)
    bound, count, neuron, prefer = gradient_bound(
        k.weights, k.widths, k.output, k.inputs, first, signs, k.directions, k.along_inputs, left, len(left), k.q,
        k.dual, floor - rounding,
    )  # fmt: skip
    return bound + rounding, left[:count].astype(np.int32), (first, int(neuron), int(prefer))


def longest_of_pattern(p: PieceArrays, signs: NDArray[np.int8], floor: float) -> float:
    """The length of the one gradient of a full pattern, rounded upward.

    In exact arithmetic where rounding decides whether it reaches the floor, or is no small part of it.
    """
    k = p.kernel
    rounding = float(node_slack(k, signs, floor))
    length = float(length_of(gradient_of(k.weights, k.widths, k.output, k.inputs, signs), k.q)) * (1 + 1e-14)
    if length + rounding > floor and (length <= floor + 3 * rounding or rounding > ROUGH * length):
        exact = exact_length(p.network, k.inputs, signs, k.q)
        return length + rounding if exact is None else min(length + rounding, exact)
    return length + rounding
