"""Circular cross-correlations of 0/1 feature maps by Fourier transforms, with a proved rounding error.

Transforms are separable float64 matrix products rather than a library's FFT: the error of a matrix product is bounded
by |A||B| in whatever order a BLAS sums [Hig02, section 3.5],
while a bound for an FFT depends on how that FFT is written. At the sizes of images the products are also quicker.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import UNIT_ROUNDOFF
from solvers.bits.maps import PackedMaps

__all__ = [
    "CorrelationTransform",
    "FourierTables",
    "conjugate_blocks",
    "fourier_batch",
    "fourier_error_bound",
    "fourier_is_exact",
    "samples_per_block",
]

# A table entry cos or sin of 2 pi r / m: the angle, below 2 pi, carries three roundings, the function one more.
TABLE_ERROR = 32 * UNIT_ROUNDOFF
# Bytes of the spectra of one batch of masks, and of the largest array for a block of samples.
SPECTRA_BYTES = 2**28
BLOCK_BYTES = 2**26
LARGEST_BATCH = 64


def fourier_error_bound(filters: int, height: int, width: int) -> float:
    """A bound on |computed - true| for every correlation <u, T z> of 0/1 maps in {0,1}^{n x H x W}, before rounding.

    Write u0 = 2^-53, g_m = m u0 / (1 - m u0), t for the error of a table entry, and A_k, B_k <= H W for the ones in
    filter k of the two maps. A computed product of length m with table entries of modulus at most 1 is off by at most
    (t + g_m (1 + t)) sum |inputs| plus (1 + t) sum |input errors|. Along the chain, with e1 = t + g_W (1 + t) and
    e2 = t + g_{2H} (1 + t), up to second-order terms:

    - over W: entries at most the ones a_h of row h, error a_h e1;
    - over H: inputs sum to at most 2 A_k, error 2 A_k (e1 + e2);
    - product of spectra, length 2n, with S = sum_k A_k B_k <= n (H W)^2: error 2 S (g_{2n} + 4 (e1 + e2));
    - back over H: inputs sum to at most 2 H S;
    - back over W, where the weights sum to 1 / H: 2 S e1 + 4 S (e2 + that of the product / S).

    Together S (34 e1 + 36 e2 + 8 g_{2n}); the factor 1.1 covers the second-order terms while every e is below 1e-3.
    """

    def gamma(length: int) -> float:
        return length * UNIT_ROUNDOFF / (1 - length * UNIT_ROUNDOFF)

    e1 = TABLE_ERROR + gamma(width + 2) * (1 + TABLE_ERROR)
    e2 = TABLE_ERROR + gamma(2 * height) * (1 + TABLE_ERROR)
    largest = filters * float(height * width) ** 2
    return 1.1 * largest * (34 * e1 + 36 * e2 + 8 * gamma(2 * filters))


def fourier_is_exact(filters: int, height: int, width: int) -> bool:
    """Whether rounding to the nearest integer is proved to give every correlation exactly."""
    return fourier_error_bound(filters, height, width) < 0.5


def _angles(size: int, frequencies: int) -> FloatArray:
    """2 pi f v / size, reduced exactly modulo 2 pi before any rounding; shape (frequencies, size)."""
    turns = np.outer(np.arange(frequencies), np.arange(size)) % size
    return np.asarray(turns * (2 * math.pi / size), dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class FourierTables:
    """The transform of real H x W maps and its inverse as four matrices; complex numbers are pairs (real, imaginary).

    F = floor(W / 2) + 1 frequencies over the width suffice for real maps. The matrices are numpy arrays, or whatever
    `map` made of them: the methods use nothing but `@` and `reshape`, so torch tensors run the same steps.
    """

    height: int
    width: int
    over_width: Any  # (2 F, W), rows (frequency, part)
    over_height: Any  # (2 H, 2 H), rows (frequency, part), columns (part, position)
    back_height: Any  # (2 H, 2 H), rows (part, position), columns (frequency, part)
    back_width: Any  # (W, 2 F), columns (frequency, part)

    @classmethod
    def of(cls, height: int, width: int) -> FourierTables:
        """The tables of one size, as float64 arrays."""
        half = width // 2 + 1
        wide, high = _angles(width, half), _angles(height, height)
        over_width = np.stack([np.cos(wide), -np.sin(wide)], axis=1).reshape(2 * half, width)
        cosine, sine = np.cos(high), np.sin(high)
        # exp(-i a)(r + i s) = (r cos a + s sin a) + i (s cos a - r sin a)
        forward = np.stack([np.stack([cosine, sine], axis=1), np.stack([-sine, cosine], axis=1)], axis=1)
        # exp(i a)(r + i s) = (r cos a - s sin a) + i (s cos a + r sin a); the angles are symmetric
        backward = np.stack([np.stack([cosine, -sine], axis=2), np.stack([sine, cosine], axis=2)], axis=0)
        # The spectrum of a real map is symmetric: inner frequencies stand for two.
        twice = np.where((np.arange(half) == 0) | (2 * np.arange(half) == width), 1.0, 2.0) / (height * width)
        back_width = np.stack([twice[:, None] * np.cos(wide), -twice[:, None] * np.sin(wide)], axis=1)
        return cls(
            height,
            width,
            over_width,
            forward.reshape(2 * height, 2 * height),
            backward.reshape(2 * height, 2 * height),
            np.ascontiguousarray(back_width.reshape(2 * half, width).T),
        )

    @property
    def frequencies(self) -> int:
        """F H, the frequencies of a map."""
        return (self.width // 2 + 1) * self.height

    def map(self, convert: Callable[[FloatArray], Any]) -> FourierTables:
        """The same tables as another kind of array."""
        matrices = (self.over_width, self.over_height, self.back_height, self.back_width)
        return FourierTables(self.height, self.width, *(convert(matrix) for matrix in matrices))

    def spectra(self, flat: Any, filters: int) -> Any:
        """Spectra of maps; frequencies come first, so that no step moves memory about.

        Args:
            flat: shape (W, H n S) in the order (column, row, filter, sample).
        Returns:
            Shape (F H, 2 n, S), the middle axis in the order (part, filter).
        """
        wide = (self.over_width @ flat).reshape(self.width // 2 + 1, 2 * self.height, -1)
        return (self.over_height @ wide).reshape(self.frequencies, 2 * filters, -1)

    def back(self, products: Any) -> Any:
        """Maps of spectra of shape (F H, 2 M, S): shape (W, H, M, S)."""
        pairs, samples = products.shape[1], products.shape[2]
        half = self.width // 2 + 1
        high = self.back_height @ products.reshape(half, 2 * self.height, -1)
        return (self.back_width @ high.reshape(2 * half, -1)).reshape(self.width, self.height, pairs // 2, samples)


def conjugate_blocks(real: Any, imaginary: Any, join: Callable[..., Any]) -> Any:
    """The matrices (F H, 2 B, 2 n) that multiply spectra by conj(U): (Ur Zr + Ui Zi) + i (Ur Zi - Ui Zr)."""
    return join([join([real, imaginary], 2), join([-imaginary, real], 2)], 1)


def fourier_batch(filters: int, height: int, width: int) -> int:
    """How many masks one transform holds: their spectra are kept while the samples pass by."""
    return max(1, min(LARGEST_BATCH, SPECTRA_BYTES // (32 * filters * height * (width // 2 + 1))))


def samples_per_block(filters: int, height: int, width: int, masks: int) -> int:
    """How many samples are transformed and multiplied at a time."""
    return max(1, BLOCK_BYTES // (16 * height * (width // 2 + 1) * max(filters, 2 * masks)))


class CorrelationTransform:
    """The spectra of a batch of masks u, ready to be correlated with feature maps z.

    Args:
        masks: 0/1 maps of shape (B, n, H, W), packed. The caller has checked `fourier_is_exact`.
    """

    __slots__ = ("_batch", "_spectra", "_tables")

    def __init__(self, masks: PackedMaps) -> None:
        self._batch = len(masks)
        self._tables = FourierTables.of(masks.height, masks.width)
        spectra = self._spectra_of(masks, slice(None)).reshape(-1, 2, masks.filters, self._batch)
        self._spectra = conjugate_blocks(
            spectra[:, 0].transpose(0, 2, 1), spectra[:, 1].transpose(0, 2, 1), np.concatenate
        )

    def _spectra_of(self, maps: PackedMaps, rows: slice) -> FloatArray:
        flat = maps.bits(rows).transpose(2, 1, 3, 0).reshape(maps.width, -1).astype(np.float64)
        found: FloatArray = self._tables.spectra(flat, maps.filters)
        return found

    def correlations(self, maps: PackedMaps, rows: slice) -> NDArray[np.int64]:
        """<u_b, T z_s> for all T, shape (W, H, B, S): exact integers."""
        values = self._tables.back(self._spectra @ self._spectra_of(maps, rows))
        return np.rint(values).astype(np.int64)

    def least(self, maps: PackedMaps) -> NDArray[np.int64]:
        """min over T of <u_b, T z_s>, shape (B, S), a block of samples at a time."""
        found = np.empty((self._batch, len(maps)), np.int64)
        step = samples_per_block(maps.filters, maps.height, maps.width, self._batch)
        for begin in range(0, len(maps), step):
            rows = slice(begin, begin + step)
            found[:, rows] = self.correlations(maps, rows).min(axis=(0, 1))
        return found
