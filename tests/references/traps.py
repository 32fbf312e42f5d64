"""Networks on which closed constraints, tolerances or shortcuts give a wrong constant.

The truth is never ours: linear programs over all strictly feasible patterns (`lp_enumeration`), and a closed form
beside them wherever there is one.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from solvers.arithmetic.norms import dual_exponent
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain, WholeSpace
from tests.references.lp_enumeration import lipschitz_by_lp

__all__ = ["P_VALUES", "Trap", "deep_zero_bias", "relu_layers", "traps", "whole_numbers"]

P_VALUES = (1.0, 1.3, 2.0, 3.0, math.inf)


@dataclass(frozen=True, eq=False)
class Trap:
    """A network on a domain; `constant`, where known, as a function of the dual exponent q = p'."""

    name: str
    network: ReluNetwork
    domain: Domain
    constant: Callable[[float], float] | None = field(default=None, repr=False)

    def truth(self) -> dict[float, float]:
        """The constant for every p, by linear programs."""
        return _truth(self)


@functools.cache
def _truth(trap: Trap) -> dict[float, float]:
    by_q = lipschitz_by_lp(trap.network, trap.domain, [dual_exponent(p) for p in P_VALUES])
    return {p: by_q[dual_exponent(p)] for p in P_VALUES}


def relu_layers(
    *weights: Sequence[Sequence[float]] | np.ndarray, biases: Sequence[Sequence[float]] | None = None
) -> ReluNetwork:
    """A network from its matrices; hidden biases are zero when left out."""
    sizes = [len(np.asarray(w)) for w in weights]
    hidden = [np.zeros(n) for n in sizes[:-1]] if biases is None else [np.array(b, float) for b in biases]
    return ReluNetwork(weights, [*hidden, np.zeros(sizes[-1])])


def whole_numbers(sizes: Sequence[int], scale: float, rng: np.random.Generator) -> ReluNetwork:
    """Weights in {-1, 0, 1}, biases in scale {-1, 0, 1}: parallel, opposite, repeated, vanishing neurons everywhere."""
    weights = [rng.integers(-1, 2, size=(m, n)).astype(float) for n, m in itertools.pairwise(sizes)]
    weights[-1] = rng.integers(-3, 4, size=weights[-1].shape).astype(float)
    return ReluNetwork(weights, [*(scale * rng.integers(-1, 2, m) for m in sizes[1:-1]), np.zeros(sizes[-1])])


def deep_zero_bias(d: int, depth: int, width: int, seed: int = 0) -> ReluNetwork:
    """A Gaussian network without biases: all kinks pass through the origin, whole layers die on cones."""
    rng = np.random.default_rng([20, d, depth, width, seed])
    sizes = [d, *[width] * depth, 1]
    weights = [rng.standard_normal((m, n)) * math.sqrt(2 / m) for n, m in itertools.pairwise(sizes)]
    return ReluNetwork(weights, [np.zeros(m) for m in sizes[1:]])


def _length(*vectors: Sequence[float]) -> Callable[[float], float]:
    """The longest of some gradients."""
    return lambda q: max(float(np.linalg.norm(v, q)) for v in vectors)


def traps() -> list[Trap]:
    """All of them; shallow and deep, on all of space and on boxes."""
    found: list[Trap] = []

    def add(
        name: str, network: ReluNetwork, *domains: Domain, constant: Callable[[float], float] | None = None
    ) -> None:
        for domain in domains:
            bounds = domain.bounds
            where = "global" if bounds is None else f"{bounds[0].tolist()} to {bounds[1].tolist()}"
            found.append(Trap(f"{name}, {where}", network, domain, constant))

    line, plane, space = WholeSpace(1), WholeSpace(2), WholeSpace(3)
    interval, square, cube = Box.cube(1), Box.cube(2), Box.cube(3)

    # The origin: every pre-activation vanishes there, so closed constraints let every pattern pass.
    add("origin, v mixed", relu_layers([[1, 0], [-1, 1], [0, -1]], [[1, 1, -2]]), plane, square, Box.cube(2, 0, 1))
    add(
        "origin, simplex",
        relu_layers([[1, 0], [0, 1], [-1, -1]], [[1, 1, 1]]),
        plane,
        square,
        constant=_length([1, 1], [-1, 0], [0, -1]),
    )
    add(
        "origin at a corner",
        relu_layers([[1, 0], [0, 1], [1, -1], [-1, 1]], [[1, 1, 2, 3]]),
        Box.cube(2, 0, 1),
        Box.cube(2, -1, 0),
    )
    add("origin in space", whole_numbers([3, 6, 1], 0.0, np.random.default_rng(3)), space, cube)

    # Opposite neurons: relu(s) - relu(-s) = s.
    add("opposites", relu_layers([[1], [-1]], [[1, -1]]), line, interval, Box([0.0], [1.0]), constant=_length([1]))
    add(
        "opposites of odd slope",
        relu_layers([[0.3, -0.7], [-0.3, 0.7]], [[1, -1]]),
        plane,
        square,
        constant=_length([0.3, -0.7]),
    )
    add(
        "opposites with biases",
        relu_layers([[0.3, -0.7], [-0.3, 0.7]], [[1, -1]], biases=[[0.1, -0.1]]),
        plane,
        square,
        constant=_length([0.3, -0.7]),
    )
    # relu(s) - relu(-s) of the second layer, s = relu(x) - relu(-x) + relu(y) = x + relu(y).
    add(
        "opposites above opposites",
        relu_layers([[1, 0], [-1, 0], [0, 1]], [[1, -1, 1], [-1, 1, -1]], [[1, -1]]),
        plane,
        square,
        Box.cube(2, 0, 1),
        constant=_length([1, 1]),
    )

    # Duplicates: relu(s) - relu(s) = 0, also of a multiple, also in a deeper layer.
    for name, factor, bias in (("duplicates", 1, 0.2), ("scaled duplicates", 2, 0.2), ("duplicates at 0", 1, 0.0)):
        layers = relu_layers([[1], [factor]], [[factor, -1]], biases=[[bias, factor * bias]])
        add(name, layers, line, interval, Box([-0.2], [1.0]), constant=lambda q: 0.0)
    add(
        "duplicates of the second layer",
        relu_layers(
            [[1, 2], [-1, 1], [0.5, -1]],
            [[1, -1, 2], [1, -1, 2]],
            [[3, -3]],
            biases=[[0.25, 0.0, -0.5], [0.125, 0.125]],
        ),
        plane,
        square,
        constant=lambda q: 0.0,
    )
    add(
        "duplicates that add up",
        relu_layers([[3, 4], [3, 4], [1, 0]], [[0.5, 0.5, 1]], biases=[[0.1, 0.1, 0]]),
        plane,
        square,
        constant=_length([4, 4]),
    )
    add(
        "nearly duplicates",
        relu_layers([[1, 1], [1, 1]], [[1, -1]], biases=[[0.2, 0.2 + 2.0**-20]]),
        plane,
        square,
        constant=_length([1, 1]),
    )

    # A pre-activation bound that is exactly 0: kinks on faces, edges and corners of the box.
    add("dead on the box", relu_layers([[1]], [[5]], biases=[[-1]]), interval, constant=lambda q: 0.0)
    add("linear on the box", relu_layers([[1], [-1]], [[1, 7]], biases=[[1, -1]]), interval, constant=_length([1]))
    add(
        "kinks on two faces",
        relu_layers([[1, 0], [-1, 0], [0, 1]], [[1, 7, 2]], biases=[[0, 0, -1]]),
        Box.cube(2, 0, 1),
        constant=_length([1, 0]),
    )
    add("kink through a corner", relu_layers([[-1, -1], [1, 2]], [[5, 1]]), Box.cube(2, 0, 1), constant=_length([1, 2]))
    add("kinks through all corners", relu_layers([[1, 1], [1, -1], [-1, 1]], [[1, 2, -3]], biases=[[0, 0, 0]]), square)
    add(
        "kink through corners only",
        relu_layers([[1, 1, 1], [1, -1, 1]], [[9, 4]], biases=[[-3, 3]]),
        cube,
        constant=_length([4, -4, 4]),
    )
    add(
        "second layer dead on the box",
        relu_layers([[1, 0], [0, 1]], [[1, 1], [1, 0]], [[5, 3]], biases=[[0, 0], [-2, 0]]),
        square,
        constant=_length([3, 0]),
    )
    add(
        "second layer on from its bound",
        relu_layers([[1, 0], [0, 1]], [[-1, -1]], [[5]], biases=[[0, 0], [2]]),
        square,
        constant=_length([5, 5]),
    )

    # Gradients that are exactly 0 on all of a box, though neurons have kinks elsewhere and weights do not vanish.
    add(
        "exactly 0 beside a kink",
        relu_layers([[0.17780938]], [[-0.18682449]]),
        Box([-0.25], [-0.125]),
        constant=lambda q: 0.0,
    )
    add(
        "exact cancellation beside kinks",
        relu_layers([[1, 2], [1, 2]], [[3, -3]], biases=[[5, 6]]),
        square,
        constant=lambda q: 0.0,
    )

    # More hyperplanes through a point or a line than there are dimensions.
    pencil = [[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, -1, 0], [2, 1, 0]]
    add("pencil through a line", relu_layers([*pencil, [0, 0, 1]], [[1, -2, 1, 3, -1, 1]]), space, cube)
    add(
        "pencil off the origin",
        relu_layers([*pencil, [0, 0, 1]], [[1, -2, 1, 3, -1, 1]], biases=[[-0.25, -0.5, -0.75, 0.25, -1.0, 0.5]]),
        space,
        cube,
    )
    add(
        "parallel kinks",
        relu_layers([[1, 1]] * 4 + [[-2, -2]], [[1, -2, 3, -1, 1]], biases=[[0, 0.5, 1, -0.5, 0.25]]),
        plane,
        square,
    )
    w = np.array([[0.7, 0.1], [-0.3, 0.4], [0.0, 0.0]])
    w[2] = -(w[0] + w[1])
    add(
        "three lines through a rounded point",
        relu_layers(w, [[1, 1, 1]], biases=[[0.25, -0.125, -0.125]]),
        plane,
        square,
    )

    # Dead and constant neurons, zero weights, zero layers.
    add(
        "dead and constant neurons",
        relu_layers([[0, 0], [0, 0], [3, 4]], [[9, 5, 2]], biases=[[-1, 2, 0.5]]),
        plane,
        square,
        constant=_length([6, 8]),
    )
    add("zero read-out", relu_layers([[1, 2], [3, -1]], [[0, 0]]), plane, square, constant=lambda q: 0.0)
    add("zero inputs", relu_layers([[0, 0], [0, 0]], [[1, 1]], biases=[[1, 0]]), plane, square, constant=lambda q: 0.0)
    for bias in (-0.5, 0.0, 0.5):
        # An identically constant second layer: f is constant, through a third layer also.
        add(
            f"zero middle layer with bias {bias}",
            relu_layers([[1, 0], [1, 1]], [[0, 0], [0, 0]], [[1, -1]], biases=[[0, 0.5], [bias, bias]]),
            plane,
            square,
            constant=lambda q: 0.0,
        )
        # One row of zeros: relu(bias) is a constant for the third layer, and where it is 0 nothing is split by it.
        add(
            f"zero row with bias {bias}",
            relu_layers(
                [[1, 0], [1, 1]],
                [[0, 0], [1, -1]],
                [[1, 1], [-1, 1]],
                [[2, 1]],
                biases=[[0, 0.25], [bias, 0], [0, -0.25]],
            ),
            plane,
            square,
        )

    # Dead corners: where the first layer is off, the second one is identically 0 (or its bias).
    corner = relu_layers([[1]], [[1], [-1]], [[1, -1]])
    add("dead corner", corner, line, interval, Box([0.0], [1.0]), constant=_length([1]))
    add("dead half of a corner", corner, Box([-1.0], [0.0]), constant=lambda q: 0.0)
    quadrants = relu_layers([[1, 0], [0, 1]], [[1, -1], [-1, 1]], [[1, 1]])
    add("dead quadrant", quadrants, plane, square, constant=_length([1, -1]))
    add("inside the dead quadrant", quadrants, Box.cube(2, -1, 0), constant=lambda q: 0.0)
    add(
        "dead quadrant with biases",
        relu_layers([[1, 0], [0, 1]], [[1, -1], [-1, 1]], [[1, 1]], biases=[[-0.25, -0.5], [0, 0]]),
        plane,
        square,
    )
    add(
        "dead corner below two layers",
        relu_layers([[1, 1], [1, -1]], [[1, -2], [-1, 1], [2, 1]], [[1, -1, 1], [-1, 1, 1]], [[1, -3]]),
        plane,
        square,
    )
    # s is 0.1 x + 0.2 y + (-s), so exactly 0 although float64 sees noise; its copy three times that.
    s = np.array([[0.1, 0.2], [-0.1, -0.2], [0.1, 0.2]])
    add(
        "exact zero under rounding",
        relu_layers(s, [[1, 1, -1], [3, 0, -3]], [[7, 5]]),
        plane,
        square,
        constant=_length([0.7, 1.4]),
    )
    for seed in range(4):
        rng = np.random.default_rng([21, seed])
        d = 2 + seed % 2
        add(f"whole numbers {seed}", whole_numbers([d, 4, 3, 1], 0.5 * (seed > 1), rng), WholeSpace(d), Box.cube(d))
    for seed in (2, 3):
        rng = np.random.default_rng([22, seed])
        add(f"deep whole numbers {seed}", whole_numbers([2, 3, 3, 3, 1], 0.5 * (seed > 2), rng), plane, square)
    return found
