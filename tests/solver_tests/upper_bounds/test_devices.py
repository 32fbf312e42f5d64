"""Methods on devices of torch: which take one, which devices are refused, and the same answers there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from solvers.errors import InputError
from solvers.lipschitz.shallow import cell_enumeration
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.strategies import gaussian_network

ON_DEVICES = {"ascent", "semidefinite", "vertex-enumeration"}


def cuda() -> str:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    return "cuda"


@pytest.mark.parametrize("name", sorted(LIPSCHITZ_SOLVERS))
def test_devices_that_do_not_compute_and_methods_without_one_are_refused(name: str) -> None:
    solver = LIPSCHITZ_SOLVERS[name]
    assert solver.on_device("cpu") == solver
    takes_one = name in ON_DEVICES
    why = "torch cannot compute in float64 on device 'meta' here" if takes_one else "vertex-enumeration$"
    with pytest.raises(InputError, match=why):
        solver.on_device("meta")


def test_the_larger_chunks_of_a_device_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    network = gaussian_network([3, 12, 1], rng, 0.5)
    problems = [LipschitzProblem(network, p, Box.cube(3)) for p in (1.0, 2.0, math.inf)]
    solver = LIPSCHITZ_SOLVERS["vertex-enumeration"]
    found = []
    for chunk in (1, cell_enumeration.CHUNK_ON_DEVICE):
        monkeypatch.setattr(cell_enumeration, "CHUNK", chunk)
        found.append([(one.lower, one.upper) for one in solver.solve_batch(problems)])
    assert found[0] == found[1]


@pytest.mark.gpu
def test_multipliers_from_a_gpu_prove_the_bound_that_the_processor_proves() -> None:
    there = LIPSCHITZ_SOLVERS["semidefinite"].on_device(cuda())
    network = gaussian_network([100, 256, 256, 256, 1], np.random.default_rng(0))
    for p in (1.0, 2.0, math.inf):
        problem = LipschitzProblem(network, p)
        bounds = there.solve(problem)
        assert bounds.stats["gap_to_optimum"] <= 1e-3
        # Both lie between the program's optimum and 1.001 times that.
        assert bounds.upper == pytest.approx(LIPSCHITZ_SOLVERS["semidefinite"].solve(problem).upper, rel=2e-3)


@pytest.mark.gpu
def test_cells_on_a_gpu_are_the_cells_on_the_processor() -> None:
    there = LIPSCHITZ_SOLVERS["vertex-enumeration"].on_device(cuda())
    networks = [gaussian_network([3, 10, 1], np.random.default_rng(seed), 0.5) for seed in range(50)]
    problems = [LipschitzProblem(network, p) for network in networks for p in (1.0, 2.0, math.inf)]
    here = LIPSCHITZ_SOLVERS["vertex-enumeration"].solve_batch(problems)
    for one, other in zip(here, there.solve_batch(problems), strict=True):
        assert other.status == one.status
        assert other.lower == pytest.approx(one.lower, rel=1e-13)
        assert other.upper == pytest.approx(one.upper, rel=1e-13)
