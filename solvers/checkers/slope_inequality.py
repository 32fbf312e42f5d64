"""The matrix inequality that multipliers of slopes claim, for the whole network at once, and its decomposition.

What M is and how rounding is paid for is said in `slope_multipliers`; here signs are given: of a domain, or of the
neurons that a node of a search has decided.

Sources: [FRHMP19, theorem 2]; [Rump06, theorem 2.3]; [Hig02, sections 3.1, 8.1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import EPSILON

__all__ = [
    "LEAST",
    "MOST",
    "UNDERFLOW",
    "ScaledSlopes",
    "SlopeInequality",
    "columns_hold",
    "dominates",
    "ordinary_numbers",
]

# Multipliers and scaled weights that are not 0 keep to these sizes, far from under- and overflow.
LEAST, MOST = 1e-140, 1e140
# Added to what is lost: far above all that underflow hides.
UNDERFLOW = 1e-270


def ordinary_numbers(values: Any, count: int, what: str, *, positive: bool) -> FloatArray:
    """Numbers as an array (count,), > 0 or, unless they must be positive, 0.

    Raises:
        ValueError: they are not.
    """
    found = np.array(values, dtype=np.float64)
    if found.shape != (count,):
        raise ValueError(f"{what} must have shape ({count},), got {found.shape}")
    sizes = found if positive else found[found != 0]
    if not ((sizes > LEAST) & (sizes < MOST)).all():
        raise ValueError(f"{what} must hold positive numbers of ordinary size")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class ScaledSlopes:
    """Scaled weights, the output's last; its exponent; signs of neurons on what is looked at, 0 where unknown."""

    weights: list[FloatArray]
    exponent: int
    signs: list[NDArray[np.int8]]

    @classmethod
    def of(cls, weights: Sequence[FloatArray], signs: list[NDArray[np.int8]]) -> ScaledSlopes:
        """Of one-output networks; hidden layers and the output."""
        before = np.zeros(weights[0].shape[1], dtype=np.int64)
        found = []
        for w in weights:
            sizes = np.where(w != 0, np.frexp(w)[1] + before, np.iinfo(np.int32).min)
            after = np.where(w.any(axis=1), sizes.max(axis=1), 0)
            scaled = np.ldexp(w, np.clip(before[None, :] - after[:, None], -5000, 5000).astype(np.int32))
            if ((w != 0) & (np.abs(scaled) < LEAST)).any():
                raise ValueError("weights of one neuron differ by too many orders of magnitude")
            found.append(scaled)
            before = after
        return cls(found, int(before[0]), signs)

    @property
    def is_constant(self) -> bool:
        """Whether a layer is silent, or nothing leaves the last one."""
        moving = np.ones(self.weights[0].shape[1], dtype=bool)
        for w, sign in zip(self.weights[:-1], self.signs, strict=True):
            moving = w[:, moving].any(axis=1) & (sign >= 0)
        return not self.weights[-1][:, moving].any()


class SlopeInequality:
    """M but for t: over the free neurons z, between them and the inputs, and what f takes from the inputs.

    Attributes:
        diagonal: 2 lambda, (N,).
        inner, inner_radius: (N, N); without what the diagonal adds.
        mixed, mixed_radius: (N, d).
        output, output_radius: f as a function of x, (d,).
    """

    def __init__(self, network: ScaledSlopes, layers: Sequence[Any]) -> None:
        if len(layers) != len(network.signs):
            raise ValueError(f"there must be multipliers for {len(network.signs)} layers, got {len(layers)}")
        widths = [len(sign) for sign in network.signs]
        parts = [ordinary_numbers(layers[k], n, f"layer {k}", positive=False) for k, n in enumerate(widths)]
        places = [np.flatnonzero(part) for part in parts]
        d, count = network.weights[0].shape[1], sum(map(len, places))
        # Rows: how what leaves the layer before depends on (x, z).
        rows, radius = np.eye(d, d + count), np.zeros((d, d + count))
        a, a_radius = np.zeros((count, d + count)), np.zeros((count, d + count))
        start, moving = 0, np.ones(d, dtype=bool)
        for w, sign, part, free in zip(network.weights[:-1], network.signs, parts, places, strict=True):
            reached = w[:, moving].any(axis=1)
            if ((part == 0) & (sign == 0) & reached).any():
                raise ValueError("a neuron has no multiplier, and no sign that is known")
            following, wider = _product(w, rows, radius)
            mine = slice(start, start + len(free))
            a[mine], a_radius[mine] = following[free], wider[free]
            held = (part == 0) & (sign <= 0)
            following[held], wider[held] = 0.0, 0.0
            following[free], wider[free] = 0.0, 0.0
            following[free, d + start + np.arange(len(free))] = 1.0
            rows, radius, start = following, wider, start + len(free)
            moving = reached & ((part != 0) | (sign > 0))
        output, output_radius = _product(network.weights[-1], rows, radius)
        c, c_radius = output[0], output_radius[0]
        multiplier = np.concatenate([part[free] for part, free in zip(parts, places, strict=True)])
        coupled = multiplier[:, None] * a
        wide = multiplier[:, None] * a_radius + EPSILON * np.abs(coupled)
        square = np.outer(c[d:], c)
        square_radius = np.outer(np.abs(c[d:]) + c_radius[d:], c_radius) + np.outer(c_radius[d:], np.abs(c))
        square_radius += EPSILON * np.abs(square)
        whole, turned = coupled + square, np.zeros_like(coupled)
        turned[:, d:] = coupled[:, d:].T
        total = -(whole + turned)
        spread = wide + square_radius + EPSILON * (np.abs(coupled) + np.abs(square) + np.abs(turned))
        spread[:, d:] += wide[:, d:].T
        spread = spread * (1 + 64 * EPSILON)
        self.diagonal = 2 * multiplier
        self.inner, self.inner_radius = total[:, d:], np.maximum(spread[:, d:], spread[:, d:].T)
        self.mixed, self.mixed_radius = total[:, :d], spread[:, :d]
        self.output, self.output_radius = c[:d], c_radius[:d] * (1 + 64 * EPSILON)


def _product(w: FloatArray, middle: FloatArray, radius: FloatArray) -> tuple[FloatArray, FloatArray]:
    """W times rows that are known up to a radius, with the radius of the product."""
    sizes = np.abs(w)
    lost = 2 * (w.shape[1] + 4) * EPSILON
    # Of an input or a free neuron nothing is lost that enters as it is.
    exact = (np.count_nonzero(middle, axis=0) <= 1) & ((middle == 0) | (middle == 1)).all(axis=0)
    spread = sizes @ radius * (1 + lost) + np.where(exact, 0.0, lost * (sizes @ np.abs(middle)))
    return w @ middle, spread


def dominates(m: SlopeInequality, t: FloatArray) -> bool:
    """Whether M with diag(t) is positive definite for certain."""
    square = np.outer(m.output, m.output)
    spread = np.outer(np.abs(m.output) + m.output_radius, m.output_radius)
    spread = (spread + spread.T + EPSILON * np.abs(square)) * (1 + 64 * EPSILON)
    matrix = np.block([[-square, m.mixed.T], [m.mixed, 0.5 * (m.inner + m.inner.T)]])
    radius = np.block([[spread, m.mixed_radius.T], [m.mixed_radius, m.inner_radius + EPSILON * np.abs(m.inner)]])
    own = np.concatenate([t, m.diagonal])
    matrix[np.diag_indices(len(own))] += own
    scale = np.sqrt(own)
    return _factor(matrix, radius @ (1 / scale) * scale, own) is not None


def _factor(matrix: FloatArray, lost: FloatArray, own: FloatArray) -> FloatArray | None:
    """The Cholesky factor of the matrix, lowered by `lost` and by what its rounding can hide; None if there is none.

    Args:
        own: no less than the diagonal.
    """
    n = len(matrix)
    lowered = matrix.copy()
    lowered[np.diag_indices(n)] -= lost * (1 + 4 * (n + 8) * EPSILON) + (n + 2) * (n + 4) * EPSILON * own + UNDERFLOW
    if not (np.diagonal(lowered) > 0).all():
        return None
    try:
        return np.asarray(np.linalg.cholesky(lowered), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None


def columns_hold(m: SlopeInequality, inputs: NDArray[np.int64], longest: FloatArray) -> bool:
    """Whether M with one x_k alone and t_k = longest_k^2 is positive definite for certain, for each of the inputs.

    With R'R = Z lowered and R'b = g, [R b]'[R b] >= 0; what rounding hides beside it is paid for by both diagonals.
    """
    n = len(m.diagonal)
    t = longest * longest
    scale = np.sqrt(m.diagonal)
    radius = m.mixed_radius[:, inputs]
    gamma = 4 * (n + 8) * EPSILON
    inner = 0.5 * (m.inner + m.inner.T)
    inner[np.diag_indices(n)] += m.diagonal
    lost = (m.inner_radius + EPSILON * np.abs(m.inner)) @ (1 / scale) * scale
    lost += (radius / longest).max(axis=1, initial=0.0) * scale + gamma * m.diagonal
    factor = _factor(inner, lost, m.diagonal)
    if factor is None:
        return False
    # A solution by any method, then what is left of the system, in place of a bound for that method.
    b = np.linalg.solve(factor, m.mixed[:, inputs])
    sizes = np.sqrt((b * b).sum(axis=0))
    missing = np.abs(factor @ b - m.mixed[:, inputs])
    missing += gamma * (np.abs(factor) @ np.abs(b) + np.abs(m.mixed[:, inputs]))
    # The system's rest is a radius too, now paid for by t alone: 2 x_i y r <= gamma D_i x_i^2 + y^2 r^2 / (gamma D_i).
    paid = (missing**2 / (gamma * m.diagonal[:, None])).sum(axis=0) + (radius / scale[:, None]).sum(axis=0) * longest
    reach = (np.abs(m.output[inputs]) + m.output_radius[inputs]) ** 2
    return bool(((sizes**2 + reach + paid) * (1 + 4 * (n + 16) * EPSILON) + UNDERFLOW <= t * (1 - 4 * EPSILON)).all())
