"""Nodes as decisions: what travels between driver and workers, and into a checkpoint.

A node is sent as its piece, the signs of its decided neurons in two bits each, its bound and the next split; where
proofs are kept, its path too, and the multipliers that prove its bound. Ranges, a point inside and directions are found
anew by whoever searches below it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.search.nodes import Expansion, Node
from solvers.problems.facets import BoundedPiece

__all__ = ["Decisions", "Shape", "packed", "packed_nodes", "shapes_of", "unpacked"]

NO_CODES = np.empty(0, dtype=np.int16)
# (L, n) of the signs of a piece, n the padded width.
Shape = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """B nodes.

    Attributes:
        pieces: (B,).
        signs: (B, bytes): four signs + 1 in a byte, padded to the largest piece.
        bounds: (B,).
        splits: (B, 3).
        ends: (B,): where the path of each ends in `paths`.
        code_ends: (B,): where the multipliers of each end in `codes`.
    """

    pieces: NDArray[np.int32]
    signs: NDArray[np.uint8]
    bounds: FloatArray
    splits: NDArray[np.int32]
    ends: NDArray[np.int64]
    paths: NDArray[np.int32]
    code_ends: NDArray[np.int64]
    codes: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.pieces)


def shapes_of(pieces: Sequence[BoundedPiece]) -> list[Shape]:
    """Of the signs of every piece, as `PieceArrays` pads them."""
    return [(piece.network.depth, max(piece.network.widths)) for piece in pieces]


def packed_nodes(nodes: Sequence[Node], shapes: Sequence[Shape]) -> Decisions:
    """Nodes for the wire."""
    cells = -(-max((depth * n for depth, n in shapes), default=0) // 4) * 4
    codes = np.ones((len(nodes), cells), dtype=np.uint8)
    for row, node in zip(codes, nodes, strict=True):
        row[: node.signs.size] = node.signs.ravel() + 1
    proofs = [NO_CODES if node.codes is None else node.codes for node in nodes]
    quarters = codes.reshape(len(nodes), cells // 4, 4) << np.array([0, 2, 4, 6], dtype=np.uint8)
    return Decisions(
        np.array([node.piece for node in nodes], dtype=np.int32),
        quarters.sum(axis=2, dtype=np.uint8),
        np.array([node.bound for node in nodes], dtype=np.float64),
        np.array([node.split for node in nodes], dtype=np.int32).reshape(len(nodes), 3),
        np.cumsum([len(node.path) for node in nodes], dtype=np.int64),
        np.fromiter(itertools.chain.from_iterable(node.path for node in nodes), dtype=np.int32),
        np.cumsum([len(one) for one in proofs], dtype=np.int64),
        np.concatenate([NO_CODES, *proofs]),
    )


def unpacked(decisions: Decisions, shapes: Sequence[Shape]) -> Iterator[Node]:
    """The nodes, with nothing but what was decided: their ranges, points and directions are empty arrays."""
    packed_signs = decisions.signs
    codes = np.empty((len(decisions), 4 * packed_signs.shape[1]), dtype=np.int8)
    for k in range(4):
        codes[:, k::4] = (packed_signs >> 2 * k) & 3
    codes -= 1
    nothing, none = np.empty(0), np.empty(0, dtype=np.int32)
    start = begin = 0
    for row, piece, bound, split, end, last in zip(
        codes,
        decisions.pieces.tolist(),
        decisions.bounds.tolist(),
        decisions.splits.tolist(),
        decisions.ends.tolist(),
        decisions.code_ends.tolist(),
        strict=True,
    ):
        depth, n = shapes[piece]
        signs = row[: depth * n].reshape(depth, n)
        path = tuple(decisions.paths[start:end].tolist())
        codes_here = decisions.codes[begin:last].copy() if last > begin else None
        yield Node(piece, signs, nothing, nothing, bound, nothing, none, tuple(split), path, codes=codes_here)
        start, begin = end, last


def packed(found: Expansion, shapes: Sequence[Shape]) -> tuple[Decisions, Expansion]:
    """What was found, its nodes as decisions and the rest without nodes."""
    return packed_nodes(found.nodes, shapes), replace(found, nodes=[])
