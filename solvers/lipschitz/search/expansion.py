"""Expansion of nodes of branch and bound: a pure function of nodes, free of queues, clocks and cluster.

The search below a node is compiled (`search.subtree`); what rounding hides is settled here, in exact arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.threads import spread
from solvers.lipschitz.bounds.exact_interiors import point_or_proof
from solvers.lipschitz.bounds.exact_patterns import empty_by_exact_multipliers, exact_affine_rows
from solvers.lipschitz.bounds.interiors import deep_point
from solvers.lipschitz.bounds.pattern_bounds import bound_gradients, longest_of_pattern, settle
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.ranges import EMPTY, STOPPED
from solvers.lipschitz.bounds.slopes.kernels import SlopeArrays
from solvers.lipschitz.bounds.slopes.layers import NO_CODE
from solvers.lipschitz.search.node_kernels import gather_rows, gradient_at, is_inside
from solvers.lipschitz.search.nodes import Expansion, Node
from solvers.lipschitz.search.proofs import BOUNDED, CONSTANT, EMPTY_ROWS, Leaf, no_log, read_log, room_for
from solvers.lipschitz.search.slope_start import no_slopes
from solvers.lipschitz.search.subtree import THIN, search_subtree

__all__ = ["examine", "expand", "node_of", "root_node"]


def root_node(
    pieces: Sequence[PieceArrays], piece: int, floor: float, incumbent: float, keep: bool = False
) -> Expansion:
    """The whole of a piece."""
    signs = np.zeros(pieces[piece].kernel.biases.shape, dtype=np.int8)
    return examine(node_of(pieces[piece], piece, signs), pieces, floor, incumbent, keep)


def node_of(
    p: PieceArrays,
    piece: int,
    signs: NDArray[np.int8],
    bound: float = math.inf,
    split: tuple[int, int, int] = (-1, -1, 1),
    path: tuple[int, ...] = (),
    codes: NDArray[np.int16] | None = None,
) -> Node:
    """A node of which no more is known than its signs and what is told here: ranges and points are found anew."""
    shape = p.kernel.biases.shape
    return Node(
        piece,
        signs,
        np.full(shape, -np.inf),
        np.full(shape, np.inf),
        bound,
        np.full(len(p.kernel.low), np.nan),
        np.arange(p.kernel.directions.shape[1], dtype=np.int32),
        split,
        path,
        codes=codes,
    )


def examine(node: Node, pieces: Sequence[PieceArrays], floor: float, incumbent: float, keep: bool = False) -> Expansion:
    """Bound a node of which it is not known how to split it (`split[0]` = -1), as `expand` bounds those it makes."""
    found = Expansion()
    _examine_node(pieces[node.piece], node, floor, incumbent, keep, found)
    return found


def expand(
    nodes: Sequence[Node],
    pieces: Sequence[PieceArrays],
    floor: float,
    incumbent: float,
    steps: int = 1,
    keep: bool = False,
    threads: int = 1,
    slopes: Sequence[SlopeArrays] = (),
) -> Expansion:
    """Split every node, and depth first what comes out of it, and bound all sides.

    Args:
        nodes: open nodes, no leaves.
        floor: nodes with bounds up to here are dropped (their largest bound is told).
        incumbent: gradients longer than this become candidates.
        steps: splits below every node.
        keep: whether to keep proofs.
        threads: for the nodes, which do not depend on one another; what is found does not depend on it.
        slopes: programs over slopes of every piece; none when left out.
    """
    none = no_slopes()

    def search(node: Node) -> tuple[Any, ...]:
        p = pieces[node.piece]
        program = slopes[node.piece] if slopes else none
        vectors = program.start if node.vectors is None or not len(node.vectors) else node.vectors
        codes = np.empty(0, dtype=np.int16)
        if keep and len(vectors):
            codes = np.full(len(vectors), NO_CODE, dtype=np.int16)
            if node.codes is not None and len(node.codes):
                codes = node.codes
        log = room_for(steps, p.depth * p.padded, len(codes)) if keep else no_log()
        below = search_subtree(
            p.kernel,
            program,
            (node.signs, node.z_low, node.z_high, node.point, vectors, codes),
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
        return *below, read_log(log, p.depth * p.padded) if keep else []

    found = Expansion()
    searched = spread(search, nodes, max(1, min(threads, len(nodes))))
    for node, (arrays, (top, bottom), delicate, (tally, expanded), point, leaves) in zip(nodes, searched, strict=True):
        discarded, programs, bounded, dropped = tally.tolist()
        p = pieces[node.piece]
        found.discarded = max(found.discarded, discarded)
        found.programs += int(programs)
        found.expanded += int(expanded)
        found.bounded += int(bounded)
        found.dropped += int(dropped)
        if not np.isnan(point).any():
            found.candidates.append((node.piece, point))
        found.proofs.extend((node.piece, leaf) for leaf in leaves)
        *shared, ends, choices = arrays
        found.nodes.extend(_unpacked(node.piece, slice(0, top), shared, ends, choices))
        for child in _unpacked(node.piece, slice(None, bottom - 1 if bottom else None, -1), shared, *delicate):
            if child.split[0] < 0 and not p.kernel.stop[0]:
                _examine_node(p, child, floor, incumbent, keep, found, tightened=True)
            elif child.split[0] == p.depth:
                found.nodes.append(_bounded(child, longest_of_pattern(p, child.signs, floor)))
            else:
                found.nodes.append(child)
    return found


def _unpacked(
    piece: int, which: slice, arrays: Sequence[np.ndarray], ends: NDArray[np.int64], choices: NDArray[np.int32]
) -> list[Node]:
    """Nodes from what `search_subtree` returns, copied, so that its long arrays are freed."""
    signs, z_low, z_high, points, vectors, codes, bounds, splits, lengths, paths = (a[which].copy() for a in arrays)
    ends = ends[which]
    chosen = choices[: ends[-1] if len(ends) else 0].copy()
    nodes, start = [], 0
    for i, (bound, split, end, length) in enumerate(
        zip(bounds.tolist(), splits.tolist(), ends.tolist(), lengths.tolist(), strict=True)
    ):
        path, here = tuple(paths[i, :length].tolist()) if length else (), chosen[start:end]
        nodes.append(
            Node(
                piece, signs[i], z_low[i], z_high[i], bound, points[i], here, tuple(split), path, vectors[i], codes[i],
            )
        )  # fmt: skip
        start = end
    return nodes


def _bounded(node: Node, bound: float) -> Node:
    """With what is proved without multipliers, if that is less."""
    return replace(node, bound=bound, codes=None) if bound < node.bound else node


def _examine_node(
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
    k, n = p.kernel, p.padded
    path = list(node.path)

    def done(leaf: Leaf) -> None:
        if keep:
            found.proofs.append((node.piece, leaf))

    settled = settle(p, node.signs, node.z_low, node.z_high, tightened)
    first = settled.first
    for layer, neuron, active, loose in settled.constants:
        # No kink: the other sign is empty, or adds the same gradient.
        place = layer * n + neuron
        done(Leaf((*path, 2 * place + (0 if active else 1)), CONSTANT, (place,), (1.0,), loose))
        path.append(2 * place + (1 if active else 0))
    if first == EMPTY:
        done(Leaf(tuple(path), BOUNDED))
        return
    if first == STOPPED:
        found.nodes.append(replace(node, path=tuple(path)))
        return
    bound, chosen, split = bound_gradients(p, node.signs, first, node.chosen, floor)
    node = _bounded(node, bound)
    bound = node.bound
    if bound <= floor:
        found.discarded = max(found.discarded, bound)
        done(Leaf.by_bound(tuple(path), node.codes, node.signs.size))
        return
    a, b, slack, places = gather_rows(k.widths, first, k.low, k.high, node.signs, settled.below, settled.errors)
    point = node.point
    if np.isnan(point).any() or not is_inside(a, b, k.low, k.high, point, THIN):
        found.programs += 1
        margin, proof, deepest, y = deep_point(a, b, slack, k.low, k.high, k.stop)
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
            gradient = gradient_at(k.weights, k.biases, k.widths, k.output, k.inputs, point)
            if vector_norm(gradient, k.q) > incumbent:
                found.candidates.append((node.piece, point))
        else:
            found.thin += 1
            proof, inside = _exact_interior(p, node.signs, first, places, y)
            if proof is not None:
                done(Leaf.exact(tuple(path), [(layer * n + i, value) for (layer, i), value in proof]))
                return
            point = np.full(len(k.low), np.nan)
            if inside is not None and first == p.depth:
                point = inside
            elif inside is not None:
                found.candidates.append((node.piece, inside))
    found.nodes.append(replace(node, bound=bound, point=point, chosen=chosen, split=split, path=tuple(path)))


def _exact_interior(
    p: PieceArrays, signs: NDArray[np.int8], first: int, places: NDArray[np.int64], y: FloatArray
) -> tuple[list[tuple[tuple[int, int], Fraction]] | None, FloatArray | None]:
    """Exact multipliers, by layer and neuron, that show a node to have no interior; or the float64 point nearest to one
    that is strictly inside. Neither where the network is too large.

    Args:
        places: rows of the node, as from `gather_rows`; y: their multipliers, nearly.
    """
    rows = exact_affine_rows(p.network, signs, min(first, p.depth - 1))
    if rows is None:
        return None, None
    where = [(int(m), int(i)) for m, i in places]
    rest = [(m, i) for m in range(len(rows)) for i in range(len(rows[m])) if signs[m, i]]
    where += sorted(set(rest) - set(where))
    exact = [rows[m][i] if signs[m, i] > 0 else [-value for value in rows[m][i]] for m, i in where]
    low, high = p.kernel.low, p.kernel.high
    proof = empty_by_exact_multipliers(exact[: len(places)], low, high, y.tolist()) if np.isfinite(y).all() else None
    inside = None
    if proof is None:
        start = [r for r in range(len(places)) if y[r] > 0]
        inside, proof = point_or_proof(exact, low, high, start)
    found = None if proof is None else [(where[r], value) for r, value in proof]
    return found, None if inside is None else np.array([float(v) for v in inside])
