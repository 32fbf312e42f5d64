"""Where region enumeration starts: boxes as they are, all of space as few simplices.

Regions of f on R^d are cones over t > 0 of the homogenised network F(x, t) (`solvers.problems.facets`). Its kinks are
hyperplanes through the origin of R^(d + 1), so cells keep the coordinates (x, t) and are told by the rays that span
them: vertices are points of those rays, all in one hyperplane that cuts the cone in a bounded polytope. The half-space
t >= 0 is covered by the d + 1 cones over e_t and all but one of the rays e_1, ..., e_d, -(e_1 + ... + e_d); each is cut
in a simplex. A region that meets several of them is met several times; that is rarer than among the 2 d + 1 facets of a
box, whose walls are larger. Without biases t drops out.

Source: the fan of projective space, as in [Ziegler95, section 7.1], lifted by t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import EPSILON
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box
from solvers.problems.facets import BoundedPiece, bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Witness
from solvers.problems.witnesses import SEARCH_ENOUGH, witness_bound

__all__ = ["ConePiece", "Piece", "Start", "region_pieces", "start_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """The first cell of a piece, a polytope with k coordinates.

    Attributes:
        low, high: (k,), bounds of its coordinates.
        given: (F, k + 1), hyperplanes a u + c = 0 that bound it, or that hold all of it; slopes, then the constant.
        slack: (F,), bound on the rounding error of a given row anywhere between the bounds.
        at_low, at_high: (k,), the given hyperplane on which a coordinate has its bound, or -1.
        corners: (V, k), the vertices; through: (V, F), which of the given hyperplanes pass through them.
        bias_row: the coordinate that the biases of all layers but the first are multiplied by; k where it is 1.
        t_facet: the given hyperplane on which that coordinate is 0, or -1.
    """

    low: FloatArray
    high: FloatArray
    given: FloatArray
    slack: FloatArray
    at_low: NDArray[np.int64]
    at_high: NDArray[np.int64]
    corners: FloatArray
    through: NDArray[np.bool_]
    bias_row: int
    t_facet: int


@dataclass(frozen=True, slots=True, eq=False)
class ConePiece:
    """One of the cones of the homogenised network, cut by a hyperplane.

    Attributes:
        problem: what was asked.
        network: the asked one with the first biases as a last column of the first weights, behind those of x, where
            there are any; all other biases are to be multiplied by t.
        inputs: (n_1, d), the first weights along which gradients are taken.
        apart: the ray that is left out: e_apart, or their negative sum for d.
    """

    problem: LipschitzProblem
    network: ReluNetwork
    inputs: FloatArray
    apart: int

    @property
    def carries_t(self) -> bool:
        """No neuron carries t."""
        return False

    def to_inputs(self, u: FloatArray) -> FloatArray:
        """A point (k,) of the piece as a point x (d,) of the domain; x / t where t > 0, else not finite."""
        domain, d = self.problem.domain, self.problem.network.input_dimension
        x = u[:d]
        if len(u) > d:
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(x / u[d])
        if domain.is_bounded:
            # A cone around the origin, which lies inside the domain: shrinking stays in the cone.
            x = x * (0.5 * min(1.0, domain.reach(x)))
        return np.asarray(x)

    def lower_bound(self, u: FloatArray) -> tuple[float, Witness | None]:
        """What a point (k,) strictly inside a region of the piece proves; (0, None) if it proves nothing."""
        return witness_bound(self.problem, self.to_inputs(u), SEARCH_ENOUGH)

    def start(self) -> Start:
        """The simplex."""
        d, k = self.problem.network.input_dimension, self.network.input_dimension
        rays = np.eye(d + 1, d)
        rays[d] = -1.0
        corners = np.zeros((k, k))
        corners[:d, :d] = np.delete(rays, self.apart, axis=0)
        # Facets opposite the rays, and the hyperplane sum = 1 of the coordinates along the rays.
        given = np.zeros((k + 1, k + 1))
        given[:k, :k] = np.eye(k)
        if self.apart < d:
            # x = sum a_i e_i - a (1, ..., 1): a_i = x_i - x_apart, a = -x_apart. The ray -(1, ..., 1) is the last one.
            given[:d, :d] = np.delete(np.eye(d + 1, d), self.apart, axis=0)
            given[:d, self.apart] -= 1.0
        if k > d:
            corners[d, d] = 1.0
        given[k] = given[:k].sum(axis=0)
        given[k, k] = -1.0
        low, high = np.full(k, -1.0), np.ones(k)
        at_low, at_high = np.full(k, -1), np.full(k, -1)
        if self.apart == d:
            low[:d], at_low[:d] = 0.0, np.arange(d)
        else:
            high[self.apart], at_high[self.apart] = 0.0, d - 1
        if k > d:
            low[d], at_low[d] = 0.0, d
        through = ~np.eye(k, k + 1, dtype=bool)
        slack = EPSILON * (k + 4) * np.abs(given).sum(axis=1)
        t_facet = d if k > d else -1
        return Start(low, high, given, slack, at_low, at_high, corners, through, d if k > d else k, t_facet)


Piece: TypeAlias = BoundedPiece | ConePiece


def region_pieces(problem: LipschitzProblem) -> list[Piece]:
    """Pieces that together meet every linear region of the problem: the box, or the d + 1 cones of all of space.

    Args:
        problem: with at least one hidden layer.
    """
    boxes = bounded_pieces(problem)
    if len(boxes) == 1:
        return [*boxes]
    network, d = problem.network, problem.network.input_dimension
    w, b = network.weights[0], network.biases[0]
    lifted = network
    if not network.is_homogeneous:
        first = np.concatenate([w, b[:, None]], axis=1)
        lifted = ReluNetwork((first, *network.weights[1:]), (np.zeros(len(b)), *network.biases[1:]))
    return [ConePiece(problem, lifted, w, apart) for apart in range(d, -1, -1)]


def start_of(piece: Piece) -> Start:
    """The first cell of a piece."""
    return _box(piece.box) if isinstance(piece, BoundedPiece) else piece.start()


def _box(box: Box) -> Start:
    k = box.dimension
    given = np.zeros((2 * k, k + 1))
    given[::2, :k] = given[1::2, :k] = np.eye(k)
    given[::2, k], given[1::2, k] = -box.lower, -box.upper
    bits = np.arange(2**k)[:, None] >> np.arange(k) & 1
    through = np.zeros((2**k, 2 * k), dtype=bool)
    through[:, ::2], through[:, 1::2] = bits == 0, bits == 1
    slack = EPSILON * np.abs(given[:, k])
    faces = 2 * np.arange(k)
    corners = np.where(bits == 1, box.upper, box.lower)
    return Start(box.lower.copy(), box.upper.copy(), given, slack, faces, faces + 1, corners, through, k, -1)
