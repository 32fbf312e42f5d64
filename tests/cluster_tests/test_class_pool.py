"""The classes of one construction on Ray: the network of one process."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.class_pool import ClassPool
from cluster.cli import app
from solvers.errors import InputError
from solvers.interpolation.fully_connected import FullyConnected
from tasks.data_sets import load_problem

pytestmark = pytest.mark.ray


@pytest.mark.parametrize(("name", "workers"), [pytest.param("digits", 2, marks=pytest.mark.slow), ("moons:300", None)])
def test_ray_gives_the_network_of_one_process(ray_runtime: None, name: str, workers: int | None) -> None:
    problem = load_problem(name)
    here = FullyConnected(200, 0.5).solve(problem, rng=np.random.default_rng(3))
    there = FullyConnected(200, 0.5, deal=ClassPool(workers).cover).solve(problem, rng=np.random.default_rng(3))
    for left, right in zip((*here.network.masks, *here.centres), (*there.network.masks, *there.centres), strict=True):
        np.testing.assert_array_equal(left, right)
    assert here.stats["candidates"] == there.stats["candidates"]


@pytest.mark.slow
def test_the_command_says_the_same(ray_runtime: None) -> None:
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
