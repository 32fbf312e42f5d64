"""Larger exact constants on a box, beside an older build: processor seconds, their ratio, gaps.

Box [-1, 1]^d, the law of `tasks.ensembles.draw_network` with N(0, 0.3^2) biases, relative gap 1e-6. Each build solves
in a process of its own, on one thread, after what it compiles is compiled.

One row: `INTERLIP_OLD=~/old pytest -m benchmark -s tests/benchmarks/test_frontier_table.py -k d10-N20-L2-pinf`.
Environment: INTERLIP_OLD (a checkout of the older build; rows that ask for a ratio are skipped without it),
FRONTIER_SEEDS (default 5), FRONTIER_LIMIT (seconds for one solve; default 120).
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from solvers.arithmetic.norms import exponent_label

pytestmark = pytest.mark.benchmark

HERE = Path(__file__).resolve().parents[2]
OLD = os.environ.get("INTERLIP_OLD", "")
SEEDS = int(os.environ.get("FRONTIER_SEEDS", "5"))
LIMIT = float(os.environ.get("FRONTIER_LIMIT", "120"))

# Modules moved since the older build; the answers and the draws did not.
SOLVE = """
import json, sys, time
import numpy as np
try:
    from solvers.problems.budget import Budget
    from solvers.problems.domains import Box
    from solvers.problems.questions import LipschitzProblem
except ImportError:
    from solvers.budget import Budget
    from solvers.domains import Box
    from solvers.problems import LipschitzProblem
from solvers.lipschitz.branch_and_bound import BranchAndBound
from tasks.ensembles import draw_network
from tasks.seeding import RandomStreams

d, width, depth, p, seeds, limit = json.loads(sys.argv[1])
p = float(p)

def solve(d, width, depth, seed, seconds):
    streams = RandomStreams.of({"lipschitz-table": f"d{d}-N{width}-L{depth}", "seed": seed})
    network = draw_network(d, [width] * depth, "normal", 0.3, streams)
    start = time.process_time()
    answer = BranchAndBound(threads=1).solve(LipschitzProblem(network, p, Box.cube(d)), budget=Budget(seconds=seconds))
    return time.process_time() - start, answer.lower, answer.upper, answer.status.name

for size in ((2, 4, 1), (3, 4, 2), (8, 14, 2)):
    solve(*size, 0, 30.0)
print(json.dumps([solve(d, width, depth, seed, limit) for seed in range(seeds)]))
"""


@dataclass(frozen=True)
class Row:
    """One network size and exponent.

    Attributes:
        share: of the older build's processor seconds that may be taken; None where only the gap counts.
        gap: the largest that may be left after the limit; 1e-6 for an exact answer.
    """

    d: int
    width: int
    depth: int
    p: float
    share: float | None = None
    gap: float = 1e-6

    @property
    def name(self) -> str:
        return f"d{self.d}-N{self.width}-L{self.depth}-p{exponent_label(self.p)}"


TABLE = (
    Row(10, 20, 2, math.inf, 1 / 3),
    Row(10, 20, 2, 2.0, 1 / 10),
    Row(10, 20, 2, 1.5, 1 / 5),
    Row(8, 16, 3, math.inf, 1 / 3),
    Row(8, 16, 3, 2.0),
    Row(5, 32, 3, math.inf, 1 / 3),
    Row(5, 32, 3, 2.0, 1 / 3),
    Row(10, 32, 2, math.inf, gap=0.05),
    Row(10, 32, 2, 2.0, gap=0.05),
    Row(20, 24, 2, math.inf, gap=0.15),
    Row(20, 24, 2, 2.0, gap=0.15),
    Row(10, 80, 1, 2.0, 1 / 5),
    Row(10, 80, 1, 1.5, 1 / 5),
    Row(10, 160, 1, math.inf, gap=0.03),
    Row(10, 160, 1, 2.0, gap=0.03),
    Row(30, 64, 1, math.inf),
    Row(30, 64, 1, 2.0, 1 / 3),
)


def solved(checkout: Path, row: Row) -> list[tuple[float, float, float, str]]:
    """Processor seconds, bounds and status of every seed, by the build in a checkout."""
    question = json.dumps([row.d, row.width, row.depth, str(row.p), SEEDS, LIMIT])
    one = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, "-c", SOLVE, question],
        cwd=checkout,
        env={**os.environ, **one},
        capture_output=True,
        text=True,
        check=True,
    )
    return [tuple(answer) for answer in json.loads(done.stdout.splitlines()[-1])]


def told(answers: list[tuple[float, float, float, str]]) -> str:
    return ", ".join(f"{seconds:.2f} s {upper / lower - 1:.1e}" for seconds, lower, upper, _ in answers)


@pytest.mark.parametrize("row", TABLE, ids=[row.name for row in TABLE])
def test_frontier(row: Row, record_property) -> None:
    if row.share is not None and not OLD:
        pytest.skip("INTERLIP_OLD names no checkout of an older build to compare with")
    new = solved(HERE, row)
    seconds = float(np.median([answer[0] for answer in new]))
    gap = float(np.median([upper / lower - 1 for _, lower, upper, _ in new]))
    record_property("median_processor_seconds", seconds)
    record_property("median_gap", gap)
    print(f"\n{row.name}: median {seconds:.2f} s, gap {gap:.1e}; each {told(new)}")
    if OLD:
        old = solved(Path(OLD).expanduser().resolve(), row)
        before = float(np.median([answer[0] for answer in old]))
        record_property("ratio", seconds / before)
        print(
            f"{'older build':>{len(row.name)}}: median {before:.2f} s, ratio {seconds / before:.2f}; each {told(old)}"
        )
        for (_, lower, upper, _), (_, least, most, _) in zip(new, old, strict=True):
            assert max(lower, least) <= min(upper, most)
        if row.share is not None:
            assert seconds <= row.share * before
    assert gap <= row.gap
