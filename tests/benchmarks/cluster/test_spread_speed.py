"""What spreading a search costs, and what a second worker brings: one search of a minute, in one run.

Reference: branch and bound in one process on one thread. Ideal is no more CPU time with one worker, half the wall time
with two. The order in which nodes are met moves the incumbent and with it the number of nodes by some percent.
"""

from __future__ import annotations

import os
import time

import pytest

from cluster.execution.search.opening import spread_search
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from tests.cluster_tests.search.here import gaussian_box_network

pytestmark = [pytest.mark.benchmark, pytest.mark.ray]

# d, neurons, hidden layers, p, seeds: about a minute for all of them.
D, N, L, P, SEEDS = 10, 24, 2, 2.0, (0, 1, 2)


@pytest.mark.timeout(2400)
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_one_worker_costs_little_and_two_take_little_more_than_half_the_time(ray_runtime, record_property):
    box = Box.cube(D, -1.0, 1.0)
    problems = [LipschitzProblem(gaussian_box_network(D, (N,) * L, seed), P, box) for seed in SEEDS]
    here = BranchAndBound(threads=1)
    here.solve(problems[0], budget=Budget(nodes=10))
    begun = time.process_time()
    alone = [here.solve(problem) for problem in problems]
    local = time.process_time() - begun
    cpu, wall, nodes = {}, {}, {}
    for workers in (1, 2):
        cpu[workers], wall[workers], nodes[workers] = 0.0, 0.0, 0.0
        for problem, reference in zip(problems, alone, strict=True):
            with spread_search(problem.network, [problem.p], box, 1e-6, workers=workers) as solver:
                driver, started = time.process_time(), time.perf_counter()
                answer = solver.solve(problem)
                wall[workers] += time.perf_counter() - started
                cpu[workers] += answer.stats["worker_cpu_seconds"] + time.process_time() - driver
                nodes[workers] += answer.stats["nodes"]
            assert answer.status is reference.status is Status.EXACT
            assert max(answer.lower, reference.lower) <= min(answer.upper, reference.upper) * (1 + 1e-6)
    found = {
        "overhead": cpu[1] / local - 1,
        "overhead a node": cpu[1] / nodes[1] * sum(answer.stats["nodes"] for answer in alone) / local - 1,
        "work of two": cpu[2] / cpu[1],
        "speedup": wall[1] / wall[2],
    }
    for name, value in found.items():
        record_property(name, value)
    print(f"\nlocal {local:.1f} CPU s; one worker {cpu[1]:.1f} CPU s; two {cpu[2]:.1f} CPU s")
    print(f"wall: one worker {wall[1]:.1f} s, two {wall[2]:.1f} s; {found}")
    assert found["overhead"] <= 0.10
    assert found["work of two"] <= 1.1
    assert found["speedup"] >= 1.7
