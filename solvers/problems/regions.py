"""Activation patterns and the linear regions they cut out.

Strict interior: a pattern counts only if its region has an interior. At a kink, where pre-activations vanish, any
pattern passes a closed test, and the gradients of those phantom patterns belong to no point of the domain: at the
origin without biases, at corners where a whole layer dies, where neurons coincide. A pre-activation that vanishes
identically on a region with an interior is undetermined, not split: its neuron adds nothing under either sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.networks.relu import ReluNetwork

__all__ = ["INTERIOR_TOLERANCE", "ActivationPattern", "LinearRegion", "pattern_at"]

# Distance to the nearest kink, relative to the size of the point, below which float64 cannot tell the sides apart.
INTERIOR_TOLERANCE = 1e-9

ActivationPattern: TypeAlias = tuple[NDArray[np.bool_], ...]


def pattern_at(network: ReluNetwork, point: FloatArray) -> ActivationPattern:
    """Which neurons are active (pre-activation > 0) at a point of shape (d,): one boolean (n_k,) per hidden layer."""
    return tuple(z > 0 for z in network.pre_activations(point))


@dataclass(frozen=True, slots=True, eq=False)
class LinearRegion:
    """The set of inputs on which a network follows one activation pattern."""

    network: ReluNetwork
    pattern: ActivationPattern

    def __post_init__(self) -> None:
        widths = tuple(len(layer) for layer in self.pattern)
        if widths != self.network.widths:
            raise InputError(f"pattern must have layers of widths {self.network.widths}, got {widths}")

    def affine_maps(self) -> list[tuple[FloatArray, FloatArray]]:
        """Pre-activations of every hidden layer, then the output, as affine maps x -> A x + c on the region.

        Returns:
            L + 1 pairs A (n_k, d), c (n_k,).
        """
        gradient = np.eye(self.network.input_dimension)
        offset = np.zeros(self.network.input_dimension)
        found = []
        for k, (w, b) in enumerate(zip(self.network.weights, self.network.biases, strict=True)):
            gradient, offset = w @ gradient, w @ offset + b
            found.append((gradient, offset))
            if k < self.network.depth:
                active = self.pattern[k]
                gradient, offset = gradient * active[:, None], offset * active
        return found

    def gradient(self) -> FloatArray:
        """W_L D_{L-1} W_{L-1} ... D_0 W_0, with D_k the 0/1 diagonal of layer k.

        Returns:
            Array of shape (outputs, d), exact up to float64 rounding. Emptiness of the region is not checked.
        Source: [DFGSV25, section 2].
        """
        rows = self.network.weights[-1]
        for w, active in zip(reversed(self.network.weights[:-1]), reversed(self.pattern), strict=True):
            rows = (rows * active) @ w
        return rows

    def half_spaces(self) -> tuple[FloatArray, FloatArray]:
        """The region as {x : A x + c >= 0}, rows signed by the pattern, all layers stacked.

        Returns:
            A of shape (sum n_k, d) and c of shape (sum n_k,). A row A = 0, c = 0 is an identically zero
            pre-activation: it cuts nothing and its neuron adds no gradient.
        """
        hidden = self.affine_maps()[:-1]
        if not hidden:
            return np.zeros((0, self.network.input_dimension)), np.zeros(0)
        signs = np.where(np.concatenate(self.pattern), 1.0, -1.0)
        rows = np.concatenate([a for a, _ in hidden])
        offsets = np.concatenate([c for _, c in hidden])
        return rows * signs[:, None], offsets * signs

    def interior_margin(self, point: FloatArray) -> float:
        """Smallest signed Euclidean distance from a point (d,) to a kink of the region; positive strictly inside.

        Identically zero pre-activations are left out; a constant one of the wrong sign gives -inf.
        """
        rows, offsets = self.half_spaces()
        lengths = np.sqrt((rows**2).sum(axis=1))
        flat = lengths == 0
        if (offsets[flat] < 0).any():
            return -np.inf
        if flat.all():
            return np.inf
        return float(((rows[~flat] @ point + offsets[~flat]) / lengths[~flat]).min())

    def strictly_contains(self, point: FloatArray) -> bool:
        """Whether the point lies inside by more than rounding can explain."""
        size = 1.0 + float(np.abs(point).max(initial=0.0))
        return self.interior_margin(point) > INTERIOR_TOLERANCE * size
