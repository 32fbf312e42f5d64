"""Threshold networks as ordinary torch modules. What these modules answer decides whether a network interpolates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from solvers.norms import FloatArray

__all__ = ["Step", "ThresholdModule", "predict"]

# Points evaluated at a time.
ROWS = 4096


class Step(torch.nn.Module):
    """1 where the input is positive, else 0."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return (values > 0).to(values.dtype)


class ThresholdModule(torch.nn.Module):
    """Linear, step, linear, step, linear: scores (N, K) of points (N, d), the largest one wins.

    The first layer is in float64. The second adds up whole numbers, exact in float32 up to 2^24 features. The score
    of a class is the number of its neurons that fire; with one detector the other class scores a constant 1/2.
    """

    def __init__(
        self,
        weights: FloatArray,
        biases: FloatArray,
        masks: Sequence[NDArray[np.bool_]],
        thresholds: Sequence[NDArray[np.int64]],
        detector_classes: Sequence[int],
        classes: int,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        n, d = weights.shape
        hidden = sum(len(threshold) for threshold in thresholds)
        self.first = torch.nn.Linear(d, n, dtype=torch.float64, device=device)
        self.second = torch.nn.Linear(n, max(hidden, 1), dtype=torch.float32, device=device)
        self.output = torch.nn.Linear(max(hidden, 1), classes, dtype=torch.float32, device=device)
        self.step = Step()
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor(weights))
            self.first.bias.copy_(torch.tensor(biases))
            # A detector without neurons never fires; torch wants one row, and a zero row with bias 0 never does.
            self.second.weight.zero_()
            self.second.bias.zero_()
            self.output.weight.zero_()
            self.output.bias.zero_()
            start = 0
            for mask, threshold, k in zip(masks, thresholds, detector_classes, strict=True):
                stop = start + len(threshold)
                self.second.weight[start:stop] = -torch.tensor(mask.astype(np.float32))
                self.second.bias[start:stop] = torch.tensor(threshold.astype(np.float32))
                self.output.weight[k, start:stop] = 1.0
                start = stop
            if len(detector_classes) == 1:
                self.output.bias[1 - detector_classes[0]] = 0.5

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        features = self.step(self.first(points)).to(torch.float32)
        scores: torch.Tensor = self.output(self.step(self.second(features)))
        return scores


def predict(module: torch.nn.Module, points: FloatArray, device: str = "cpu") -> NDArray[np.int64]:
    """Class indices (N,): the largest score, -1 where every score is 0."""
    found = np.empty(len(points), dtype=np.int64)
    with torch.inference_mode():
        for start in range(0, len(points), ROWS):
            block = torch.tensor(points[start : start + ROWS], dtype=torch.float64, device=device)
            score, label = module(block).max(dim=1)
            found[start : start + len(block)] = torch.where(score > 0, label, -1).cpu().numpy()
    return found
