"""A bounded piece of a problem as arrays for compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.bounds.exact_patterns import parallel_rows
from solvers.networks.relu import ReluNetwork
from solvers.problems.facets import BoundedPiece
from solvers.problems.witnesses import rounding_slack

__all__ = ["FEW_DIMENSIONS", "KernelArrays", "PieceArrays"]

# Dimensions up to which linear programs decide neurons of all layers, not only of the last.
FEW_DIMENSIONS = 5


class KernelArrays(NamedTuple):
    """A bounded piece of a problem, padded; see `bounds.ranges` for the meaning of the arrays.

    Attributes:
        directions: (d, C): with `dual`, ||g||_q is the largest |<g, c>| over its columns.
        along_inputs: (n_1, C): products of inputs and directions.
        slack: rounding of a gradient in l_q.
        tight: the first layer whose neurons linear programs try to decide.
        stop: (1,): not 0 once time is up; another thread may set it.
    """

    weights: FloatArray
    biases: FloatArray
    widths: NDArray[np.int64]
    group: NDArray[np.int64]
    turn: NDArray[np.int8]
    low: FloatArray
    high: FloatArray
    output: FloatArray
    inputs: FloatArray
    directions: FloatArray
    along_inputs: FloatArray
    q: float
    dual: bool
    slack: float
    tight: int
    stop: NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class PieceArrays:
    """A bounded piece with at least one hidden layer, as arrays for the kernels."""

    network: ReluNetwork
    kernel: KernelArrays

    @classmethod
    def of(
        cls, piece: BoundedPiece, directions: FloatArray | None, stop: NDArray[np.int8] | None = None
    ) -> PieceArrays:
        """Pad the layers of a piece; `directions` as `directions.dual_directions` gives them, `stop` of a kernel."""
        network, q = piece.network, piece.problem.dual_p
        k, widths = network.input_dimension, network.widths
        n, depth = max(widths), network.depth
        weights, biases = np.zeros((depth, n, max(n, k))), np.zeros((depth, n))
        group, turn = np.tile(np.arange(n), (depth, 1)), np.ones((depth, n), dtype=np.int8)
        for m in range(depth):
            w, b = network.weights[m], network.biases[m]
            weights[m, : w.shape[0], : w.shape[1]] = w
            biases[m, : len(b)] = b
            group[m, : len(b)], turn[m, : len(b)] = parallel_rows(w, b)
        columns = np.eye(piece.inputs.shape[1]) if directions is None else np.ascontiguousarray(directions.T)
        output = np.zeros(n)
        output[: widths[-1]] = network.weights[-1][0]
        kernel = KernelArrays(
            weights,
            biases,
            np.array(widths),
            group,
            turn,
            piece.box.lower.copy(),
            piece.box.upper.copy(),
            output,
            np.array(piece.inputs, order="C"),  # a copy: kernels compile once more for read-only arrays
            columns,
            np.ascontiguousarray(piece.inputs @ columns),
            float(q),
            directions is not None,
            4 * rounding_slack(piece.problem.network, q),
            0 if k <= FEW_DIMENSIONS else depth - 1,
            np.zeros(1, dtype=np.int8) if stop is None else stop,
        )
        return cls(network, kernel)

    def thorough(self) -> PieceArrays:
        """The piece, with linear programs that look at every layer: beside programs over slopes they are cheap."""
        return replace(self, kernel=self.kernel._replace(tight=0))

    @property
    def depth(self) -> int:
        return self.network.depth

    @property
    def padded(self) -> int:
        """n, the width that all layers are padded to."""
        return int(self.kernel.biases.shape[1])
