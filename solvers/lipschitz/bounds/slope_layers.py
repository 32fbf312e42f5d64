"""A network as its slopes: which neurons may have any slope in [0, 1], which have slope 1, without those of slope 0.

Along a segment inside the domain every hidden neuron changes by s times its pre-activation, s in [0, 1]; ranges of the
pre-activations over the domain fix s = 1 or s = 0 for some. Biases do not enter any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.networks.relu import ReluNetwork

__all__ = ["SlopeLayers"]


@dataclass(frozen=True, slots=True, eq=False)
class SlopeLayers:
    """The weights between neurons that are not silent, free ones before active ones in every layer.

    Attributes:
        weights: per hidden layer (n_l, n_{l-1}), n_0 = d; the first `free[l]` rows belong to free neurons.
        free: how many neurons of each hidden layer may have any slope in [0, 1].
        output: v, (n_L,).
        kept: per hidden layer the places (n_l,) of these neurons in the network.
    """

    weights: tuple[FloatArray, ...]
    free: tuple[int, ...]
    output: FloatArray
    kept: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, network: ReluNetwork, signs: Sequence[NDArray[np.int8]] | None = None) -> SlopeLayers:
        """The layers of a one-output network with at least one hidden layer.

        Args:
            signs: per hidden layer (n_l,): 1 for slope 1, -1 for slope 0, 0 for any; all 0 when left out.
        """
        kept, free, weights = [], [], []
        before: NDArray[np.int64] = np.arange(network.input_dimension)
        for k, w in enumerate(network.weights[:-1]):
            sign = np.zeros(len(w), dtype=np.int8) if signs is None else np.asarray(signs[k])[: len(w)]
            loose, active = np.flatnonzero(sign == 0), np.flatnonzero(sign > 0)
            places = np.concatenate([loose, active])
            weights.append(np.ascontiguousarray(w[np.ix_(places, before)]))
            kept.append(places)
            free.append(len(loose))
            before = places
        return cls(tuple(weights), tuple(free), np.array(network.weights[-1][0, before]), tuple(kept))

    @property
    def depth(self) -> int:
        """L, hidden layers."""
        return len(self.weights)

    @property
    def inputs(self) -> int:
        """d."""
        return int(self.weights[0].shape[1])

    def column(self, k: int) -> SlopeLayers:
        """The same layers with the k-th input alone."""
        return SlopeLayers(
            (np.ascontiguousarray(self.weights[0][:, k : k + 1]), *self.weights[1:]), self.free, self.output, self.kept
        )
