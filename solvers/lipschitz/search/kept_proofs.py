"""The proofs of one search while it runs: in memory while they are few, then in a file if there is one.

While a search runs, the many leaves go to a spool, a file without a name; in memory stays where each stands, by its
path. In the end the tree is cut into parts of some thousand leaves each, which a checker can look at one by one: the
certificate holds the tree above them, the file, an ordinary .zip, every part as JSON.
"""

from __future__ import annotations

import json
import marshal
import os
import struct
import tempfile
import zipfile
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from solvers.errors import InputError
from solvers.lipschitz.search.proofs import Leaf, tree_of
from solvers.problems.results import Certificate

__all__ = ["LeafFile", "Proofs", "Spool"]

# Leaves of a certificate in memory, and of one that has a file (a gigabyte stays in memory); a longer one is left out.
MOST_LEAVES, MOST_STORED = 50_000, 5_000_000
# Leaves of a part at most; and up to which a side of the tree stays in the certificate itself.
MOST_OF_A_PART, FEW = 8192, 16
# Bytes of a split in a path, the last of which tells the side.
WIDE = 4
# What stands in memory of a leaf: its path, where the rest of it is, whether its last split was loose.
Place = tuple[bytes, int, bool]


class LeafFile:
    """The file for the long certificates of one command. Used as a context; it is there, whole, when that ends well.

    Args:
        path: of the file.
    Raises:
        InputError: its folder is not there, or cannot be written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        self._folders = 0

    def __enter__(self) -> Self:
        if not self.path.parent.is_dir():
            raise InputError(f"there is no folder {self.path.parent} for the proofs")
        try:
            self._zip = zipfile.ZipFile(self._draft, "w", zipfile.ZIP_DEFLATED)
        except OSError as error:
            raise InputError(f"the proofs {self.path} cannot be written: {error.strerror or error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()
        if kind is None and self._folders:
            os.replace(self._draft, self.path)
        else:
            self._draft.unlink()

    def spool(self) -> Spool:
        """A place for the leaves of one search, which closes when nobody knows it any more."""
        return Spool(self)

    def folder(self) -> int:
        """The number of one more certificate."""
        self._folders += 1
        return self._folders - 1

    def add(self, folder: int, part: int, tree: dict[str, Any]) -> None:
        """A part of a certificate."""
        self._zip.writestr(f"{folder}/{part}.json", json.dumps(tree, separators=(",", ":"), allow_nan=False))


class Spool:
    """The leaves of one search, on disk but for their paths."""

    def __init__(self, file: LeafFile) -> None:
        self._file = file
        self._data = tempfile.TemporaryFile(dir=file.path.parent)  # noqa: SIM115 - it lives as long as the search
        self._places: dict[int, list[Place]] = {}
        self._end = 0

    def enter(self, proofs: Iterable[tuple[int, Leaf]]) -> None:
        """Take leaves, each with the index of its piece."""
        for piece, leaf in proofs:
            path = struct.pack(f">{len(leaf.path)}I", *leaf.path)
            self._places.setdefault(piece, []).append((path, self._end, leaf.loose))
            self._end += self._data.write(marshal.dumps((leaf.kind, leaf.rows, leaf.multipliers)))

    def certified(self, pieces: int) -> dict[str, Any]:
        """Write all parts; the certificate that names them, for so many pieces."""
        folder, parts, trees = self._file.folder(), 0, []
        for piece in range(pieces):
            places = sorted(self._places.pop(piece, []))
            top: list[Leaf] = []
            for low, high, depth in _cut(places):
                leaves = [self._leaf(place) for place in places[low:high]]
                if len(leaves) <= FEW:
                    top += leaves
                    continue
                self._file.add(folder, parts, tree_of([replace(leaf, path=leaf.path[depth:]) for leaf in leaves]))
                top.append(Leaf(leaves[0].path[:depth], "part", (parts,)))
                parts += 1
            trees.append(tree_of(top))
        self._data.close()
        return {"pieces": trees, "parts": {"file": str(self._file.path), "folder": folder}}

    def _leaf(self, place: Place) -> Leaf:
        path, start, loose = place
        self._data.seek(start)
        kind, rows, multipliers = marshal.load(self._data)
        return Leaf(struct.unpack(f">{len(path) // WIDE}I", path), kind, rows, multipliers, loose)


def _cut(places: Sequence[Place]) -> Iterable[tuple[int, int, int]]:
    """(begin, end, splits above) of the largest subtrees with at most `MOST_OF_A_PART` leaves, of sorted leaves."""
    stack = [(0, len(places), 0)] if places else []
    while stack:
        low, high, depth = stack.pop()
        if high - low <= MOST_OF_A_PART:
            yield low, high, depth
            continue
        last = WIDE * depth + WIDE - 1
        middle = bisect_left(places, 1, low, high, key=lambda place: place[0][last] & 1)
        stack += [(middle, high, depth + 1), (low, middle, depth + 1)]


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
