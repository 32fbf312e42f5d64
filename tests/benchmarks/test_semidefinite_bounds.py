"""Bounds by multipliers beside their peers in one run: CPU seconds of this process, sizes of bounds as ratios.

Gaussian networks with entries N(0, 2 / N) and an output N(0, 1), without biases, p = 2 and inf, on R^d. The peers are
written from their formulas (`tests.references.slope_programs`); a general solver of semidefinite programs takes the
smallest sizes alone. Run with OPENBLAS_NUM_THREADS=1 to compare one thread with one thread.
"""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest

from solvers.lipschitz.semidefinite import Semidefinite
from solvers.networks.relu import ReluNetwork
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds
from solvers.verify import Verdict, verify_bounds
from tests.references.slope_programs import eclipse_fast, one_multiplier_a_neuron, product_of_spectral_norms

pytestmark = pytest.mark.benchmark


def he(d: int, width: int, depth: int, seed: int = 0) -> ReluNetwork:
    rng = np.random.default_rng(seed)
    sizes = [d, *[width] * depth]
    weights = [rng.standard_normal((n, m)) * math.sqrt(2 / width) for m, n in itertools.pairwise(sizes)]
    return ReluNetwork([*weights, rng.standard_normal((1, width))], [*[np.zeros(width)] * depth, np.zeros(1)])


def timed(network: ReluNetwork, p: float) -> tuple[LipschitzBounds, float]:
    started = time.process_time()
    answer = Semidefinite(certified=True).solve(LipschitzProblem(network, p))
    return answer, time.process_time() - started


# d, N, L, p; the largest bound over dual, seconds, and the largest bound over ECLipsE-Fast's.
SIZES = [
    (10, 64, 3, 2.0, 1.001, 1.0, 0.60),
    (50, 128, 3, 2.0, 1.001, 1.0, 0.60),
    (30, 64, 6, 2.0, 1.001, 1.0, 0.35),
    (20, 128, 8, 2.0, 1.001, 1.0, 0.30),
    (100, 256, 3, math.inf, 1.003, 2.0, math.inf),
    (100, 512, 3, 2.0, 1.001, 3.0, 0.60),
    (1000, 1000, 3, 2.0, 1.003, 10.0, 0.60),
    (1000, 2000, 3, 2.0, 1.01, 20.0, 0.60),
]


@pytest.mark.parametrize(("d", "width", "depth", "p", "gap", "seconds", "share"), SIZES)
def test_bounds_are_near_the_optimum_in_time(
    d: int, width: int, depth: int, p: float, gap: float, seconds: float, share: float
) -> None:
    network = he(d, width, depth)
    answer, taken = timed(network, p)
    started = time.process_time()
    fast, _ = eclipse_fast(network)
    peer = time.process_time() - started
    print(
        f"\n({d}, {width}, {depth}) p = {p:g}: {answer.upper:.4f} in {taken:.2f} s, "
        f"{answer.stats['gap_to_optimum']:.1e} above the dual at most; for p = 2 ECLipsE-Fast {fast:.2f} "
        f"in {peer:.2f} s, product {product_of_spectral_norms(network):.2f}"
    )
    assert answer.stats["gap_to_optimum"] <= gap - 1
    assert taken <= seconds
    if p == 2:
        assert answer.upper <= share * fast
    if width <= 512:
        assert verify_bounds(LipschitzProblem(network, p), answer).verdict is Verdict.PROVED


@pytest.mark.parametrize(("d", "width", "depth"), [(10, 20, 2), (10, 30, 3)])
def test_a_general_solver_takes_fifty_times_as_long(d: int, width: int, depth: int) -> None:
    network = he(d, width, depth)
    answer, taken = timed(network, 2.0)
    started = time.process_time()
    reference = one_multiplier_a_neuron(network, 2.0)
    general = time.process_time() - started
    print(
        f"\n({d}, {width}, {depth}): {answer.upper:.5f} in {taken:.3f} s, CLARABEL {reference:.5f} in {general:.2f} s"
    )
    assert answer.upper <= 1.0005 * reference
    assert 50 * taken <= general
