"""Signs of pre-activations at vertices in rational arithmetic, for those that float64 leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rationals import DyadicArray
from solvers.networks.relu import ReluNetwork

__all__ = ["ExactVertices"]


class ExactVertices:
    """Affine rows and vertices of the cells of one piece, exactly; the last cell's are kept.

    Facets are numbered as in `regions.geometry`.

    Args:
        network: of the piece.
        given: (F, k + 1), hyperplanes of the first cell.
        bias_row: the coordinate that biases behind the first layer are multiplied by, k for none.
        padded: neurons a layer in the numbering of facets.
    """

    def __init__(self, network: ReluNetwork, given: FloatArray, bias_row: int, padded: int) -> None:
        self.network, self.padded, self.bias_row = network, padded, bias_row
        self.given = [[Fraction(value) for value in row] for row in given.tolist()]
        self._weights: list[DyadicArray] = []
        self._layers: list[tuple[bytes, DyadicArray, list[list[Fraction]]]] = []

    def rows(self, signs: NDArray[np.int8], layer: int) -> list[list[Fraction]]:
        """Pre-activations of a layer on the cell whose earlier layers carry `signs` (L, n): k slopes, the constant."""
        k = self.network.input_dimension
        if not self._weights:  # on the first question: most networks never ask one
            self._weights = [DyadicArray.of(w) for w in self.network.weights[:-1]]
        for m in range(layer + 1):
            key = signs[m - 1, : self.network.widths[m - 1]].tobytes() if m else b""
            if m < len(self._layers):
                if self._layers[m][0] == key:
                    continue
                del self._layers[m:]
            constant = np.zeros((self.network.widths[m], k + 1))
            constant[:, self.bias_row if m else k] = self.network.biases[m]
            if m:
                below = self._layers[m - 1][1].keep(signs[m - 1, : self.network.widths[m - 1]] > 0)
            else:
                below = DyadicArray.of(np.eye(k, k + 1))
            values = (self._weights[m] @ below) + DyadicArray.of(constant)
            flat = values.fractions()
            count = self.network.widths[m]
            self._layers.append((key, values, [flat[i * (k + 1) : (i + 1) * (k + 1)] for i in range(count)]))
        return self._layers[layer][2]

    def vertex(self, signs: NDArray[np.int8], mask: NDArray[np.uint64]) -> list[Fraction]:
        """The point (k,) in which the facets of a mask (W,) meet.

        Raises:
            ArithmeticError: they do not meet in one point: a bug of ours.
        """
        k = self.network.input_dimension
        system = []
        for facet in _facets(mask):
            if facet < len(self.given):
                system.append(self.given[facet])
            else:
                m, i = divmod(facet - len(self.given), self.padded)
                system.append(self.rows(signs, m)[i])
        return _solve(system, k)

    def sign(self, signs: NDArray[np.int8], layer: int, neuron: int, vertex: Sequence[Fraction]) -> int:
        """Of a pre-activation at a point (k,)."""
        row = self.rows(signs, layer)[neuron]
        value = row[-1] + sum((a * x for a, x in zip(row[:-1], vertex, strict=True)), Fraction(0))
        return (value > 0) - (value < 0)


def _facets(mask: NDArray[np.uint64]) -> list[int]:
    return [64 * w + b for w, word in enumerate(mask.tolist()) for b in range(64) if word >> b & 1]


def _solve(system: list[list[Fraction]], k: int) -> list[Fraction]:
    """The one solution of a x + b = 0 for all rows, of which there may be more than k."""
    left = [list(row) for row in system]
    for column in range(k):
        lead = next((r for r in range(column, len(left)) if left[r][column]), None)
        if lead is None:
            raise ArithmeticError("the facets of a vertex do not meet in one point")
        left[column], left[lead] = left[lead], left[column]
        pivot = left[column][column]
        left[column] = [value / pivot for value in left[column]]
        for r in range(len(left)):
            if r != column and left[r][column]:
                factor = left[r][column]
                left[r] = [a - factor * b for a, b in zip(left[r], left[column], strict=True)]
    if any(row[k] for row in left[k:]):
        raise ArithmeticError("the facets of a vertex do not meet in one point")
    return [-row[k] for row in left[:k]]
