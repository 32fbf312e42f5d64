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

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.rationals import DyadicArray, exact_dual, norm_at_most
from solvers.checkers._base import Check
from solvers.checkers.outward_ranges import Nodes, PieceNetwork, gradients_are_short, tighten_ranges
from solvers.checkers.slope_leaves import SlopeLeaves
from solvers.problems.facets import BoundedPiece, bounded_pieces
from solvers.problems.questions import LipschitzProblem

__all__ = ["check_search_tree"]

SUBJECT = "upper bound"
# Nodes looked at together.
BATCH = 512
LEAF = -1
# A kind of proof.
SLOPES = "slopes"


class _Rejected(Exception):
    """The certificate does not prove the bound; the message says why."""


def check_search_tree(problem: LipschitzProblem, data: Mapping[str, Any], upper: float) -> Check:
    """Whether the trees of splits prove that no gradient is longer than `upper`.

    Args:
        data: `pieces`, for every bounded piece `splits`: its tree in preorder, the inactive side first. -1 is a leaf,
            c >= 0 a split on neuron c = layer * (largest width) + neuron; -2 - c one at which ranges are not tightened
            before. And `proofs`: for leaves that need more than ranges [number of the leaf, kind, neurons,
            multipliers], where kind is "rows", "constant" or "slopes" and multipliers are numbers or fractions as
            text, of slopes codes as in `slope_leaves`.
    """
    try:
        listed, pieces = data["pieces"], bounded_pieces(problem)
        if problem.network.depth == 0 or len(listed) != len(pieces):
            raise _Rejected(f"the certificate must hold the trees of {len(pieces)} bounded pieces, got {len(listed)}")
        leaves = 0
        for index, (piece, entry) in enumerate(zip(pieces, listed, strict=True)):
            tree = _Tree(entry)
            _replay(_ExactPiece(piece, PieceNetwork(piece, upper)), tree, f"piece {index}", upper)
            leaves += tree.leaves
    except _Rejected as reason:
        return Check(SUBJECT, False, str(reason))
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        return Check(SUBJECT, False, f"the tree of splits cannot be replayed: {error!r}")
    return Check(SUBJECT, True, f"{leaves} leaves cover the domain, each empty or with gradients within the bound")


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
            if kind != SLOPES and (len(values) != len(neurons) or any(v < 0 for v in values)):
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


def _replay(piece: _ExactPiece, tree: _Tree, name: str, upper: float) -> None:
    arrays = piece.arrays
    for split in set(tree.splits) - {LEAF}:
        piece.neuron(split if split >= 0 else -2 - split)
    count = 0 if arrays.directions is None else arrays.directions.shape[1]
    if arrays.directions is not None and not count:
        return  # no direction reaches beyond the claim, wherever in the piece
    stack = [(np.zeros(1, dtype=np.int64), arrays.root(), np.ones((1, count), dtype=bool))]
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
            _check_leaf(
                piece,
                tree,
                tree.number[int(places[i])],
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
