"""Bounds on boxes beside (a) the interval Jacobian and (b) what ranges carried forward alone give, in one run.

CPU seconds of this process; run with OPENBLAS_NUM_THREADS=1 to compare with one thread. Random networks have the law
N(0, 2 / inputs) in every layer, biases N(0, s^2), layer by layer from one stream. Published networks on boxes of their
own, the output with the largest bound; they stand beside the repository or in $INTERLIP_NETS_DIR, MNIST in
$INTERLIP_DATA_DIR.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from solvers.arithmetic.norms import dual_exponent, vector_norm
from solvers.files.models import load_network
from solvers.lipschitz.bounds.pattern_bounds import bound_piece
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.relaxation import fixed_slopes
from solvers.lipschitz.propagation import Propagation
from solvers.lipschitz.semidefinite import Semidefinite
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box
from solvers.problems.facets import solid_piece
from solvers.problems.questions import LipschitzProblem
from solvers.verify import Verdict, verify_bounds
from tests.data_folder import DATA_DIR
from tests.references.exact_points import interval_jacobian

pytestmark = pytest.mark.benchmark
NETS_DIR = Path(os.environ.get("INTERLIP_NETS_DIR") or Path(__file__).resolve().parents[3] / "shared" / "nets")


def he(sizes: list[int], bias: float, seed: int = 0) -> ReluNetwork:
    rng = np.random.default_rng(seed)
    weights, biases = [], []
    for m, n in itertools.pairwise(sizes):
        weights.append(rng.standard_normal((n, m)) * math.sqrt(2 / m))
        biases.append(bias * rng.standard_normal(n))
    return ReluNetwork(weights, [*biases[:-1], np.zeros(sizes[-1])])


def published(name: str, box: str | float, output: int) -> tuple[ReluNetwork, Box]:
    """One output of a network, and one of its boxes or the ball around 0 of a radius."""
    path = NETS_DIR / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"there is no {path}: set INTERLIP_NETS_DIR to the folder that holds it")
    network = load_network(path).select_output(output)
    if not isinstance(box, str):
        return network, Box.ball(np.zeros(network.input_dimension), box)
    corners = json.loads((NETS_DIR / "nets.json").read_text())[name]["boxes"][box]
    sides = (np.broadcast_to(np.asarray(corners[side], float), network.input_dimension) for side in ("lower", "upper"))
    return network, Box(*sides)


def digit(number: int) -> np.ndarray:
    path = DATA_DIR / "mnist.npz"
    if not path.is_file():
        pytest.skip(f"there is no {path}: set INTERLIP_DATA_DIR to the folder that holds it")
    with np.load(path) as data:
        return np.asarray(data["X"][number], dtype=float) / 255


def around_a_digit(radius: float, network: ReluNetwork) -> tuple[ReluNetwork, Box]:
    return network, Box.ball(digit(60000), radius)


Case = Callable[[], tuple[ReluNetwork, Box]]
# Name, p, the case, the bound to stay below, seconds.
CASES: list[tuple[str, float, Case, float, float]] = [
    ("(10, 64, 3) bias 0.3", math.inf, lambda: (he([10, 64, 64, 64, 1], 0.3), Box.cube(10)), 40.0, 1.0),
    ("tora", math.inf, lambda: published("tora", "nat", 0), 14.5, 1.0),
    ("lunarlander", math.inf, lambda: published("lunarlander", "nat", 2), 88.0, 1.0),
    ("cartpole", math.inf, lambda: published("cartpole", "nat", 1), 20.1, 1.0),
    ("acas 1_1 +-0.1", math.inf, lambda: published("acas_1_1", 0.1, 2), 8900.0, 5.0),
    ("acas 1_1 prop3", math.inf, lambda: published("acas_1_1", "prop3", 2), 1180.0, 5.0),
    (
        "mnistfc_256x2 +-0.02",
        math.inf,
        lambda: around_a_digit(0.02, load_network(NETS_DIR / "mnistfc_256x2.npz").select_output(7)),
        900.0,
        5.0,
    ),
    (
        "(10, 64, 3) bias 0.5 +-0.05",
        2.0,
        lambda: (he([10, 64, 64, 64, 1], 0.5), Box.cube(10, -0.05, 0.05)),
        math.inf,
        1.0,
    ),
    ("784-64^6 +-0.01", 2.0, lambda: around_a_digit(0.01, he([784, *[64] * 6, 1], 0.5)), math.inf, 5.0),
]


def timed(call: Callable[[], float]) -> tuple[float, float]:
    started = time.process_time()
    found = call()
    return found, time.process_time() - started


@pytest.mark.parametrize(("name", "p", "case", "most", "seconds"), CASES, ids=[case[0] for case in CASES])
def test_bounds_on_boxes(
    name: str, p: float, case: Case, most: float, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, box = case()
    problem = LipschitzProblem(network, p, box)
    Semidefinite().solve(LipschitzProblem(network, p, Box.ball(box.centre, 1e-9)))  # kernels are loaded
    whole = bound_piece(PieceArrays.of(solid_piece(problem, box), None))
    signs = [row[:n] for row, n in zip(whole.signs, network.widths, strict=True)]
    interval = float(vector_norm(interval_jacobian(network.weights, signs), dual_exponent(p)))
    answer = Semidefinite(certified=True).solve(problem)
    upper, taken = timed(lambda: Semidefinite().solve(problem).upper)
    lines, line_seconds = timed(lambda: Propagation().solve(problem).upper)
    with monkeypatch.context() as patch:
        patch.setattr(fixed_slopes, "tighten", lambda *_, **__: [])
        before, before_seconds = timed(lambda: Semidefinite().solve(problem).upper)
    print(
        f"\n{name}, p = {p:g}: semidefinite {upper:.5g} in {taken:.2f} s, on forward ranges {before:.5g} in "
        f"{before_seconds:.2f} s; propagation {lines:.5g} in {line_seconds:.2f} s; interval Jacobian {interval:.5g}"
    )
    assert upper <= most
    assert taken <= seconds
    assert upper <= before * (1 + 1e-4)
    assert lines <= interval * (1 + 1e-12)
    if p == 2:
        assert upper <= (0.02 if network.depth > 3 else 1) * interval
    assert verify_bounds(problem, answer).verdict is Verdict.PROVED
