"""The layers of convolutional threshold networks as torch modules, exact where torch's own would only be near.

Both convolutions are `torch.nn.Conv2d`, with its parameters, circular 'same' padding and state_dict; loading the state
into plain Conv2d layers gives the same network up to rounding. What they change is how the sums are taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import UNIT_ROUNDOFF
from solvers.bits.fourier_correlations import (
    FourierTables,
    conjugate_blocks,
    fourier_batch,
    fourier_is_exact,
    samples_per_block,
)
from solvers.bits.maps import PackedMaps
from solvers.networks.threshold_module import Step, decision_layer

__all__ = ["AnyOverTranslations", "ConvThresholdModule", "MaskCorrelation2d", "OrderedConv2d"]

# A float32 holds every whole and half number below this exactly.
FLOAT32_COUNTS = 2**22
# Seconds a multiply-add of torch's float32 convolution and of the Fourier way's float64 products, on one core.
SECONDS_DIRECT = 0.15e-10
SECONDS_FOURIER = 1.5e-10
# The plain convolution is kept until the detour clearly pays.
CLEAR_GAIN = 4.0
# Numbers in the first layer's output for one block of samples.
BLOCK_NUMBERS = 2**21
# The same where the sums are taken in order: three arrays of this size fit a second-level cache.
CACHED_NUMBERS = 2**16


class OrderedConv2d(torch.nn.Conv2d):
    """A circular convolution whose signs are those of sums taken in one order at every position.

    torch's own convolution is a matrix product, whose sums may run in another order at another position; a
    pre-activation within rounding of 0 could then have one sign on x and another on a translate of x. The sign meant
    here is that of `ordered`: b_k first, then the products one at a time in the order (c, p, q), each elementwise
    product and sum rounded once. Translates see the same steps, so their signs are translates exactly, on every
    device, and they are the bits of `solvers.bits.maps.packed_features`.

    Where torch's value is further from 0 than both sums can be off, its sign is that sign. Only samples with a value
    closer than that are summed again in order. Traced or exported, the layer is torch's own.
    """

    def __init__(self, channels: int, filters: int, kernel_size: tuple[int, int]) -> None:
        super().__init__(channels, filters, kernel_size, padding="same", padding_mode="circular", dtype=torch.float64)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Pre-activations (N, n, H, W) of images (N, C, H, W), of exact sign."""
        values = super().forward(input)
        if torch.compiler.is_compiling():
            return values
        unsure = (values.abs() <= self._rounding(input)).flatten(1).any(dim=1).nonzero()[:, 0]
        rows = max(1, CACHED_NUMBERS // values[:1].numel())
        for samples in torch.split(unsure, rows):
            values[samples] = self.ordered(input[samples])
        return values

    def _rounding(self, input: torch.Tensor) -> torch.Tensor:
        """How far torch's value and the ordered one can lie apart, shape (N, n, 1, 1).

        Each sum of K + 1 terms in any order is off by at most g_{K+1} (sum |w x| + |b|) [Hig02, section 3.1], and
        sum |w x| <= ||w_k||_2 ||x||_2, as a kernel no larger than the image meets no pixel twice. Factor 4 for two sums
        and the rounding of the bound itself; the constant for products that underflow.
        """
        assert self.bias is not None
        terms = self.weight[0].numel() + 2
        lengths = self.weight.flatten(1).norm(dim=1) * input.flatten(1).norm(dim=1)[:, None] + self.bias.abs()
        return (4 * terms * UNIT_ROUNDOFF * lengths + 1e-300)[:, :, None, None]

    def ordered(self, input: torch.Tensor) -> torch.Tensor:
        """The pre-activations summed in order, shape (N, n, H, W)."""
        assert self.bias is not None
        height, width = input.shape[-2:]
        kernel_height, kernel_width = self.kernel_size
        above, left = (kernel_height - 1) // 2, (kernel_width - 1) // 2
        pads = (left, kernel_width - 1 - left, above, kernel_height - 1 - above)
        padded = torch.nn.functional.pad(input, pads, mode="circular")
        sums = self.bias[:, None, None].repeat(len(input), 1, height, width)
        for c in range(self.in_channels):
            for p in range(kernel_height):
                for q in range(kernel_width):
                    window = padded[:, c : c + 1, p : p + height, q : q + width]
                    sums.add_(self.weight[:, c, p, q, None, None] * window)
        return sums


class MaskCorrelation2d(torch.nn.Conv2d):
    """The second layer: m - 1/2 - <u, T z> for every T, by full-size circular convolution with the filters -u.

    The half keeps every value at least 1/2 away from the threshold. Products are whole numbers, so a direct convolution
    is exact (below 2^22 in float32, below 2^53 in float64); large images go through Fourier transforms in float64,
    rounded to whole numbers where `fourier_is_exact` proves that exact too.

    Args:
        filters: n, maps of the first layer.
        neurons: q.
        size: (H, W) of the maps.
    """

    def __init__(self, filters: int, neurons: int, size: tuple[int, int]) -> None:
        dtype = torch.float32 if filters * size[0] * size[1] < FLOAT32_COUNTS else torch.float64
        super().__init__(filters, neurons, size, padding="same", padding_mode="circular", dtype=dtype)
        half, positions = size[1] // 2 + 1, size[0] * size[1]
        transform = 2 * half * positions + 4 * half * size[0] ** 2
        direct = neurons * filters * positions**2 * SECONDS_DIRECT
        fourier = ((neurons + filters) * transform + 4 * neurons * filters * half * size[0]) * SECONDS_FOURIER
        self.by_fourier = CLEAR_GAIN * fourier < direct and fourier_is_exact(filters, *size)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, q, H, W) from maps (N, n, H, W)."""
        if not self.by_fourier or torch.compiler.is_compiling():
            return super().forward(input)
        assert self.bias is not None
        height, width = self.kernel_size
        tables = FourierTables.of(height, width).map(lambda matrix: torch.tensor(matrix, device=input.device))
        batch = fourier_batch(self.in_channels, height, width)
        step = samples_per_block(self.in_channels, height, width, batch)
        found = torch.empty(len(input), self.out_channels, height, width, dtype=self.weight.dtype, device=input.device)
        for first in range(0, len(input), step):
            spectra = self._spectra(tables, input[first : first + step])
            for begin in range(0, self.out_channels, batch):
                neurons = slice(begin, begin + batch)
                parts = self._spectra(tables, self.weight[neurons]).reshape(tables.frequencies, 2, self.in_channels, -1)
                masks = conjugate_blocks(parts[:, 0].transpose(1, 2), parts[:, 1].transpose(1, 2), torch.cat)
                values = torch.round(tables.back(torch.matmul(masks, spectra))).permute(3, 2, 1, 0)
                found[first : first + step, neurons] = values.to(found.dtype)
        # A 'same' convolution starts reading (H - 1) // 2 above and (W - 1) // 2 left of each position.
        shifted = torch.roll(found, ((height - 1) // 2, (width - 1) // 2), dims=(2, 3))
        return shifted + self.bias[:, None, None]

    def _spectra(self, tables: FourierTables, maps: torch.Tensor) -> torch.Tensor:
        flat = maps.to(torch.float64).permute(3, 2, 1, 0).reshape(tables.width, -1)
        spectra: torch.Tensor = tables.spectra(flat, self.in_channels)
        return spectra


class AnyOverTranslations(torch.nn.Module):
    """Global max-pooling: (N, q, H, W) to (N, q)."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_max_pool2d(values, 1).flatten(1)


class ConvThresholdModule(torch.nn.Module):
    """Conv2d, step, Conv2d, step, global max-pool, linear: scores (N, K) of points (N, d).

    Scores are those of `torch_threshold.decision_layer`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        filters: FloatArray,
        biases: FloatArray,
        masks: Sequence[PackedMaps],
        thresholds: Sequence[NDArray[np.int64]],
        detector_classes: Sequence[int],
        classes: int,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        channels, height, width = shape
        n = len(filters)
        # A detector without neurons never fires; torch wants one row, and a zero filter with bias -1/2 never does.
        hidden = max(sum(len(threshold) for threshold in thresholds), 1)
        self.shape = shape
        self.first = OrderedConv2d(channels, n, (filters.shape[2], filters.shape[3]))
        self.second = MaskCorrelation2d(n, hidden, (height, width))
        self.pool = AnyOverTranslations()
        neurons = [len(threshold) for threshold in thresholds]
        if not sum(neurons):
            # The row of the silent filter belongs to the first detector, which it leaves silent.
            neurons[0] = 1
        self.output = decision_layer(neurons, detector_classes, classes, self.second.weight.dtype)
        self.step = Step()
        assert self.first.bias is not None
        assert self.second.bias is not None
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor(filters))
            self.first.bias.copy_(torch.tensor(biases))
            self.second.weight.zero_()
            self.second.bias.fill_(-0.5)
            start = 0
            for mask, threshold in zip(masks, thresholds, strict=True):
                for row, value in enumerate(threshold.tolist(), start):
                    bits = mask.bits(slice(row - start, row - start + 1))[0].transpose(2, 0, 1)
                    self.second.weight[row] = -torch.tensor(bits, dtype=self.second.weight.dtype)
                    self.second.bias[row] = value - 0.5
                start += len(threshold)
        self.to(device)

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        images = points.reshape(-1, *self.shape)
        if torch.compiler.is_compiling():
            return self._scores(images)
        rows = max(1, BLOCK_NUMBERS // (self.first.out_channels * self.shape[1] * self.shape[2]))
        return torch.cat([self._scores(block) for block in torch.split(images, rows)])

    def _scores(self, images: torch.Tensor) -> torch.Tensor:
        features = self.step(self.first(images)).to(self.second.weight.dtype)
        scores: torch.Tensor = self.output(self.pool(self.step(self.second(features))))
        return scores

    def margins(self, points: torch.Tensor) -> torch.Tensor:
        """m - 1/2 - min over T of <u, T Phi(x)> of every second-layer neuron (N, M): positive where it fires."""
        features = self.step(self.first(points.reshape(-1, *self.shape))).to(self.second.weight.dtype)
        values: torch.Tensor = self.pool(self.second(features))
        return values
