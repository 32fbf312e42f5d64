"""Sums of numbers that lie between lines, carried backward through a chain of them: bounds from below, proved.

A chain is y_0 in a box and, link by link, z_j = W_j y_{j-1} + b_j with y_j between two lines in z_j, coordinate by
coordinate: s_j z + t_j <= y <= s'_j z + t'_j. Then for each row of Lambda

    Lambda y_j + c >= Lambda+ (s z + t) + Lambda- (s' z + t') + c = A (W_j y_{j-1} + b_j) + Lambda+ t + Lambda- t' + c,

A = Lambda+ s + Lambda- s', and so on down to the box. Upper bounds are lower ones of the rows with the sign turned.

Rounding. Coefficients as they are computed count as exact; each pass to the link before moves the sum by at most
gamma times the sizes that were added up, |A| (|W| |y| + |b|) + Lambda+ |t| - Lambda- |t'|, in any order of the
additions, and by underflow. What is taken off is eight times the sum of that over all links and more.

Sources: CROWN [ZWCHD18]; the same of Jacobians as in [SWZKH22]; [Hig02, section 3.1] for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import EPSILON, UNDERFLOW

__all__ = ["Chain", "Link", "bounds_below", "lower_bounds"]

# Numbers in the largest array of coefficients that is made at once.
BLOCK = 1 << 21


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """z = W y + b (n,), and the lines between which lies what comes next, but for coordinates that are 0 all over.

    Attributes:
        weights: (n, n_before) and biases (n,).
        kept: (n,) places of the coordinates among all of the layer.
        below, above: (n,) slopes; base, top: (n,) what is added to them, base <= 0 <= top.
        free: (n,) whether any slope below in [0, 1] will do.
        sizes: (n,) at least |W| |y| + |b|, so at least |z|.
    """

    weights: FloatArray
    biases: FloatArray
    kept: NDArray[np.int64]
    below: FloatArray
    base: FloatArray
    above: FloatArray
    top: FloatArray
    free: NDArray[np.bool_]
    sizes: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A box and the links from it.

    Attributes:
        low, high: (k,).
        reach: for the box and after every link (n,): at least |y|.
    """

    low: FloatArray
    high: FloatArray
    links: tuple[Link, ...]
    reach: tuple[FloatArray, ...]

    @classmethod
    def of(cls, low: FloatArray, high: FloatArray) -> Chain:
        """The box alone."""
        return cls(low, high, (), (np.maximum(np.abs(low), np.abs(high)),))

    def then(self, link: Link, reach: FloatArray) -> Chain:
        """One link more; `reach` (n,) of what comes out of it."""
        return Chain(self.low, self.high, (*self.links, link), (*self.reach, reach))

    @property
    def places(self) -> NDArray[np.int64]:
        """Of what comes out of the last link: the places of its coordinates in the layer."""
        return self.links[-1].kept if self.links else np.arange(len(self.low))

    def sizes(self, weights: FloatArray, biases: FloatArray) -> FloatArray:
        """At least |W| |y| + |b| for what comes out of the last link, (n,)."""
        count = weights.shape[1] + 8
        return (np.abs(weights) @ self.reach[-1] + np.abs(biases)) * (1 + count * EPSILON) + UNDERFLOW

    @property
    def work(self) -> int:
        """Multiplications for one row from the end to the box."""
        return sum(link.weights.size for link in self.links) + len(self.low)

    @property
    def widest(self) -> int:
        return max(1, *(len(reach) for reach in self.reach))


def lower_bounds(
    chain: Chain, rows: FloatArray, offsets: FloatArray, slopes: Sequence[FloatArray] | None = None
) -> FloatArray:
    """Lower bounds (R,) of rows y + offsets, proved in rounding; -inf where there is none in float64.

    Args:
        rows: (R, n), offsets: (R,): over what comes out of the last link.
        slopes: per link (R, n) in [0, 1], for the lines below free coordinates; those of the links when left out.
    """
    found = np.empty(len(rows))
    size = max(1, BLOCK // chain.widest)
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        chosen = [link.below[None] for link in chain.links]
        if slopes is not None:
            chosen = [np.where(link.free, s[part], link.below) for link, s in zip(chain.links, slopes, strict=True)]
        found[part] = _proved(chain, rows[part], offsets[part], chosen)
    return found


def _proved(chain: Chain, rows: FloatArray, offsets: FloatArray, below: Sequence[FloatArray]) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        total, sizes = offsets.copy(), np.abs(offsets)
        lam, hidden = rows, 0.0
        for link, slopes, reach in zip(reversed(chain.links), reversed(below), reversed(chain.reach[:-1]), strict=True):
            plus = np.maximum(lam, 0.0)
            minus = lam - plus
            a = plus * slopes + minus * link.above
            total += plus @ link.base + minus @ link.top + a @ link.biases
            sizes += np.abs(a) @ link.sizes - plus @ link.base - minus @ link.top
            lam = a @ link.weights
            # 2^-1075 for every product, times what it is multiplied with.
            hidden += float(reach.sum() + link.sizes.sum()) + len(reach)
        plus = np.maximum(lam, 0.0)
        minus = lam - plus
        total += plus @ chain.low + minus @ chain.high
        sizes += np.abs(lam) @ chain.reach[0]
        count = 2 * chain.widest + 4 * len(chain.links) + 16
        found = total - (8 * count * EPSILON * sizes + UNDERFLOW * (1 + hidden))
    return np.where(np.isfinite(found), found, -np.inf)


def bounds_below(
    chain: Chain, rows: FloatArray, offsets: FloatArray, below: Sequence[FloatArray]
) -> tuple[FloatArray, list[FloatArray]]:
    """The bounds (R,) without rounding, and how they grow with the slopes below: per link (R, n).

    The corner of the box that a row leads to is carried forward along the lines that it used: of what is multiplied by
    a slope there, a positive coefficient times z is the derivative.
    """
    total, lam = offsets.copy(), rows
    coefficients: list[tuple[FloatArray, FloatArray]] = []
    for link, slopes in zip(reversed(chain.links), reversed(below), strict=True):
        plus = np.maximum(lam, 0.0)
        minus = lam - plus
        coefficients.append((lam, plus))
        a = plus * slopes + minus * link.above
        total += plus @ link.base + minus @ link.top + a @ link.biases
        lam = a @ link.weights
    y = np.where(lam > 0, chain.low, chain.high)
    total += np.einsum("ij,ij->i", lam, y)
    growth = []
    for link, slopes, (coefficient, plus) in zip(chain.links, below, reversed(coefficients), strict=True):
        z = y @ link.weights.T + link.biases
        growth.append(np.where(link.free, plus * z, 0.0))
        y = np.where(coefficient > 0, slopes * z + link.base, link.above * z + link.top)
    return total, growth
