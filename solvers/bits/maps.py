"""The shared first layer of convolutional threshold networks, packed to bits, equivariant to the last bit.

    Phi(x)[k, i, j] = 1 if b_k + sum over c, p, q of w[k, c, p, q] x[c, i + p - p0, j + q - q0] > 0, else 0,

indices modulo H and W, p0 = floor((kh - 1) / 2), q0 = floor((kw - 1) / 2): the circular 'same' padding of torch.

Phi(T x) = T Phi(x) has to hold exactly, or F(T x) = F(x) fails wherever a pre-activation lies within rounding of 0.
A matrix product or an FFT may add the terms of different positions in different orders. Here every position starts at
b_k and adds the products one at a time in the order (c, p, q), each product and each sum rounded once (no fused
multiply-add): translates see the same numbers in the same order. `solvers.networks.conv_threshold` repeats exactly
these operations in torch, so both give the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.norms import FloatArray
from solvers.bits.features import Words

__all__ = ["PackedMaps", "feature_bytes", "packed_features", "unpack_maps"]


def feature_bytes(filters: int) -> int:
    """Bytes that hold the bits of all filters at one position."""
    return (filters + 7) // 8


class PackedMaps:
    """0/1 feature maps of N images, 8 filters a byte, the filters of one position side by side.

    Translating an image moves whole bytes, so no bit is ever shifted. Bits beyond the last filter are 0.

    Attributes:
        words: shape (N, L): the bytes of one image, padded with zeros to whole 64-bit words.
        filters: n.
        height, width: H, W.
    """

    __slots__ = ("filters", "height", "width", "words")

    def __init__(self, words: Words, filters: int, height: int, width: int) -> None:
        self.words = words
        self.filters = filters
        self.height = height
        self.width = width

    @classmethod
    def packed(cls, maps: NDArray[np.uint8], filters: int) -> PackedMaps:
        """From bytes of shape (N, H, W, bytes), as `maps` gives them."""
        number, height, width, per_position = maps.shape
        length = height * width * per_position
        words = np.zeros((number, (length + 7) // 8), np.uint64)
        words.view(np.uint8)[:, :length] = maps.reshape(number, length)
        return cls(words, filters, height, width)

    def __len__(self) -> int:
        return len(self.words)

    @property
    def positions(self) -> int:
        """H W, the number of translations."""
        return self.height * self.width

    def maps(self, rows: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        """The bytes of some images, shape (rows, H, W, bytes)."""
        per_position = feature_bytes(self.filters)
        flat = np.ascontiguousarray(self.words[rows]).view(np.uint8)[:, : self.positions * per_position]
        return flat.reshape(len(flat), self.height, self.width, per_position)

    def take(self, rows: NDArray[np.int64]) -> PackedMaps:
        """The maps of some images."""
        return PackedMaps(self.words[rows], self.filters, self.height, self.width)

    def bits(self, rows: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        """Some images unpacked to one byte a bit, shape (rows, H, W, n)."""
        return unpack_maps(self.maps(rows), self.filters)


def unpack_maps(maps: NDArray[np.uint8], filters: int) -> NDArray[np.uint8]:
    """Bytes of shape (..., bytes) as 0/1 of shape (..., n)."""
    return np.unpackbits(maps, axis=-1, count=filters, bitorder="little")


def packed_features(images: FloatArray, filters: FloatArray, biases: FloatArray) -> PackedMaps:
    """Phi of many images.

    Args:
        images: shape (N, C, H, W), finite.
        filters: shape (n, C, kh, kw) with kh <= H, kw <= W.
        biases: shape (n,).
    """
    number, _, height, width = images.shape
    n = len(filters)
    words = np.zeros((number, (height * width * feature_bytes(n) + 7) // 8), np.uint64)
    weights = np.array(filters.transpose(1, 2, 3, 0), dtype=np.float64, order="C")
    flat = words.view(np.uint8)
    _first_layer(np.array(images, dtype=np.float64, order="C"), weights, np.array(biases, dtype=np.float64), flat)
    return PackedMaps(words, n, height, width)


@compiled
def _first_layer(images: FloatArray, weights: FloatArray, biases: FloatArray, flat: NDArray[np.uint8]) -> None:
    number, channels, height, width = images.shape
    kernel_height, kernel_width, n = weights.shape[1], weights.shape[2], weights.shape[3]
    above, left = (kernel_height - 1) // 2, (kernel_width - 1) // 2
    per_position = (n + 7) // 8
    sums = np.empty(n)
    for s in range(number):
        place = 0
        for i in range(height):
            for j in range(width):
                for k in range(n):
                    sums[k] = biases[k]
                for c in range(channels):
                    for p in range(kernel_height):
                        row = (i + p - above) % height
                        for q in range(kernel_width):
                            value = images[s, c, row, (j + q - left) % width]
                            # Adding +-0 changes no sum but the sign of a zero, which no threshold sees.
                            if value != 0.0:
                                for k in range(n):
                                    sums[k] += weights[c, p, q, k] * value
                for k in range(n):
                    if sums[k] > 0.0:
                        flat[s, place + k // 8] |= np.uint8(1 << (k % 8))
                place += per_position
