"""One network over Ray's workers: the interval of one process, also past a worker, a node or a driver that is gone."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import interlip
from cluster.cli import app
from cluster.execution.search.opening import spread_search
from cluster.execution.search.spread import Standing
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.verify import Verdict, verify_bounds
from tests.cluster_tests.search.here import gaussian_box_network

pytestmark = pytest.mark.ray

NETWORK = gaussian_box_network(6, (14, 12), 4)
BOX = Box.cube(6, -1.0, 1.0)


@pytest.fixture(scope="module")
def here() -> LipschitzBounds:
    """In one process."""
    answer = BranchAndBound(threads=1).solve(LipschitzProblem(NETWORK, 2.0, BOX))
    assert answer.status is Status.EXACT
    return answer


def agree(one: LipschitzBounds, other: LipschitzBounds) -> None:
    assert one.status is other.status is Status.EXACT
    assert max(one.lower, other.lower) <= min(one.upper, other.upper) * (1 + 1e-6)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_workers_on_ray_come_to_the_same_interval(ray_runtime: None, workers: int, here: LipschitzBounds) -> None:
    problem = LipschitzProblem(NETWORK, 2.0, BOX)
    with spread_search(NETWORK, [2.0], BOX, 1e-6, workers=workers, certify=True) as solver:
        there = solver.solve(problem)
    agree(here, there)
    assert there.stats["workers"] == workers
    assert there.certificate is not None
    assert verify_bounds(problem, there).verdict is Verdict.PROVED


def test_a_killed_worker_loses_nothing(ray_runtime: None, here: LipschitzBounds) -> None:
    import ray

    victims: list[int] = []

    def kill(standing: Standing) -> None:
        assert standing.workers == 2
        while victims:
            os.kill(victims.pop(), signal.SIGKILL)

    with spread_search(NETWORK, [2.0], BOX, 1e-6, workers=2, report=kill) as solver:
        victims.append(ray.get(solver.pool._actors[0].ready.remote()))
        there = solver.solve(LipschitzProblem(NETWORK, 2.0, BOX))
        assert ray.get(solver.pool._actors[0].ready.remote()) != victims
    agree(here, there)
    assert not victims
    assert there.stats["lost_nodes"] == 0


def test_python_asks_the_same(ray_runtime: None, here: LipschitzBounds, tmp_path: Path) -> None:
    kept = tmp_path / "search"
    there = interlip.lipschitz(NETWORK, 2, (-1, 1), executor="ray", workers=2, checkpoint=kept)
    agree(here, there)
    again = interlip.lipschitz(NETWORK, 2, (-1, 1), executor="ray", workers=2, resume=kept)
    assert again.upper == there.upper
    with pytest.raises(interlip.InputError, match="only branch-and-bound"):
        interlip.lipschitz(NETWORK, 2, method="sampling", executor="ray")
    with pytest.raises(interlip.InputError, match="are for executor='ray'"):
        interlip.lipschitz(NETWORK, 2, resume=kept)


def save(network: ReluNetwork, path: Path) -> None:
    arrays: dict[str, Any] = {f"W{k}": w for k, w in enumerate(network.weights)}
    arrays |= {f"b{k}": b for k, b in enumerate(network.biases)}
    np.savez(path, **arrays)


@pytest.mark.slow
def test_the_command_bounds_all_outputs_and_facets(ray_runtime: None, tmp_path: Path) -> None:
    network = gaussian_box_network(4, (9, 9), 3, outputs=3)
    model = tmp_path / "net.npz"
    save(network, model)
    asked = ["lipschitz", str(model), "--p", "1", "--p", "inf", "--method", "branch-and-bound", "--json"]
    for one in (["--all-outputs"], ["--output", "1"]):
        found = []
        for place in ([], ["--executor", "ray", "--workers", "2", "--checkpoint", str(tmp_path / f"kept{one[-1]}")]):
            answer = CliRunner().invoke(app, [*asked, *one, *place])
            assert answer.exit_code == 0, answer.output
            found.append(json.loads(answer.stdout))
        for left, right in zip(*found, strict=True):
            assert left["status"] == right["status"] == "exact"
            assert right["lower"] == pytest.approx(left["lower"], rel=1e-6)


HARD = gaussian_box_network(10, (24, 24), 0)


def written(folder: Path) -> Path:
    model = folder / "net.npz"
    save(HARD, model)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_gives_the_interval_and_the_way_on(tmp_path: Path, number: int, code: int) -> None:
    kept = tmp_path / "search"
    command = [sys.executable, "-m", "cluster.cli", "lipschitz", str(written(tmp_path)), "--box", "-1", "1", "--json"]
    place = ["--executor", "ray", "--workers", "2", "--checkpoint", str(kept)]
    told = tmp_path / "told.txt"
    with open(told, "w") as errors:
        child = subprocess.Popen(
            [*command, *place], stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            while "open nodes, 2 workers" not in told.read_text():
                assert child.poll() is None, told.read_text()
                time.sleep(0.2)
            os.killpg(child.pid, number)  # as a terminal does: every process of the group
            output, _ = child.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
    errors_said = told.read_text()
    assert child.returncode == code, errors_said
    first = json.loads(output)
    assert first["status"] == "budget-spent"
    assert 0 < first["lower"] < first["upper"] < math.inf
    assert f"--resume {kept}" in errors_said.splitlines()[-1]
    assert "Traceback" not in errors_said
    answer = subprocess.run(
        [*command, "--executor", "ray", "--workers", "2", "--resume", str(kept), "--time-limit", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    second = json.loads(answer.stdout)
    assert answer.returncode == 3
    assert second["upper"] <= first["upper"]
    assert second["stats"]["nodes"] >= first["stats"]["nodes"]
    assert second["stats"]["seconds_before"] > 0


IS_KILLED = """
import sys
from cluster.execution.search import spread
from cluster.execution.search.opening import spread_search
from solvers.problems.questions import LipschitzProblem
from tests.cluster_tests.search.test_search_on_ray import LONGER, LONGER_BOX

spread.CHECKPOINT_SECONDS = 0.2
with spread_search(LONGER, [2.0], LONGER_BOX, 1e-6, workers=1, checkpoint=sys.argv[1]) as solver:
    solver.solve(LipschitzProblem(LONGER, 2.0, LONGER_BOX))
"""

LONGER, LONGER_BOX = gaussian_box_network(10, (20, 20), 1), Box.cube(10, -1.0, 1.0)


@pytest.mark.slow
def test_a_killed_driver_loses_no_more_than_since_its_checkpoint(ray_runtime: None, tmp_path: Path) -> None:
    kept = tmp_path / "search"
    child = subprocess.Popen(
        [sys.executable, "-c", IS_KILLED, str(kept)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).resolve().parents[3],
        start_new_session=True,
    )
    try:
        while not kept.exists():
            assert child.poll() is None
            time.sleep(0.02)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    problem = LipschitzProblem(LONGER, 2.0, LONGER_BOX)
    with spread_search(LONGER, [2.0], LONGER_BOX, 1e-6, workers=2, resume=kept) as solver:
        there = solver.solve(problem)
    assert there.stats["seconds_before"] > 0
    agree(BranchAndBound(threads=1).solve(problem), there)


LOSES_A_NODE = """
import json, os, sys, threading, time
import ray
from ray.cluster_utils import Cluster
from cluster.execution.search import spread
from cluster.execution.search.opening import spread_search
from solvers.problems.questions import LipschitzProblem
from tests.cluster_tests.search.test_search_on_ray import BOX, NETWORK_OF_SECONDS as NETWORK

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
other = cluster.add_node(num_cpus=1)
spread.OVERDUE_SECONDS = 5.0
lost = []

def lose(standing):
    if not lost and standing.open_nodes > 20:
        lost.append(standing)
        threading.Thread(target=cluster.remove_node, args=(other, False), daemon=True).start()

with spread_search(NETWORK, [2.0], BOX, 1e-6, workers=2, address=cluster.address, report=lose) as solver:
    answer = solver.solve(LipschitzProblem(NETWORK, 2.0, BOX))
print("RESULT " + json.dumps([len(lost), answer.lower, answer.upper, str(answer.status)]), flush=True)
ray.shutdown()
cluster.shutdown()
"""

NETWORK_OF_SECONDS = gaussian_box_network(6, (18, 16), 4)


@pytest.mark.slow
def test_a_lost_node_loses_nothing(tmp_path: Path) -> None:
    problem = LipschitzProblem(NETWORK_OF_SECONDS, 2.0, BOX)
    answer = subprocess.run(
        [sys.executable, "-c", LOSES_A_NODE],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        cwd=Path(__file__).resolve().parents[3],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )
    lines = [line for line in answer.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, answer.stderr[-3000:]
    lost, lower, upper, status = json.loads(lines[-1].removeprefix("RESULT "))
    assert lost == 1
    assert status == "exact"
    here = BranchAndBound(threads=1).solve(problem)
    assert max(here.lower, lower) <= min(here.upper, upper) * (1 + 1e-6)
