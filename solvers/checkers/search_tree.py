"""Replays trees of splits: the leaves cover every piece of the domain, and each is shown to be harmless.

A certificate holds for every bounded piece (`problems.facets`) a binary tree over partial activation patterns. A node
needs nothing below it when

- ranges propagated anew (`outward_ranges`) leave it no linear region, or bound its gradients by the claim;
- its one pattern is complete and the exact gradient is no longer than the claim;
- multipliers of slopes bound its gradients by the claim (`slope_leaves`);
- multipliers y >= 0 of its signed pre-activations show it empty: their sum is <= 0 all over the box, in rational
  arithmetic. On a linear region all of them are > 0, but for those that vanish identically;
- a decided pre-activation is constant with the other sign on the node, which is empty then;
- its last split was on a pre-activation that is 0 all over the node, and both sides are looked at: this is the active
  one, and the inactive one stands for both.

Source: Farkas' lemma; `problems.regions` for pre-activations that vanish identically.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.rationals import DyadicArray, exact_dual, norm_at_most
from solvers.checkers._base import Check
from solvers.checkers.outward_ranges import Nodes, PieceNetwork, gradients_are_short, tighten_ranges
from solvers.checkers.slope_leaves import SlopeLeaves
from solvers.problems.facets import BoundedPiece, bounded_pieces
from solvers.problems.questions import LipschitzProblem

__all__ = ["TreeParts", "check_search_tree"]

SUBJECT = "upper bound"
# A part of a tree, and the node that is its root with the directions that are open there.
_Later = tuple[int, Nodes, NDArray[np.bool_]]
# Nodes looked at together.
BATCH = 512
LEAF = -1
# Kinds of proofs.
SLOPES, PART = "slopes", "part"
# Of a part, as text.
MOST_BYTES = 2**28
# What a file may answer that is not what it says.
NO_FILE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class _Rejected(Exception):
    """The certificate does not prove the bound; the message says why."""


def check_search_tree(problem: LipschitzProblem, data: Mapping[str, Any], upper: float) -> Check:
    """Whether the trees of splits prove that no gradient is longer than `upper`.

    Args:
        data: `pieces`, for every bounded piece `splits`: its tree in preorder, the inactive side first. -1 is a leaf,
            c >= 0 a split on neuron c = layer * (largest width) + neuron; -2 - c one at which ranges are not tightened
            before. And `proofs`: for leaves that need more than ranges [number of the leaf, kind, neurons,
            multipliers], where kind is "rows", "constant" or "slopes" and multipliers are numbers or fractions as
            text, of slopes codes as in `slope_leaves`. A leaf of kind "part" with the one "neuron" k is where the tree
            k of `parts` stands; `parts` is a list of such trees, without leaves of that kind, or the `file` and its
            `folder` where `TreeParts` finds them.
    """
    try:
        listed, pieces = data["pieces"], bounded_pieces(problem)
        if problem.network.depth == 0 or len(listed) != len(pieces):
            raise _Rejected(f"the certificate must hold the trees of {len(pieces)} bounded pieces, got {len(listed)}")
        leaves = 0
        named = data.get("parts", ())
        with TreeParts(named["file"], named["folder"]) if isinstance(named, Mapping) else nullcontext(named) as parts:
            for index, (piece, entry) in enumerate(zip(pieces, listed, strict=True)):
                exact = _ExactPiece(piece, PieceNetwork(piece, upper))
                leaves += _replay_piece(exact, entry, parts, f"piece {index}", upper)
    except _Rejected as reason:
        return Check(SUBJECT, False, str(reason))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, *NO_FILE) as error:
        return Check(SUBJECT, False, f"the tree of splits cannot be replayed: {error!r}")
    return Check(SUBJECT, True, f"{leaves} leaves cover the domain, each empty or with gradients within the bound")


class TreeParts(Sequence[Mapping[str, Any]]):
    """Trees in a .zip file, one for each part of a long certificate, each read when it is looked at. Used as a context.

    Args:
        path: of the file.
        folder: in it, where the part k is `k.json`.
        told: hears before each part how many were read, and how many there are.
    Raises:
        OSError, zipfile.BadZipFile: there is no such file.
    """

    def __init__(self, path: str | Path, folder: int, told: Callable[[int, int], None] | None = None) -> None:
        self._file, self._folder, self._told, self._read = zipfile.ZipFile(path), f"{folder:d}/", told, 0
        self._count = sum(name.startswith(self._folder) for name in self._file.namelist())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, part: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, part: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, part: int | slice) -> Any:
        if isinstance(part, slice):
            return [self[k] for k in range(*part.indices(len(self)))]
        if not 0 <= part < self._count:
            raise IndexError(f"there is no part {part} among {self._count}")
        if self._told is not None:
            self._told(self._read, self._count)
        self._read += 1
        with self._file.open(f"{self._folder}{part:d}.json") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"the part {part} is longer than {MOST_BYTES} bytes")
        return json.loads(text)


class _Tree:
    """A tree in preorder: `splits` as in the certificate, `second` where the active side of a split starts."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.splits = [int(v) for v in entry["splits"]]
        self.second = [0] * len(self.splits)
        self.number: dict[int, int] = {}
        open_: list[list[int]] = []  # (split, sides still missing)
        for place, split in enumerate(self.splits):
            if place:
                while open_ and not open_[-1][1]:
                    open_.pop()
                if not open_:
                    raise _Rejected(f"the tree of splits ends before its entry {place}")
                parent = open_[-1]
                if parent[1] == 1:
                    self.second[parent[0]] = place
                parent[1] -= 1
            if split == LEAF:
                self.number[place] = len(self.number)
            else:
                open_.append([place, 2])
        if not self.splits or any(missing for _, missing in open_):
            raise _Rejected("the leaves do not cover the domain: a split of the tree lacks a side")
        self.leaves = len(self.number)
        self.proofs: dict[int, tuple[str, list[int], list[Fraction]]] = {}
        for leaf, kind, neurons, multipliers in entry["proofs"]:
            values = [Fraction(v) for v in multipliers]
            if kind not in (SLOPES, PART) and (len(values) != len(neurons) or any(v < 0 for v in values)):
                raise _Rejected(f"leaf {leaf} must have one multiplier >= 0 for every neuron")
            self.proofs[int(leaf)] = (str(kind), [int(v) for v in neurons], values)


class _ExactPiece:
    """Pre-activations of a piece in rational arithmetic, beside its arrays."""

    def __init__(self, piece: BoundedPiece, arrays: PieceNetwork) -> None:
        self.arrays, self.piece = arrays, piece
        network = piece.network
        self.widths = network.widths
        self.weights = [DyadicArray.of(w) for w in network.weights]
        self.biases = [DyadicArray.of(b[:, None]) for b in network.biases[:-1]]
        self.inputs = DyadicArray.of(piece.inputs)
        self.q = exact_dual(piece.problem.p)
        self.low = [Fraction(v) for v in piece.box.lower.tolist()]
        self.high = [Fraction(v) for v in piece.box.upper.tolist()]

    @cached_property
    def slopes(self) -> SlopeLeaves:
        return SlopeLeaves(self.piece)

    def neuron(self, code: int) -> tuple[int, int]:
        """Layer and neuron of a code."""
        layer, neuron = divmod(code, max(self.widths))
        if not (0 <= layer < len(self.widths) and neuron < self.widths[layer]):
            raise _Rejected(f"there is no neuron {code}")
        return layer, neuron

    def combination(self, terms: Mapping[tuple[int, int], int], signs: list[NDArray[np.int8]]) -> list[Fraction]:
        """sum of integer multiples of pre-activations as an affine function of the box: k slopes and the constant."""
        deepest = max(layer for layer, _ in terms)
        if any((layer == 0).any() for layer in signs[:deepest]):
            raise _Rejected("a pre-activation is used that is not affine: a neuron before it is undecided")
        constant = DyadicArray.of(np.zeros((1, 1)))
        row = DyadicArray(np.zeros((1, self.widths[deepest]), dtype=object), 0)
        for m in range(deepest, -1, -1):
            own = np.zeros((1, self.widths[m]), dtype=object)
            for (layer, neuron), factor in terms.items():
                if layer == m:
                    own[0, neuron] = factor
            if m < deepest:
                row = DyadicArray(row.integers * (signs[m] > 0).astype(int).astype(object), row.shift)
            row = row + DyadicArray(own, 0)
            constant = constant + row @ self.biases[m]
            row = row @ self.weights[m]
        return row.fractions() + constant.fractions()

    def largest(self, affine: list[Fraction]) -> Fraction:
        """Maximum over the box."""
        total = affine[-1]
        for slope, low, high in zip(affine[:-1], self.low, self.high, strict=True):
            total += slope * (high if slope > 0 else low)
        return total

    def gradient(self, signs: list[NDArray[np.int8]]) -> list[Fraction]:
        """Of a complete pattern, along the inputs."""
        row = self.weights[-1]
        for m in range(len(self.widths) - 1, -1, -1):
            row = DyadicArray(row.integers * (signs[m] > 0).astype(int).astype(object), row.shift)
            row = row @ (self.weights[m] if m else self.inputs)
        return row.fractions()


def _replay_piece(
    piece: _ExactPiece, entry: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], name: str, upper: float
) -> int:
    """Replay a tree, then one by one the parts of it that stand elsewhere; leaves looked at."""
    arrays = piece.arrays
    count = 0 if arrays.directions is None else arrays.directions.shape[1]
    tree = _Tree(entry)
    if arrays.directions is not None and not count:
        return tree.leaves  # no direction reaches beyond the claim, wherever in the piece
    later: list[_Later] = []
    _replay(piece, tree, name, upper, (arrays.root(), np.ones((1, count), dtype=bool)), later)
    leaves = tree.leaves - len(later)
    for part, nodes, alive in later:
        tree = _Tree(parts[part])
        _replay(piece, tree, f"part {part} of {name}", upper, (nodes, alive), None)
        leaves += tree.leaves
    return leaves


def _replay(
    piece: _ExactPiece,
    tree: _Tree,
    name: str,
    upper: float,
    root: tuple[Nodes, NDArray[np.bool_]],
    later: list[_Later] | None,
) -> None:
    """Replay a tree from its root; where it has parts, what they begin with is added to `later`."""
    arrays = piece.arrays
    for split in set(tree.splits) - {LEAF}:
        piece.neuron(split if split >= 0 else -2 - split)
    stack = [(np.zeros(1, dtype=np.int64), *root)]
    splits, second = np.array(tree.splits), np.array(tree.second)
    while stack:
        places, nodes, alive = stack.pop()
        fresh = np.flatnonzero(splits[places] >= LEAF)
        tight = nodes.take(fresh)
        done = np.zeros(len(places), dtype=bool)
        done[fresh] = tighten_ranges(arrays, tight)
        _put(nodes, fresh, tight)
        short, alive = gradients_are_short(arrays, nodes, alive, upper)
        done |= short
        for i in np.flatnonzero(~done & (splits[places] == LEAF)).tolist():
            leaf = tree.number[int(places[i])]
            if leaf in tree.proofs and tree.proofs[leaf][0] == PART and later is not None:
                (part,) = tree.proofs[leaf][1]
                later.append((part, nodes.take(np.array([i])), alive[[i]]))
                continue
            _check_leaf(
                piece,
                tree,
                leaf,
                [s[i] for s in nodes.signs],
                int(nodes.turned_on[i]),
                name,
                upper,
            )
        going = np.flatnonzero(~done & (splits[places] != LEAF))
        if len(going):
            _push(stack, piece, (splits[places[going]], places[going], second), nodes.take(going), alive[going])


def _put(nodes: Nodes, where: NDArray[np.int64], values: Nodes) -> None:
    for mine, new in ((nodes.signs, values.signs), (nodes.low, values.low), (nodes.high, values.high)):
        for target, source in zip(mine, new, strict=True):
            target[where] = source  # type: ignore[index]


def _push(
    stack: list[tuple[NDArray[np.int64], Nodes, NDArray[np.bool_]]],
    piece: _ExactPiece,
    tree: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    nodes: Nodes,
    alive: NDArray[np.bool_],
) -> None:
    """Both sides of every node; where the neuron is decided, only the side that it is on."""
    splits, places, second = tree
    where = [piece.neuron(int(split if split >= 0 else -2 - split)) for split in splits]
    sides, origins, signs, turned_on = [], [], [], []
    for i, (layer, neuron) in enumerate(where):
        known = int(nodes.signs[layer][i, neuron])
        for sign in (-1, 1) if known == 0 else (known,):
            sides.append(int(places[i]) + 1 if sign < 0 else int(second[places[i]]))
            origins.append(i)
            signs.append(sign)
            turned_on.append(layer * max(piece.widths) + neuron if sign > 0 and not known else -1)
    children = nodes.take(np.array(origins))
    for row, (origin, sign) in enumerate(zip(origins, signs, strict=True)):
        layer, neuron = where[origin]
        children.signs[layer][row, neuron] = sign
    children.turned_on[:] = turned_on
    left = alive[origins]
    for start in range(0, len(sides), BATCH):
        part = np.arange(start, min(start + BATCH, len(sides)))
        stack.append((np.array(sides)[part], children.take(part), left[part]))


def _check_leaf(
    piece: _ExactPiece, tree: _Tree, leaf: int, signs: list[NDArray[np.int8]], turned_on: int, name: str, upper: float
) -> None:
    """A leaf that ranges alone do not settle; `turned_on` as in `Nodes`."""
    title = f"leaf {leaf} of {name}"
    if leaf not in tree.proofs:
        if all((layer != 0).all() for layer in signs):
            if norm_at_most(piece.gradient(signs), piece.q, upper):
                return
            raise _Rejected(f"{title} has a gradient that is longer than the upper bound {upper!r}")
        raise _Rejected(f"{title} may hold a gradient that is longer than the upper bound {upper!r}")
    kind, codes, multipliers = tree.proofs[leaf]
    where = [piece.neuron(code) for code in codes]
    if kind == SLOPES:
        if any(value.denominator != 1 for value in multipliers):
            raise _Rejected(f"{title}: the codes of its multipliers must be whole numbers")
        if not piece.slopes.are_short(signs, where, [int(value) for value in multipliers], upper):
            raise _Rejected(f"{title} is not shown by its multipliers to keep the upper bound {upper!r}")
        return
    split_signs = [int(signs[layer][neuron]) for layer, neuron in where]
    if 0 in split_signs or len(set(where)) != len(where):
        raise _Rejected(f"{title}: its proof uses a neuron that is undecided there, or one neuron twice")
    if kind == "constant":
        (code,), (place,), (sign,) = codes, where, split_signs
        affine = piece.combination({place: 1}, signs)
        if any(affine[:-1]) or affine[-1] * sign > 0:
            raise _Rejected(f"{title}: the pre-activation is not constant, or has this sign")
        if affine[-1] == 0 and code != turned_on:
            raise _Rejected(f"{title}: the pre-activation is 0 all over, and no other side of it is looked at")
        return
    if kind != "rows":
        raise _Rejected(f"{title} has a proof of a kind that is not known: {kind!r}")
    scale = math.lcm(*(y.denominator for y in multipliers))
    terms = {at: int(y * scale) * sign for at, y, sign in zip(where, multipliers, split_signs, strict=True) if y > 0}
    most = piece.largest(piece.combination(terms, signs)) if terms else Fraction(1)
    if most > 0:
        raise _Rejected(f"{title}: its multipliers do not show that it is empty")
    if most == 0 and not any(any(piece.combination({at: 1}, signs)[:-1]) for at in terms):
        raise _Rejected(f"{title}: its multipliers are of pre-activations that vanish identically")
