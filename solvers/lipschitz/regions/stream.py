"""All regions of one bounded piece, one after the other: owns the arrays of `kernels`, answers its questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.bounds.exact_patterns import parallel_rows
from solvers.lipschitz.regions import state as state
from solvers.lipschitz.regions.exact_vertices import ExactVertices
from solvers.lipschitz.regions.geometry import CellRows, RegionNetwork, Solver
from solvers.lipschitz.regions.kernels import advance
from solvers.lipschitz.regions.pieces import ConePiece, Piece, Start, start_of
from solvers.problems.regions import ActivationPattern

__all__ = ["Region", "RegionStream", "new_record", "padded_network", "stream_regions"]

# Regions that are handed over at a time.
EMITTED = 512


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One linear region of a piece.

    Attributes:
        pattern: one boolean array per hidden layer; identically zero pre-activations count as inactive.
        vertices: (V, k), in no order; float64, correct to rounding.
        gradient: (d,), along the inputs of the asked network.
    """

    pattern: ActivationPattern
    vertices: FloatArray
    gradient: FloatArray


def padded_network(piece: Piece, start: Start) -> RegionNetwork:
    """The arrays of a piece with at least one hidden layer."""
    network, k, given = piece.network, piece.network.input_dimension, len(start.given)
    widths, depth, n = network.widths, network.depth, max(network.widths)
    weights, biases = np.zeros((depth, max(n, k), n)), np.zeros((depth, n))
    head, turn = np.tile(np.arange(n), (depth, 1)), np.ones((depth, n), dtype=np.int8)
    for m in range(depth):
        w, b = network.weights[m], network.biases[m]
        weights[m, : w.shape[1], : w.shape[0]] = w.T
        biases[m, : len(b)] = b
        head[m, : len(b)], turn[m, : len(b)] = parallel_rows(w, b)
        if piece.carries_t:
            # The last neuron is t >= 0, which vanishes on a face of the box; it leads the multiples of t.
            family = head[m] == head[m, len(b) - 1]
            turn[m, family] *= turn[m, len(b) - 1]
            head[m, family] = len(b) - 1
    sibling = np.full((depth, n), -1)
    for m in range(depth):
        for i in range(n):
            following = np.flatnonzero(head[m, i + 1 :] == head[m, i])
            if following.size:
                sibling[m, i] = i + 1 + following[0]
    facet = given + np.arange(depth)[:, None] * n + head
    if piece.carries_t:
        coordinate = int(np.flatnonzero(network.weights[0][-1])[0])
        for m in range(depth):
            facet[m, head[m] == widths[m] - 1] = 2 * coordinate
    output, inputs = np.zeros(n), np.zeros((n, piece.inputs.shape[1]))
    output[: widths[-1]] = network.weights[-1][0]
    inputs[: len(piece.inputs)] = piece.inputs
    w = network.weights[0]
    separate = not isinstance(piece, ConePiece) and (piece.inputs.shape != w.shape or bool((piece.inputs != w).any()))
    layers = (weights, biases, np.array(widths), head, turn, sibling, facet)
    bounds = (start.low, start.high, start.given, start.slack, start.at_low, start.at_high)
    return RegionNetwork(*layers, output, inputs, *bounds, start.bias_row, start.t_facet, separate)


class RegionStream:
    """Runs through the regions of a piece; memory holds one path of cells, whatever the number of regions.

    Attributes:
        piece: with at least one hidden layer.
        record: dual exponents, the longest gradients so far, and the screens above which regions are shown.
        exact_signs: how many signs exact arithmetic had to tell.
    """

    def __init__(self, piece: Piece, record: state.Record, *, emit: bool = False) -> None:
        self.piece, self.record, self.exact_signs = piece, record, 0
        start = start_of(piece)
        self._net = net = padded_network(piece, start)
        depth, n = net.biases.shape
        k, d = len(net.low), net.inputs.shape[1]
        facets = len(start.given) + depth * n
        self._cell = CellRows(
            np.zeros((depth, k + 1, n)),
            np.zeros((depth, n)),
            np.zeros((depth, n)),
            np.zeros((depth, n)),
            np.zeros((depth, d, n)),
        )
        self._solver = Solver(
            np.zeros((facets, k + 1)),
            np.zeros(facets),
            np.zeros((facets, k)),
            np.zeros((k, 2 * k)),
            np.zeros(k, dtype=np.int64),
            np.zeros(k),
            np.zeros(facets, dtype=np.bool_),
            np.zeros(k, dtype=np.bool_),
        )
        self._questions = state.Questions(
            np.zeros(64, dtype=np.int64), np.zeros(64, dtype=np.int64), np.zeros(64, dtype=np.int8)
        )
        self._exact = ExactVertices(piece.network, start.given, start.bias_row, n)
        self._stack = _stack(net, d, start)
        self._emission = _emission(net, d, EMITTED if emit else 0)

    @property
    def regions(self) -> int:
        """Regions met so far."""
        return int(self._stack.state[state.REGIONS_MET])

    @property
    def passed(self) -> int:
        """Cells that were not subdivided, since no gradient in them can be longer than the longest one."""
        return int(self._stack.state[state.PASSED])

    @property
    def steps(self) -> int:
        """Cells looked at so far, regions included."""
        return int(self._stack.state[state.CELLS_TAKEN])

    def advance(self, most_steps: int, most_regions: int | None = None) -> int:
        """Go on for at most so many steps; `most_regions` counts from the start.

        Returns:
            DONE; PAUSED at a limit; IMPROVED where the current region has a gradient above its screen; DRAIN where the
            emitted regions have to be taken.
        Raises:
            ArithmeticError: facets that should meet in a vertex do not: a bug of ours.
        """
        limit = np.iinfo(np.int64).max if most_regions is None else most_regions
        while True:
            code = int(
                advance(
                    self._net,
                    self._cell,
                    self._solver,
                    self._stack,
                    self._questions,
                    self.record,
                    self._emission,
                    most_steps,
                    limit,
                )
            )
            if code == state.GROW:
                self._stack = _grown(self._stack)
            elif code == state.QUESTION:
                self._answer()
            else:
                return code

    def _answer(self) -> None:
        """Tell the signs that were asked for."""
        counters, asked = self._stack.state, self._questions
        cell = int(counters[state.TOP])
        signs, layer = self._stack.signs[cell], int(self._stack.cells[cell, state.LAYER])
        known: dict[int, list[Fraction]] = {}
        for r in range(int(counters[state.ANSWERED]), int(counters[state.ASKED])):
            v = int(asked.vertex[r])
            if v not in known:
                known[v] = self._exact.vertex(signs, self._stack.masks[v])
            asked.sign[r] = self._exact.sign(signs, layer, int(asked.neuron[r]), known[v])
        self.exact_signs += int(counters[state.ASKED] - counters[state.ANSWERED])
        counters[state.ANSWERED] = counters[state.ASKED]
        if counters[state.ASKED] == len(asked.sign):
            self._questions = state.Questions(*(np.concatenate([a, np.zeros_like(a)]) for a in asked))

    def centres(self) -> Iterator[FloatArray]:
        """Points (k,) that should lie inside the current region: the mean of its vertices, then of the exact ones."""
        cell = int(self._stack.state[state.TOP])
        start, count = self._stack.cells[cell, state.START], self._stack.cells[cell, state.COUNT]
        own = slice(start, start + count)
        yield self._stack.points[own, :-1].mean(axis=0)
        signs, masks = self._stack.signs[cell], self._stack.masks[own]
        exact = [self._exact.vertex(signs, mask) for mask in masks]
        centre = [sum(column, Fraction(0)) / len(exact) for column in zip(*exact, strict=True)]
        yield np.array([float(x) for x in centre])

    def emitted(self) -> Iterator[Region]:
        """The regions written since the last call."""
        e, widths = self._emission, self.piece.network.widths
        for r in range(int(e.used[0])):
            pattern = tuple(e.signs[r, m, :width] > 0 for m, width in enumerate(widths))
            own = slice(e.spans[r, 0], e.spans[r].sum())
            yield Region(pattern, e.points[own].copy(), e.gradients[r].copy())
        e.used[:] = 0
        most = int(self._stack.cells[:, state.COUNT].max())
        if most > len(e.points) // 8:
            self._emission = _emission(self._net, e.gradients.shape[1], len(e.spans), 16 * most)

    def stop_emitting(self) -> None:
        """Hand out no more regions."""
        self._emission = _emission(self._net, self._net.inputs.shape[1], 0)


def stream_regions(piece: Piece) -> Iterator[Region]:
    """Every linear region of a piece with at least one hidden layer, once."""
    stream = RegionStream(piece, new_record([], [], piece.inputs.shape[1], every=True), emit=True)
    code = state.PAUSED
    while code != state.DONE:
        code = stream.advance(1 << 20)
        yield from stream.emitted()


def new_record(exponents: Sequence[float], screens: Sequence[float], dimension: int, *, every: bool) -> state.Record:
    """A record for gradients (d,) in which nothing was seen yet; see `Record` for `every`."""
    q, screen = np.array(exponents, dtype=np.float64), np.array(screens, dtype=np.float64)
    nothing = np.full(len(q), -1.0)
    return state.Record(q, nothing, screen, nothing.copy(), np.zeros(dimension), np.array([every]))


def _emission(net: RegionNetwork, d: int, regions: int, points: int = 4096) -> state.Emission:
    depth, n = net.biases.shape
    return state.Emission(
        np.zeros((regions, depth, n), dtype=np.int8),
        np.zeros((regions, d)),
        np.zeros((regions, 2), dtype=np.int64),
        np.zeros((points if regions else 0, len(net.low))),
        np.zeros(2, dtype=np.int64),
    )


def _stack(net: RegionNetwork, d: int, start: Start) -> state.Stack:
    """The first cell of a piece as the only one."""
    depth, n = net.biases.shape
    k = len(net.low)
    words = -(-(len(net.given) + depth * n) // 64)
    cells, pool, room = depth * n + 2, 16 * 2**k + 512, 4 * 2**k + 64
    stack = state.Stack(
        np.zeros((cells, 5), dtype=np.int64),
        np.zeros((cells, depth, n), dtype=np.int8),
        np.zeros((pool, k + 1)),
        np.zeros((pool, words), dtype=np.uint64),
        np.zeros((depth, n), dtype=np.int64),
        np.zeros(depth, dtype=np.int64),
        np.zeros(d),
        np.zeros(7, dtype=np.int64),
        np.zeros((room, k + 1)),
        np.zeros((room, words), dtype=np.uint64),
        np.zeros((room, k + 1)),
        np.zeros((room, words), dtype=np.uint64),
        np.zeros((room, 2), dtype=np.int64),
        np.zeros(room, dtype=np.int8),
        np.zeros((room, 2)),
        np.zeros((2, n), dtype=np.int64),
        np.zeros(n),
        np.zeros((4, n)),
        np.zeros(d),
    )
    count = len(start.corners)
    stack.points[:count, :-1] = start.corners
    for f in range(len(net.given)):
        stack.masks[:count, 0] |= start.through[:, f].astype(np.uint64) << np.uint64(f)
    stack.cells[0] = 0, count, 0, -1, 0
    return stack


def _grown(stack: state.Stack) -> state.Stack:
    """Twice the room for vertices."""
    pool = {"points", "masks"}
    room = {"new_points", "new_masks", "old_points", "old_masks", "pairs", "side", "values"}
    arrays = {}
    for name, array in stack._asdict().items():
        arrays[name] = np.concatenate([array, np.zeros_like(array)]) if name in pool | room else array
    return state.Stack(**arrays)
