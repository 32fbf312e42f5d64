"""Splits of a box of inputs beside splits of neurons: few inputs and many layers are searched box by box.

Half a box tightens the ranges of all layers at once, where the sign of a neuron tightens those after it. Its ranges are
carried forward and, of what they leave open, backward; what is decided then bounds the gradients by LipSDP-Neuron. The
side to halve is the one whose length the program feels most: every undecided neuron weighs as much as the program gains
by it, lambda |a|^2, times the share of its range that is due to that input. A box with few undecided neurons left is a
root of the search over signs, which knows what no box tells: which patterns have an interior.

Boxes that tile a box meet all of its regions: an open region meets the interior of one of them. So the largest bound of
the parts is one of the whole.

Sources: [ZWCHD18] for ranges carried backward, [FRHMP19] for the program.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.threads import spread
from solvers.lipschitz.bounds.piece_arrays import KernelArrays, PieceArrays
from solvers.lipschitz.bounds.ranges import EMPTY
from solvers.lipschitz.bounds.slopes.kernels import SlopeArrays
from solvers.lipschitz.search.box_kernels import look_at_box
from solvers.lipschitz.search.expansion import examine, node_of
from solvers.lipschitz.search.nodes import Expansion, Node
from solvers.problems.witnesses import gradients_at

__all__ = ["BoxSplits", "box_work"]

# A side is not halved below this share of its first length: what is undecided then is not for boxes to decide.
SHORTEST = 2.0**-30


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What ranges and the program say of a box; `felt` as in `box_kernels.look_at_box`."""

    bound: float
    signs: NDArray[np.int8]
    z_low: FloatArray
    z_high: FloatArray
    felt: FloatArray
    vectors: NDArray[np.float32]
    arrays: PieceArrays
    undecided: int


class BoxSplits:
    """A piece that is searched box by box; every box is a piece of its own, with nodes of its index.

    Attributes:
        arrays, slopes: of all boxes so far, for `expansion.expand`.
    """

    def __init__(self, whole: PieceArrays, slopes: SlopeArrays, few: float) -> None:
        """A search that has no box yet.

        Args:
            whole: the piece; slopes: its programs.
            few: undecided neurons up to which a box is left to the search over signs.
        """
        self._whole = whole.thorough()
        self._program = slopes
        self._few = few
        # How much the bounds of boxes that wait feel the lengths of their sides.
        self._felt: dict[int, FloatArray] = {}
        self._shortest = SHORTEST * (whole.kernel.high - whole.kernel.low)
        self.arrays: list[PieceArrays] = []
        self.slopes: list[SlopeArrays] = []

    def root(self, bound: float, floor: float, incumbent: float) -> Expansion:
        """The whole piece, none of whose gradients is longer than `bound`."""
        found = Expansion()
        k, start = self._whole.kernel, self._program.start
        shape = k.biases.shape
        look = self._look(k.low, k.high, np.full(shape, -np.inf), np.full(shape, np.inf), bound, start)
        self._enter(look, floor, incumbent, found)
        return found

    def halve(self, nodes: Sequence[Node], floor: float, incumbent: float, threads: int = 1) -> Expansion:
        """Halve the boxes of nodes, all of whose neurons that are not decided by their box are open."""
        found = Expansion(expanded=len(nodes))
        centres = np.array([0.5 * (self._kernel(node).low + self._kernel(node).high) for node in nodes])
        lengths = vector_norm(gradients_at(self._whole.network, centres), self._whole.kernel.q)
        for node, centre, length in zip(nodes, centres, lengths.tolist(), strict=True):
            if length > incumbent:
                found.candidates.append((node.piece, centre))
        for node, halves in zip(nodes, spread(self._halves, nodes, max(1, min(threads, len(nodes)))), strict=True):
            if halves is None:  # time was up
                found.nodes.append(node)
                continue
            del self._felt[node.piece]
            for look in halves:
                self._enter(look, floor, incumbent, found)
        return found

    def _kernel(self, node: Node) -> KernelArrays:
        return self.arrays[node.piece].kernel

    def _enter(self, look: _Look | None, floor: float, incumbent: float, found: Expansion) -> None:
        if look is None:
            return
        found.bounded += 1
        if look.bound <= floor:
            found.dropped += 1
            found.discarded = max(found.discarded, look.bound)
            return
        piece = len(self.arrays)
        self.arrays.append(look.arrays)
        self.slopes.append(self._program)
        node = replace(
            node_of(look.arrays, piece, look.signs, look.bound),
            z_low=look.z_low,
            z_high=look.z_high,
            vectors=look.vectors,
        )
        k = look.arrays.kernel
        if look.undecided > self._few and (k.high - k.low > self._shortest).any():
            self._felt[piece] = look.felt
            found.nodes.append(node)
            return
        below = examine(node, self.arrays, floor, incumbent)
        found.nodes.extend(below.nodes)
        found.candidates.extend(below.candidates)
        found.programs += below.programs
        found.thin += below.thin
        found.discarded = max(found.discarded, below.discarded)

    def _halves(self, node: Node) -> list[_Look | None] | None:
        k = self._kernel(node)
        if k.stop[0]:
            return None
        assert node.vectors is not None
        score = np.where(k.high - k.low > self._shortest, self._felt[node.piece], -1.0)
        side = int(np.argmax(score))
        middle = 0.5 * (k.low[side] + k.high[side])
        found: list[_Look | None] = []
        for upper in (False, True):
            low, high = k.low.copy(), k.high.copy()
            (low if upper else high)[side] = middle
            found.append(self._look(low, high, node.z_low, node.z_high, node.bound, node.vectors))
        return None if k.stop[0] else found

    def _look(
        self,
        low: FloatArray,
        high: FloatArray,
        z_low: FloatArray,
        z_high: FloatArray,
        known: float,
        vectors: NDArray[np.float32],
    ) -> _Look | None:
        """What is to be said of a box inside one whose ranges and bound are known; None where it has no region."""
        arrays = replace(self._whole, kernel=self._whole.kernel._replace(low=low, high=high))
        k = arrays.kernel
        signs = np.zeros(k.biases.shape, dtype=np.int8)
        z_low, z_high, moved = z_low.copy(), z_high.copy(), vectors.astype(np.float64)
        bound, undecided, felt = look_at_box(k, self._program, low, high, signs, z_low, z_high, known, moved)
        if undecided == EMPTY:
            return None
        return _Look(bound, signs, z_low, z_high, felt, moved.astype(np.float32), arrays, undecided)


def box_work(whole: PieceArrays) -> float:
    """Floating-point operations of one look at a box, about."""
    k = whole.kernel
    sizes = [len(k.low), *k.widths.tolist()]
    products = [m * n for m, n in itertools.pairwise(sizes)]
    ranges = sum(4 * (sizes[0] + 1) * product for product in products)
    backward = sum(4 * sizes[m] * sum(products[: m + 1]) for m in range(1, len(products)))
    proofs = sum(m * n * (m + n) for m, n in itertools.pairwise(sizes))
    return float(ranges + backward + proofs)
