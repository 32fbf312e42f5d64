"""A walk from pattern to pattern, one or two neurons at a time.

At a pattern with slopes of h_i (derivative of the output by neuron i) and J_i (gradient of its pre-activation), turning
neuron i adds +-h_i J_i to the gradient, and turning two adds a product more where one hears the other. So the length
that every flip would give is known before anybody asks whether an input has the flipped pattern; a linear program does
so, for those that gain, the best first.

Source: local search; the program finds the point with most room, as in `bounds.interiors`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.lipschitz.climb.search_network import typical_distance
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Deadline
from solvers.problems.domains import Domain
from solvers.problems.regions import ActivationPattern, LinearRegion, pattern_at

__all__ = ["walk_by_flips"]

# How much longer a gradient must get, and how many of the promising flips are asked about.
GAIN = 1 + 1e-9
MOST_ASKED = 400
# Room, in units of the box or of a cone's unit box, that a point must have.
LEAST_ROOM = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class _Flips:
    """What every flip of a pattern would do.

    Attributes:
        gradient: (d,).
        steps: (n, d), what turning one neuron adds to the gradient, all layers stacked.
        cross: (n, n), what turning two adds besides, as a multiple of the row of `rows` of the earlier one.
        rows: (n, d), gradients of pre-activations.
    """

    gradient: FloatArray
    steps: FloatArray
    cross: FloatArray
    rows: FloatArray

    @classmethod
    def of(cls, network: ReluNetwork, pattern: ActivationPattern) -> _Flips:
        masks = [layer.astype(np.float64) for layer in pattern]
        rows = [network.weights[0]]
        for w, mask in zip(network.weights[1:-1], masks, strict=False):
            rows.append((w * mask) @ rows[-1])
        heads = [network.weights[-1][0]]  # derivatives of the output by each neuron's output
        for w, mask in zip(reversed(network.weights[1:-1]), reversed(masks[1:]), strict=True):
            heads.append((heads[-1] * mask) @ w)
        heads.reverse()
        turns = [1.0 - 2.0 * mask for mask in masks]
        n, starts = sum(network.widths), np.cumsum([0, *network.widths])
        cross = np.zeros((n, n))
        for i in range(network.depth):
            passed = np.eye(network.widths[i])  # z of a later layer by the outputs of layer i
            for j in range(i + 1, network.depth):
                passed = network.weights[j] @ (passed if j == i + 1 else masks[j - 1][:, None] * passed)
                block = (turns[j] * heads[j])[:, None] * passed * turns[i]
                cross[starts[i] : starts[i + 1], starts[j] : starts[j + 1]] = block.T
        stacked = np.concatenate(rows)
        steps = (np.concatenate(turns) * np.concatenate(heads))[:, None] * stacked
        return cls(heads[0] * masks[0] @ network.weights[0], steps, cross, stacked)

    def singles(self, q: float) -> FloatArray:
        """Lengths (n,) after one flip."""
        return vector_norm(self.gradient + self.steps, q)

    def doubles(self, q: float) -> FloatArray:
        """Lengths (n, n) after two flips i < j; 0 elsewhere."""
        n = len(self.steps)
        found = np.zeros((n, n))
        for i in range(n - 1):
            after = self.gradient + self.steps[i] + self.steps[i + 1 :] + self.cross[i, i + 1 :, None] * self.rows[i]
            found[i, i + 1 :] = vector_norm(after, q)
        return found


def walk_by_flips(
    network: ReluNetwork, domain: Domain, q: float, point: FloatArray, steps: int, deadline: Deadline
) -> tuple[FloatArray, float]:
    """Walk from the region of a point until no flip of one or two neurons leads to a longer gradient.

    Args:
        point: (d,).
        steps: flips at most.
    Returns:
        A point of the last region, and the length of the gradient there in float64.
    """
    pattern = pattern_at(network, point)
    length = float(vector_norm(LinearRegion(network, pattern).gradient()[0], q))
    asked: set[bytes] = set()
    for _ in range(steps):
        if deadline.is_over:
            break
        flips = _Flips.of(network, pattern)
        found = _first_inside(network, domain, pattern, _sorted_singles(flips, q, length), asked, deadline)
        if found is None:
            found = _first_inside(network, domain, pattern, _sorted_doubles(flips, q, length), asked, deadline)
        if found is None:
            break
        # The program's own tolerance may have let a neuron slip: what counts is what the point says.
        there = pattern_at(network, found)
        reached = float(vector_norm(LinearRegion(network, there).gradient()[0], q))
        if reached <= length * GAIN:
            continue
        point, pattern, length = found, there, reached
    return point, length


def _sorted_singles(flips: _Flips, q: float, length: float) -> list[tuple[int, ...]]:
    lengths = flips.singles(q)
    order = np.argsort(-lengths, kind="stable")[:MOST_ASKED]
    return [(int(i),) for i in order if lengths[i] > length * GAIN]


def _sorted_doubles(flips: _Flips, q: float, length: float) -> list[tuple[int, ...]]:
    lengths = flips.doubles(q)
    flat = np.flatnonzero(lengths > length * GAIN)
    order = flat[np.argsort(-lengths.ravel()[flat], kind="stable")[:MOST_ASKED]]
    return [divmod(int(k), lengths.shape[1]) for k in order]


def _first_inside(
    network: ReluNetwork,
    domain: Domain,
    pattern: ActivationPattern,
    candidates: list[tuple[int, ...]],
    asked: set[bytes],
    deadline: Deadline,
) -> FloatArray | None:
    """A point strictly inside the region of the first flipped pattern that has one."""
    flat = np.concatenate(pattern)
    ends = list(itertools.accumulate(network.widths))[:-1]
    for turned in candidates:
        if deadline.is_over:
            return None
        signs = flat.copy()
        signs[list(turned)] ^= True
        key = np.packbits(signs).tobytes()
        if key in asked:
            continue
        asked.add(key)
        point = _inside(network, domain, tuple(np.split(signs, ends)))
        if point is not None:
            return point
    return None


def _inside(network: ReluNetwork, domain: Domain, pattern: tuple[NDArray[np.bool_], ...]) -> FloatArray | None:
    """A point with room in the region of a pattern; None where the program sees none.

    Of R^d the program sees the cone of all (x, t), t > 0, with A x + c t > 0, cut off by a unit box.
    """
    from solvers.lipschitz.bounds.interiors import deep_point

    a, c = LinearRegion(network, pattern).half_spaces()
    moving = a.any(axis=1)
    if (c[~moving] < 0).any():
        return None
    a, c = a[moving], c[moving]
    bounds, d = domain.bounds, network.input_dimension
    if bounds is not None:
        rows, offsets, low, high = a, c, bounds[0].copy(), bounds[1].copy()
    elif network.is_homogeneous:
        rows, offsets, low, high = a, c, np.full(d, -1.0), np.full(d, 1.0)
    else:
        far = typical_distance(network)
        rows, offsets = np.column_stack([a * far, c]), np.zeros(len(c))
        low, high = np.array([*np.full(d, -1.0), 0.0]), np.ones(d + 1)
    lengths = np.abs(rows).max(axis=1)
    rows, offsets = np.ascontiguousarray(rows / lengths[:, None]), offsets / lengths
    room, _, point, _ = deep_point(rows, offsets, np.zeros(len(rows)), low, high, np.zeros(1, dtype=np.int8))
    if not room > LEAST_ROOM * float((high - low).min()):
        return None
    if bounds is None and not network.is_homogeneous:
        return np.asarray(far * point[:d] / point[d]) if point[d] > 0 else None
    return np.asarray(point)
