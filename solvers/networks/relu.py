"""Feed-forward ReLU networks as frozen lists of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["ReluNetwork"]


def _frozen(array: ArrayLike, name: str) -> FloatArray:
    try:
        values = np.array(array, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be an array of real numbers") from None
    if not np.isfinite(values).all():
        raise InputError(f"{name} holds NaN or infinite values: a Lipschitz constant needs finite weights")
    values.setflags(write=False)
    return values


@dataclass(frozen=True, slots=True, eq=False)
class ReluNetwork:
    """f(x) = W_L s(W_{L-1} s(... s(W_0 x + b_0) ...) + b_{L-1}) + b_L with s(t) = max(t, 0).

    Attributes:
        weights: W_0, ..., W_L; W_l has shape (n_{l+1}, n_l): rows are outputs, n_0 = d.
        biases: b_0, ..., b_L; b_l has shape (n_{l+1},).

    Arrays are copied, checked for shape and finiteness, and made read-only. L = 0 (an affine map) is allowed.
    Source: [DFGSV25, equation (1.1)].
    """

    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]

    def __init__(self, weights: Sequence[ArrayLike], biases: Sequence[ArrayLike]) -> None:
        matrices = tuple(_frozen(w, f"weights[{k}]") for k, w in enumerate(weights))
        vectors = tuple(_frozen(b, f"biases[{k}]") for k, b in enumerate(biases))
        if not matrices:
            raise InputError("a network needs at least one layer, got no weights")
        if len(matrices) != len(vectors):
            raise InputError(f"a network needs one bias per weight, got {len(matrices)} weights, {len(vectors)} biases")
        columns = matrices[0].shape[1] if matrices[0].ndim == 2 else -1
        for k, (w, b) in enumerate(zip(matrices, vectors, strict=True)):
            if w.ndim != 2 or 0 in w.shape:
                raise InputError(f"weights[{k}] must be a matrix (outputs, inputs) with no empty side, got {w.shape}")
            if w.shape[1] != columns:
                hint = ": rows are outputs, so pass the transpose" if w.shape[0] == columns else ""
                raise InputError(f"weights[{k}] must have {columns} columns to follow its layer, got {w.shape}{hint}")
            if b.shape != (w.shape[0],):
                raise InputError(f"biases[{k}] must have shape ({w.shape[0]},), got {b.shape}")
            columns = w.shape[0]
        object.__setattr__(self, "weights", matrices)
        object.__setattr__(self, "biases", vectors)

    @property
    def input_dimension(self) -> int:
        """d."""
        return int(self.weights[0].shape[1])

    @property
    def output_dimension(self) -> int:
        return int(self.weights[-1].shape[0])

    @property
    def depth(self) -> int:
        """L, the number of hidden layers."""
        return len(self.weights) - 1

    @property
    def widths(self) -> tuple[int, ...]:
        """n_1, ..., n_L: neurons of each hidden layer."""
        return tuple(int(w.shape[0]) for w in self.weights[:-1])

    @property
    def is_homogeneous(self) -> bool:
        """Whether every hidden bias is zero, so that the gradient is constant along rays from the origin."""
        return not any(b.any() for b in self.biases[:-1])

    def pre_activations(self, points: FloatArray) -> list[FloatArray]:
        """W_l a_l + b_l of every hidden layer.

        Args:
            points: shape (..., d).
        Returns:
            One array of shape (..., n_{l+1}) per hidden layer l.
        """
        values = np.asarray(points, dtype=np.float64)
        if values.shape[-1] != self.input_dimension:
            raise InputError(f"points must have shape (..., {self.input_dimension}), got {values.shape}")
        found = []
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            values = values @ w.T + b
            found.append(values)
            values = np.maximum(values, 0.0)
        return found

    def evaluate(self, points: FloatArray) -> FloatArray:
        """f at points of shape (..., d); returns shape (..., outputs)."""
        hidden = self.pre_activations(points)
        values = np.maximum(hidden[-1], 0.0) if hidden else np.asarray(points, dtype=np.float64)
        return values @ self.weights[-1].T + self.biases[-1]

    def select_output(self, output: int) -> ReluNetwork:
        """The network of one output.

        Raises:
            InputError: there is no such output.
        """
        return self._combine_outputs(self._selector(output))

    def margin(self, first: int, second: int) -> ReluNetwork:
        """The network f_first - f_second: the margin between two classes."""
        if first == second:
            raise InputError(f"a margin needs two different outputs, got {first} twice")
        return self._combine_outputs(self._selector(first) - self._selector(second))

    def _selector(self, output: int) -> FloatArray:
        if not 0 <= output < self.output_dimension:
            raise InputError(f"output must lie in 0..{self.output_dimension - 1}, got {output}")
        row = np.zeros((1, self.output_dimension))
        row[0, output] = 1.0
        return row

    def _combine_outputs(self, row: FloatArray) -> ReluNetwork:
        return ReluNetwork(
            (*self.weights[:-1], row @ self.weights[-1]),
            (*self.biases[:-1], row @ self.biases[-1]),
        )

    def to_torch(self, device: str = "cpu") -> torch.nn.Sequential:
        """The same function as a float64 `torch.nn.Sequential` of Linear and ReLU."""
        import torch

        layers: list[torch.nn.Module] = []
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            linear = torch.nn.Linear(w.shape[1], w.shape[0], dtype=torch.float64, device=device)
            with torch.no_grad():
                linear.weight.copy_(torch.tensor(w))
                linear.bias.copy_(torch.tensor(b))
            layers.append(linear)
            if k < self.depth:
                layers.append(torch.nn.ReLU())
        return torch.nn.Sequential(*layers)
