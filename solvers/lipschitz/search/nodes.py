"""Nodes of branch and bound and their expansion: a pure function of nodes, free of queues, clocks and cluster.

A node is a bounded piece of the problem (`problems.facets`) with a partial activation pattern, layers decided in their
order: then the pre-activations of the first undecided layer are affine, and the node is exactly a polytope. The search
below a node is compiled (`search.subtree`); what rounding hides is settled here, in exact arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.threads import spread
from solvers.lipschitz.bounds.exact_patterns import empty_by_exact_multipliers, exact_affine_rows, parallel_rows
from solvers.lipschitz.bounds.gradients import gradient_bound, gradient_of
from solvers.lipschitz.bounds.ranges import EMPTY, STOPPED, flat_rows, propagate
from solvers.lipschitz.search import node_kernels
from solvers.lipschitz.search.proofs import BOUNDED, CONSTANT, EMPTY_ROWS, Leaf, no_log, read_log, room_for
from solvers.lipschitz.search.subtree import THIN, KernelArrays, search_subtree
from solvers.networks.relu import ReluNetwork
from solvers.problems.facets import BoundedPiece
from solvers.problems.witnesses import rounding_slack

__all__ = ["Expansion", "Node", "PieceArrays", "expand", "root_node"]


# Dimensions up to which linear programs decide neurons of all layers, not only of the last.
FEW_DIMENSIONS = 5


@dataclass(frozen=True, slots=True, eq=False)
class PieceArrays:
    """A bounded piece with at least one hidden layer, as arrays for the kernels."""

    network: ReluNetwork
    kernel: KernelArrays

    @classmethod
    def of(
        cls, piece: BoundedPiece, directions: FloatArray | None, stop: NDArray[np.int8] | None = None
    ) -> PieceArrays:
        """Pad the layers of a piece; `directions` as `directions.dual_directions` gives them, `stop` of a kernel."""
        network, q = piece.network, piece.problem.dual_p
        k, widths = network.input_dimension, network.widths
        n, depth = max(widths), network.depth
        weights, biases = np.zeros((depth, n, max(n, k))), np.zeros((depth, n))
        group, turn = np.tile(np.arange(n), (depth, 1)), np.ones((depth, n), dtype=np.int8)
        for m in range(depth):
            w, b = network.weights[m], network.biases[m]
            weights[m, : w.shape[0], : w.shape[1]] = w
            biases[m, : len(b)] = b
            group[m, : len(b)], turn[m, : len(b)] = parallel_rows(w, b)
        columns = np.eye(piece.inputs.shape[1]) if directions is None else np.ascontiguousarray(directions.T)
        output = np.zeros(n)
        output[: widths[-1]] = network.weights[-1][0]
        kernel = KernelArrays(
            weights,
            biases,
            np.array(widths),
            group,
            turn,
            piece.box.lower.copy(),
            piece.box.upper.copy(),
            output,
            np.array(piece.inputs, order="C"),  # a copy: kernels compile once more for read-only arrays
            columns,
            np.ascontiguousarray(piece.inputs @ columns),
            float(q),
            directions is not None,
            4 * rounding_slack(piece.problem.network, q),
            0 if k <= FEW_DIMENSIONS else depth - 1,
            np.zeros(1, dtype=np.int8) if stop is None else stop,
        )
        return cls(network, kernel)

    @property
    def depth(self) -> int:
        return self.network.depth

    @property
    def padded(self) -> int:
        """n, the width that all layers are padded to."""
        return int(self.kernel.biases.shape[1])


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


@dataclass(slots=True, eq=False)
class Expansion:
    """What became of a batch of nodes.

    Attributes:
        nodes: what is still open; leaves among them have `split[0]` = L.
        discarded: the largest bound among nodes that were dropped for being below the floor; -inf without any.
        candidates: (piece, point): gradients longer than the incumbent.
        proofs: (piece, leaf) of nodes that are done with, if proofs are kept.
        expanded, programs, thin: nodes split; linear programs solved; nodes that exact arithmetic had to look at.
    """

    nodes: list[Node] = field(default_factory=list)
    discarded: float = -math.inf
    candidates: list[tuple[int, FloatArray]] = field(default_factory=list)
    proofs: list[tuple[int, Leaf]] = field(default_factory=list)
    expanded: int = 0
    programs: int = 0
    thin: int = 0


def root_node(
    pieces: Sequence[PieceArrays], piece: int, floor: float, incumbent: float, keep: bool = False
) -> Expansion:
    """The whole of a piece."""
    p = pieces[piece]
    shape = p.kernel.biases.shape
    found = Expansion()
    start = Node(
        piece,
        np.zeros(shape, dtype=np.int8),
        np.full(shape, -np.inf),
        np.full(shape, np.inf),
        math.inf,
        np.full(len(p.kernel.low), np.nan),
        np.arange(p.kernel.directions.shape[1], dtype=np.int32),
        (-1, -1, 1),
    )
    _examine(p, start, floor, incumbent, keep, found)
    return found


def expand(
    nodes: Sequence[Node],
    pieces: Sequence[PieceArrays],
    floor: float,
    incumbent: float,
    steps: int = 1,
    keep: bool = False,
    threads: int = 1,
) -> Expansion:
    """Split every node, and depth first what comes out of it, and bound all sides.

    Args:
        nodes: open nodes, no leaves.
        floor: nodes with bounds up to here are dropped (their largest bound is told).
        incumbent: gradients longer than this become candidates.
        steps: splits below every node.
        keep: whether to keep proofs.
        threads: for the nodes, which do not depend on one another; what is found does not depend on it.
    """

    def search(node: Node) -> tuple[Any, ...]:
        p = pieces[node.piece]
        log = room_for(steps, p.depth * p.padded) if keep else no_log()
        below = search_subtree(
            p.kernel,
            (node.signs, node.z_low, node.z_high, node.point),
            node.chosen,
            node.bound,
            np.array(node.split),
            floor,
            incumbent,
            steps,
            np.array(node.path, dtype=np.int32),
            log,
            keep,
        )
        # Read here: a log is long, and one for every node of a round would wait in memory.
        return *below, read_log(log) if keep else []

    found = Expansion()
    searched = spread(search, nodes, max(1, min(threads, len(nodes))))
    for node, (arrays, (top, bottom), delicate, (discarded, programs, expanded), point, leaves) in zip(
        nodes, searched, strict=True
    ):
        p = pieces[node.piece]
        found.discarded = max(found.discarded, discarded)
        found.programs += int(programs)
        found.expanded += int(expanded)
        if not np.isnan(point).any():
            found.candidates.append((node.piece, point))
        found.proofs.extend((node.piece, leaf) for leaf in leaves)
        *shared, ends, choices = arrays
        found.nodes.extend(_unpacked(node.piece, slice(0, top), shared, ends, choices))
        for child in _unpacked(node.piece, slice(None, bottom - 1 if bottom else None, -1), shared, *delicate):
            if child.split[0] < 0 and not p.kernel.stop[0]:
                _examine(p, child, floor, incumbent, keep, found, tightened=True)
            else:
                found.nodes.append(child)
    return found


def _unpacked(
    piece: int, which: slice, arrays: Sequence[np.ndarray], ends: NDArray[np.int64], choices: NDArray[np.int32]
) -> list[Node]:
    """Nodes from what `search_subtree` returns, copied, so that its long arrays are freed."""
    signs, z_low, z_high, points, bounds, splits, lengths, paths = (array[which].copy() for array in arrays)
    ends = ends[which]
    chosen = choices[: ends[-1] if len(ends) else 0].copy()
    nodes, start = [], 0
    for i, (bound, split, end, length) in enumerate(
        zip(bounds.tolist(), splits.tolist(), ends.tolist(), lengths.tolist(), strict=True)
    ):
        path = tuple(paths[i, :length].tolist()) if length else ()
        nodes.append(
            Node(piece, signs[i], z_low[i], z_high[i], bound, points[i], chosen[start:end], tuple(split), path)
        )
        start = end
    return nodes


def _examine(
    p: PieceArrays,
    node: Node,
    floor: float,
    incumbent: float,
    keep: bool,
    found: Expansion,
    tightened: bool = False,
) -> None:
    """Propagate (unless it is done), bound, prove empty or find a point inside; enter what is left.

    As the compiled search does it, with exact arithmetic where float64 leaves something open.
    """
    k = p.kernel
    depth, n, size = p.depth, p.padded, len(k.low)
    below, above = np.empty((depth, n, size + 1)), np.empty((depth, n, size + 1))
    errors = np.zeros((depth, n))
    path = list(node.path)

    def done(leaf: Leaf) -> None:
        if keep:
            found.proofs.append((node.piece, leaf))

    first = _propagate(p, node, below, above, errors, path, done, tightened)
    if first == EMPTY:
        done(Leaf(tuple(path), BOUNDED))
        return
    if first == STOPPED:
        found.nodes.append(replace(node, path=tuple(path)))
        return
    bound, chosen, split = _bound(p, node, first, floor)
    if bound <= floor:
        found.discarded = max(found.discarded, bound)
        done(Leaf(tuple(path), BOUNDED))
        return
    a, b, slack, places = node_kernels.gather_rows(k.widths, first, k.low, k.high, node.signs, below, errors)
    point = node.point
    if np.isnan(point).any() or not node_kernels.is_inside(a, b, k.low, k.high, point, THIN):
        found.programs += 1
        margin, proof, deepest, y = node_kernels.deep_point(a, b, slack, k.low, k.high, k.stop)
        rows = [int(layer) * n + int(i) for layer, i in places]
        if proof < 0:
            used = [r for r in range(len(rows)) if y[r] > 0]
            done(Leaf(tuple(path), EMPTY_ROWS, tuple(rows[r] for r in used), tuple(float(y[r]) for r in used)))
            return
        if k.stop[0]:
            found.nodes.append(replace(node, bound=bound, chosen=chosen, path=tuple(path)))
            return
        if margin > THIN:
            point = deepest
            gradient = node_kernels.gradient_at(k.weights, k.biases, k.widths, k.output, k.inputs, point)
            if np.linalg.norm(gradient, k.q) > incumbent:
                found.candidates.append((node.piece, point))
        else:
            found.thin += 1
            exact = _exactly_empty(p, node.signs, first, places, y) if math.isfinite(margin) else None
            if exact is not None:
                done(Leaf.exact(tuple(path), [(rows[r], value) for r, value in exact]))
                return
            point = np.full(size, np.nan)
    found.nodes.append(replace(node, bound=bound, point=point, chosen=chosen, split=split, path=tuple(path)))


def _propagate(
    p: PieceArrays,
    node: Node,
    below: FloatArray,
    above: FloatArray,
    errors: FloatArray,
    path: list[int],
    done: Callable[[Leaf], None],
    tightened: bool,
) -> int:
    """Propagation, with pre-activations that seem constant settled exactly."""
    k, signs = p.kernel, node.signs
    seen: set[tuple[int, int]] = set()
    while True:
        # Ranges that are tight stay as they are, so that a checker that tightens once per split comes to the same.
        state = (signs, node.z_low, node.z_high)
        if tightened:
            state = (signs.copy(), node.z_low.copy(), node.z_high.copy())
        first = int(
            propagate(
                k.weights, k.biases, k.widths, k.group, k.turn, k.low, k.high, *state, below, above, errors,
                k.stop,
            )
        )  # fmt: skip
        if first in (EMPTY, STOPPED):
            return first
        if tightened:
            undecided = np.flatnonzero([(signs[m, : k.widths[m]] == 0).any() for m in range(p.depth)])
            first = int(undecided[0]) if len(undecided) else p.depth
        if first == p.depth:
            return first
        tightened = False
        flat = np.empty(n := p.padded, dtype=np.int64)
        count = flat_rows(k.widths, first, k.low, k.high, signs, below, errors, flat)
        fresh = [int(i) for i in flat[:count] if (first, int(i)) not in seen]
        if not fresh:
            return first
        seen.update((first, i) for i in fresh)
        rows = exact_affine_rows(p.network, signs, first)
        decided = 0
        for i in fresh:
            if rows is not None and not any(rows[first][i][:-1]):
                # Identically 0, or a constant: no kink. At 0 it adds no gradient.
                active = rows[first][i][-1] > 0
                signs[first, i] = 1 if active else -1
                code = 2 * (first * n + i)
                done(Leaf((*path, code + (0 if active else 1)), CONSTANT, (first * n + i,), (1.0,), decided > 0))
                path.append(code + (1 if active else 0))
                decided += 1
        if not decided:
            return first


def _bound(
    p: PieceArrays, node: Node, first: int, floor: float
) -> tuple[float, NDArray[np.int32], tuple[int, int, int]]:
    """A bound on all gradients of a node, the directions that reach beyond the floor, what to split."""
    k = p.kernel
    if first == p.depth:
        return min(node.bound, _leaf_bound(p, node.signs)), node.chosen, (first, -1, 1)
    chosen = node.chosen.astype(np.int64)
    bound, left, neuron, prefer = gradient_bound(
        k.weights, k.widths, k.output, k.inputs, first, node.signs, k.directions, k.along_inputs, chosen, len(chosen),
        k.q, k.dual, floor - k.slack,
    )  # fmt: skip
    return min(node.bound, bound + k.slack), chosen[:left].astype(np.int32), (first, int(neuron), int(prefer))


def _leaf_bound(p: PieceArrays, signs: NDArray[np.int8]) -> float:
    """The length of the one gradient, rounded upward; exactly 0 where it vanishes."""
    k = p.kernel
    gradient = gradient_of(k.weights, k.widths, k.output, k.inputs, signs)
    length = float(np.linalg.norm(gradient, k.q)) * (1 + 1e-14) + k.slack
    if length <= 4 * k.slack:
        rows = exact_affine_rows(_gradient_network(p), signs, p.depth)
        if rows is not None and not any(rows[-1][0][:-1]):
            return 0.0
    return length


def _gradient_network(p: PieceArrays) -> ReluNetwork:
    """The piece's network on the inputs along which gradients are taken, its output as one more layer."""
    network = p.network
    return ReluNetwork((p.kernel.inputs, *network.weights[1:], np.ones((1, 1))), (*network.biases, np.zeros(1)))


def _exactly_empty(
    p: PieceArrays, signs: NDArray[np.int8], first: int, places: NDArray[np.int64], y: FloatArray
) -> list[tuple[int, Fraction]] | None:
    """Exact multipliers that show a node to have no interior; None where there are none."""
    rows = exact_affine_rows(p.network, signs, min(first, p.depth - 1))
    if rows is None:
        return None
    exact = []
    for layer, neuron in places:
        row = rows[layer][neuron]
        exact.append(row if signs[layer, neuron] > 0 else [-value for value in row])
    return empty_by_exact_multipliers(exact, p.kernel.low, p.kernel.high, y.tolist())
