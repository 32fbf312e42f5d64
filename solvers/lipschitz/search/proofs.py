"""The proofs that a search leaves behind: leaves of a binary tree of splits, each with what shows it harmless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.bounds.slopes.layers import NO_CODE

__all__ = ["BY_SLOPES", "Leaf", "Log", "no_log", "read_log", "room_for", "tree_of"]

# Kinds of leaves.
BOUNDED, EMPTY_ROWS, CONSTANT, SLOPES = "bounded", "rows", "constant", "slopes"
# Stands in a log where a leaf's multipliers are codes of those of slopes.
BY_SLOPES = 2


@dataclass(frozen=True, slots=True)
class Leaf:
    """A partial pattern that a search is done with.

    Attributes:
        path: splits from the root of its piece, 2 (layer n + neuron) + (1 if active), n the padded width.
        kind: "bounded" (propagation shows it empty or its gradients short), "rows" (multipliers of signed
            pre-activations show it empty), "constant" (the last split is on a pre-activation that is constant, and 0
            or of the other sign), "slopes" (multipliers of neurons' slopes show its gradients short).
        rows: neurons (layer n + neuron) with a multiplier.
        multipliers: one for each row; numbers, or fractions as text. Of slopes codes (`bounds.slopes.grid`), and behind
            them those of the shape of t where that is not the same for all inputs.
        loose: the last split was made without tightening ranges since the split before.
    """

    path: tuple[int, ...]
    kind: str
    rows: tuple[int, ...] = ()
    multipliers: tuple[float | str, ...] = ()
    loose: bool = False

    @classmethod
    def exact(cls, path: tuple[int, ...], proof: Sequence[tuple[int, Fraction]]) -> Leaf:
        """Shown empty by multipliers that are fractions."""
        return cls(path, EMPTY_ROWS, tuple(row for row, _ in proof), tuple(str(y) for _, y in proof))

    @classmethod
    def by_bound(cls, path: tuple[int, ...], codes: NDArray[np.int16] | None, neurons: int) -> Leaf:
        """Dropped for its bound.

        Args:
            codes: as of `nodes.Node`.
            neurons: of the piece, padded: L n.
        """
        if codes is None or not len(codes) or codes[-1] == NO_CODE:
            return cls(path, BOUNDED)
        rows = np.flatnonzero(codes != NO_CODE)
        return cls.by_slopes(path, rows.tolist(), codes[rows].tolist(), neurons)

    @classmethod
    def by_slopes(cls, path: tuple[int, ...], places: list[int], codes: list[float], neurons: int) -> Leaf:
        """Bounded by multipliers: codes by place, neurons first and all inputs behind them."""
        rows = tuple(place for place in places if place < neurons)
        shape = codes[len(rows) :]
        shaped = any(code != shape[0] for code in shape)
        return cls(path, SLOPES, rows, tuple(map(int, codes if shaped else codes[: len(rows)])))


class Log(NamedTuple):
    """Proofs for a certificate, if they are kept: leaves in the order in which they were met.

    Attributes:
        paths: (room,): splits from the root, 2 (layer n + neuron) + (1 if active), leaf after leaf.
        leaves: (room, 3): where the leaf's path ends, where its multipliers end, and 1 if its last split was made
            without tightening ranges since the split before, BY_SLOPES if the multipliers are codes of slopes.
        rows: (room,): neurons (layer n + neuron) with a multiplier, inputs behind them; multipliers: (room,).
        counts: leaves, path entries and multipliers in use.
    """

    paths: NDArray[np.int32]
    leaves: NDArray[np.int64]
    rows: NDArray[np.int32]
    multipliers: FloatArray
    counts: NDArray[np.int64]


def no_log() -> Log:
    """A log that is not written to."""
    return Log(
        np.empty(0, np.int32), np.empty((0, 3), np.int64), np.empty(0, np.int32), np.empty(0), np.zeros(3, np.int64)
    )


def room_for(steps: int, neurons: int, codes: int = 0) -> Log:
    """A log for about that many splits, with so many codes at a leaf; the search stops before it is full."""
    leaves = 8 * steps + 8 * neurons
    entries = (leaves + 4 * neurons) * (neurons + 1)
    multipliers = entries + (leaves + 4 * neurons) * codes
    return Log(
        np.empty(entries, np.int32),
        np.empty((leaves, 3), np.int64),
        np.empty(multipliers, np.int32),
        np.empty(multipliers),
        np.zeros(3, np.int64),
    )


def read_log(log: Log, neurons: int) -> list[Leaf]:
    """The leaves that a compiled search wrote down, of a piece with so many neurons, padded."""
    leaves, start, row = [], 0, 0
    for end, last, loose in log.leaves[: log.counts[0]].tolist():
        path = tuple(log.paths[start:end].tolist())
        rows, multipliers = log.rows[row:last].tolist(), log.multipliers[row:last].tolist()
        if loose == BY_SLOPES:
            leaves.append(Leaf.by_slopes(path, rows, multipliers, neurons))
        elif last > row:
            leaves.append(Leaf(path, EMPTY_ROWS, tuple(rows), tuple(multipliers), bool(loose)))
        else:
            leaves.append(Leaf(path, BOUNDED))
        start, row = end, last
    return leaves


def tree_of(leaves: Sequence[Leaf]) -> dict[str, Any]:
    """The binary tree of the leaves of one piece, in plain JSON types; `checkers.search_tree` says what they mean.

    Returns:
        `splits`: the tree in preorder, inactive sides first: -1 for a leaf, c = layer n + neuron for a split, -2 - c
        for one without tightening ranges before; `proofs`: for every leaf that has more than a bound its number in
        that order, its kind, rows and multipliers.
    """
    loose = {leaf.path[:-1] for leaf in leaves if leaf.loose}
    splits: list[int] = []
    proofs: list[list[Any]] = []
    before: tuple[int, ...] = ()
    for place, leaf in enumerate(sorted(leaves, key=lambda leaf: leaf.path)):
        shared = next((i for i, (a, b) in enumerate(zip(before, leaf.path, strict=False)) if a != b), -1)
        for depth in range(shared + 1, len(leaf.path)):
            neuron = leaf.path[depth] // 2
            splits.append(-2 - neuron if leaf.path[:depth] in loose else neuron)
        splits.append(-1)
        if leaf.kind != BOUNDED:
            proofs.append([place, leaf.kind, list(leaf.rows), list(leaf.multipliers)])
        before = leaf.path
    return {"splits": splits, "proofs": proofs}
