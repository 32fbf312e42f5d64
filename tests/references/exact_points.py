"""Pre-activations at points in rational arithmetic, and interval Jacobians from their definition; only for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box

__all__ = ["exact_pre_activations", "far_points", "interval_jacobian"]


def exact_pre_activations(network: ReluNetwork, point: np.ndarray) -> list[list[Fraction]]:
    """W_l a_l + b_l of every hidden layer at a point of float64 numbers."""
    values = [Fraction(x) for x in point.tolist()]
    found = []
    for w, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
        pre = [
            sum((Fraction(x) * value for x, value in zip(row, values, strict=True)), Fraction(offset))
            for row, offset in zip(w.tolist(), b.tolist(), strict=True)
        ]
        found.append(pre)
        values = [max(z, Fraction(0)) for z in pre]
    return found


def far_points(network: ReluNetwork, box: Box, rng: np.random.Generator, count: int = 20) -> Iterator[np.ndarray]:
    """Points of the box: any, corners, and for neurons taken by chance where a climb along coordinates ends."""
    d = box.dimension
    yield from rng.uniform(box.lower, box.upper, (count, d))
    corners = np.where(rng.random((count, d)) < 0.5, box.lower, box.upper)
    yield from corners
    for corner in corners:
        layer = int(rng.integers(network.depth))
        neuron, turn = int(rng.integers(network.widths[layer])), rng.choice([-1.0, 1.0])
        best = corner
        # Twice along every coordinate, over its ends and some points between.
        for k in [*range(d)] * 2:
            tried = np.repeat(best[None], 9, axis=0)
            tried[:, k] = np.append(np.linspace(box.lower[k], box.upper[k], 8), best[k]).clip(
                box.lower[k], box.upper[k]
            )
            best = tried[np.argmax(turn * network.pre_activations(tried)[layer][:, neuron])]
        yield best


def interval_jacobian(weights: Sequence[np.ndarray], signs: Sequence[np.ndarray]) -> np.ndarray:
    """Largest sizes (d,) of the derivatives of a one-output network: products of intervals, from the output down.

    Args:
        weights: W_0 to W_L; signs: per hidden layer 1 active, -1 silent, 0 undecided.
    """
    low = high = weights[-1][0]
    for w, sign in zip(reversed(weights[:-1]), reversed(signs), strict=True):
        low = np.where(sign > 0, low, np.where(sign == 0, np.minimum(low, 0.0), 0.0))
        high = np.where(sign > 0, high, np.where(sign == 0, np.maximum(high, 0.0), 0.0))
        ends = [end[:, None] * w for end in (low, high)]
        low, high = np.minimum(*ends).sum(axis=0), np.maximum(*ends).sum(axis=0)
    return np.maximum(np.abs(low), np.abs(high))
