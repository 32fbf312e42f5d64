"""One problem as bounded ones: homogenised facets, the domain transformation that every exact method shares.

Let F(x, t) = W_L s(... s(W_0 x + b_0 t) ... + b_{L-1} t) with s the ReLU: f with every hidden bias multiplied by t and
without the last one, so f = F(., 1) + b_L.

Theorem. Lip_p(f; R^d) is the largest ||grad_x F||_{p'} over the linear regions of F that meet the relative interior of
one of 2 d + 1 facets of [-1, 1]^d x [0, 1]: t = 1, and x_k = +-1 for each k. If all hidden biases vanish, t drops out:
Lip_p(f; X) is the largest ||grad f||_{p'} over the regions that meet one of the 2 d facets x_k = +-1 of [-1, 1]^d, for
X = R^d and for every X with the origin inside.

Proof sketch. s(c z) = c s(z) for c > 0, so F(c x, c t) = c F(x, t), and for t > 0 F(x, t) = t F(x / t, 1): hence
grad_x F(x, t) = grad f(x / t), and over t > 0 the regions of F are the open cones over those of f at t = 1. Besides in
0, the ray through a point with t > 0 meets the surface of [-1, 1]^d x [0, 1] where max(|x_1|, ..., |x_d|, t) = 1: on
one of the 2 d + 1 facets. So an open cone cuts a relatively open, non-empty set out of their union, and the relative
boundaries of the facets, of lower dimension, cannot hold all of it: every region of f is met. Conversely, a region met
in the relative interior of a facet has points with t > 0, so it is the cone over a region of f. Without hidden biases
the regions of f are open cones in R^d already; the same argument holds in [-1, 1]^d, and a cone meets the interior of
every X with the origin inside.

The solid box is never used: at its apex 0 all pre-activations vanish, so every pattern is weakly feasible there.

On a facet t is carried through the layers by one more neuron per hidden layer: t >= 0, so relu(t) = t, and what comes
out is an ordinary ReLU network with affine layers.

Where W_0 maps R^d onto R^{n_1} (d >= n_1, generically), z = W_0 x + b_0 takes every value, and an open set of z comes
from an open set of x. So the problem is posed in the n_1 coordinates of z, in which the first layer is the identity;
for L = 1 only signs matter there, and one cube around the origin shows them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import EPSILON
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import ActivationPattern
from solvers.problems.results import Witness
from solvers.problems.witnesses import SEARCH_ENOUGH, witness_bound

__all__ = ["BoundedPiece", "bounded_pieces", "each_piece", "solid_piece"]


@dataclass(frozen=True, slots=True, eq=False)
class BoundedPiece:
    """A bounded part of a problem: a ReLU network on a box with an interior, and how it lies in the asked one.

    Attributes:
        problem: what was asked.
        network: on the coordinates u of the piece, shape (k,); its regions are regions of the asked network.
        box: where u lies.
        inputs: (n_1, d), for L = 0 (1, d): replaces the first weights of `network` when a gradient is multiplied out,
            so that it is taken along x and not along u.
        lift: (d + 1, k) and lift_offset (d + 1,): (x, t) = lift u + lift_offset.
        carries_t: the last neuron of every hidden layer of `network` is t; always active, no kink.
    """

    problem: LipschitzProblem
    network: ReluNetwork
    box: Box
    inputs: FloatArray
    lift: FloatArray
    lift_offset: FloatArray
    carries_t: bool

    def gradient(self, pattern: ActivationPattern) -> FloatArray:
        """grad_x on the region of a pattern of the piece: W_L D ... D_0 `inputs`; shape (d,)."""
        row = self.network.weights[-1] if self.network.depth else np.ones((1, 1))
        for w, active in zip(reversed(self.network.weights[1:-1]), reversed(pattern[1:]), strict=True):
            row = (row * active) @ w
        return np.asarray((row * pattern[0]) @ self.inputs if self.network.depth else self.inputs)[0]

    def to_inputs(self, u: FloatArray) -> FloatArray:
        """A point (k,) of the piece as a point x (d,) of the domain; x / t where t > 0, else not finite."""
        whole = self.lift @ u + self.lift_offset
        with np.errstate(divide="ignore", invalid="ignore"):
            x = whole[:-1] / whole[-1]
        domain = self.problem.domain
        if not domain.strictly_contains(x) and self.problem.network.is_homogeneous:
            # A cone around the origin, which lies inside the domain: shrinking stays in the cone.
            x = x * (0.5 * min(1.0, domain.reach(x)))
        return np.asarray(x)

    def lower_bound(self, u: FloatArray) -> tuple[float, Witness | None]:
        """What a point (k,) strictly inside a region of the piece proves; (0, None) if it proves nothing."""
        return witness_bound(self.problem, self.to_inputs(u), SEARCH_ENOUGH)


def bounded_pieces(problem: LipschitzProblem) -> list[BoundedPiece]:
    """Bounded problems whose constants have the asked one as their maximum.

    A box is its own piece. All of R^d becomes 2k + 1 facets, k the smaller of d and n_1; without hidden biases (beyond
    the first layer, where k < d) t drops out and 2k remain, also for a box around the origin, since then all regions
    are cones.

    Source: the theorem at the top of this file.
    """
    return list(each_piece(problem))


def each_piece(problem: LipschitzProblem) -> Iterator[BoundedPiece]:
    """`bounded_pieces`, one by one: of large networks each takes its time and memory."""
    network = problem.network
    w = network.weights[0]
    back = None
    if network.depth and not problem.domain.is_bounded and w.shape[0] <= w.shape[1]:
        back = _right_inverse(w)
    if back is None:
        yield from _facets(problem)
        return
    n, b = w.shape[0], network.biases[0]
    inner = LipschitzProblem(
        ReluNetwork((np.eye(n), *network.weights[1:]), (np.zeros(n), *network.biases[1:])), problem.p
    )
    # (x, t) = (V (z - b t), t); what rounding does to it moves witnesses, which are proved anew.
    lift = np.block([[back, -(back @ b)[:, None]], [np.zeros((1, n)), np.ones((1, 1))]])
    for piece in [solid_piece(inner, Box.cube(n))] if network.depth == 1 else _facets(inner):
        yield replace(
            piece,
            problem=problem,
            inputs=piece.inputs @ w,
            lift=lift @ piece.lift,
            lift_offset=lift @ piece.lift_offset,
        )


def _right_inverse(w: FloatArray) -> FloatArray | None:
    """V (d, n) with W V = 1 up to rounding, W (n, d); None unless W is proved to be onto R^n.

    ||1 - W V|| < 1 in the row-sum norm makes W V invertible (Neumann), and its rounding is below (d + 2) u |W| |V|.
    """
    n, d = w.shape
    back = np.linalg.pinv(w)
    error = np.abs(np.eye(n) - w @ back) + (d + 4) * EPSILON * (np.abs(w) @ np.abs(back) + 1)
    return np.asarray(back) if np.isfinite(back).all() and float(error.sum(axis=1).max()) < 0.5 else None


def _facets(problem: LipschitzProblem) -> Iterator[BoundedPiece]:
    network, bounds = problem.network, problem.domain.bounds
    d = network.input_dimension
    if network.depth == 0:
        yield solid_piece(problem, Box.cube(d) if bounds is None else Box(*bounds))
        return
    if network.is_homogeneous and problem.domain.strictly_contains(np.zeros(d)):
        if d == 1:  # the facets are single points; an interval on either side has the same two regions
            yield solid_piece(problem, Box([0.5], [1.0]))
            yield solid_piece(problem, Box([-1.0], [-0.5]))
            return
        yield from (_cone_facet(problem, k, side) for k in range(d) for side in (1.0, -1.0))
    elif bounds is not None:
        yield solid_piece(problem, Box(*bounds))
    else:
        yield solid_piece(problem, Box.cube(d))
        yield from (_homogenised_facet(problem, k, side) for k in range(d) for side in (1.0, -1.0))


def solid_piece(problem: LipschitzProblem, box: Box) -> BoundedPiece:
    """The network itself on a box: x = u, t = 1."""
    d = problem.network.input_dimension
    lift = np.concatenate([np.eye(d), np.zeros((1, d))])
    return BoundedPiece(problem, problem.network, box, problem.network.weights[0], lift, _last(d), False)


def _last(d: int) -> FloatArray:
    return np.append(np.zeros(d), 1.0)


def _cone_facet(problem: LipschitzProblem, k: int, side: float) -> BoundedPiece:
    """x_k = side, t = 1, the other coordinates in [-1, 1]."""
    network = problem.network
    d = network.input_dimension
    w = network.weights[0]
    piece = ReluNetwork(
        (np.delete(w, k, axis=1), *network.weights[1:]),
        (network.biases[0] + side * w[:, k], *network.biases[1:]),
    )
    lift = np.delete(np.eye(d + 1, d), k, axis=1)
    offset = _last(d)
    offset[k] = side
    return BoundedPiece(problem, piece, Box.cube(d - 1), w, lift, offset, False)


def _homogenised_facet(problem: LipschitzProblem, k: int, side: float) -> BoundedPiece:
    """x_k = side, t in [0, 1] in the place of x_k, the other coordinates in [-1, 1]."""
    network = problem.network
    d = network.input_dimension
    first, b = network.weights[0].copy(), network.biases[0]
    constant = side * first[:, k]
    first[:, k] = b
    carrier = np.zeros((1, d))
    carrier[0, k] = 1.0
    weights, biases = [np.concatenate([first, carrier])], [np.append(constant, 0.0)]
    for w, b in zip(network.weights[1:-1], network.biases[1:-1], strict=True):
        weights.append(np.block([[w, b[:, None]], [np.zeros((1, w.shape[1])), np.ones((1, 1))]]))
        biases.append(np.zeros(len(b) + 1))
    # The last bias shifts F and is no part of a gradient.
    weights.append(np.append(network.weights[-1], [[0.0]], axis=1))
    biases.append(np.zeros(1))
    low, high = np.full(d, -1.0), np.ones(d)
    low[k] = 0.0
    inputs = np.concatenate([network.weights[0], np.zeros((1, d))])
    lift, offset = np.zeros((d + 1, d)), np.zeros(d + 1)
    for column in range(d):
        lift[d if column == k else column, column] = 1.0
    offset[k] = side
    return BoundedPiece(problem, ReluNetwork(weights, biases), Box(low, high), inputs, lift, offset, True)
