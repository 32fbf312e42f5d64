"""Translation-invariant convolutional threshold networks: what the convolutional construction builds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.bits.correlations import Method, least_products
from solvers.bits.images import as_images
from solvers.bits.maps import PackedMaps, packed_features
from solvers.errors import InputError
from solvers.networks.detectors import ThresholdDetectors, sole_class

if TYPE_CHECKING:
    import torch

__all__ = ["ConvThresholdNetwork"]

# Points whose features are held at a time.
ROWS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class ConvThresholdNetwork(ThresholdDetectors):
    """Phi is a circular convolution with thresholds (`solvers.bits.maps`); detector k fires on x when
    min over all H W cyclic translations T of <u, T Phi(x)> < m for one of its neurons (u, m).

    Detectors, classes and the answer are those of `ThresholdNetwork`: one detector for two classes, K for K > 2, and
    then the class whose detector alone fires, `NO_CLASS` where none or several do. F(T x) = F(x) holds exactly, in
    floating point too, because Phi is evaluated in an order that no translation changes.

    Attributes:
        shape: (C, H, W) of a point; 1-D signals have H = 1.
        filters: first layer, (n, C, kh, kw). biases: (n,).
        masks: per detector the packed 0/1 filters u, (M_k, n, H, W).
        thresholds: per detector the m, (M_k,).
        detector_classes: per detector the index of its class.
        classes: the labels, sorted.
    Source: the translation-invariant variant of [DFG24, Algorithm 2] in [FinkeThesis].
    """

    shape: tuple[int, int, int]
    filters: FloatArray
    biases: FloatArray
    masks: tuple[PackedMaps, ...]
    thresholds: tuple[NDArray[np.int64], ...]
    detector_classes: tuple[int, ...]
    classes: tuple[object, ...]
    kind: ClassVar[str] = "convolutional"

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        wanted = f"(n, {channels}, kh, kw) with kh <= {height}, kw <= {width}"
        if self.filters.ndim != 4 or self.filters.shape[1] != channels or 0 in self.filters.shape:
            raise InputError(f"filters must have shape {wanted}, got {self.filters.shape}")
        if self.filters.shape[2] > height or self.filters.shape[3] > width:
            raise InputError(f"filters must have shape {wanted}, got {self.filters.shape}")
        if self.biases.shape != (len(self.filters),):
            raise InputError(f"biases must have shape ({len(self.filters)},), got {self.biases.shape}")
        for mask, threshold in zip(self.masks, self.thresholds, strict=True):
            size = len(threshold), len(self.filters), height, width
            got = (len(mask), mask.filters, mask.height, mask.width)
            if got != size:
                raise InputError(f"masks must have shape (M, n, H, W) = {size}, got {got}")
        self._check_classes()

    @property
    def weights(self) -> FloatArray:
        """The filters, by the name that first layers of all networks have."""
        return self.filters

    @property
    def positions(self) -> int:
        """H W."""
        return self.shape[1] * self.shape[2]

    @property
    def inputs(self) -> int:
        """d = C H W."""
        return math.prod(self.shape)

    @property
    def widest(self) -> int:
        """Numbers that one point brings about in the widest layer."""
        # The second convolution reads images wrapped to nearly twice their height and width.
        return max(self.first_layer_width, self.second_layer_width) * 4 * self.positions

    def firing(self, points: FloatArray, method: Method | None = None) -> NDArray[np.int64]:
        """Neurons of every detector that fire, shape (N, detectors), from packed bits."""
        images = as_images(np.asarray(points, dtype=np.float64), self.shape)
        found = np.zeros((len(images), len(self.masks)), np.int64)
        for begin in range(0, len(images), ROWS):
            rows = slice(begin, begin + ROWS)
            maps = packed_features(images[rows], self.filters, self.biases)
            for k, (mask, threshold) in enumerate(zip(self.masks, self.thresholds, strict=True)):
                if len(threshold):
                    found[rows, k] = (least_products(mask, maps, method) < threshold[:, None]).sum(axis=0)
        return found

    def evaluate(self, points: FloatArray, method: Method | None = None) -> NDArray[np.int64]:
        """Class indices (N,) of points (N, d) or (N, C, H, W), from packed bits: quicker than `predict`, same answers.

        Args:
            method: how the products are counted; chosen by size when left out.
        """
        firing = self.firing(points, method)
        if len(self.detector_classes) == 1:
            covered = self.detector_classes[0]
            return np.where(firing[:, 0] > 0, covered, 1 - covered)
        return sole_class(firing > 0)

    def to_torch(self, device: str = "cpu") -> torch.nn.Module:
        """The network as Conv2d, step, Conv2d, step, max-pool and Linear; see `conv_module.ConvThresholdModule`."""
        from solvers.networks.conv_module import ConvThresholdModule

        detectors = self.masks, self.thresholds, self.detector_classes, len(self.classes)
        return ConvThresholdModule(self.shape, self.filters, self.biases, *detectors, device)

    def predict(self, points: FloatArray, device: str = "cpu", threads: int | None = None) -> NDArray[np.int64]:
        """Class indices (N,) of points (N, d) or (N, C, H, W), by the exported torch module."""
        from solvers.networks.threshold_module import predict

        images = as_images(np.asarray(points, dtype=np.float64), self.shape)
        return predict(self.to_torch(device), images, device, threads)
