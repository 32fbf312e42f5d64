"""Compiled geometry of region enumeration: affine rows of a cell, vertices from their facets, signs at vertices.

A vertex is known by the facets that meet in it, so its exact place does not depend on how it was reached. Its float64
coordinates come with a bound on their error, and a sign is handed out only where no error can have changed it; all
others are settled in exact arithmetic (`exact_vertices`).

Facets are numbered: first the F given hyperplanes of the piece (`regions.pieces`), then F + m n + i is the kink of
neuron i of layer m. A mask holds one bit for every facet, in words of 64.

Source: [Hig02, sections 3.1 and 14.4] for the error bounds of sums and of Gauss-Jordan elimination.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import EPSILON, UNDERFLOW

__all__ = [
    "DOUBT",
    "CellRows",
    "RegionNetwork",
    "Solver",
    "bits",
    "compose",
    "count_bits",
    "inner",
    "locate",
    "sign_by_structure",
]

# For functions that are called from compiled code only: the way in from Python takes longest to compile.
_WITHIN: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner = compiled(error_model="numpy", **_WITHIN)
# A sign that float64 and the structure of the layers leave open.
DOUBT = 2

_ONE, _ZERO = np.uint64(1), np.uint64(0)
_PAIRS, _FOURS = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_EIGHTS, _SUM = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)
_S1, _S2, _S4, _S56 = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)


class RegionNetwork(NamedTuple):
    """A bounded piece for the kernels; neurons padded to n, inputs k, gradients along d coordinates.

    Attributes:
        weights (L, max(n, k), n), transposed; biases (L, n), widths (L,): zero where there is no neuron.
        head, turn, sibling: (L, n): of neurons of a layer whose rows are exact multiples, the one that decides for all;
            sign of the factor; the next of them, or -1.
        facet: (L, n): number of the neuron's kink.
        output: (n,), W_L; inputs: (n, d), the first weights along which gradients are taken.
        low, high (k,), given (F, k + 1), slack (F,), at_low, at_high (k,), bias_row, t_facet: as in `Start`.
        separate: whether gradients are taken along other coordinates than the first d of the piece.
    """

    weights: FloatArray
    biases: FloatArray
    widths: NDArray[np.int64]
    head: NDArray[np.int64]
    turn: NDArray[np.int8]
    sibling: NDArray[np.int64]
    facet: NDArray[np.int64]
    output: FloatArray
    inputs: FloatArray
    low: FloatArray
    high: FloatArray
    given: FloatArray
    slack: FloatArray
    at_low: NDArray[np.int64]
    at_high: NDArray[np.int64]
    bias_row: int
    t_facet: int
    separate: bool


class CellRows(NamedTuple):
    """Pre-activations as affine functions on the current cell.

    Attributes:
        rows: (L, k + 1, n): slopes, then the constants.
        errors: (L, n): how far a row may be from the true function, anywhere in the box.
        sizes: (L, n): bound on the sum of absolute terms of a row in the box.
        lengths: (L, n): l_1 norm of the slopes.
        gradients: (L, d, n): derivatives along the inputs.
    """

    rows: FloatArray
    errors: FloatArray
    sizes: FloatArray
    lengths: FloatArray
    gradients: FloatArray


class Solver(NamedTuple):
    """Room for `locate`: rows (F, k + 1), errors (F,), elimination (F, k), inverse (k, 2 k), the rows chosen (k,)."""

    rows: FloatArray
    slack: FloatArray
    elimination: FloatArray
    inverse: FloatArray
    chosen: NDArray[np.int64]
    place: FloatArray
    used_rows: NDArray[np.bool_]
    used_columns: NDArray[np.bool_]


@inner
def bits(word):  # type: ignore[no-untyped-def]
    """How many bits of a uint64 are set."""
    word = word - ((word >> _S1) & _PAIRS)
    word = (word & _FOURS) + ((word >> _S2) & _FOURS)
    word = (word + (word >> _S4)) & _EIGHTS
    return np.int64((word * _SUM) >> _S56)


@inner
def count_bits(mask):  # type: ignore[no-untyped-def]
    """How many facets a mask (W,) holds."""
    total = 0
    for w in range(len(mask)):
        total += bits(mask[w])
    return total


@inner
def compose(net, cell, m, signs):  # type: ignore[no-untyped-def]
    """Fill in the rows of layer m on the cell whose earlier layers carry `signs` (L, n); error bounds beside them."""
    k, d = len(net.low), net.inputs.shape[1]
    count = net.widths[m]
    rows, sizes, lengths, errors = cell.rows[m], cell.sizes[m], cell.lengths[m], cell.errors[m]
    bias = net.biases[m]
    for i in range(count):
        rows[k, i] = bias[i]  # on the first layer
        sizes[i] = abs(bias[i])
        errors[i] = UNDERFLOW
        lengths[i] = 0.0
    if m == 0:
        for t in range(k):
            reach = max(abs(net.low[t]), abs(net.high[t]))
            for i in range(count):
                rows[t, i] = net.weights[0, t, i]
                sizes[i] += abs(rows[t, i]) * reach
                lengths[i] += abs(rows[t, i])
        if net.separate:
            for t in range(d):
                for i in range(count):
                    cell.gradients[0, t, i] = net.inputs[i, t]
        return
    for t in range(k + 1):
        for i in range(count):
            rows[t, i] = bias[i] if t == net.bias_row else 0.0
    if net.separate:
        for t in range(d):
            for i in range(count):
                cell.gradients[m, t, i] = 0.0
    used = 0
    for j in range(net.widths[m - 1]):
        if signs[m - 1, j] <= 0:
            continue
        used += 1
        w = net.weights[m, j]
        error, size = cell.errors[m - 1, j], cell.sizes[m - 1, j]
        for i in range(count):
            sizes[i] += abs(w[i]) * size
            errors[i] += abs(w[i]) * error
        for t in range(k + 1):
            slope = cell.rows[m - 1, t, j]
            for i in range(count):
                rows[t, i] += w[i] * slope
        if net.separate:
            for t in range(d):
                slope = cell.gradients[m - 1, t, j]
                for i in range(count):
                    cell.gradients[m, t, i] += w[i] * slope
    unit = (used + 8) * EPSILON
    for i in range(count):
        sizes[i] *= 1.01
        errors[i] = 1.01 * errors[i] + unit * sizes[i] + UNDERFLOW
    for t in range(k):
        for i in range(count):
            lengths[i] += abs(rows[t, i])


@inner
def sign_by_structure(net, cell, m, i, mask, signs):  # type: ignore[no-untyped-def]
    """The sign of a pre-activation at a vertex, told from the layer below: -1, 0 or 1, all certain, or DOUBT.

    A layer is fed only by active neurons that do not vanish at the vertex, each of them positive there. If their
    weights and the bias agree in sign, so does the sum; without any, the sum is exactly 0. It is how corners of dead
    layers and kinks through them are told apart.

    Args:
        mask: (W,), the facets through the vertex.
        signs: (L, n): of the cell; complete below layer m.
    """
    if m == 0:
        return 0 if cell.sizes[m, i] == 0.0 and cell.lengths[m, i] == 0.0 else DOUBT
    bias = net.biases[m, i]
    if net.t_facet >= 0 and (mask[net.t_facet >> 6] >> np.uint64(net.t_facet & 63)) & _ONE != _ZERO:
        bias = 0.0  # it is multiplied by t
    positive, negative = bias > 0.0, bias < 0.0
    for j in range(net.widths[m - 1]):
        w = net.weights[m, j, i]
        if signs[m - 1, j] > 0 and w != 0.0:
            f = net.facet[m - 1, j]
            if (mask[f >> 6] >> np.uint64(f & 63)) & _ONE == _ZERO:
                if w > 0.0:
                    positive = True
                else:
                    negative = True
                if positive and negative:
                    return DOUBT
    if positive and negative:
        return DOUBT
    return 1 if positive else (-1 if negative else 0)


@compiled(error_model="numpy")
def locate(net, cell, mask, solver):  # type: ignore[no-untyped-def]
    """The point where the facets of a mask (W,) meet: coordinates in `solver.place`; returns a bound on their error.

    With R the rows scaled to largest entry 1, G their computed inverse and r the residuals including all errors of the
    rows: |x - x*| <= |G| (r + 0.011 max r), if |R G - I| <= 0.01. That is ensured by |G| times the backward error of
    the elimination and of the rows; where it is not, the error is infinite.
    """
    k, n, given = len(net.low), net.biases.shape[1], len(net.given)
    count = 0
    narrow = np.inf
    for t in range(k):
        narrow = min(narrow, net.high[t] - net.low[t])
    for w in range(len(mask)):
        word = mask[w]
        while word != _ZERO:
            f = (w << 6) + bits((word & (~word + _ONE)) - _ONE)
            word &= word - _ONE
            row = solver.rows[count]
            if f < given:
                for t in range(k + 1):
                    row[t] = net.given[f, t]
                solver.slack[count] = net.slack[f]
            else:
                m = (f - given) // n
                i = (f - given) - m * n
                scale = 0.0
                for t in range(k):
                    scale = max(scale, abs(cell.rows[m, t, i]))
                if scale == 0.0:
                    continue
                scale = 1.0 / scale
                for t in range(k + 1):
                    row[t] = cell.rows[m, t, i] * scale
                solver.slack[count] = 1.01 * (cell.errors[m, i] + (k + 6) * EPSILON * cell.sizes[m, i]) * scale
            count += 1
    if count < k:
        return np.inf
    if count > k:
        _choose(solver, count, k)
    else:
        for t in range(k):
            solver.chosen[t] = t
    # Gauss-Jordan with partial pivoting on [R | I].
    g = solver.inverse
    for r in range(k):
        source = solver.chosen[r]
        for t in range(k):
            g[r, t] = solver.rows[source, t]
            g[r, k + t] = 1.0 if r == t else 0.0
    for column in range(k):
        lead, largest = column, abs(g[column, column])
        for r in range(column + 1, k):
            if abs(g[r, column]) > largest:
                lead, largest = r, abs(g[r, column])
        if largest < 1e-12:
            return np.inf
        if lead != column:
            for t in range(2 * k):
                g[lead, t], g[column, t] = g[column, t], g[lead, t]
        inverse = 1.0 / g[column, column]
        for t in range(2 * k):
            g[column, t] *= inverse
        for r in range(k):
            factor = g[r, column]
            if r != column and factor != 0.0:
                for t in range(2 * k):
                    g[r, t] -= factor * g[column, t]
    norm, rough = 0.0, 0.0
    for r in range(k):
        total, value = 0.0, 0.0
        for t in range(k):
            total += abs(g[r, k + t])
            value -= g[r, k + t] * solver.rows[solver.chosen[t], k]
        norm = max(norm, total)
        value = min(max(value, net.low[r]), net.high[r])
        if net.at_low[r] >= 0 and (mask[0] >> np.uint64(net.at_low[r])) & _ONE != _ZERO:
            value = net.low[r]
        elif net.at_high[r] >= 0 and (mask[0] >> np.uint64(net.at_high[r])) & _ONE != _ZERO:
            value = net.high[r]
        solver.place[r] = value
    for r in range(k):
        rough = max(rough, solver.slack[solver.chosen[r]])
    if not norm * (k * 2.0 ** (k + 3) * EPSILON + 2.0 * k * rough / narrow) <= 0.01:
        return np.inf
    most = 0.0
    for r in range(k):
        source = solver.chosen[r]
        value = solver.rows[source, k]
        for t in range(k):
            value += solver.rows[source, t] * solver.place[t]
        solver.elimination[r, 0] = abs(value) + solver.slack[source]
        most = max(most, solver.elimination[r, 0])
    error = 0.0
    for r in range(k):
        total = 0.0
        for t in range(k):
            total += abs(g[r, k + t]) * (solver.elimination[t, 0] + 0.011 * most)
        error = max(error, total)
    return 1.01 * error


@inner
def _choose(solver, count, k):  # type: ignore[no-untyped-def]
    """k rows out of more, far from dependent: elimination with complete pivoting."""
    e = solver.elimination
    for r in range(count):
        for t in range(k):
            e[r, t] = solver.rows[r, t]
    rows_used, columns_used = solver.used_rows, solver.used_columns
    for r in range(count):
        rows_used[r] = False
    for t in range(k):
        columns_used[t] = False
    for step in range(k):
        lead, column, largest = -1, -1, -1.0
        for r in range(count):
            if not rows_used[r]:
                for t in range(k):
                    if not columns_used[t] and abs(e[r, t]) > largest:
                        lead, column, largest = r, t, abs(e[r, t])
        rows_used[lead] = True
        columns_used[column] = True
        solver.chosen[step] = lead
        if largest == 0.0:
            continue
        for r in range(count):
            if not rows_used[r]:
                factor = e[r, column] / e[lead, column]
                for t in range(k):
                    e[r, t] -= factor * e[lead, t]
