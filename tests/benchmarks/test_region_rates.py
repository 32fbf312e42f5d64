"""Linear regions a second, beside linear programs over patterns in one run, and the time of table rows.

Reference: tests/lp_enumeration.py, one linear program (HiGHS) for every step of every pattern; on the two asked sizes
it is timed on its first regions, since all of them would take minutes. One process, one thread. What bounds the rate
now: in the plane, opening a layer on every cell of the layer below (its affine rows, signs at all vertices); in five
dimensions, the pairs of vertices on either side of a cut and the copies of the two halves.
"""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from tests.references.lp_enumeration import regions
from tests.strategies import gaussian_network

pytestmark = pytest.mark.benchmark

# d, N, L, seconds asked.
ROWS = [
    (2, 32, 2, 0.1),
    (2, 64, 2, 0.5),
    (2, 32, 3, 0.5),
    (2, 16, 4, 0.5),
    (5, 16, 2, None),
    (5, 12, 2, None),
    (5, 10, 3, 1.0),
]
REFERENCE = 40


def network(d: int, n: int, depth: int, seed: int):
    return gaussian_network([d, *[n] * depth, 1], np.random.default_rng([seed, d, n, depth]), 0.3)


@pytest.mark.parametrize(("d", "n", "asked", "ratio"), [(2, 64, 20_000, 200), (5, 12, 5_000, 50)])
def test_regions_a_second(record_property, d: int, n: int, asked: int, ratio: int) -> None:
    solver, count, ours = RegionEnumeration(every=True), 0.0, 0.0
    solver.solve(LipschitzProblem(network(d, n, 2, 0), 2.0, Box.cube(d)))  # warm
    for seed in range(5):
        problem = LipschitzProblem(network(d, n, 2, seed), 2.0, Box.cube(d))
        seconds = []
        for _ in range(3):  # a solve takes some hundredths of a second: what else runs would count
            start = time.perf_counter()
            answer = solver.solve(problem)
            seconds.append(time.perf_counter() - start)
        ours += min(seconds)
        count += answer.stats["regions"]
    start = time.perf_counter()
    theirs = sum(1 for _ in itertools.islice(regions(network(d, n, 2, 0), Box.cube(d)), REFERENCE))
    slow = theirs / (time.perf_counter() - start)
    record_property("regions_per_second", count / ours)
    print(f"\nd = {d}, N = {n}, L = 2: {count / ours:.0f} regions/s of whole solves, linear programs {slow:.1f}")
    assert count / ours >= ratio * slow
    assert count / ours >= asked


@pytest.mark.parametrize(("d", "n", "depth", "asked"), ROWS)
def test_rows_of_the_table(record_property, d: int, n: int, depth: int, asked: float | None) -> None:
    solver, seconds, every, counts = RegionEnumeration(), [], [], []
    solver.solve(LipschitzProblem(network(d, n, depth, 0), 2.0, Box.cube(d)))  # warm
    for seed in range(5):
        problems = [LipschitzProblem(network(d, n, depth, seed), p, Box.cube(d)) for p in (1.0, math.inf)]
        for problem in problems:
            start = time.perf_counter()
            answer = solver.solve(problem)
            seconds.append(time.perf_counter() - start)
            assert answer.status is Status.EXACT
        network_of = problems[0].network
        start = time.perf_counter()
        answers = solver.solve_batch([LipschitzProblem(network_of, p, Box.cube(d)) for p in (1.0, 1.5, 2.0, math.inf)])
        every.append(time.perf_counter() - start)
        counts.append(answers[0].stats["cells"])
    record_property("seconds", float(np.median(seconds)))
    print(
        f"\n({d}, {n}, {depth}): median {np.median(counts):.0f} regions measured, "
        f"{1e3 * np.median(seconds):.1f} ms for one p, {1e3 * np.median(every):.1f} ms for four"
        + (f" (asked {1e3 * asked:.0f} ms)" if asked else "")
    )
    if asked is not None:
        assert np.median(seconds) <= asked
