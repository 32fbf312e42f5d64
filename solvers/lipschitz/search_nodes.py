"""Nodes of branch and bound and their expansion: a pure function of nodes, free of queues, clocks and cluster.

A node is a bounded piece of the problem (`solvers.facets`) with a partial activation pattern, layers decided in their
order: then the pre-activations of the first undecided layer are affine, and the node is exactly a polytope.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.facets import BoundedPiece
from solvers.lipschitz import node_kernels
from solvers.lipschitz.exact_nodes import exact_affine_rows, has_no_interior, parallel_rows
from solvers.lipschitz.propagation_kernels import EMPTY, flat_rows, propagate
from solvers.networks import ReluNetwork
from solvers.norms import FloatArray
from solvers.witnesses import rounding_slack

__all__ = ["Expansion", "Node", "PieceArrays", "expand", "root_node"]

# Distance to the nearest kink below which an interior is left to exact arithmetic.
THIN = 1e-9
# Sign vectors that are looked at all at once for gradients in l_1.
MOST_SIGNED = 12


@dataclass(frozen=True, slots=True, eq=False)
class PieceArrays:
    """A bounded piece as padded arrays for the kernels; see `propagation_kernels` for their meaning."""

    network: ReluNetwork
    q: float
    slack: float
    weights: FloatArray
    biases: FloatArray
    widths: NDArray[np.int64]
    group: NDArray[np.int64]
    turn: NDArray[np.int8]
    low: FloatArray
    high: FloatArray
    output: FloatArray
    inputs: FloatArray
    directions: FloatArray

    @classmethod
    def of(cls, piece: BoundedPiece) -> PieceArrays:
        """Pad the layers of a piece with at least one hidden layer."""
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
        output = np.zeros(n)
        output[: widths[-1]] = network.weights[-1][0]
        return cls(
            network,
            q,
            4 * rounding_slack(piece.problem.network, q),
            weights,
            biases,
            np.array(widths),
            group,
            turn,
            piece.box.lower.copy(),
            piece.box.upper.copy(),
            output,
            np.ascontiguousarray(piece.inputs),
            _directions(piece.inputs.shape[1], q),
        )


def _directions(d: int, q: float) -> FloatArray:
    """Vectors c such that ||g||_q is the largest |<g, c>| (q = 1 in few dimensions, q = inf); else the axes."""
    if q == 1 and d <= MOST_SIGNED:
        bits = (np.arange(2 ** (d - 1))[:, None] >> np.arange(d)) & 1
        return np.asarray(1.0 - 2.0 * bits, dtype=np.float64)
    return np.eye(d)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A partial pattern on one piece, with what is known of it.

    Attributes:
        piece: index among the pieces.
        signs: (L, n) int8.
        z_low, z_high: (L, n): ranges of the pre-activations.
        bound: no gradient of the node is longer.
        point: (k,), strictly inside the node as far as float64 can tell; None if no such point is known.
        chosen: directions that can still beat the incumbent.
        layer, neuron: what to split next; layer = L at a leaf.
    """

    piece: int
    signs: NDArray[np.int8]
    z_low: FloatArray
    z_high: FloatArray
    bound: float
    point: FloatArray | None
    chosen: NDArray[np.int64]
    layer: int
    neuron: int


@dataclass(slots=True, eq=False)
class Expansion:
    """What became of a batch of nodes.

    Attributes:
        nodes: children that are still open; leaves among them have `layer` = L.
        discarded: the largest bound among children that were dropped for being below the floor; -inf without any.
        candidates: (piece, point): gradients longer than the incumbent.
        programs, thin: linear programs solved; nodes that exact arithmetic had to look at.
    """

    nodes: list[Node]
    discarded: float
    candidates: list[tuple[int, FloatArray]]
    programs: int = 0
    thin: int = 0


def root_node(pieces: Sequence[PieceArrays], piece: int, floor: float, incumbent: float, tighten: bool) -> Expansion:
    """The whole of a piece."""
    p = pieces[piece]
    shape = p.biases.shape
    found = Expansion([], -math.inf, [])
    start = Node(
        piece,
        np.zeros(shape, dtype=np.int8),
        np.full(shape, -np.inf),
        np.full(shape, np.inf),
        math.inf,
        None,
        np.arange(len(p.directions)),
        -1,
        -1,
    )
    _examine(p, start, floor, incumbent, tighten, found)
    return found


def expand(nodes: Sequence[Node], pieces: Sequence[PieceArrays], floor: float, incumbent: float) -> Expansion:
    """Split every node on its neuron and bound both sides.

    Args:
        nodes: open nodes, no leaves.
        floor: children with bounds up to here are dropped (their largest bound is told).
        incumbent: gradients longer than this become candidates.
    """
    found = Expansion([], -math.inf, [])
    for node in nodes:
        for sign in (1, -1):
            signs = node.signs.copy()
            signs[node.layer, node.neuron] = sign
            child = Node(
                node.piece,
                signs,
                node.z_low.copy(),
                node.z_high.copy(),
                node.bound,
                node.point,
                node.chosen,
                node.layer,
                node.neuron,
            )
            _examine(pieces[node.piece], child, floor, incumbent, True, found)
    return found


def _examine(p: PieceArrays, node: Node, floor: float, incumbent: float, tighten: bool, found: Expansion) -> None:
    """Propagate, bound, prove empty or find a point inside, decide neurons by linear programs; enter what is left."""
    depth, k = len(p.widths), len(p.low)
    n = p.biases.shape[1]
    below, above = np.empty((depth, n, k + 1)), np.empty((depth, n, k + 1))
    errors = np.zeros((depth, n))
    signs, z_low, z_high, bound, chosen = node.signs, node.z_low, node.z_high, node.bound, node.chosen
    point, parent = node.point, node.point
    for attempt in range(3):
        first = _propagate(p, signs, z_low, z_high, below, above, errors)
        if first == EMPTY:
            return
        bound_now, chosen, neuron = _bound(p, signs, z_low, z_high, first, chosen, floor)
        bound = min(bound, bound_now)
        if bound <= floor:
            found.discarded = max(found.discarded, bound)
            return
        if not tighten:
            break
        if attempt == 0:
            state, point = _interior(p, signs, below, errors, first, point, found)
            if state == EMPTY:
                return
        if first == depth:
            break
        if point is None:
            break
        programs, decided = node_kernels.decide_by_programs(
            p.widths, first, p.low, p.high, signs, below, errors, z_low, z_high, point
        )
        found.programs += programs
        if not decided:
            break
    if point is not None and point is not parent:
        gradient = node_kernels.gradient_at(p.weights, p.biases, p.widths, p.output, p.inputs, point)
        if np.linalg.norm(gradient, p.q) > incumbent:
            found.candidates.append((node.piece, point))
    found.nodes.append(Node(node.piece, signs, z_low, z_high, bound, point, chosen, first, neuron))


def _propagate(
    p: PieceArrays,
    signs: NDArray[np.int8],
    z_low: FloatArray,
    z_high: FloatArray,
    below: FloatArray,
    above: FloatArray,
    errors: FloatArray,
) -> int:
    """Propagation, with pre-activations that seem constant settled exactly."""
    seen: set[tuple[int, int]] = set()
    while True:
        first = int(
            propagate(
                p.weights,
                p.biases,
                p.widths,
                p.group,
                p.turn,
                p.low,
                p.high,
                signs,
                z_low,
                z_high,
                below,
                above,
                errors,
            )
        )
        if first in (EMPTY, len(p.widths)):
            return first
        flat = np.empty(n := p.biases.shape[1], dtype=np.int64)
        count = flat_rows(p.widths, first, p.low, p.high, signs, below, errors, flat)
        fresh = [int(i) for i in flat[:count] if (first, int(i)) not in seen and i < n]
        if not fresh:
            return first
        seen.update((first, i) for i in fresh)
        rows = exact_affine_rows(p.network, signs, first)
        for i in fresh:
            if rows is not None and not any(rows[first][i][:-1]):
                # Identically 0, or a constant: no kink. At 0 it adds no gradient.
                signs[first, i] = 1 if rows[first][i][-1] > 0 else -1


def _bound(
    p: PieceArrays,
    signs: NDArray[np.int8],
    z_low: FloatArray,
    z_high: FloatArray,
    first: int,
    chosen: NDArray[np.int64],
    floor: float,
) -> tuple[float, NDArray[np.int64], int]:
    """A bound on all gradients of a node, the directions that reach beyond the floor, the neuron to split."""
    depth = len(p.widths)
    if first == depth:
        return _leaf_bound(p, signs), chosen, -1
    bound, alive, neuron = node_kernels.gradient_bound(
        p.weights,
        p.widths,
        p.output,
        p.inputs,
        first,
        signs,
        z_low,
        z_high,
        p.directions,
        chosen,
        p.q,
        len(p.directions) != p.inputs.shape[1] or math.isinf(p.q) or p.inputs.shape[1] == 1,
        floor - p.slack,
    )
    return float(bound) + p.slack, alive, int(neuron)


def _leaf_bound(p: PieceArrays, signs: NDArray[np.int8]) -> float:
    """The length of the one gradient, rounded upward; exactly 0 where it vanishes."""
    gradient = node_kernels.gradient_of(p.weights, p.widths, p.output, p.inputs, signs)
    length = float(np.linalg.norm(gradient, p.q)) * (1 + 1e-14) + p.slack
    if length <= 4 * p.slack and _vanishes(p, signs):
        return 0.0
    return length


def _vanishes(p: PieceArrays, signs: NDArray[np.int8]) -> bool:
    rows = exact_affine_rows(_gradient_network(p), signs, len(p.widths))
    return rows is not None and not any(rows[-1][0][:-1])


def _gradient_network(p: PieceArrays) -> ReluNetwork:
    """The piece's network on the inputs along which gradients are taken, its output as one more layer."""
    network = p.network
    return ReluNetwork((p.inputs, *network.weights[1:], np.ones((1, 1))), (*network.biases, np.zeros(1)))


def _interior(
    p: PieceArrays,
    signs: NDArray[np.int8],
    below: FloatArray,
    errors: FloatArray,
    first: int,
    point: FloatArray | None,
    found: Expansion,
) -> tuple[int, FloatArray | None]:
    """EMPTY where the node is proved to have no interior; a point strictly inside it where float64 finds one."""
    a, b, slack, places = node_kernels.gather_rows(p.widths, first, p.low, p.high, signs, below, errors)
    if point is not None and node_kernels.is_inside(a, b, p.low, p.high, point, THIN):
        return 0, point
    found.programs += 1
    margin, bound, deepest, y = node_kernels.deep_point(a, b, slack, p.low, p.high)
    if bound < 0:
        return EMPTY, None
    if margin > THIN:
        return 0, deepest
    found.thin += 1
    rows = exact_affine_rows(p.network, signs, min(first, len(p.widths) - 1))
    if rows is not None and math.isfinite(margin):
        exact = []
        for layer, neuron in places:
            row = rows[layer][neuron]
            exact.append(row if signs[layer, neuron] > 0 else [-value for value in row])
        if has_no_interior(exact, p.low, p.high, y.tolist()):
            return EMPTY, None
    return 0, None
