"""Classifiers that are ReLU networks: what the fully connected construction builds with sigma(t) = max(t, 0)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.bits.features import Words, unpack_words
from solvers.errors import InputError
from solvers.networks.detectors import LayerSizes, sole_class
from solvers.networks.relu import ReluNetwork

if TYPE_CHECKING:
    import torch

__all__ = ["ReluClassifier", "score_network"]

# Numbers in the widest layer's output for one block of points.
BLOCK_NUMBERS = 2**22


@dataclass(frozen=True, slots=True, eq=False)
class ReluClassifier(LayerSizes):
    """Phi(x) = relu(W x + b); the score of a detector is sum over its neurons (u, m) of relu(m - <u, Phi(x)>), minus c.

    With two classes there is one detector, and its class is answered where its score is positive. With more, a class is
    answered where its score alone is positive.

    Attributes:
        weights: W, (n, d). biases: b, (n,).
        masks: per detector the packed 0/1 rows u, (M_k, ceil(n / 64)).
        thresholds: per detector the m, (M_k,).
        offsets: c of every detector: half the least sum over the points that it covers, so that every score is at
            least c away from 0.
        detector_classes: per detector the index of its class.
        classes: the labels, sorted.
    Source: [DFG24, Algorithm 2], with sigma the ReLU.
    """

    weights: FloatArray
    biases: FloatArray
    masks: tuple[Words, ...]
    thresholds: tuple[FloatArray, ...]
    offsets: tuple[float, ...]
    detector_classes: tuple[int, ...]
    classes: tuple[object, ...]
    kind: ClassVar[str] = "relu"

    @property
    def margin(self) -> float:
        """The least c: a network that interpolates has no score nearer to 0 on any point."""
        return min(self.offsets)

    def rescaled(self, factor: float) -> ReluClassifier:
        """The classifier that answers on factor * x what this one answers on x, up to rounding; factor > 0.

        Its scores are the same, so its Lipschitz constant is this one's divided by the factor.
        """
        return ReluClassifier(
            self.weights / factor,
            self.biases,
            self.masks,
            self.thresholds,
            self.offsets,
            self.detector_classes,
            self.classes,
        )

    def network(self) -> ReluNetwork:
        """The scores as a network, one output per detector.

        Raises:
            InputError: there is no second-layer neuron, so no second layer.
        """
        hidden = self.second_layer_width
        if not hidden:
            raise InputError("the construction found no second-layer neuron: widen the first layer")
        masks = -unpack_words(np.concatenate(self.masks), self.first_layer_width).astype(np.float64)
        output = np.zeros((len(self.thresholds), hidden))
        stops = np.cumsum(self.second_layer_widths)
        for k, (count, stop) in enumerate(zip(self.second_layer_widths, stops.tolist(), strict=True)):
            output[k, stop - count : stop] = 1.0
        return ReluNetwork(
            [self.weights, masks, output],
            [self.biases, np.concatenate(self.thresholds), -np.array(self.offsets)],
        )

    def to_torch(self, device: str = "cpu") -> torch.nn.Module:
        """The scores (N, detectors) as a torch module.

        Raises:
            InputError: there is no second-layer neuron, so no second layer.
        """
        return self.network().to_torch(device)

    def margins(self, device: str = "cpu") -> Callable[[torch.Tensor], torch.Tensor]:
        """Raise InputError: margins count features, and ReLU features are no 0s and 1s."""
        raise InputError("margins are of threshold neurons: take the scores of `network()` for a ReLU classifier")

    def predict(self, points: FloatArray, device: str = "cpu", threads: int | None = None) -> NDArray[np.int64]:
        """Class indices (N,) of points (N, d), by the exported torch module.

        Args:
            threads: not used: torch divides its own work.
        """
        if self.second_layer_width:
            return self.answers(score_network(self.network(), points, device))
        return self.answers(np.tile(-np.array(self.offsets), (len(points), 1)))

    def answers(self, scores: FloatArray) -> NDArray[np.int64]:
        """Class indices (N,) that scores (N, detectors) stand for, `NO_CLASS` where none or several are positive."""
        if len(self.classes) == 2:
            (minus,) = self.detector_classes
            return np.where(scores[:, 0] > 0, minus, 1 - minus).astype(np.int64)
        return sole_class(scores > 0)


def score_network(network: ReluNetwork, points: FloatArray, device: str = "cpu") -> FloatArray:
    """Outputs (N, K) of a network at points (N, d), by its torch module, some points at a time."""
    import torch

    module = network.to_torch(device)
    scores = np.empty((len(points), network.output_dimension))
    rows = max(1, BLOCK_NUMBERS // max(network.widths, default=1))
    with torch.inference_mode():
        for start in range(0, len(points), rows):
            block = torch.tensor(points[start : start + rows], dtype=torch.float64, device=device)
            scores[start : start + rows] = module(block).cpu().numpy()
    return scores
