"""One hidden layer: exact constants on [-1, 1]^d beyond the table, and a wide trained network of four inputs.

`pytest -m benchmark -s tests/benchmarks/test_shallow_networks.py` prints processor seconds, nodes and gaps. Law and gap
are those of `test_lipschitz_table`. Environment: TABLE_SEEDS (default 2), TABLE_LIMIT (seconds of one solve, default
120).
"""

from __future__ import annotations

import math
import os
import time

import pytest

from solvers.arithmetic.norms import exponent_label
from solvers.files.models import load_network
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.registry import lipschitz_solver_named
from tasks.ensembles import draw_network
from tasks.seeding import RandomStreams
from tests.data_folder import DATA_DIR

pytestmark = pytest.mark.benchmark

SEEDS = int(os.environ.get("TABLE_SEEDS", "2"))
LIMIT = float(os.environ.get("TABLE_LIMIT", "120"))
UNICYCLE = DATA_DIR.parent / "nets" / "unicycle.npz"


def timed(method: str, problem: LipschitzProblem) -> LipschitzBounds:
    worked = time.process_time()
    answer = lipschitz_solver_named(method).solve(problem, budget=Budget(seconds=LIMIT))
    took = time.process_time() - worked
    print(
        f"\n{problem.network.input_dimension, *problem.network.widths} p = {exponent_label(problem.p)}, {method}: "
        f"[{answer.lower:.6g}, {answer.upper:.6g}], gap {answer.relative_gap:.1e}, {took:.2f} processor s, "
        f"{answer.stats.get('nodes', 0):.0f} nodes"
    )
    return answer


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    for p in (math.inf, 2.0, 1.5):
        network = draw_network(3, [20], "normal", 0.3, RandomStreams.of({"warm": p}))
        lipschitz_solver_named("branch-and-bound").solve(LipschitzProblem(network, p, Box.cube(3)))


# The largest gap that may be left.
@pytest.mark.parametrize(
    ("d", "width", "p", "most"),
    [
        (10, 80, math.inf, 1e-6),
        (10, 80, 2.0, 1e-6),
        (10, 80, 1.5, 1e-6),
        (10, 160, math.inf, 0.4),
        (10, 160, 2.0, 0.4),
        (30, 64, math.inf, 0.2),
        (30, 64, 2.0, 1e-6),
    ],
)
def test_shallow_rows(d: int, width: int, p: float, most: float) -> None:
    for seed in range(SEEDS):
        streams = RandomStreams.of({"lipschitz-table": f"({d}, {width}, 1)", "seed": seed})
        network = draw_network(d, [width], "normal", 0.3, streams)
        answer = timed("branch-and-bound", LipschitzProblem(network, p, Box.cube(d)))
        assert answer.lower <= answer.upper
        assert answer.relative_gap <= most


@pytest.mark.skipif(not UNICYCLE.is_file(), reason=f"there is no {UNICYCLE}: set INTERLIP_DATA_DIR beside its folder")
@pytest.mark.parametrize("p", [math.inf, 2.0])
def test_five_hundred_neurons_of_four_inputs(p: float) -> None:
    network = load_network(UNICYCLE).select_output(0)
    assert timed("auto", LipschitzProblem(network, p, Box([-10.0] * 4, [10.0] * 4))).status is Status.EXACT
