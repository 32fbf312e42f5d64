"""How many second-layer neurons fire, counted on packed features."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.compiled import compiled
from solvers.bits.features import Words
from solvers.bits.instructions import LANES, lanes_below

__all__ = ["Whole", "count_firing"]

Whole: TypeAlias = NDArray[np.int64]


@compiled
def count_firing(blocks: Words, masks: Words, thresholds: Whole, owners: Whole, firing: Whole) -> None:
    """Add for every point how many second-layer neurons of each detector fire, <u, Phi(x)> < m.

    Args:
        blocks: (B, depth, 64). masks: u, (M, depth). thresholds: m, (M,). owners: detector of each neuron, (M,).
        firing: (B, detectors, 64), added to.
    """
    counts = np.empty(LANES, dtype=np.int64)
    for b in range(blocks.shape[0]):
        for k in range(masks.shape[0]):
            lanes = lanes_below(blocks, b, masks[k], thresholds[k], counts)
            if lanes:
                for i in range(LANES):
                    firing[b, owners[k], i] += np.int64(lanes >> np.uint64(i) & np.uint64(1))
