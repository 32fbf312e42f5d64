"""Threshold networks as ordinary torch modules. What these modules answer decides whether a network interpolates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.threads import allowed_threads, spread
from solvers.bits.features import (
    Words,
    block_rows,
    feature_blocks,
    informative_order,
    pack_bits,
    unpack_words,
)
from solvers.bits.firing import count_firing
from solvers.bits.instructions import LANES
from solvers.bits.signs import exact_sign, sign_slack
from solvers.networks.detectors import NO_CLASS, sole_class

__all__ = ["ClassIndex", "SignLinear", "Step", "ThresholdModule", "decision_layer", "fixed_linear", "predict"]

# Numbers in a layer's output for one block of points.
BLOCK_NUMBERS = 2**20
# Multiply-adds (a few tenths of a second) beyond which the whole-number layers are evaluated on packed bits.
WORTH_PACKING = 5e9
# Points evaluated at a time where the module divides its own work, and points packed at a time.
ROWS = 4096
PACKED_ROWS = 2**16
# Points counted at a time by one thread, in blocks of 64; second-layer neurons packed at a time.
SHARED_BLOCKS, PACKED_NEURONS = 64, 2048


class Step(torch.nn.Module):
    """1 where the input is positive, else 0."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return (values > 0).to(values.dtype)


class SignLinear(torch.nn.Linear):
    """W x + b with the sign of exact arithmetic; a plain Linear layer up to rounding, and of the same state.

    A float64 sum within rounding of 0 may come out with one sign on one machine or in one batch and another elsewhere.
    Where that could be, the sum is taken again without rounding and its sign given back. Traced or exported, the
    layer is torch's own.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        values = super().forward(input)
        if torch.compiler.is_compiling() or torch._C._get_tracing_state() or not values.numel():
            return values
        largest = input.abs().amax(dim=1, keepdim=True)
        slack = sign_slack(largest, self.weight.abs().sum(dim=1).max(), self.bias.abs().max(), self.in_features)
        sizes = values.abs()
        if bool(sizes.amin() > slack.max()):
            return values
        # At the point 0 the value is the bias itself.
        for row, feature in ((sizes <= slack) & (largest > 0)).nonzero().tolist():
            point, weight = (tensor.detach().cpu().numpy() for tensor in (input[row], self.weight[feature]))
            values[row, feature] = float(exact_sign(point, weight, float(self.bias[feature])))
        return values


def fixed_linear(
    weight: torch.Tensor, bias: torch.Tensor, kind: type[torch.nn.Linear] = torch.nn.Linear
) -> torch.nn.Linear:
    """A Linear layer of given numbers: nothing is drawn from torch's generator, and either side may be empty."""
    layer = kind.__new__(kind)
    torch.nn.Module.__init__(layer)
    layer.out_features, layer.in_features = weight.shape
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    layer.bias = torch.nn.Parameter(bias, requires_grad=False)
    return layer


def decision_layer(
    neurons: Sequence[int], detector_classes: Sequence[int], classes: int, dtype: torch.dtype = torch.float32
) -> torch.nn.Linear:
    """The output layer: the score of a class is positive exactly when the second layer speaks for it.

    With one detector per class: the number of its neurons that fire, minus 1/2. With one detector for two classes:
    that for its class, and the negative of it for the other one.

    Args:
        neurons: second-layer neurons of every detector, in their order.
        detector_classes: the class of every detector.
    """
    weight = torch.zeros(classes, sum(neurons), dtype=dtype)
    bias = torch.full((classes,), -0.5, dtype=dtype)
    start = 0
    for count, k in zip(neurons, detector_classes, strict=True):
        weight[k, start : start + count] = 1.0
        start += count
    if len(detector_classes) == 1:
        other = 1 - detector_classes[0]
        weight[other], bias[other] = -1.0, 0.5
    return fixed_linear(weight, bias)


class ThresholdModule(torch.nn.Module):
    """Linear, step, linear, step, linear: scores (N, K) of points (N, d); a class is answered if its alone is positive.

    The first layer is in float64 and of exact sign. The second adds up whole numbers, exact in float32 up to 2^24
    features; so does the last one. A detector without neurons adds no row anywhere.
    """

    def __init__(
        self,
        weights: FloatArray,
        biases: FloatArray,
        masks: Sequence[Words],
        thresholds: Sequence[NDArray[np.int64]],
        detector_classes: Sequence[int],
        classes: int,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        n = len(biases)
        rows = unpack_words(np.concatenate(masks), n)
        second = torch.from_numpy(rows).to(device=device, dtype=torch.float32).neg_()
        limits = torch.from_numpy(np.concatenate(thresholds)).to(device=device, dtype=torch.float32)
        first = torch.tensor(weights, device=device), torch.tensor(biases, device=device)
        neurons = [len(threshold) for threshold in thresholds]
        self.first = fixed_linear(*first, kind=SignLinear)
        self.second = fixed_linear(second, limits)
        self.output = decision_layer(neurons, detector_classes, classes, torch.float32).to(device)
        self.step = Step()

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        features = self.step(self.first(points)).to(torch.float32)
        scores: torch.Tensor = self.output(self.step(self.second(features)))
        return scores

    def margins(self, points: torch.Tensor) -> torch.Tensor:
        """m - 1/2 - <u, Phi(x)> of every second-layer neuron (N, M): positive where it fires."""
        values: torch.Tensor = self.second(self.step(self.first(points)).to(torch.float32))
        return values - 0.5

    def packed_scores(self, points: FloatArray, threads: int | None = None) -> FloatArray:
        """The scores of `forward` for many points (N, d), counted on packed bits from this module's own tensors.

        The signs of the first layer are exact both ways and all later sums are of whole numbers and halves, so the
        scores are the same numbers. On the processor only, and with at least one second-layer neuron.

        Args:
            threads: that share the points; when left out one for few points, else as many as torch may use.
        """
        order = informative_order(points, self.first.weight.numpy(), self.first.bias.numpy())
        weights, biases = self.first.weight.numpy()[order], self.first.bias.numpy()[order]
        second = self.second.weight.numpy()
        starts = range(0, len(second), PACKED_NEURONS)
        masks = np.concatenate([pack_bits((second[k : k + PACKED_NEURONS] != 0)[:, order]) for k in starts])
        thresholds = self.second.bias.numpy().astype(np.int64)
        # Neurons with the same outgoing weights are counted together.
        columns, owners = np.unique(self.output.weight.numpy().astype(np.float64), axis=1, return_inverse=True)
        scores = np.empty((len(points), self.output.out_features))
        threads = allowed_threads(len(points) * len(weights), threads)
        for start in range(0, len(points), PACKED_ROWS):
            part = np.arange(start, min(start + PACKED_ROWS, len(points)))
            blocks = feature_blocks(points, block_rows([part])[0], weights, biases, threads)
            firing = np.zeros((len(blocks), columns.shape[1], LANES), dtype=np.int64)

            def count(first: int, blocks: Words = blocks, firing: NDArray[np.int64] = firing) -> None:
                these = slice(first, first + SHARED_BLOCKS)
                count_firing(blocks[these], masks, thresholds, owners, firing[these])

            spread(count, range(0, len(blocks), SHARED_BLOCKS), threads)
            counts = firing.transpose(0, 2, 1).reshape(-1, columns.shape[1])[: len(part)]
            scores[part] = counts @ columns.T + self.output.bias.numpy()
        return scores


class ClassIndex(torch.nn.Module):
    """A threshold module's answer: class indices (N,) of points (N, d), `NO_CLASS` for none; what is exported."""

    def __init__(self, scores: torch.nn.Module) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        spoken_for = (self.scores(points.to(torch.float64)) > 0).to(torch.int64)
        return torch.where(spoken_for.sum(dim=1) == 1, spoken_for.argmax(dim=1), NO_CLASS)


def predict(
    module: torch.nn.Module, points: FloatArray, device: str = "cpu", threads: int | None = None
) -> NDArray[np.int64]:
    """Class indices (N,): the class whose score alone is positive, `NO_CLASS` where none is or several are.

    Args:
        threads: for large problems; when left out as many as torch may use.
    """
    rows = ROWS
    if isinstance(module, ThresholdModule):
        n, hidden = module.first.out_features, module.second.out_features
        if hidden and device == "cpu" and len(points) * n * (module.first.in_features + hidden) > WORTH_PACKING:
            return sole_class(module.packed_scores(points, threads) > 0)
        rows = max(1, BLOCK_NUMBERS // max(n, hidden))
    found = np.empty(len(points), dtype=np.int64)
    with torch.inference_mode():
        for start in range(0, len(points), rows):
            block = torch.tensor(points[start : start + rows], dtype=torch.float64, device=device)
            found[start : start + len(block)] = sole_class(module(block).cpu().numpy() > 0)
    return found
