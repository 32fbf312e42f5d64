"""Bounds by multipliers beside their peers in one run: CPU seconds of this process, sizes of bounds as ratios.

Gaussian networks with entries N(0, 2 / N) and an output N(0, 1), without biases, p = 2 and inf, on R^d; two networks
trained on MNIST (`tests.data_folder`); one box. The peers are written from their formulas
(`tests.references.slope_programs`), `eclipse-nn` is asked where it is installed, and a general solver of semidefinite
programs takes the smallest sizes alone. Run with OPENBLAS_NUM_THREADS=1 to compare one thread with one thread.
"""

from __future__ import annotations

import itertools
import math
import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest

from solvers.files.models import load_network, save_network
from solvers.lipschitz.eclipse_fast import EclipseFast
from solvers.lipschitz.norm_product import NormProduct
from solvers.lipschitz.semidefinite import Semidefinite
from solvers.networks.from_torch import network_from_torch
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds
from solvers.verify import Verdict, verify_bounds
from tests.data_folder import DATA_DIR, needs_mnist
from tests.references.slope_programs import (
    eclipse_fast,
    eclipse_local,
    interval_jacobian,
    interval_signs,
    one_multiplier_a_neuron,
    product_of_spectral_norms,
)

pytestmark = pytest.mark.benchmark


def he(d: int, width: int, depth: int, seed: int = 0) -> ReluNetwork:
    rng = np.random.default_rng(seed)
    sizes = [d, *[width] * depth]
    weights = [rng.standard_normal((n, m)) * math.sqrt(2 / width) for m, n in itertools.pairwise(sizes)]
    return ReluNetwork([*weights, rng.standard_normal((1, width))], [*[np.zeros(width)] * depth, np.zeros(1)])


def trained_on_mnist(widths: tuple[int, ...], folder: Path) -> ReluNetwork:
    """784-widths-10 after three epochs of Adam on 60 000 digits in [0, 1], reduced to output 0; kept in the folder."""
    kept = folder / f"mnist-{'-'.join(map(str, widths))}.npz"
    if not kept.is_file():
        import torch

        with np.load(DATA_DIR / "mnist.npz") as stored:
            images, labels = stored["X"][:60_000] / 255.0, stored["y"][:60_000]
        torch.manual_seed(0)
        sizes = [784, *widths, 10]
        layers: list[torch.nn.Module] = []
        for m, n in itertools.pairwise(sizes):
            layers += [torch.nn.Linear(m, n), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers[:-1])
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        x, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
        for _ in range(3):
            for batch in torch.randperm(len(x)).split(128):
                loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        assert float((model(x[:10_000]).argmax(dim=1) == y[:10_000]).double().mean()) > 0.95
        save_network(network_from_torch(model), kept)
    return load_network(kept).select_output(0)


def timed(network: ReluNetwork, p: float) -> tuple[LipschitzBounds, float]:
    started = time.process_time()
    answer = Semidefinite(certified=True).solve(LipschitzProblem(network, p))
    return answer, time.process_time() - started


# d, N, L, p; the largest bound over dual, seconds, and the largest bound over ECLipsE-Fast's.
SIZES = [
    (10, 64, 3, 2.0, 1.001, 1.0, 0.60),
    (50, 128, 3, 2.0, 1.001, 1.0, 0.60),
    (100, 128, 3, 2.0, 1.001, 1.0, 0.60),
    (200, 200, 2, 2.0, 1.001, 1.0, 0.70),
    (30, 64, 6, 2.0, 1.001, 1.0, 0.35),
    (20, 128, 8, 2.0, 1.001, 1.0, 0.30),
    (100, 256, 3, math.inf, 1.003, 2.0, math.inf),
    (100, 512, 3, 2.0, 1.001, 3.0, 0.60),
    (1000, 1000, 3, 2.0, 1.003, 10.0, 0.60),
    (1000, 2000, 3, 2.0, 1.01, 20.0, 0.60),
]
# The widest: gap, wall seconds on two idle threads, bytes resident.
WIDEST_GAP, WIDEST_SECONDS, WIDEST_BYTES = 0.05, 240.0, 12 * 2**30


@pytest.mark.parametrize(("d", "width", "depth", "p", "gap", "seconds", "share"), SIZES)
def test_bounds_are_near_the_optimum_in_time(
    d: int, width: int, depth: int, p: float, gap: float, seconds: float, share: float
) -> None:
    network = he(d, width, depth)
    answer, taken = timed(network, p)
    fast = compared(f"({d}, {width}, {depth})", network, p, answer, taken)
    assert answer.stats["gap_to_optimum"] <= gap - 1
    assert taken <= seconds
    if p == 2:
        assert answer.upper <= share * fast
    if width <= 512:
        assert verify_bounds(LipschitzProblem(network, p), answer).verdict is Verdict.PROVED


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where trained networks are kept: $INTERLIP_TRAINED_DIR, to train once, or a folder of this run."""
    chosen = os.environ.get("INTERLIP_TRAINED_DIR")
    return Path(chosen) if chosen else tmp_path_factory.mktemp("trained")


@needs_mnist
@pytest.mark.parametrize(("widths", "share"), [((256,), 0.75), ((512, 512, 512), 0.60)], ids=str)
def test_bounds_of_trained_networks(widths: tuple[int, ...], share: float, folder: Path) -> None:
    network = trained_on_mnist(widths, folder)
    answer, taken = timed(network, 2.0)
    fast = compared(f"784-{'-'.join(map(str, widths))}-10, trained", network, 2.0, answer, taken)
    assert answer.stats["gap_to_optimum"] <= 1e-3
    assert taken <= 3.0
    assert answer.upper <= share * fast


def compared(told: str, network: ReluNetwork, p: float, answer: LipschitzBounds, taken: float) -> float:
    """Print the bound beside its peers, the cheap ones for the same p; ECLipsE-Fast's formula for p = 2."""
    started = time.process_time()
    fast, _ = eclipse_fast(network)
    words = [f"ECLipsE-Fast for p = 2 {fast:.2f} in {time.process_time() - started:.2f} s"]
    for solver in (EclipseFast(), NormProduct()):
        started = time.process_time()
        upper = solver.solve(LipschitzProblem(network, p)).upper
        words.append(f"{solver.name} {upper:.2f} in {time.process_time() - started:.2f} s")
    words.append(f"product for p = 2 {product_of_spectral_norms(network):.2f}")
    gap = answer.stats["gap_to_optimum"]
    print(f"\n{told}, p = {p:g}: {answer.upper:.4f} in {taken:.2f} s, {gap:.1e} above the dual; {'; '.join(words)}")
    return fast


def test_a_published_implementation_of_the_closed_form_agrees() -> None:
    """`eclipse-nn` from PyPI: what is called its formula here is its number."""
    package = pytest.importorskip("eclipse_nn")
    import torch

    network = he(10, 64, 3)
    weights = [torch.tensor(w) for w in network.weights]
    started = time.process_time()
    theirs = float(package.LipConstEstimator(weights=weights).estimate(method="ECLipsE_Fast"))
    taken = time.process_time() - started
    fast, _ = eclipse_fast(network)
    print(f"\neclipse-nn {theirs:.4f} in {taken:.3f} s, the formula {fast:.4f}")
    assert theirs == pytest.approx(fast, rel=1e-9)


def test_a_box_takes_half_of_the_closed_form() -> None:
    """(10, 64, 3), biases N(0, 1/4), the box of half width 0.05 around the origin, p = 2."""
    plain, rng = he(10, 64, 3), np.random.default_rng(1)
    network = ReluNetwork(plain.weights, [*(0.5 * rng.standard_normal(64) for _ in range(3)), np.zeros(1)])
    box = Box.cube(10, -0.05, 0.05)
    started = time.process_time()
    answer = Semidefinite().solve(LipschitzProblem(network, 2.0, box))
    taken = time.process_time() - started
    signs = interval_signs(network, box)
    peer, intervals = eclipse_local(network, signs), interval_jacobian(network, signs)
    print(
        f"\nbox: {answer.upper:.3f} in {taken:.2f} s; ECLipsE-Gen-Local {peer:.3f}, interval Jacobian {intervals:.2f}"
    )
    assert answer.upper <= 0.5 * peer
    assert answer.upper <= intervals


def test_three_layers_of_ten_thousand_neurons_are_bounded_in_time_and_memory() -> None:
    """Run with OPENBLAS_NUM_THREADS=2, on a machine that does nothing else."""
    network = he(1000, 10_000, 3)
    started, used = time.perf_counter(), time.process_time()
    answer = Semidefinite().solve(LipschitzProblem(network, 2.0), budget=Budget(seconds=WIDEST_SECONDS))
    taken, used = time.perf_counter() - started, time.process_time() - used
    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"\n3 x 10000: {answer.upper:.2f} in {taken:.0f} s, {used:.0f} CPU seconds, {resident / 2**30:.1f} GB; "
        f"optimum {answer.stats['optimum_at_least']:.2f} at least"
    )
    assert answer.stats["gap_to_optimum"] <= WIDEST_GAP
    assert taken <= WIDEST_SECONDS
    assert resident <= WIDEST_BYTES


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
