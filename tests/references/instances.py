"""Networks with a Lipschitz constant known in closed form; the derivation stands beside each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain, WholeSpace


@dataclass(frozen=True)
class Instance:
    """A network, a domain, and the constant as a function of the dual exponent q = p'."""

    name: str
    network: ReluNetwork
    domain: Domain
    constant: Callable[[float], float]

    @property
    def depth(self) -> int:
        return self.network.depth


def shallow(w: list[list[float]], b: list[float], v: list[float]) -> ReluNetwork:
    return ReluNetwork([w, [v]], [b, [0.0]])


def norm(vector: list[float]) -> Callable[[float], float]:
    return lambda q: float(np.linalg.norm(vector, q))


def sawtooth(depth: int) -> ReluNetwork:
    """k-fold composition of the tent map 2 relu(x) - 4 relu(x - 1/2) on [0, 1]: slope 2^k [Telgarsky16]."""
    weights: list[list[list[float]]] = [[[1.0], [1.0]]]
    biases: list[list[float]] = [[0.0, -0.5]]
    for _ in range(depth - 1):
        weights.append([[2.0, -4.0], [2.0, -4.0]])
        biases.append([0.0, -0.5])
    weights.append([[2.0, -4.0]])
    biases.append([0.0])
    return ReluNetwork(weights, biases)


def instances() -> list[Instance]:
    """All closed-form instances; every exact method is judged by those it takes."""
    line, plane = WholeSpace(1), WholeSpace(2)
    unit = Box.cube(1)
    rng = np.random.default_rng(20)
    positive_w, positive_v = rng.uniform(0.1, 1, (6, 3)), rng.uniform(0.1, 1, (1, 6))
    # Non-negative weights: far out in the direction (1, 1, 1) all neurons are active, and no gradient is longer.
    all_on = (positive_v @ positive_w)[0].tolist()
    deep_w = [rng.uniform(0, 1, (5, 3)), rng.uniform(0, 1, (4, 5)), rng.uniform(0, 1, (1, 4))]
    deep_on = (deep_w[2] @ deep_w[1] @ deep_w[0])[0].tolist()
    orthogonal = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    return [
        # |x| = relu(x) + relu(-x).
        Instance("absolute value", shallow([[1.0], [-1.0]], [0.0, 0.0], [1.0, 1.0]), line, lambda q: 1.0),
        # relu(x) - relu(-x) = x: constant 1, though both neurons "on" at 0 would give 2.
        Instance("identity by opposites", shallow([[1.0], [-1.0]], [0.0, 0.0], [1.0, -1.0]), line, lambda q: 1.0),
        Instance("identity on a box", shallow([[1.0], [-1.0]], [0.0, 0.0], [1.0, -1.0]), unit, lambda q: 1.0),
        # A duplicated neuron with opposite outputs: the zero function.
        Instance("zero of duplicated neurons", shallow([[1.0], [1.0]], [0.2, 0.2], [1.0, -1.0]), line, lambda q: 0.0),
        Instance("zero of duplicates, box", shallow([[1.0], [1.0]], [0.2, 0.2], [1.0, -1.0]), unit, lambda q: 0.0),
        # The same with one copy scaled: 2 relu(x + .2) - relu(2 x + .4) = 0.
        Instance("zero of a scaled copy", shallow([[1.0], [2.0]], [0.2, 0.4], [2.0, -1.0]), line, lambda q: 0.0),
        # Hat of slope 3 between -1 and 1.
        Instance("hat", shallow([[1.0], [1.0], [1.0]], [1.0, 0.0, -1.0], [3.0, -6.0, 3.0]), line, lambda q: 3.0),
        # The kink at 5 lies outside the box: there the slope is 1, on the line 1 + 7 = 8.
        Instance("kink outside the box", shallow([[1.0], [1.0]], [2.0, -5.0], [1.0, 7.0]), unit, lambda q: 1.0),
        Instance("kink inside the line", shallow([[1.0], [1.0]], [2.0, -5.0], [1.0, 7.0]), line, lambda q: 8.0),
        # A bound that is exactly 0: relu(x - 1) on [-1, 1] is 0.
        Instance("neuron dead on the box", shallow([[1.0]], [-1.0], [5.0]), unit, lambda q: 0.0),
        # Zero weights: a constant network; with one live neuron beside the dead ones.
        Instance("constant", shallow([[0.0, 0.0]], [1.0], [3.0]), plane, lambda q: 0.0),
        Instance("dead neurons", shallow([[0.0, 0.0], [3.0, 4.0]], [-1.0, 0.5], [9.0, 2.0]), plane, norm([6.0, 8.0])),
        # Rank one in the plane: relu(x+y) + relu(x+y-1) has slope 2 (1, 1) beyond 1.
        Instance("parallel kinks", shallow([[1.0, 1.0], [1.0, 1.0]], [0.0, -1.0], [1.0, 1.0]), plane, norm([2.0, 2.0])),
        # |x| + |y| in the plane: four quadrants, gradient (+-1, +-1).
        Instance("l1 norm", shallow([[1, 0], [-1, 0], [0, 1], [0, -1]], [0.0] * 4, [1.0] * 4), plane, norm([1.0, 1.0])),
        # Three lines through one point, normals at 120 degrees: relu sum has at most two active neurons, whose normals
        # add up to minus the third: every gradient is a unit vector, +-w_j.
        Instance(
            "three lines through a point",
            shallow([[1.0, 0.0], [-0.5, np.sqrt(0.75)], [-0.5, -np.sqrt(0.75)]], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
            plane,
            lambda q: float(max(np.linalg.norm(g, q) for g in ([1.0, 0.0], [0.5, np.sqrt(0.75)]))),
        ),
        # The same three lines through (0.25, 0.5), on a box; biases exact in binary where they matter.
        Instance(
            "three kinks meet off the origin",
            shallow([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]], [-0.25, -0.5, 0.25], [1.0, 1.0, 1.0]),
            Box.cube(2),
            # Signs (x > 1/4, y > 1/2, x - y > -1/4): gradients sum of active normals; the sum of all three is (2, 0),
            # both first ones give (1, 1), the first and third (2, -1), the second alone (0, 1).
            lambda q: float(max(np.linalg.norm(g, q) for g in ([2.0, 0.0], [1.0, 1.0], [2.0, -1.0], [0.0, 1.0]))),
        ),
        Instance(
            "non-negative weights",
            ReluNetwork([positive_w, positive_v], [np.zeros(6), [0.0]]),
            WholeSpace(3),
            norm(all_on),
        ),
        # Orthogonal rows, d = N: every pattern is feasible; the gradient is a sum over any subset, all of them for
        # equal signs of the coefficients v_j >= 0 in l_2.
        Instance(
            "orthogonal layer",
            ReluNetwork([orthogonal, [[1.0, 2.0, 0.5, 1.5]]], [np.array([0.1, -0.2, 0.3, 0.0]), [0.0]]),
            WholeSpace(4),
            lambda q: max(
                float(np.linalg.norm((np.array(bits) * [1.0, 2.0, 0.5, 1.5]) @ orthogonal, q))
                for bits in np.ndindex(2, 2, 2, 2)
            ),
        ),
        Instance("affine map", ReluNetwork([[[3.0, -4.0]]], [[1.0]]), plane, norm([3.0, 4.0])),
        Instance("sawtooth of slope 8", sawtooth(3), line, lambda q: 8.0),
        Instance("sawtooth of slope 16 on [0, 1]", sawtooth(4), Box([0.0], [1.0]), lambda q: 16.0),
        Instance(
            "deep non-negative", ReluNetwork(deep_w, [np.zeros(5), np.zeros(4), [0.0]]), WholeSpace(3), norm(deep_on)
        ),
        # Dead corner: for x < 0 the first layer is off, the second layer's pre-activation relu(x) is identically 0
        # there; f = relu(relu(x)) - relu(-relu(x)) = relu(x).
        Instance(
            "dead corner",
            ReluNetwork([[[1.0]], [[1.0], [-1.0]], [[1.0, -1.0]]], [[0.0], [0.0, 0.0], [0.0]]),
            line,
            lambda q: 1.0,
        ),
        # The same in the plane: f = relu(relu(x) - relu(y)) + relu(relu(y) - relu(x)) = |relu(x) - relu(y)|; where
        # both are positive the gradient is +-(1, -1), elsewhere shorter.
        Instance(
            "dead quadrant",
            ReluNetwork(
                [[[1.0, 0.0], [0.0, 1.0]], [[1.0, -1.0], [-1.0, 1.0]], [[1.0, 1.0]]], [[0.0] * 2, [0.0] * 2, [0.0]]
            ),
            plane,
            norm([1.0, -1.0]),
        ),
    ]
