"""Exact constants on a box against the times of the mixed-integer formulation, row by row.

The published method is the mixed-integer formulation of [JD20] on a commercial solver, two cores; its
times were measured on a machine like the one the table was made for. Box [-1, 1]^d, the law of
`tasks.ensembles.draw_network` with N(0, 0.3^2) biases, relative gap 1e-6; compilation is not counted.

One row and one method: `pytest -m benchmark -s tests/benchmarks/test_lipschitz_table.py -k "d5-N16-L2 and pinf"`.
Environment: TABLE_METHODS (names, comma-separated; default branch-and-bound), TABLE_SEEDS (default 5), TABLE_LIMIT
(seconds for one solve; default twice the time asked for).
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

import numpy as np
import pytest

from solvers.arithmetic.norms import exponent_label
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.registry import lipschitz_solver_named
from tasks.ensembles import draw_network
from tasks.seeding import RandomStreams

pytestmark = pytest.mark.benchmark

METHODS = os.environ.get("TABLE_METHODS", "branch-and-bound").split(",")
SEEDS = int(os.environ.get("TABLE_SEEDS", "5"))
LIMIT = float(os.environ.get("TABLE_LIMIT", "0"))


@dataclass(frozen=True)
class Row:
    """One network size with the seconds asked for and what the published method took, for p = inf and p = 1."""

    d: int
    width: int
    depth: int
    asked_inf: float
    asked_one: float | None
    published: str

    @property
    def name(self) -> str:
        return f"d{self.d}-N{self.width}-L{self.depth}"

    def asked(self, p: float) -> float | None:
        """Seconds; p between 1 and inf is given three times the slower of the two."""
        if math.isinf(p):
            return self.asked_inf
        if p == 1:
            return self.asked_one
        return 3 * max(self.asked_inf, self.asked_one or 0.0)


TABLE = (
    Row(2, 32, 2, 0.1, 0.1, "1 s"),
    Row(2, 64, 2, 0.5, 0.5, "17 s"),
    Row(2, 32, 3, 0.5, 0.5, "12-22 s"),
    Row(2, 16, 4, 0.5, 0.5, "9-15 s"),
    Row(5, 16, 2, 0.5, 0.5, "2-3 s"),
    Row(5, 24, 2, 10, 10, "51 s / not in 60 s"),
    Row(5, 10, 3, 1, 1, "3 s / 13 s"),
    Row(5, 16, 3, 30, None, "not in 60 s (gap 106 %)"),
    Row(10, 20, 2, 60, 60, "not in 60 s (gaps 34 %, 13 %)"),
    Row(10, 16, 2, 5, 5, "16 s / 5 s"),
    Row(10, 80, 1, 2, 2, "5 s / 3 s"),
    Row(20, 40, 1, 10, 0.1, "56 s / 0.1 s"),
    Row(20, 16, 2, 60, None, "not in 60 s (gap 64 %)"),
    Row(40, 40, 1, 60, None, "not in 60 s (gap 52 %)"),
)
P_VALUES = (math.inf, 1.0, 2.0, 1.5)
CELLS = [(row, p) for row in TABLE for p in P_VALUES if row.asked(p) is not None]


def problem(row: Row, p: float, seed: int) -> LipschitzProblem:
    streams = RandomStreams.of({"lipschitz-table": row.name, "seed": seed})
    network = draw_network(row.d, [row.width] * row.depth, "normal", 0.3, streams)
    return LipschitzProblem(network, p, Box.cube(row.d))


def timed(method: str, row: Row, p: float, seed: int, limit: float) -> tuple[float, float, LipschitzBounds]:
    """Wall seconds of one solve, its processor seconds (what a busy machine leaves comparable), and its answer."""
    question = problem(row, p, seed)
    start, worked = time.perf_counter(), time.process_time()
    answer = lipschitz_solver_named(method).solve(question, budget=Budget(seconds=limit))
    return time.perf_counter() - start, time.process_time() - worked, answer


def warm_up(method: str) -> None:
    """Compile whatever the method compiles."""
    for row in (Row(2, 4, 1, 1, 1, ""), Row(3, 4, 2, 1, 1, "")):
        for p in P_VALUES:
            timed(method, row, p, 0, math.inf)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("row", "p"), CELLS, ids=[f"{row.name}-p{exponent_label(p)}" for row, p in CELLS])
def test_table(row: Row, p: float, method: str, record_property) -> None:
    asked = row.asked(p)
    assert asked is not None
    limit = LIMIT or 2 * asked
    warm_up(method)
    runs = [timed(method, row, p, seed, limit) for seed in range(SEEDS)]
    seconds, worked = (float(np.median([run[k] for run in runs])) for k in (0, 1))
    gaps = [answer.relative_gap for *_, answer in runs]
    ended = sum(answer.status is Status.EXACT for *_, answer in runs)
    record_property("median_seconds", seconds)
    record_property("median_processor_seconds", worked)
    record_property("largest_gap", max(gaps))
    print(
        f"\n{row.name:>10} p = {exponent_label(p):>3}  {method}: median {seconds:8.3f} s, processor {worked:8.3f} s"
        f" (asked {asked:g} s; published method at p = inf, 1: {row.published}); {ended} of {SEEDS} exact, largest gap"
        f" {max(gaps):.1e}; each {', '.join(f'{took:.3f}' for took, *_ in runs)}"
    )
    for took, _, answer in runs:
        assert took <= limit + 1.0
        assert answer.lower <= answer.upper
    assert seconds <= asked
