"""Upper and lower bounds against exact rational constants of random and trained networks of one to four layers.

No tolerance: every upper bound is at least the constant, every lower one at most, for seven p, on a box and on all of
R^d, by every registered method that takes the problem. One seed is one network; the default run takes a few.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.references.rational_constants import exact_constant, exact_regions
from tests.strategies import gaussian_network

EXPONENTS = (1.0, 1.25, 1.5, 2.0, 3.0, 8.0, math.inf)
SEEDS, SLOW_SEEDS = 6, 500
# Methods that end by themselves at once; the exact ones have seeds of their own in `test_rational_truths`.
BOUNDS = {name: solver for name, solver in LIPSCHITZ_SOLVERS.items() if not solver.exact}
LIMIT = 20.0


def trained(sizes: list[int], rng: np.random.Generator) -> ReluNetwork:
    """Fitted to a wave by some hundred steps of gradient descent with momentum, straight from the chain rule."""
    network = gaussian_network(sizes, rng, 0.3)
    weights, biases = [w.copy() for w in network.weights], [b.copy() for b in network.biases]
    x = rng.uniform(-1, 1, (64, sizes[0]))
    y = np.sin(4 * x.sum(axis=1))
    speeds = [np.zeros_like(part) for part in (*weights, *biases)]
    for _ in range(300):
        values = [x]
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            values.append(np.maximum(values[-1] @ w.T + b, 0.0))
        back = 2 * (values[-1] @ weights[-1].T + biases[-1] - y[:, None]) / len(x)
        slopes: list[np.ndarray] = []
        for w, z in zip(reversed(weights), reversed(values), strict=True):
            slopes += [back.T @ z, back.sum(axis=0)]
            back = (back @ w) * (z > 0)
        own = [slopes[2 * (len(weights) - 1 - k) + side] for side in (0, 1) for k in range(len(weights))]
        length = math.sqrt(sum(float((part**2).sum()) for part in own))
        for part, slope, speed in zip((*weights, *biases), own, speeds, strict=True):
            speed *= 0.9
            speed -= 0.01 * slope / max(1.0, length)
            part += speed
    return ReluNetwork(weights, biases)


def case(seed: int) -> tuple[ReluNetwork, Domain]:
    rng = np.random.default_rng([11, seed])
    depth = 1 + seed % 4
    d = int(rng.integers(1, 4 if depth < 3 else 3))
    sizes = [d, *rng.integers(2, 8 if depth < 3 else 5, depth).tolist(), 1]
    network = trained(sizes, rng) if seed % 3 == 0 else gaussian_network(sizes, rng, float(rng.choice([0.0, 0.3, 1.0])))
    corner = rng.uniform(-1.5, 0.5, d)
    return network, Box(corner, corner + rng.uniform(0.2, 2.0, d)) if seed % 2 else WholeSpace(d)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.slow] if seed >= SEEDS else []) for seed in range(SLOW_SEEDS)]
)
def test_no_bound_is_on_the_wrong_side(seed: int) -> None:
    network, domain = case(seed)
    box = None if domain.bounds is None else (domain.bounds[0].tolist(), domain.bounds[1].tolist())
    gradients = [region.gradient for region in exact_regions(network.weights, network.biases, box)]
    for p in EXPONENTS:
        low, high = exact_constant(gradients, p)
        for name, solver in BOUNDS.items():
            problem = LipschitzProblem(network, p, domain)
            if solver.refuses(problem) is None:
                assert_holds(name, solver, problem, low, high)


def assert_holds(
    name: str, solver: AbstractLipschitzSolver, problem: LipschitzProblem, low: Fraction, high: Fraction
) -> None:
    """The constant lies in [low, high], 1e-58 of it wide."""
    answer = solver.solve(problem, budget=Budget(seconds=LIMIT))
    told = f"{name}, p = {problem.p!r}: [{answer.lower!r}, {answer.upper!r}], truth {float(low)!r}"
    assert Fraction(answer.lower) <= high, told
    assert math.isinf(answer.upper) or Fraction(answer.upper) >= low, told


def test_training_makes_steeper_networks() -> None:
    """The trained ones are another kind, not the random ones again."""
    rng = np.random.default_rng(3)
    network = trained([2, 7, 7, 1], rng)
    x = rng.uniform(-1, 1, (500, 2))
    y = np.sin(4 * x.sum(axis=1))
    assert float(np.mean((network.evaluate(x)[:, 0] - y) ** 2)) < 0.6 * float(np.var(y))
