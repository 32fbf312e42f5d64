"""Global constants against those on [-1, 1]^d: at most 2d + 2 times the time, and never less.

A global problem is one box and 2d facets of the homogenised network (`problems.facets`), so 2d + 2 is what it may take.
Medians over seeds of the ratio of two times in one run; no other method stands beside them.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from solvers.problems.domains import WholeSpace
from solvers.problems.results import Status
from solvers.registry import lipschitz_solver_named
from tests.benchmarks.test_lipschitz_table import Row, problem, warm_up

pytestmark = pytest.mark.benchmark

SIZES = [(2, 32, 2), (2, 64, 2), (2, 32, 3), (2, 16, 4), (5, 16, 2), (5, 12, 2), (5, 10, 3)]
SEEDS = 5


@pytest.mark.parametrize("method", ["region-enumeration", "branch-and-bound"])
@pytest.mark.parametrize(("d", "width", "depth"), SIZES)
def test_a_global_constant_takes_as_long_as_its_pieces(d: int, width: int, depth: int, method: str) -> None:
    solver = lipschitz_solver_named(method)
    warm_up(method)
    row = Row(d, width, depth, 1.0, 1.0, "")
    lines, medians = [], []
    for p in (np.inf, 2.0):
        ratios = []
        for seed in range(SEEDS):
            box = problem(row, p, seed)
            seconds, answers = [], []
            for asked in (box, replace(box, domain=WholeSpace(d))):
                start = time.perf_counter()
                answers.append(solver.solve(asked))
                seconds.append(time.perf_counter() - start)
            assert all(answer.status is Status.EXACT for answer in answers)
            assert answers[1].upper >= answers[0].lower
            ratios.append(seconds[1] / seconds[0])
        medians.append(float(np.median(ratios)))
        lines.append(f"p = {p}: median {medians[-1]:.1f}, largest {max(ratios):.1f}")
    print(f"\n{row.name} {method}: global / box {'; '.join(lines)} (asked {2 * d + 2})")
    assert max(medians) <= 2 * d + 2
