"""The proofs that a search leaves behind: leaves of a binary tree of splits, each with what shows it harmless."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from solvers.lipschitz.subtree_search import Log

__all__ = ["Leaf", "no_log", "read_log", "room_for", "tree_of"]

# Kinds of leaves.
BOUNDED, EMPTY_ROWS, EMPTY_EXACTLY, CONSTANT = "bounded", "rows", "exact", "constant"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A partial pattern that a search is done with.

    Attributes:
        path: splits from the root of its piece, 2 (layer n + neuron) + (1 if active), n the padded width.
        kind: "bounded" (propagation shows it empty or its gradients short), "rows" (multipliers of signed
            pre-activations show it empty), "exact" (likewise, in fractions), "constant" (the last split is on a
            pre-activation that is constant, and 0 or of the other sign).
        rows: neurons (layer n + neuron) with a multiplier.
        multipliers: one for each row; fractions as text.
    """

    path: tuple[int, ...]
    kind: str
    rows: tuple[int, ...] = ()
    multipliers: tuple[float | str, ...] = ()

    @classmethod
    def exact(cls, path: tuple[int, ...], proof: Sequence[tuple[int, Fraction]]) -> Leaf:
        """Shown empty by multipliers that are fractions."""
        return cls(path, EMPTY_EXACTLY, tuple(row for row, _ in proof), tuple(str(y) for _, y in proof))


def no_log() -> Log:
    """A log that is not written to."""
    return Log(
        np.empty(0, np.int32), np.empty((0, 2), np.int64), np.empty(0, np.int32), np.empty(0), np.zeros(3, np.int64)
    )


def room_for(steps: int, neurons: int) -> Log:
    """A log for about that many splits; the search stops before it is full."""
    leaves = 8 * steps + 8 * neurons
    entries = (leaves + 4 * neurons) * (neurons + 1)
    return Log(
        np.empty(entries, np.int32),
        np.empty((leaves, 2), np.int64),
        np.empty(entries, np.int32),
        np.empty(entries),
        np.zeros(3, np.int64),
    )


def read_log(log: Log) -> list[Leaf]:
    """The leaves that a compiled search wrote down."""
    leaves, start, row = [], 0, 0
    for end, last in log.leaves[: log.counts[0]].tolist():
        path = tuple(log.paths[start:end].tolist())
        if last > row:
            rows, multipliers = tuple(log.rows[row:last].tolist()), tuple(log.multipliers[row:last].tolist())
            leaves.append(Leaf(path, EMPTY_ROWS, rows, multipliers))
        else:
            leaves.append(Leaf(path, BOUNDED))
        start, row = end, last
    return leaves


def tree_of(leaves: Sequence[Leaf]) -> dict[str, Any]:
    """The binary tree of the leaves of one piece, in plain JSON types.

    Returns:
        `splits`: the tree in preorder: a neuron (layer n + neuron) for a split, its inactive side first, or -1 for a
        leaf; `proofs`: for every leaf that has more than a bound, its number in that order, its kind, rows and
        multipliers.
    """
    order = sorted(leaves, key=lambda leaf: leaf.path)
    splits: list[int] = []
    proofs: list[list[Any]] = []
    place = 0

    def walk(depth: int) -> None:
        nonlocal place
        leaf = order[place]
        if len(leaf.path) == depth:
            splits.append(-1)
            if leaf.kind != BOUNDED:
                proofs.append([place, leaf.kind, list(leaf.rows), list(leaf.multipliers)])
            place += 1
            return
        code = leaf.path[depth]
        splits.append(code // 2)
        walk(depth + 1)
        walk(depth + 1)

    walk(0)
    return {"splits": splits, "proofs": proofs}
