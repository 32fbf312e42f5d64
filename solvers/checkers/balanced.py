"""Layers scaled by powers of two until nothing in them leaves the range of float64; the network's function stays.

A neuron's weights and bias may be multiplied by c > 0 if those that it feeds are divided by c: relu(c z) = c relu(z).
So every neuron is scaled until the absolute values that may add up in it lie in [1/2, 1). Powers of two round nothing:
nothing changes for networks of ordinary sizes, and no others need a case of their own.

What is smaller than the rest of its sum by more than float64 reaches is rounded to 0 or to a subnormal number; its size
then counts as FLOOR in every bound of rounding errors, which is far more than what is lost, and far less than u. A size
is exactly 0 only where a sum has no terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, vector_norm

__all__ = ["FLOOR", "Balanced", "balanced", "bound_below", "product_rounding", "unit_box"]

# Two sizes and a unit roundoff multiply to 2^-853: above all that underflow can do to sums of numbers below 1.
FLOOR = 2.0**-400
# What underflow does to a gradient whose terms add up to about 1, also where the squares of its entries are added.
UNDERFLOW = 2.0**-480
# Exponents beyond this are as good as infinite; and that of nothing.
MOST, NOTHING = 4000, -(1 << 40)


@dataclass(frozen=True, slots=True, eq=False)
class Balanced:
    """A layer z = W a + b in units of its own: the true z_i is 2^e_i times the scaled one.

    Attributes:
        plus, minus: positive and negative weights (n, n_in), the others 0.
        biases: (n,).
        large_plus, large_minus, large_biases: their absolute values, at least FLOOR where they are not exactly 0.
        large: large_plus + large_minus.
        exponents: e (n,).
        sizes: |W| sizes + |b| of the inputs' sizes, in [1/2, 1), or 0 for neurons that are identically 0.
    """

    plus: FloatArray
    minus: FloatArray
    biases: FloatArray
    large_plus: FloatArray
    large_minus: FloatArray
    large_biases: FloatArray
    large: FloatArray
    exponents: NDArray[np.int64]
    sizes: FloatArray


def balanced(
    matrices: Sequence[FloatArray], biases: Sequence[FloatArray] | None, exponents: NDArray[np.int64], sizes: FloatArray
) -> list[Balanced]:
    """Layers, one feeding the next, each scaled.

    Args:
        matrices: (n_out, n_in) each.
        biases: (n_out,) each; none when left out.
        exponents, sizes: of what enters the first layer, (n_in,), as for the layers; sizes below 1.
    """
    found = []
    for k, w in enumerate(matrices):
        b = np.zeros(len(w)) if biases is None else biases[k]
        fed = (w != 0) & (sizes > 0)
        powers = np.where(fed, _exponents(w) + exponents, NOTHING)
        own = np.where(b != 0, _exponents(b), NOTHING)
        shift = np.maximum(powers.max(axis=1), own)
        # At first the largest term of every sum lies in [1/4, 1), then the sum does in [1/2, 1).
        scaled, offsets = _scaled(w, fed, exponents - shift[:, None]), np.ldexp(b, _clipped(-shift))
        total = np.abs(scaled) @ sizes + np.abs(offsets)
        more = _exponents(total)
        shift = np.where(total > 0, shift + more, 0)
        scaled, offsets = _scaled(w, fed, exponents - shift[:, None]), np.ldexp(b, _clipped(-shift))
        large = np.where(fed, np.maximum(np.abs(scaled), FLOOR), 0.0)
        found.append(
            Balanced(
                np.maximum(scaled, 0.0),
                np.minimum(scaled, 0.0),
                offsets,
                np.where(w > 0, large, 0.0),
                np.where(w < 0, large, 0.0),
                np.where(b == 0, 0.0, np.maximum(np.abs(offsets), FLOOR)),
                large,
                shift,
                np.ldexp(total, _clipped(-more)),
            )
        )
        exponents, sizes = shift, found[-1].sizes
    return found


def unit_box(lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """A box (k,) in units of its own, where it reaches [1/2, 1), rounded outward; and the exponents of the units.

    No corner is closer to 0 than FLOOR unless it is 0.
    """
    exponents = _exponents(np.maximum(np.abs(lower), np.abs(upper)))
    down = _clipped(-exponents)
    low, high = np.ldexp(lower, down), np.ldexp(upper, down)
    low = np.where(np.abs(low) >= FLOOR, low, np.where(lower < 0, -FLOOR, 0.0))
    return low, np.where(np.abs(high) >= FLOOR, high, np.where(upper > 0, FLOOR, 0.0)), exponents


def bound_below(bound: float, exponent: int) -> float:
    """bound / 2^exponent, rounded downward; negative if the bound is, or is NaN."""
    with np.errstate(over="ignore"):
        scaled = float(np.ldexp(bound, min(max(-exponent, -MOST), MOST)))
    if scaled >= 2.0**-1000:
        return scaled
    return 0.0 if bound >= 0 else -1.0


def product_rounding(layers: Sequence[Balanced], q: float, live: Sequence[NDArray[np.bool_]] = ()) -> FloatArray:
    """Bounds what rounding does to the length in l_q of a product of layers, the last with one row, in any order.

    0 if the product is exactly 0, whatever is left out of it.

    Args:
        live: for every layer but the last the neurons that may be active, (B, n); all of them when left out. What the
            others add is exactly 0.
    Returns:
        (B,), (1,) without `live`.
    Source: [Hig02, section 3.5]: a product of L + 1 matrices has an entrywise error below (sum of inner dimensions + L)
    u |W_L| ... |W_0|; and underflow.
    """
    product, terms = np.ones((1, 1)), len(layers)
    for m in range(len(layers) - 1, -1, -1):
        # Paths whose product underflows are paths.
        paths = (product > 0).astype(np.float64) @ (layers[m].large > 0)
        product = np.where(paths > 0, np.maximum(product @ layers[m].large, FLOOR), 0.0)
        terms += len(layers[m].biases)
        if live and m:
            product = np.where(live[m - 1], product, 0.0)
    length = vector_norm(product, q, axis=1)
    return np.where(length > 0, length * terms * 2.0**-51 + UNDERFLOW, 0.0)


def _exponents(values: FloatArray) -> NDArray[np.int64]:
    """e with |v| in [2^(e - 1), 2^e); 0 for 0."""
    return np.frexp(values)[1].astype(np.int64)


def _scaled(w: FloatArray, fed: NDArray[np.bool_], powers: NDArray[np.int64]) -> FloatArray:
    return np.where(fed, np.ldexp(np.where(fed, w, 0.0), _clipped(powers)), 0.0)


def _clipped(powers: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.clip(powers, -MOST, MOST).astype(np.int32)
