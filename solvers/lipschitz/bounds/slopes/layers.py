"""A network as its slopes: which neurons may have any slope in [0, 1], which have slope 1, without those of slope 0.

Along a segment inside the domain every hidden neuron changes by s times its pre-activation, s in [0, 1]; ranges of the
pre-activations over the domain fix s = 1 or s = 0 for some. Biases do not enter any more.

Every neuron is scaled by a power of two, until its largest weight lies in [1/2, 1): relu(c z) = c relu(z). That rounds
nothing, and keeps what is computed far from over- and underflow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.networks.relu import ReluNetwork

__all__ = ["NO_CODE", "SlopeLayers", "in_units", "scaled_weights"]

# Stands for no multiplier among their codes (`slopes.grid`): no code of a number that a program may use is so small.
NO_CODE = -(2**15)
# Scaled weights that are not 0 are larger than this, or nothing is proved: products of a few stay far from underflow.
LEAST = 1e-120
# Powers of two beyond this are as good as infinite.
MOST_SHIFT = 4000
# Weights that are scaled at once.
ENTRIES_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class SlopeLayers:
    """The scaled weights between neurons that are not silent, free ones before active ones in every layer.

    Attributes:
        weights: per hidden layer (n_l, n_{l-1}), n_0 = d; the first `free[l]` rows belong to free neurons.
        free: how many neurons of each hidden layer may have any slope in [0, 1].
        output: v, (n_L,).
        kept: per hidden layer the places (n_l,) of these neurons in the network.
        shifts: per layer of the network (n_l,): by which power of two each neuron was divided.
        representable: whether scaling lost nothing.
    """

    weights: tuple[FloatArray, ...]
    free: tuple[int, ...]
    output: FloatArray
    kept: tuple[NDArray[np.int64], ...]
    shifts: tuple[NDArray[np.int64], ...]
    representable: bool

    @classmethod
    def of(cls, network: ReluNetwork, signs: Sequence[NDArray[np.int8]] | None = None) -> SlopeLayers:
        """The layers of a one-output network with at least one hidden layer.

        Args:
            signs: per hidden layer (n_l,): 1 for slope 1, -1 for slope 0, 0 for any; all 0 when left out.
        """
        scaled, shifts, representable = scaled_weights(network.weights)
        kept, free, weights = [], [], []
        before: NDArray[np.int64] = np.arange(network.input_dimension)
        for k, w in enumerate(scaled[:-1]):
            sign = np.zeros(len(w), dtype=np.int8) if signs is None else np.asarray(signs[k])[: len(w)]
            moving = w[:, before].any(axis=1)
            loose, active = np.flatnonzero((sign == 0) & moving), np.flatnonzero((sign > 0) & moving)
            places = np.concatenate([loose, active])
            # Large layers are not copied where all is in its place.
            stays = np.array_equal(places, np.arange(len(w))) and np.array_equal(before, np.arange(w.shape[1]))
            weights.append(w if stays else np.ascontiguousarray(w[np.ix_(places, before)]))
            kept.append(places)
            free.append(len(loose))
            before = places
        output = np.array(scaled[-1][0, before])
        return cls(tuple(weights), tuple(free), output, tuple(kept), tuple(shifts), representable)

    @property
    def depth(self) -> int:
        """L, hidden layers."""
        return len(self.weights)

    @property
    def inputs(self) -> int:
        """d."""
        return int(self.weights[0].shape[1])

    @property
    def exponent(self) -> int:
        """The network's output is 2^exponent times the scaled one."""
        return int(self.shifts[-1][0])

    @property
    def is_constant(self) -> bool:
        """Whether no input reaches the output."""
        return not self.output.any() or min(len(w) for w in self.weights) == 0

    def listed(self, widths: Sequence[int], multipliers: Sequence[FloatArray]) -> list[list[float]]:
        """Per hidden layer a number for every neuron of the network: that of a free neuron, 0 for a decided slope."""
        found = []
        for n, free, kept, part in zip(widths, self.free, self.kept, multipliers, strict=True):
            values = np.zeros(n)
            values[kept[:free]] = part
            found.append(values.tolist())
        return found

    def column(self, k: int) -> SlopeLayers:
        """The same layers with the k-th input alone."""
        first = np.ascontiguousarray(self.weights[0][:, k : k + 1])
        return SlopeLayers(
            (first, *self.weights[1:]), self.free, self.output, self.kept, self.shifts, self.representable
        )


def scaled_weights(weights: Sequence[FloatArray]) -> tuple[list[FloatArray], list[NDArray[np.int64]], bool]:
    """Weights with rows whose largest entry lies in [1/2, 1), the powers of two of all rows, and whether none is lost.

    Some rows at a time: whole layers of exponents would take more memory than the weights.
    """
    exponents = np.zeros(weights[0].shape[1], dtype=np.int64)
    found, shifts, representable = [], [], True
    for w in weights:
        scaled, following = np.empty_like(w), np.zeros(len(w), dtype=np.int64)
        step = max(1, ENTRIES_AT_ONCE // w.shape[1])
        for start in range(0, len(w), step):
            part = w[start : start + step]
            there = part != 0
            powers = np.where(there, np.frexp(part)[1] + exponents, -(1 << 40))
            rows = np.where(there.any(axis=1), powers.max(axis=1, initial=-(1 << 40)), 0)
            shift = np.clip(exponents - rows[:, None], -MOST_SHIFT, MOST_SHIFT).astype(np.int32)
            moved = np.where(there, np.ldexp(np.where(there, part, 0.0), shift), 0.0)
            representable &= bool((np.abs(moved[there]) > LEAST).all())
            scaled[start : start + step], following[start : start + step] = moved, rows
        found.append(scaled)
        shifts.append(following)
        exponents = following
    return found, shifts, representable


def in_units(bound: float, exponent: int) -> float:
    """bound * 2^exponent, rounded upward."""
    size = math.frexp(bound)[1] + exponent
    if size > 1024:
        return math.inf
    found = math.ldexp(bound, exponent)
    return found if size > -1000 else math.nextafter(found, math.inf)
