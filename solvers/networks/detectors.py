"""Sizes of the networks that the constructions build: two hidden layers, the second one split among detectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray

__all__ = ["NO_CLASS", "LayerSizes", "sole_class"]

# What a network answers where no detector fires, or more than one.
NO_CLASS = -1


def sole_class(spoken_for: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Class indices (N,) from which classes (N, K) are spoken for: the only one, `NO_CLASS` for none or several."""
    alone = spoken_for.sum(axis=1) == 1
    return np.where(alone, spoken_for.argmax(axis=1), NO_CLASS).astype(np.int64)


class LayerSizes:
    """Widths and parameters, from the biases of the first layer and the thresholds of every detector's neurons."""

    __slots__ = ()

    biases: FloatArray
    thresholds: tuple[NDArray[Any], ...]
    detector_classes: tuple[int, ...]

    @property
    def first_layer_width(self) -> int:
        """n, neurons or filters of the first layer."""
        return len(self.biases)

    @property
    def second_layer_widths(self) -> tuple[int, ...]:
        """Neurons of every detector."""
        return tuple(len(threshold) for threshold in self.thresholds)

    @property
    def second_layer_width(self) -> int:
        """Neurons of all detectors together."""
        return sum(self.second_layer_widths)

    def _parameters(self, first: FloatArray, features: int) -> int:
        """Weights and biases of all layers, from the first one's weights and the features that a second neuron sees."""
        hidden = self.second_layer_width
        return first.size + self.first_layer_width + hidden * (features + 1) + hidden + len(self.detector_classes)
