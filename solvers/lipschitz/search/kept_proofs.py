"""The proofs of one search while it runs: in memory while they are few, then in a file if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from solvers.lipschitz.search.proofs import Leaf, tree_of
from solvers.problems.results import Certificate

if TYPE_CHECKING:
    from solvers.lipschitz.search.leaf_files import LeafFile, Spool

__all__ = ["Proofs"]

# Leaves of a certificate in memory, and of one that has a file (a gigabyte stays in memory); a longer one is left out.
MOST_LEAVES, MOST_STORED = 50_000, 5_000_000


@dataclass(slots=True, eq=False)
class Proofs:
    """The leaves of every piece, as long as there are not too many of them.

    Attributes:
        leaves: those in memory.
        count: of all.
        pieces: how many.
        file: where they go when they are many.
        spool: the place there, once they have gone.
    """

    leaves: list[list[Leaf]] = field(default_factory=list)
    count: int = 0
    pieces: int = 0
    file: LeafFile | None = None
    spool: Spool | None = None

    def add_piece(self) -> None:
        self.pieces += 1
        self.leaves.append([])

    @property
    def kept(self) -> bool:
        return self.count <= (MOST_LEAVES if self.file is None else MOST_STORED)

    def in_memory(self) -> list[tuple[int, Leaf]]:
        return [(piece, leaf) for piece, own in enumerate(self.leaves) for leaf in own]

    def enter(self, proofs: Sequence[tuple[int, Leaf]]) -> None:
        """Take leaves, each with the index of its piece."""
        self.count += len(proofs)
        if not self.kept:
            self.leaves, self.spool = [[] for _ in self.leaves], None
        elif self.spool is not None:
            self.spool.enter(proofs)
        else:
            for piece, leaf in proofs:
                self.leaves[piece].append(leaf)
            if self.file is not None and self.count > MOST_LEAVES:
                self.spool = self.file.spool()
                self.spool.enter(self.in_memory())
                self.leaves = [[] for _ in self.leaves]

    def certificate(self) -> Certificate | None:
        """The trees of all pieces; None where they are too long."""
        if not self.kept:
            return None
        if self.spool is not None:
            return Certificate("search-tree", self.spool.certified(self.pieces))
        return Certificate("search-tree", {"pieces": [tree_of(leaves) for leaves in self.leaves]})
