"""Published networks on boxes, p = inf: exact where searches end, and an older build beside this one.

CPU seconds of one thread; run with OPENBLAS_NUM_THREADS=1. The older build is a checkout of commit e5fe934 named by
$INTERLIP_OLD, run by its own interpreter where it has one; networks stand beside the repository or in
$INTERLIP_NETS_DIR. Limits are wall seconds: on a busy machine a search gets less of the processor than they say.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from solvers.files.models import load_network
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status

pytestmark = pytest.mark.benchmark
NETS_DIR = Path(os.environ.get("INTERLIP_NETS_DIR") or Path(__file__).resolve().parents[3] / "shared" / "nets")
needs_nets = pytest.mark.skipif(not (NETS_DIR / "nets.json").is_file(), reason=f"there is no nets.json in {NETS_DIR}")
OLD = os.environ.get("INTERLIP_OLD", "")
needs_old = pytest.mark.skipif(not OLD, reason="set INTERLIP_OLD to a checkout of the older build")

# What the older build runs: its modules have other names.
OLD_RUN = """
import json, sys, time
import numpy as np
from solvers.model_files import load_network
from solvers.domains import Box
from solvers.problems import LipschitzProblem
from solvers.budget import Budget
from solvers.lipschitz.branch_and_bound import BranchAndBound
path, lower, upper, seconds = json.loads(sys.argv[1])
network = load_network(path).select_output(0)
centre = 0.5 * (np.array(lower) + np.array(upper))
search = BranchAndBound(threads=1)
search.solve(LipschitzProblem(network, np.inf, Box.ball(centre, 1e-6)))
started = time.process_time()
answer = search.solve(LipschitzProblem(network, np.inf, Box(lower, upper)), budget=Budget(seconds=seconds))
print(json.dumps([answer.lower, answer.upper, time.process_time() - started]))
"""


def published(name: str, box: str | float) -> LipschitzProblem:
    """Output 0 of a network on one of its boxes, or on the ball around 0 of a radius."""
    network = load_network(NETS_DIR / f"{name}.npz").select_output(0)
    d = network.input_dimension
    if not isinstance(box, str):
        return LipschitzProblem(network, math.inf, Box.ball(np.zeros(d), box))
    corners = json.loads((NETS_DIR / "nets.json").read_text())[name]["boxes"][box]
    sides = (np.broadcast_to(np.asarray(corners[side], float), d) for side in ("lower", "upper"))
    return LipschitzProblem(network, math.inf, Box(*sides))


def searched(problem: LipschitzProblem, seconds: float) -> tuple[float, float, Status, float]:
    """The interval, its status and CPU seconds, kernels loaded before."""
    domain = problem.domain
    assert isinstance(domain, Box)
    search = BranchAndBound(threads=1)
    search.solve(LipschitzProblem(problem.network, problem.p, Box.ball(domain.centre, 1e-6)))
    started = time.process_time()
    answer = search.solve(problem, budget=Budget(seconds=seconds))
    return answer.lower, answer.upper, answer.status, time.process_time() - started


def older(name: str, problem: LipschitzProblem, seconds: float) -> tuple[float, float, float]:
    domain = problem.domain
    assert isinstance(domain, Box)
    told = json.dumps([str(NETS_DIR / f"{name}.npz"), domain.lower.tolist(), domain.upper.tolist(), seconds])
    own = Path(OLD) / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    environment = {**os.environ, "PYTHONPATH": OLD}
    ended = subprocess.run(
        [python, "-c", OLD_RUN, told], cwd=OLD, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    lower, upper, taken = json.loads(ended.stdout.splitlines()[-1])
    return lower, upper, taken


@needs_nets
@needs_old
@pytest.mark.parametrize(
    ("name", "box", "seconds"),
    [("lunarlander", "nat", 300.0), ("tora", "nat", 300.0), ("acas_1_1", "prop1", 300.0), ("acas_1_1", 0.1, 600.0)],
    ids=str,
)
def test_a_third_of_the_time_of_the_older_build(name: str, box: str | float, seconds: float) -> None:
    problem = published(name, box)
    lower, upper, status, taken = searched(problem, seconds)
    old_lower, old_upper, old_taken = older(name, problem, seconds)
    print(
        f"\n{name} {box}: [{lower:.8g}, {upper:.8g}] {status} in {taken:.1f} s; older build "
        f"[{old_lower:.8g}, {old_upper:.8g}] in {old_taken:.1f} s, ratio {taken / old_taken:.3f}"
    )
    assert status is Status.EXACT
    assert max(lower, old_lower) <= min(upper, old_upper) * (1 + 1e-9)
    assert taken <= old_taken / 3


@needs_nets
@pytest.mark.parametrize(
    ("name", "box", "seconds", "most"),
    [("robot", 1.0, 60.0, 1 + 1e-6), ("airplane", "nat", 60.0, 4.0), ("acas_1_1", "nat", 120.0, 20.0)],
    ids=str,
)
def test_upper_over_lower_after_a_minute_or_two(name: str, box: str | float, seconds: float, most: float) -> None:
    lower, upper, status, taken = searched(published(name, box), seconds)
    print(f"\n{name} {box}: [{lower:.6g}, {upper:.6g}] {status} in {taken:.1f} s, upper / lower {upper / lower:.4f}")
    assert upper <= most * lower
