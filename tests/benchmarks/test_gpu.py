"""Devices beside the processor: sweeps of wide deep networks, and a million shallow draws. Not run yet on a GPU.

Networks are those of `test_semidefinite_bounds`. Proofs are made on the processor either way;
seconds are of whole answers.
"""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch

from solvers.lipschitz.semidefinite import Semidefinite
from solvers.lipschitz.vertex_enumeration import VertexEnumeration
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.questions import LipschitzProblem
from tests.benchmarks.test_semidefinite_bounds import he

pytestmark = [pytest.mark.benchmark, pytest.mark.gpu]


@pytest.fixture
def device() -> str:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    return "cuda"


@pytest.mark.parametrize(("width", "gap", "seconds"), [(1000, 1.003, 10.0), (10_000, 1.05, 240.0)])
def test_multipliers_of_wide_networks(device: str, width: int, gap: float, seconds: float) -> None:
    network = he(1000, width, 3)
    started = time.perf_counter()
    answer = Semidefinite(device=device).solve(LipschitzProblem(network, 2.0), budget=Budget(seconds=seconds))
    print(f"\n3 x {width}: {answer.upper:.3f} in {time.perf_counter() - started:.1f} s, {dict(answer.stats)}")
    assert answer.stats["gap_to_optimum"] <= gap - 1


def test_a_million_shallow_draws(device: str) -> None:
    rng = np.random.default_rng(0)
    draws, at_once, d, width = 10**6, 10**4, 2, 10
    taken = {device: 0.0, "cpu": 0.0}
    for start in range(0, draws, at_once):
        problems = []
        for _ in range(at_once):
            weights = [rng.standard_normal((width, d)) * math.sqrt(2 / width), rng.standard_normal((1, width))]
            biases = [rng.standard_normal(width), np.zeros(1)]
            problems.append(LipschitzProblem(ReluNetwork(weights, biases), 2.0))
        # The processor takes the first of a hundred parts.
        for name in [device, *(["cpu"] if start == 0 else [])]:
            begun = time.perf_counter()
            answers = VertexEnumeration(device=name).solve_batch(problems)
            taken[name] += time.perf_counter() - begun
            assert all(answer.upper <= answer.lower * (1 + 1e-6) for answer in answers)
    print(f"\n{draws} draws in {taken[device]:.0f} s; {at_once} take the processor {taken['cpu']:.1f} s")
