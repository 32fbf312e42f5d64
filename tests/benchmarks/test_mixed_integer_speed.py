"""Mixed-integer programs on free solvers beside branch and bound, on small rows of the table of exact constants.

Same networks and gap as `test_lipschitz_table`; each solve stops after MIP_LIMIT seconds (environment, default 20).
MIP_BACKENDS (environment, comma-separated) names the solvers of programs, HIGHS by default.
Run: `pytest -m benchmark -s tests/benchmarks/test_mixed_integer_speed.py`.
"""

from __future__ import annotations

import math
import os
import time

import pytest

from solvers.arithmetic.norms import exponent_label
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.mixed_integer import MixedInteger
from solvers.problems.budget import Budget
from tests.benchmarks.test_lipschitz_table import Row, problem, warm_up

pytestmark = pytest.mark.benchmark

LIMIT = float(os.environ.get("MIP_LIMIT", "20"))
BACKENDS = os.environ.get("MIP_BACKENDS", "HIGHS").split(",")
ROWS = (Row(2, 8, 2, 1, 1, ""), Row(2, 16, 2, 1, 1, ""), Row(5, 8, 2, 1, 1, ""), Row(2, 8, 3, 1, 1, ""))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("p", [math.inf, 1.0], ids=exponent_label)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_beside_branch_and_bound(row: Row, p: float, backend: str, record_property) -> None:
    warm_up("branch-and-bound")
    MixedInteger(backend).solve(problem(Row(2, 4, 2, 1, 1, ""), 1.0, 0))  # imports
    question = problem(row, p, 0)
    times, answers = {}, {}
    for name, solver in (("branch-and-bound", BranchAndBound()), (backend, MixedInteger(backend))):
        start = time.perf_counter()
        answers[name] = solver.solve(question, budget=Budget(seconds=LIMIT))
        times[name] = time.perf_counter() - start
    search, programs = answers["branch-and-bound"], answers[backend]
    assert programs.lower <= search.upper * (1 + 1e-12)
    assert search.lower <= programs.upper * (1 + 1e-12)
    ratio = times[backend] / times["branch-and-bound"]
    record_property("ratio", ratio)
    print(
        f"\n{row.name:>10} p = {exponent_label(p):>3}  branch and bound {times['branch-and-bound']:7.3f} s,"
        f" mixed-integer ({backend}) {times[backend]:7.3f} s, {ratio:6.0f} times; {programs.status},"
        f" gap {programs.relative_gap:.1e}, {programs.stats['programs']:.0f} programs,"
        f" {programs.stats['nodes']:.0f} nodes"
    )
