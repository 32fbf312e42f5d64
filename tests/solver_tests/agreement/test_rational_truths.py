"""Every method against exact rational constants: no interval excludes the truth, whatever the network is made to hide.

One seed is one network, on a box and on all of R^d, asked for several p by every method that takes it: about 60 solves.
The default run takes a few seeds of every family; the slow one, made of the same seeds and those that follow, comes to
more than 20 000 solves.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.references.random_networks import FAMILIES
from tests.references.rational_constants import exact_constant, exact_regions

EXPONENTS = (1.0, 1.0 + 1e-6, 1.001, 1.1, 1.5, 2.0, 3.0, 50.0, 1e6, math.inf)
ASKED_TOGETHER = 4
SEEDS, SLOW_SEEDS = 1, 60
# Of one solve that does not end by itself; an interval is an answer.
LIMIT = 20.0
CASES = [
    pytest.param(family, seed, id=f"{family}-{seed}", marks=[pytest.mark.slow] if seed >= SEEDS else [])
    for family in FAMILIES
    for seed in range(SLOW_SEEDS)
]


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_no_interval_excludes_the_truth(family: str, seed: int) -> None:
    rng = np.random.default_rng([2026, list(FAMILIES).index(family), seed])
    depth = int(rng.integers(1, 4))
    sizes = [int(rng.integers(1, 4)), *rng.integers(2, 6, depth).tolist(), 1]
    network = FAMILIES[family](sizes, rng)
    d = network.input_dimension
    corner = rng.uniform(-1.5, 0.5, d)
    domains: list[Domain] = [WholeSpace(d), Box(corner, corner + rng.uniform(0.2, 2.0, d))]
    for domain in domains:
        box = None if domain.bounds is None else (domain.bounds[0].tolist(), domain.bounds[1].tolist())
        gradients = [region.gradient for region in exact_regions(network.weights, network.biases, box)]
        exponents = rng.choice(EXPONENTS, ASKED_TOGETHER, replace=False).tolist()
        truths = {p: exact_constant(gradients, p) for p in exponents}
        for name, solver in LIPSCHITZ_SOLVERS.items():
            asked = [LipschitzProblem(network, p, domain) for p in exponents]
            asked = [problem for problem in asked if solver.refuses(problem) is None]
            budget = Budget(seconds=LIMIT * len(asked))
            for problem, answer in zip(
                asked, solver.solve_together(asked, budget=budget) if asked else [], strict=True
            ):
                low, high = truths[problem.p]
                told = f"{name}, p = {problem.p!r}: [{answer.lower!r}, {answer.upper!r}], truth {float(low)!r}"
                assert Fraction(answer.lower) <= high, told
                assert math.isinf(answer.upper) or Fraction(answer.upper) >= low, told
                assert answer.status is not Status.EXACT or budget.is_closed(answer.lower, answer.upper), told
                assert answer.reason or answer.status is Status.EXACT, told
