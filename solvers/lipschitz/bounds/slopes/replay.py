"""What a checker of multipliers loses to rounding, estimated, so that a proof can leave room for it.

A checker has one matrix for the whole network. In it a pre-activation, and the output, is a sum over the free neurons
and inputs that reach it through active ones; its error grows with the absolute values along all paths, while the sums
cancel. Entries that are known up to radii r_ij cost the diagonal D up to max_i sum_j r_ij sqrt(D_j / D_i) / D_i of it.

Nothing rests on this: with too little room an honest certificate is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import EPSILON
from solvers.lipschitz.bounds.slopes.layers import SlopeLayers

__all__ = ["replayed_loss"]


def replayed_loss(layers: SlopeLayers, multipliers: Sequence[FloatArray], t: FloatArray) -> float:
    """The share of the diagonal (t, 2 lambda) that the rounding of active neurons costs a checker, about.

    Args:
        multipliers: of the free neurons, per hidden layer; t: (d,), positive.
    """
    d, count = layers.inputs, sum(layers.free)
    rows, radius = np.eye(d, d + count), np.zeros((d, d + count))
    slopes, start = np.zeros((count, d + count)), d
    for w, free in zip(layers.weights, layers.free, strict=True):
        rows, radius = _passed(w, rows, radius)
        slopes[start - d : start - d + free] = radius[:free]
        rows[:free], radius[:free] = 0.0, 0.0
        rows[:free, start : start + free] = np.eye(free)
        start += free
    output, (spread,) = _passed(layers.output[None], rows, radius)
    slopes *= np.concatenate([*multipliers, np.zeros(0)])[:, None]
    whole = np.outer(np.abs(output[0]), spread)
    whole += whole.T
    whole[d:] += slopes
    whole[:, d:] += slopes.T
    own = np.concatenate([t, *(2 * part for part in multipliers)])
    roots = np.sqrt(own)
    return float(((whole @ roots) / (roots * own)).max(initial=0.0))


def _passed(w: FloatArray, rows: FloatArray, radius: FloatArray) -> tuple[FloatArray, FloatArray]:
    """W rows, and the radius of its entries; columns of one entry that is 1 pass as they are."""
    sizes = np.abs(w)
    exact = (np.count_nonzero(rows, axis=0) <= 1) & ((rows == 0) | (rows == 1)).all(axis=0)
    lost = np.where(exact, 0.0, 2 * (w.shape[1] + 4) * EPSILON * (sizes @ np.abs(rows)))
    return w @ rows, sizes @ radius + lost
