"""Lower bounds beside random gradients, data and a plain search of the same time; sizes of bounds as ratios.

The targets are ours, the peers are written here: the longest of 10^5 random gradients, and searches along coordinates,
or random directions, from random points, for as many CPU seconds as are allowed. Run with OPENBLAS_NUM_THREADS=1 to
compare one thread with one thread.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.files.models import load_network
from solvers.lipschitz.ascent import Ascent
from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.lipschitz.sampling import Sampling
from solvers.lipschitz.semidefinite import Semidefinite
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain
from solvers.problems.questions import LipschitzProblem
from solvers.problems.random_points import draw_points
from solvers.problems.results import LipschitzBounds, Status
from solvers.problems.witnesses import gradients_at
from tests.data_folder import DATA_DIR, needs_mnist

pytestmark = pytest.mark.benchmark

NETS_DIR = Path(os.environ.get("INTERLIP_NETS_DIR") or Path(__file__).resolve().parents[3] / "shared" / "nets")
needs_nets = pytest.mark.skipif(not (NETS_DIR / "nets.json").is_file(), reason=f"there is no nets.json in {NETS_DIR}")


def he(sizes: list[int], seed: int, bias: float = 0.0) -> ReluNetwork:
    """Entries N(0, 2 / n_l) in hidden layers, N(0, 1) in the output, biases N(0, bias^2)."""
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((n, m)) * math.sqrt(2 / n) for m, n in itertools.pairwise(sizes)]
    output = rng.standard_normal((1, sizes[-1]))
    return ReluNetwork([*weights, output], [*(bias * rng.standard_normal(n) for n in sizes[1:]), np.zeros(1)])


def climbed(problem: LipschitzProblem, starts: FloatArray | None = None) -> tuple[LipschitzBounds, float]:
    """The bound and its CPU seconds."""
    started = time.process_time()
    answer = Ascent(starts=starts).solve(problem)
    return answer, time.process_time() - started


def plain_search(problem: LipschitzProblem, seconds: float) -> float:
    """From random points, steps along coordinates (or random directions for d > 32) while one gains, else shorter."""
    network, domain, q = problem.network, problem.domain, problem.dual_p
    rng, best, started = np.random.default_rng(0), 0.0, time.process_time()
    d = domain.dimension
    while time.process_time() - started < seconds:
        point = draw_points(domain, 1, network, rng)[0]
        scale = float(np.abs(point).max()) or 1.0
        value, step = float(vector_norm(gradients_at(network, point[None])[0], q)), 0.5
        while step > 1e-3 and time.process_time() - started < seconds:
            ways = np.eye(d) if d <= 32 else rng.standard_normal((32, d))
            tried = domain.nearest(point + step * scale * np.concatenate([ways, -ways]))
            values = vector_norm(gradients_at(network, tried), q)
            k = int(values.argmax())
            if values[k] > value:
                point, value = tried[k], float(values[k])
            else:
                step /= 2
        best = max(best, value)
    return best


@pytest.mark.parametrize(("p", "share"), [(1.0, 0.9), (2.0, 0.95), (math.inf, 0.95)])
def test_constants_of_small_networks_are_found(p: float, share: float) -> None:
    """d <= 10, at most 32 neurons, one or two layers, with and without biases, on R^d and boxes: 60 draws."""
    found, seconds = 0, []
    for k in range(60):
        rng = np.random.default_rng([1, k])
        d, depth = int(rng.integers(2, 7)), int(rng.integers(1, 3))
        width = int(rng.integers(6, 17)) if depth == 1 else int(rng.integers(5, 11))
        network = he([d, *[width] * depth], 100 + k, 0.5 * (k % 2))
        problem = LipschitzProblem(network, p, Box.cube(d) if k % 4 < 2 else None)
        exact = RegionEnumeration().solve(problem)
        assert exact.status is Status.EXACT
        answer, taken = climbed(problem)
        assert answer.lower <= exact.upper
        found += answer.lower >= 0.999 * exact.lower
        seconds.append(taken)
    print(f"\np = {p}: 99.9 % reached in {found} of 60, {np.mean(seconds):.2f} s each, at most {max(seconds):.2f}")
    assert found >= share * 60
    assert max(seconds) <= 1


@pytest.mark.parametrize(
    ("sizes", "most"), [([200, 200, 200], 1.3), ([1000, 1000, 1000, 1000], 2.2), ([10, 64, 64, 64], 2.2)], ids=str
)
def test_upper_over_lower_of_wide_networks(sizes: list[int], most: float) -> None:
    problem = LipschitzProblem(he(sizes, 0), 2.0)
    answer, taken = climbed(problem)
    upper = Semidefinite().solve(problem).upper
    drawn = Sampling(points=10_000).solve(problem).lower
    plain = plain_search(problem, 10.0)
    print(
        f"\n{sizes}: ascent {answer.lower:.3f} in {taken:.1f} s, upper / lower {upper / answer.lower:.3f}; "
        f"10^4 random gradients {drawn:.3f}, plain search of 10 s {plain:.3f}"
    )
    assert upper <= most * answer.lower
    assert answer.lower >= max(drawn, plain)


def trained(widths: list[int]) -> tuple[ReluNetwork, FloatArray]:
    """784-...-10 on the digits of MNIST after two epochs of Adam, and 1000 of its images."""
    import torch

    with np.load(DATA_DIR / "mnist.npz") as arrays:
        images, labels = arrays["X"] / 255.0, arrays["y"].astype(np.int64)
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for m, n in itertools.pairwise([784, *widths, 10]):
        layers += [torch.nn.Linear(m, n), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
    for _ in range(2):
        for rows in torch.randperm(len(x)).split(128):
            loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
    network = ReluNetwork([a.weight.detach().numpy() for a in linear], [a.bias.detach().numpy() for a in linear])
    return network, images[:1000]


@needs_mnist
@pytest.mark.parametrize(("widths", "most"), [([256], 1.05), ([512, 512, 512], 2.0)], ids=str)
def test_upper_over_lower_of_trained_networks(widths: list[int], most: float) -> None:
    network, images = trained(widths)
    problem = LipschitzProblem(network.select_output(0), 2.0)
    answer, taken = climbed(problem)
    upper = Semidefinite().solve(problem).upper
    seen = float(vector_norm(gradients_at(problem.network, images), 2.0).max())
    from_images, _ = climbed(problem, images)
    print(
        f"\n784-{widths}-10: ascent {answer.lower:.3f} in {taken:.1f} s ({from_images.lower:.3f} with images to start "
        f"from), upper / lower {upper / answer.lower:.3f}; 1000 images {seen:.3f}"
    )
    assert upper <= most * answer.lower
    assert answer.lower >= seen


def public(name: str, box: str | None) -> tuple[ReluNetwork, Domain | None]:
    """A network with all its outputs, and one of its boxes."""
    network = load_network(NETS_DIR / f"{name}.npz")
    if box is None:
        return network, None
    corners = json.loads((NETS_DIR / "nets.json").read_text())[name]["boxes"][box]
    sides = (np.broadcast_to(np.asarray(corners[side], dtype=float), network.input_dimension) for side in corners)
    return network, Box(*sides)


PUBLIC = [
    ("acas_1_1", None, 2.0, 438.0),
    ("acas_1_1", "nat", math.inf, 0.0),
    ("acas_2_9", "prop3", math.inf, 0.0),
    ("acc_5x20", "nat", 2.0, 0.0),
    ("airplane", "nat", 1.0, 0.0),
    ("cartpole", "nat", math.inf, 16.855),
    ("gcas", None, 2.0, 0.0),
    ("lipsdp_mnist", "nat", math.inf, 0.0),
    ("lunarlander", "nat", math.inf, 81.4),
    ("mnistfc_256x2", "nat", math.inf, 100.0),
    ("robot", None, 2.0, 0.0),
    ("tll_16", "nat", math.inf, 0.0),
    ("tora", "nat", math.inf, 8.49),
    ("unicycle", "nat", 2.0, 0.0),
    ("vcas_1", "nat", math.inf, 0.0),
]


@needs_nets
@pytest.mark.parametrize(("name", "box", "p", "least"), PUBLIC)
def test_no_plain_search_finds_more_on_public_networks(name: str, box: str | None, p: float, least: float) -> None:
    network, domain = public(name, box)
    best = 0.0
    for output in range(network.output_dimension if least else 1):
        problem = LipschitzProblem(network.select_output(output), p, domain)
        answer, taken = climbed(problem)
        best = max(best, answer.lower)
        if output == 0:
            drawn = Sampling(points=100_000).solve(problem, budget=Budget(seconds=60)).lower
            plain = plain_search(problem, 10.0)
            print(
                f"\n{name} {box} p = {p}: ascent {answer.lower:.5g} in {taken:.1f} s, 10^5 random gradients "
                f"{drawn:.5g}, plain search of 10 s {plain:.5g}"
            )
            assert answer.lower >= max(drawn, plain) * (1 - 1e-9)
    print(f"largest output {best:.5g}")
    assert best >= least


@pytest.mark.parametrize("seed", range(4))
def test_a_plain_search_finds_no_more_on_deep_random_networks(seed: int) -> None:
    problem = LipschitzProblem(he([10, 64, 64, 64], seed, 0.3), math.inf, Box.cube(10))
    answer, taken = climbed(problem)
    plain = plain_search(problem, 10.0)
    print(f"\nHe (10, 64, 3), bias 0.3, p = inf: ascent {answer.lower:.4f} in {taken:.1f} s, plain {plain:.4f}")
    assert answer.lower >= plain
