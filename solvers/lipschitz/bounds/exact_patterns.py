"""What rounding hides in a partial activation pattern, settled in rational arithmetic.

Kinks that meet in more than the generic number (three lines through a point, the corner of a dead layer) leave sign
patterns that are feasible on a set without interior. Float64 sees a margin of about 0 there and proves nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rationals import DyadicArray, norm_above
from solvers.networks.relu import ReluNetwork

__all__ = ["empty_by_exact_multipliers", "exact_affine_rows", "exact_length", "parallel_rows"]

# Multiplications that one exact evaluation may take.
MOST_EXACT = 500_000


def parallel_rows(w: FloatArray, b: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Neurons of a layer whose (w, b) are exact multiples: the first of each family, and the sign of the factor.

    Their pre-activations vanish together and have equal or opposite signs, whatever comes in.
    """
    rows = np.column_stack([w, b])
    heads, turns = np.arange(len(rows)), np.ones(len(rows), dtype=np.int8)
    buckets: dict[tuple[float, ...], list[int]] = {}
    for j in np.flatnonzero(rows.any(axis=1)):
        pivot = int(np.flatnonzero(rows[j])[0])
        bucket = buckets.setdefault(tuple(np.round(rows[j] / rows[j, pivot], 9) + 0.0), [])
        for h in bucket:
            p, q = Fraction(float(rows[h, pivot])), Fraction(float(rows[j, pivot]))
            if p and all(Fraction(s) * q == Fraction(t) * p for s, t in zip(rows[h].tolist(), rows[j].tolist())):  # noqa: B905
                heads[j], turns[j] = h, 1 if p * q > 0 else -1
                break
        else:
            bucket.append(int(j))
    return heads, turns


@functools.lru_cache(maxsize=4)
def _exact_layers(network: ReluNetwork) -> tuple[list[DyadicArray], list[DyadicArray]]:
    """Weights and biases (n, 1) of all layers; a search asks for those of the same few pieces again and again."""
    return [DyadicArray.of(w) for w in network.weights], [DyadicArray.of(b[:, None]) for b in network.biases]


def exact_affine_rows(network: ReluNetwork, signs: NDArray[np.int8], layer: int) -> list[list[list[Fraction]]] | None:
    """Pre-activations of layers 0..layer as exact affine functions, all earlier layers decided.

    Returns:
        For every layer and neuron k slopes and the constant; None where the network is too large for that.
    """
    k = network.input_dimension
    if (k + 1) * sum(w.size for w in network.weights[: layer + 1]) > MOST_EXACT:
        return None
    # One column more carries the constant.
    weights, biases = _exact_layers(network)
    current = DyadicArray.of(np.eye(k, k + 1))
    found = []
    for m in range(layer + 1):
        constant = np.zeros((network.widths[m], k + 1), dtype=object)
        constant[:, k:] = biases[m].integers
        values = (weights[m] @ current) + DyadicArray(constant, biases[m].shift)
        flat = values.fractions()
        found.append([flat[i * (k + 1) : (i + 1) * (k + 1)] for i in range(network.widths[m])])
        if m < layer:
            current = values.keep(signs[m, : network.widths[m]] > 0)
    return found


def exact_length(network: ReluNetwork, inputs: FloatArray, signs: NDArray[np.int8], q: float) -> float | None:
    """The length in l_q of the gradient of a full pattern, rounded upward; exactly 0 where it vanishes.

    Args:
        inputs: (n_1, d), in the place of the first weights.
    Returns:
        None where the network is too large for that.
    """
    if inputs.size + sum(w.size for w in network.weights[1:-1]) > MOST_EXACT:
        return None
    weights, _ = _exact_layers(network)
    row = weights[-1]
    for m in range(network.depth - 1, -1, -1):
        active = signs[m, : network.widths[m]] > 0
        if m:
            row = DyadicArray(row.integers * active.astype(int).astype(object), row.shift) @ weights[m]
        else:
            row = DyadicArray(row.integers[:, active], row.shift) @ DyadicArray.of(inputs[active])
    length = norm_above(row.fractions(), q)
    nearest = float(length)
    return nearest if nearest >= length else math.nextafter(nearest, math.inf)


def empty_by_exact_multipliers(
    rows: Sequence[Sequence[Fraction]], low: FloatArray, high: FloatArray, multipliers: Sequence[float]
) -> list[tuple[int, Fraction]] | None:
    """A proof in exact arithmetic that no point of the box satisfies all rows a x + b > 0.

    Args:
        rows: k slopes and the constant of each.
        multipliers: nearly those of a proof; only which of them are positive is used.
    Returns:
        Rows with multipliers y >= 0, not all 0, such that max over the box of y (A x + b) <= 0: then some row is never
        positive while the others are. None if there is no such proof on the rows whose approximate multipliers are
        positive, with slopes of y A that vanish where they nearly do.
    """
    # Of a row scaled by a factor the multiplier is scaled by its inverse, so that it counts times the size of the row.
    weights = [y * max(abs(float(v)) for v in row) if y > 0 else 0.0 for y, row in zip(multipliers, rows, strict=True)]
    support = [i for i, weight in enumerate(weights) if weight > 1e-7 * max(weights)]
    if not support:
        return None
    k = len(low)
    slopes = [sum(multipliers[i] * float(rows[i][j]) for i in support) for j in range(k)]
    sizes = [sum(multipliers[i] * abs(float(rows[i][j])) for i in support) for j in range(k)]
    vanishing = [j for j in range(k) if abs(slopes[j]) <= 1e-7 * sizes[j]]
    y = _only_null_vector([[rows[i][j] for i in support] for j in vanishing], len(support))
    if y is None:
        return None
    total = sum((v * rows[i][k] for v, i in zip(y, support, strict=True)), Fraction(0))
    for j in range(k):
        slope = sum((v * rows[i][j] for v, i in zip(y, support, strict=True)), Fraction(0))
        total += slope * Fraction(float(high[j] if slope > 0 else low[j]))
    return list(zip(support, y, strict=True)) if total <= 0 else None


def _only_null_vector(matrix: list[list[Fraction]], columns: int) -> list[Fraction] | None:
    """The vector y >= 0 with M y = 0 that is unique up to its scale; None if there is none or more than one."""
    reduced: list[list[Fraction]] = []
    pivots: list[int] = []
    for source in matrix:
        row = list(source)
        for p, other in zip(pivots, reduced, strict=True):
            if row[p]:
                factor = row[p]
                row = [a - factor * b for a, b in zip(row, other, strict=True)]
        pivot = next((j for j, value in enumerate(row) if value), None)
        if pivot is None:
            continue
        row = [value / row[pivot] for value in row]
        for i, other in enumerate(reduced):
            if other[pivot]:
                factor = other[pivot]
                reduced[i] = [a - factor * b for a, b in zip(other, row, strict=True)]
        pivots.append(pivot)
        reduced.append(row)
    free = [j for j in range(columns) if j not in pivots]
    if len(free) != 1:
        return None
    y = [Fraction(0)] * columns
    y[free[0]] = Fraction(1)
    for p, row in zip(pivots, reduced, strict=True):
        y[p] = -row[free[0]]
    if all(value <= 0 for value in y):
        y = [-value for value in y]
    return y if all(value >= 0 for value in y) else None
