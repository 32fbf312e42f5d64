"""Two-hidden-layer threshold networks: what the fully connected construction builds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.bits.features import Words
from solvers.errors import InputError
from solvers.networks.detectors import ThresholdDetectors

if TYPE_CHECKING:
    import torch

__all__ = ["ThresholdNetwork"]


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdNetwork(ThresholdDetectors):
    """Phi(x) = 1[W x + b > 0]; detector k fires on x when <u, Phi(x)> < m for one of its neurons (u, m).

    With two classes there is one detector, for the covered class "-": where it is silent the answer is the other
    class. With more classes every class has one, and a class is answered where its own detector fires and no other
    does; where none or several fire the answer is `NO_CLASS`. A detector may have no neurons: it never
    fires.

    Attributes:
        weights: W, (n, d). biases: b, (n,).
        masks: per detector the packed rows u, (M_k, ceil(n / 64)).
        thresholds: per detector the m, (M_k,).
        detector_classes: per detector the index of its class.
        classes: the labels, sorted.
    Source: [DFG24, Algorithm 2].
    """

    weights: FloatArray
    biases: FloatArray
    masks: tuple[Words, ...]
    thresholds: tuple[NDArray[np.int64], ...]
    detector_classes: tuple[int, ...]
    classes: tuple[object, ...]
    kind: ClassVar[str] = "fully-connected"

    def __post_init__(self) -> None:
        words = -(-self.first_layer_width // 64)
        for mask, threshold in zip(self.masks, self.thresholds, strict=True):
            if mask.shape != (len(threshold), words):
                raise InputError(f"masks must have shape (M, {words}) = ({len(threshold)}, {words}), got {mask.shape}")
        self._check_classes()

    def to_torch(self, device: str = "cpu") -> torch.nn.Module:
        """The network as a module of Linear layers and thresholds; see `threshold_module.ThresholdModule`."""
        from solvers.networks.threshold_module import ThresholdModule

        detectors = self.masks, self.thresholds, self.detector_classes, len(self.classes)
        return ThresholdModule(self.weights, self.biases, *detectors, device)

    def predict(self, points: FloatArray, device: str = "cpu", threads: int | None = None) -> NDArray[np.int64]:
        """Class indices (N,) of points (N, d), by the exported torch module."""
        from solvers.networks.threshold_module import predict

        return predict(self.to_torch(device), points, device, threads)
