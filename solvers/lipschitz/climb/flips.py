"""Walks from pattern to pattern, one or two neurons at a time, on small networks.

At a pattern with slopes h_i (derivative of the output by neuron i) and J_i (gradient of its pre-activation), turning
neuron i adds +-h_i J_i to the gradient, and turning two adds a product more where one hears the other. So the length
that every flip would give is known before anybody asks whether an input has the flipped pattern; a linear program does
so, for those that gain, the best first. Many short walks from different starts find more than one from the best.

Source: local search; the program finds the point with most room, as in `bounds.interiors`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.lipschitz.climb.search_network import typical_distance
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Deadline
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import ActivationPattern, pattern_at

__all__ = ["FlipWalks"]

# How much longer a gradient must get, and how many of the promising flips are asked about at most.
GAIN = 1 + 1e-9
MOST_ASKED = 400
# Programs that are set up at once: few at first, since the first flips are the likeliest.
FEW, TOGETHER = 2, 16
# Programs that take as long as one step of a walk without them.
STEP = 5
# Room that a point must have, in units of the box.
LEAST_ROOM = 1e-9

# Gradients (..., d) -> what is to grow, (...).
Length: TypeAlias = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class _Turns:
    """What every flip of a pattern would do; n neurons, all layers stacked.

    Attributes:
        signs: (n,), 1 active, -1 silent.
        rows: (n, d + 1), gradients of pre-activations, and their constants.
        turns: (n,), what a flip adds to the slope of a neuron: 1 where it is silent, -1 where it is active.
        passed: (n, n), derivatives of later pre-activations (rows) by outputs of earlier neurons (columns).
        heads: (n,), derivatives of the output by the neurons' outputs.
        gradient: (d,).
    """

    signs: FloatArray
    rows: FloatArray
    turns: FloatArray
    passed: FloatArray
    heads: FloatArray
    gradient: FloatArray

    @classmethod
    def of(cls, network: ReluNetwork, pattern: ActivationPattern) -> _Turns:
        ends = list(itertools.accumulate(network.widths))
        places = [slice(end - n, end) for end, n in zip(ends, network.widths, strict=True)]
        masks = [layer.astype(np.float64) for layer in pattern]
        mask = np.concatenate(masks)
        n, d = ends[-1], network.input_dimension
        rows, passed = np.empty((n, d + 1)), np.zeros((n, n))
        for k, (w, b) in enumerate(zip(network.weights[:-1], network.biases[:-1], strict=True)):
            here = places[k]
            if k == 0:
                rows[here] = np.column_stack([w, b])
                continue
            before = places[k - 1]
            heard = w * masks[k - 1]
            rows[here] = heard @ rows[before]
            rows[here, d] += b
            passed[here, : before.start] = heard @ passed[before, : before.start]
            passed[here, before] = w
        heads = np.empty(n)
        row = network.weights[-1][0]
        for k in reversed(range(network.depth)):
            heads[places[k]] = row
            row = (row * masks[k]) @ network.weights[k]
        return cls(2 * mask - 1, rows, 1 - 2 * mask, passed, heads, row)

    def singles(self, length: Length) -> FloatArray:
        """Lengths (n,) after one flip."""
        return length(self.gradient + (self.turns * self.heads)[:, None] * self.rows[:, :-1])

    def doubles(self, length: Length) -> FloatArray:
        """Lengths (n, n) after two flips i < j; -inf elsewhere."""
        n = len(self.heads)
        slopes = self.rows[:, :-1]
        steps = (self.turns * self.heads)[:, None] * slopes
        cross = (self.turns * self.heads)[:, None] * self.passed * self.turns
        found = np.full((n, n), -np.inf)
        for i in range(n - 1):
            after = self.gradient + steps[i] + steps[i + 1 :] + cross[i + 1 :, i, None] * slopes[i]
            found[i, i + 1 :] = length(after)
        return found

    def flipped(self, which: NDArray[np.int64]) -> FloatArray:
        """Half-spaces (count, n, d + 1) a x + c > 0 of the patterns with these neurons (count, 1 or 2) turned."""
        rows = np.repeat(self.rows[None], len(which), axis=0)
        signs = np.repeat(self.signs[None], len(which), axis=0)
        count = np.arange(len(which))
        for i in which.T:  # the earlier neuron first
            rows += (self.turns[i] * self.passed[:, i]).T[:, :, None] * rows[count, i][:, None, :]
            signs[count, i] *= -1
        return rows * signs[:, :, None]


class FlipWalks:
    """Walks on the patterns of one problem; what one has asked no other asks again.

    Args:
        most_programs: linear programs at most, over all walks.
    """

    def __init__(self, problem: LipschitzProblem, most_programs: int, deadline: Deadline) -> None:
        self.left = most_programs
        self._network = problem.network
        self._q = problem.dual_p
        self._deadline = deadline
        self._points: dict[bytes, FloatArray | None] = {}
        self._seen: set[tuple[int | None, bytes]] = set()
        self._cone = not problem.domain.is_bounded and not problem.network.is_homogeneous
        d, bounds = problem.network.input_dimension, problem.domain.bounds
        if bounds is not None:
            self._low, self._high = bounds[0].copy(), bounds[1].copy()
        else:
            # Of R^d the program sees the cone of all (x, t), t > 0, with a x + c t > 0, cut off by a box.
            self._low, self._high = np.full(d + self._cone, -1.0), np.full(d + self._cone, 1.0)
            self._low[d:] = 0.0
        self._far = typical_distance(problem.network) if self._cone else 1.0

    @property
    def is_over(self) -> bool:
        return self.left <= 0 or self._deadline.is_over

    def walk(self, point: FloatArray, derivative: int | None = None) -> FloatArray:
        """From the region of a point (d,) to one where no flip of one or two neurons gives a longer gradient.

        Args:
            derivative: the input k whose derivative is to grow instead, or -1 - k for the other sign: the largest
                derivative of all (p = 1) may be that of an input whose derivatives are small on the way.
        Returns:
            A point of the last region; the walk ends early where it meets another one.
        """
        length = self._length(derivative)
        turns = _Turns.of(self._network, pattern_at(self._network, point))
        while not self.is_over:
            self.left -= STEP
            flat = turns.signs > 0
            key = np.packbits(flat).tobytes()
            if (derivative, key) in self._seen:
                break
            self._seen.add((derivative, key))
            reached = float(length(turns.gradient))
            least = reached + (GAIN - 1) * abs(reached)
            found = None
            for lengths in (turns.singles, turns.doubles):
                if found is None:
                    found = self._first_inside(turns, flat, _best_first(lengths(length), least), length, least)
            if found is None:
                break
            point, turns = found
        return point

    def _length(self, derivative: int | None) -> Length:
        if derivative is None:
            return lambda gradients: vector_norm(gradients, self._q)
        if derivative < 0:
            return lambda gradients: -gradients[..., -1 - derivative]
        return lambda gradients: gradients[..., derivative]

    def _first_inside(
        self, turns: _Turns, flat: NDArray[np.bool_], candidates: NDArray[np.int64], length: Length, least: float
    ) -> tuple[FloatArray, _Turns] | None:
        """A point strictly inside the region of the first flipped pattern that has one, and the flips from there."""
        start, size = 0, FEW
        while start < len(candidates):
            which = candidates[start : start + size]
            start, size = start + size, min(2 * size, TOGETHER)
            keys = []
            for some in which:
                signs = flat.copy()
                signs[some] ^= True
                keys.append(np.packbits(signs).tobytes())
            new = [k for k, key in enumerate(keys) if key not in self._points]
            halves = dict(zip(new, turns.flipped(which[new]), strict=True)) if new else {}
            for k, key in enumerate(keys):
                if self.is_over:
                    return None
                if key not in self._points:
                    self.left -= 1
                    self._points[key] = self._inside(halves[k])
                point = self._points[key]
                if point is None:
                    continue
                # The program's tolerance may have let a neuron slip: what counts is what the point says.
                there = _Turns.of(self._network, pattern_at(self._network, point))
                if float(length(there.gradient)) > least:
                    return point, there
        return None

    def _inside(self, half_spaces: FloatArray) -> FloatArray | None:
        """A point with room in a region; None where the program sees none."""
        from solvers.lipschitz.bounds.interiors import deep_point

        a, c = half_spaces[:, :-1], half_spaces[:, -1]
        if self._cone:
            a, c = np.column_stack([a * self._far, c]), np.zeros(len(c))
        sizes = np.abs(a).max(axis=1)
        moving = sizes > 0
        if not moving.all():
            if (c[~moving] < 0).any():
                return None
            a, c, sizes = a[moving], c[moving], sizes[moving]
        a, c = a / sizes[:, None], c / sizes
        stop = np.zeros(1, dtype=np.int8)
        room, _, point, _ = deep_point(a, c, np.zeros(len(c)), self._low, self._high, stop)
        if not room > LEAST_ROOM * float((self._high - self._low).min()):
            return None
        if self._cone:
            return np.asarray(self._far * point[:-1] / point[-1]) if point[-1] > 0 else None
        return np.asarray(point)


def _best_first(lengths: FloatArray, least: float) -> NDArray[np.int64]:
    """Indices (count, dimensions of the array) of lengths above `least`, the longest first."""
    flat = np.flatnonzero(lengths > least)
    order = flat[np.argsort(-lengths.ravel()[flat], kind="stable")[:MOST_ASKED]]
    return np.stack(np.unravel_index(order, lengths.shape), axis=1)
