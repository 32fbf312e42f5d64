"""What Ray computes is what one process computes, and workers that die lose nothing; one runtime for all of it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.execution.actors import Policy
from cluster.execution.class_pool import ClassPool
from cluster.execution.fleet.ray_executor import RayExecutor
from cluster.execution.in_process import InProcessExecutor
from cluster.execution.ray_actors import AbstractWorker, RayCalls, end_actors, start_actors
from cluster.execution.restart_pool import LocalPool, RayPool
from solvers.errors import InputError
from solvers.interpolation.fully_connected import FullyConnected
from solvers.interpolation.width_search import Restart, Round
from solvers.networks.threshold import ThresholdNetwork
from tasks.constructions import ConstructionChoice
from tasks.data_sets import load_problem
from tests.cluster_tests.commands.test_width_search_command import MOONS, SOURCE, search, told
from tests.cluster_tests.execution.test_executors import complete, troubled
from tests.cluster_tests.studies import small_study, stable
from tracking.parts import RunFolder

cloudpickle.register_pickle_by_value(sys.modules[__name__])
pytestmark = pytest.mark.ray


@pytest.mark.parametrize("workers", [1, 2])
def test_ray_gives_the_bits_of_the_local_executor(tmp_path: Path, ray_runtime: None, workers: int) -> None:
    study = small_study()
    local, remote = RunFolder(str(tmp_path / "local")), RunFolder(str(tmp_path / "ray"))
    complete(study, local, InProcessExecutor())
    result, _ = complete(study, remote, RayExecutor(workers))
    assert result.failed == 0
    for sweep in study.sweeps:
        pd.testing.assert_frame_equal(stable(local, sweep), stable(remote, sweep), check_exact=True)


def test_a_batch_that_kills_its_worker_is_kept_as_failed(
    tmp_path: Path, ray_runtime: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = troubled(["kills", "fine"], monkeypatch, numbers=1)
    folder = RunFolder(str(tmp_path))
    result, _ = complete(study, folder, RayExecutor(2))
    frame = folder.frame("t")
    assert result.trials == len(frame) == 2
    assert set(frame["kind"][frame["failed"]]) == {"kills"}
    assert (~frame["failed"]).sum() == 1
    assert "died" in str(result.first_error)


class Squares(AbstractWorker):
    """Squares numbers; some kill it or are refused."""

    def run(self, number: int) -> int:
        if number < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if number > 99:
            raise InputError("too large to be squared")
        return number**2


def test_calls_are_answered_once_past_one_that_kills_and_a_mistake_comes_through(ray_runtime: None) -> None:
    actors = start_actors(Squares, [], 2)
    calls: RayCalls[int] = RayCalls(actors, Policy(depth=3), lambda actor, number: actor.run.remote(number))
    try:
        calls.add([1, 2, -1, *range(3, 12)])
        ended = {outcome.work: outcome for outcome in calls.outcomes()}
        assert {work: outcome.value for work, outcome in ended.items() if outcome.death is None} == {
            number: number**2 for number in range(1, 12)
        }
        assert [work for work, outcome in ended.items() if outcome.death] == [-1]
        assert calls.open == []
        calls.offer([20, 21])
        calls.add([100])
        with pytest.raises(InputError, match="too large"):
            list(calls.outcomes())
    finally:
        end_actors(actors)


@pytest.mark.parametrize(("name", "workers"), [pytest.param("digits", 2, marks=pytest.mark.slow), ("moons:300", None)])
def test_classes_on_ray_give_the_network_of_one_process(ray_runtime: None, name: str, workers: int | None) -> None:
    problem = load_problem(name)
    for solver in (FullyConnected(200, 0.5), FullyConnected(200, 0.5, centres="greedy", masks="cluster")):
        here = solver.solve(problem, rng=np.random.default_rng(3))
        there = solver.dealt(ClassPool(workers).cover).solve(problem, rng=np.random.default_rng(3))
        ours, theirs = here.network, there.network
        assert isinstance(ours, ThresholdNetwork)
        assert isinstance(theirs, ThresholdNetwork)
        for left, right in zip((*ours.masks, *here.centres), (*theirs.masks, *there.centres), strict=True):
            np.testing.assert_array_equal(left, right)
        assert here.stats["candidates"] == there.stats["candidates"]


@pytest.mark.slow
def test_the_command_says_the_same_with_classes_on_ray(ray_runtime: None) -> None:
    arguments = ["interpolate", "digits", "--width", "200", "--json"]
    found = []
    for place in ([], ["--executor", "ray", "--workers", "2"]):
        answer = CliRunner().invoke(app, [*arguments, *place])
        assert answer.exit_code == 0, answer.output
        found.append({**json.loads(answer.stdout), "seconds": None})
    assert found[0] == found[1]


def test_more_workers_than_cpus_are_refused(ray_runtime: None) -> None:
    with pytest.raises(InputError, match="--workers 99 is more than"):
        FullyConnected(20, 0.5, deal=ClassPool(99).cover).solve(load_problem("moons:50"), rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="--workers 99 is more than"):
        search("ray", 99)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_width_search_gives_the_answer_of_one_process(ray_runtime: None, workers: int) -> None:
    assert told(search("ray", workers)) == told(search("local", 1))


@pytest.mark.slow
def test_a_worker_that_dies_loses_no_restart(ray_runtime: None) -> None:
    import ray

    problem, source = load_problem(MOONS), SOURCE
    asked = Round(tuple(Restart(80, 0.5, "screen", k) for k in range(400)), ())
    with LocalPool(problem, ConstructionChoice(), source, 1) as local:
        expected = [outcome.interpolates for outcome in local.compute(asked)]
    with RayPool(problem, ConstructionChoice(), source, 2) as pool:
        os.kill(ray.get(pool._actors[0].ready.remote()), signal.SIGKILL)
        assert [outcome.interpolates for outcome in pool.compute(asked)] == expected
    assert len(set(expected)) == 2
