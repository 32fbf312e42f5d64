"""Global exact constants of a batch of shallow networks against linear programs, in one run.

Reference: tests/lp_enumeration.py, one linear program (HiGHS, dual simplex) for every step of every pattern, as a
scientist would write it. One core; what bounds vertex enumeration: the signs of N - d hyperplanes at every vertex and
the gradient across it, memory traffic of chunks that fit the second-level cache.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from solvers.arithmetic.norms import dual_exponent
from solvers.lipschitz.vertex_enumeration import VertexEnumeration
from solvers.problems.domains import WholeSpace
from solvers.problems.questions import LipschitzProblem
from tasks.ensembles import draw_network
from tasks.seeding import RandomStreams
from tests.references.lp_enumeration import lipschitz_by_lp

pytestmark = pytest.mark.benchmark

EXPONENTS = [1.0, 1.25, 1.5, 2.0, 4.0, np.inf]
BATCH, JUDGED = 1000, 2


def test_a_thousand_networks_against_linear_programs(record_property):
    networks = [draw_network(2, [32], "normal", 0.3, RandomStreams.of({"benchmark": k})) for k in range(BATCH)]
    problems = [LipschitzProblem(network, p) for network in networks for p in EXPONENTS]
    solver = VertexEnumeration()
    solver.solve_batch(problems[: 8 * len(EXPONENTS)])  # warm
    start = time.perf_counter()
    answers = solver.solve_batch(problems)
    ours = (time.perf_counter() - start) / BATCH
    start = time.perf_counter()
    duals = [dual_exponent(p) for p in EXPONENTS]
    truths = [lipschitz_by_lp(network, WholeSpace(2), duals) for network in networks[:JUDGED]]
    theirs = (time.perf_counter() - start) / JUDGED
    for k, truth in enumerate(truths):
        for e, q in enumerate(duals):
            answer = answers[k * len(EXPONENTS) + e]
            assert answer.lower == pytest.approx(truth[q], rel=1e-9)
            assert answer.upper == pytest.approx(truth[q], rel=1e-9)
    ratio = theirs / ours
    record_property("ratio", ratio)
    print(
        f"\n1000 networks, d = 2, N = 32, six p: {1e3 * ours:.2f} ms a network, "
        f"linear programs {theirs:.2f} s, {ratio:.0f} times"
    )
    assert ratio >= 100
