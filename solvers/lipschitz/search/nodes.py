"""What a search holds: nodes, and what became of a batch of them. Plain data: nothing here is compiled.

A node is a bounded piece of the problem (`problems.facets`) with a partial activation pattern, layers decided in their
order: then the pre-activations of the first undecided layer are affine, and the node is exactly a polytope.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.search.proofs import Leaf

__all__ = ["Expansion", "Node"]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A partial pattern on one piece, with what is known of it.

    Attributes:
        piece: index among the pieces.
        signs: (L, n) int8.
        z_low, z_high: (L, n): ranges of the pre-activations.
        bound: no gradient of the node is longer.
        point: (k,), strictly inside the node as far as float64 can tell; NaN if no such point is known.
        chosen: directions that can still beat the incumbent.
        split: layer and neuron to split next (layer = L at a leaf), the sign of it that keeps the bound; layer -1 where
            time was up before that was known.
        path: splits that lead here, as in `proofs.Leaf`, where proofs are kept.
        codes: the multipliers that prove the bound (`bounds.slopes.kernels`), where proofs are kept; None, without
            entries or with NO_CODE at the end where ranges prove it.
        vectors: where programs below begin (`bounds.slopes.kernels`); None or without rows where there was none.
    """

    piece: int
    signs: NDArray[np.int8]
    z_low: FloatArray
    z_high: FloatArray
    bound: float
    point: FloatArray
    chosen: NDArray[np.int32]
    split: tuple[int, int, int]
    path: tuple[int, ...] = ()
    vectors: NDArray[np.float32] | None = None
    codes: NDArray[np.int16] | None = None


@dataclass(slots=True, eq=False)
class Expansion:
    """What became of a batch of nodes.

    Attributes:
        nodes: what is still open; leaves among them have `split[0]` = L.
        discarded: the largest bound among nodes that were dropped for being below the floor; -inf without any.
        candidates: (piece, point): gradients longer than the incumbent.
        proofs: (piece, leaf) of nodes that are done with, if proofs are kept.
        expanded, programs, thin: nodes split; linear programs solved; nodes that exact arithmetic had to look at.
        bounded, dropped: nodes bounded by programs over slopes, and those of them that fell below the floor by it.
        unsettled: leaves above the floor without a witness, where whoever searched has closed leaves already.
    """

    nodes: list[Node] = field(default_factory=list)
    discarded: float = -math.inf
    candidates: list[tuple[int, FloatArray]] = field(default_factory=list)
    proofs: list[tuple[int, Leaf]] = field(default_factory=list)
    expanded: int = 0
    programs: int = 0
    thin: int = 0
    bounded: int = 0
    dropped: int = 0
    unsettled: int = 0
