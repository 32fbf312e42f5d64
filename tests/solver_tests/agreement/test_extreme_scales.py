"""No interval excludes the constant of networks whose layers are in units from 1e-150 to 1e150; truths are rational."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import Verdict, verify_bounds
from tests.references.rational_constants import exact_constant, exact_regions
from tests.strategies import gaussian_network

METHODS = [name for name in LIPSCHITZ_SOLVERS if name != "mixed-integer"]
# 126: digits of fixed point ran out, and the gradient that was told was 6e-6 off.
DEFAULT = (0, 1, 2, 3, 126)
EXPONENTS = (1.0, 1.001, 2.0, 3.0, math.inf)


def layered(rng: np.random.Generator) -> ReluNetwork:
    """A small network whose layers are scaled by 10^s, |s| <= 150; the last so that f is of size 1e-200 to 1e200."""
    depth = int(rng.integers(1, 4))
    plain = gaussian_network([*rng.integers(1, 4, size=depth + 1).tolist(), 1], rng, float(rng.choice([0.0, 0.5])))
    powers = rng.uniform(-150, 150, depth)
    total = np.cumsum(powers)
    while np.abs(total).max() > 250:
        powers = rng.uniform(-150, 150, depth)
        total = np.cumsum(powers)
    last = np.clip(rng.uniform(-200, 200) - total[-1], -280, 280)
    weights = [w * 10.0**s for w, s in zip(plain.weights, [*powers, last], strict=True)]
    biases = [b * 10.0**s for b, s in zip(plain.biases, [*total, 0.0], strict=True)]
    return ReluNetwork(weights, biases)


@pytest.mark.parametrize(
    "seed", [*DEFAULT, *(pytest.param(k, marks=pytest.mark.slow) for k in range(4, 200) if k not in DEFAULT)]
)
def test_layers_in_extreme_units(seed: int) -> None:
    network = layered(np.random.default_rng([10, seed]))
    d = network.input_dimension
    for domain in (Box.cube(d), WholeSpace(d)):
        box = None if domain.bounds is None else (domain.bounds[0].tolist(), domain.bounds[1].tolist())
        gradients = [r.gradient for r in exact_regions(network.weights, network.biases, box)]
        for name in METHODS:
            problems = [LipschitzProblem(network, p, domain) for p in EXPONENTS]
            solver = LIPSCHITZ_SOLVERS[name].certifying()
            if solver.refuses(problems[0]):
                continue
            for problem, answer in zip(problems, solver.solve_batch(problems), strict=True):
                low, high = exact_constant(gradients, problem.p)
                told = f"{name}, p = {problem.p}: [{answer.lower!r}, {answer.upper!r}], truth {float(low)!r}"
                assert Fraction(answer.lower) <= high, told
                assert math.isinf(answer.upper) or Fraction(answer.upper) >= low, told
                if low:
                    assert verify_bounds(problem, answer).verdict is not Verdict.REFUTED, told
