"""Boxes of inputs: their ranges and bounds hold at points, and searches over them end at the constant."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from solvers.lipschitz import branch_and_bound
from solvers.lipschitz.bounds.pattern_bounds import settle
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.relaxation.tightened import BoxLayers, Ranges, tighten
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.lipschitz.search import race
from solvers.lipschitz.search.box_kernels import look_at_box
from solvers.lipschitz.search.box_splits import BoxSplits
from solvers.lipschitz.search.slope_start import start_slopes
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.facets import solid_piece
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.problems.witnesses import gradients_at


def drawn(sizes: list[int], seed: int, bias: float = 0.5) -> ReluNetwork:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((n, m)) * math.sqrt(2 / m) for m, n in itertools.pairwise(sizes)]
    return ReluNetwork(weights, [bias * rng.standard_normal(n) for n in sizes[1:]])


def pre_activations(network: ReluNetwork, x: np.ndarray) -> list[np.ndarray]:
    found = []
    for w, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
        found.append(x @ w.T + b)
        x = np.maximum(found[-1], 0)
    return found


@pytest.fixture
def boxes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches over boxes begin at once, and only they go on."""
    for name in ("PLAIN", "RIVALS", "RIVAL_WORK"):
        monkeypatch.setattr(branch_and_bound, name, 0)
    monkeypatch.setattr(branch_and_bound.BranchAndBound, "batch", 2)
    monkeypatch.setattr(race, "FEW", 2)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, math.inf])
@pytest.mark.parametrize("sizes", [[2, 8, 8, 1], [3, 6, 5, 6, 1], [4, 5, 1], [1, 4, 4, 4, 1]], ids=str)
@pytest.mark.usefixtures("boxes_at_once")
def test_a_search_over_boxes_ends_at_the_constant(sizes: list[int], p: float) -> None:
    network = drawn(sizes, sum(sizes))
    problem = LipschitzProblem(network, p, Box(np.full(sizes[0], -1.0), np.linspace(0.25, 1.5, sizes[0])))
    exact = RegionEnumeration().solve(problem)
    answer = BranchAndBound().solve(problem)
    assert exact.status is answer.status is Status.EXACT
    assert answer.upper == pytest.approx(exact.upper, rel=1e-6)
    assert answer.lower == pytest.approx(exact.lower, rel=1e-6)


@pytest.mark.usefixtures("boxes_at_once")
def test_racers_are_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With shares of no size only the search that is ahead goes on; here it is one over boxes."""
    looked: list[int] = []
    halve = BoxSplits.halve

    def counted(self: BoxSplits, *args: object) -> object:
        looked.append(1)
        return halve(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(BoxSplits, "halve", counted)
    network = drawn([3, 12, 12, 12, 1], 1)
    problem = LipschitzProblem(network, math.inf, Box.cube(3))
    answer = BranchAndBound().solve(problem)
    assert answer.status is Status.EXACT
    assert len(looked) > 4
    alone = BranchAndBound(certified=True).solve(problem)  # a tree of splits of neurons: no boxes
    assert answer.upper == pytest.approx(alone.upper, rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_said_of_a_box_holds_at_its_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = drawn([4, 12, 10, 9, 1], seed)
    for q, size in itertools.product([1.0, 4.0 / 3.0, 2.0, 3.0], [1.0, 0.2]):
        centre = rng.standard_normal(4)
        box = Box(centre - size * rng.random(4), centre + size * rng.random(4))
        problem = LipschitzProblem(network, q / (q - 1) if q > 1 else math.inf, box)
        arrays = PieceArrays.of(solid_piece(problem, box), None)
        program = start_slopes(arrays)
        assert program is not None
        slopes, whole = program
        k = arrays.kernel
        signs = np.zeros(k.biases.shape, dtype=np.int8)
        z_low, z_high = np.full(signs.shape, -np.inf), np.full(signs.shape, np.inf)
        vectors = slopes.start.astype(np.float64)
        bound, undecided, felt = look_at_box(k, slopes, k.low, k.high, signs, z_low, z_high, whole, vectors)
        points = rng.uniform(box.lower, box.upper, (2000, 4))
        points = np.concatenate([points, np.where(rng.random((200, 4)) < 0.5, box.lower, box.upper)])
        for m, z in enumerate(pre_activations(network, points)):
            n = network.widths[m]
            assert (z >= z_low[m, :n]).all()
            assert (z <= z_high[m, :n]).all()
            assert (z[:, signs[m, :n] > 0] >= 0).all()
            assert (z[:, signs[m, :n] < 0] <= 0).all()
        lengths = np.linalg.norm(gradients_at(network, points[:2000]), ord=q, axis=1)
        assert lengths.max() <= bound <= whole
        assert undecided == sum(int((signs[m, :n] == 0).sum()) for m, n in enumerate(network.widths))
        assert (felt >= 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_ranges_are_those_of_the_other_code(seed: int) -> None:
    """Carried backward with one slope each by products of matrices, and here by loops."""
    network = drawn([3, 16, 16, 16, 1], seed)
    problem = LipschitzProblem(network, 2.0, Box.cube(3))
    arrays = PieceArrays.of(solid_piece(problem, Box.cube(3)), None)
    program = start_slopes(arrays)
    assert program is not None
    k = arrays.kernel
    signs = np.zeros(k.biases.shape, dtype=np.int8)
    z_low, z_high = np.full(signs.shape, -np.inf), np.full(signs.shape, np.inf)
    their_signs, their_low, their_high = signs.copy(), z_low.copy(), z_high.copy()
    settle(arrays, their_signs, their_low, their_high)
    tighten(
        BoxLayers(network.weights[:-1], network.biases[:-1], k.low, k.high),
        Ranges(list(their_low), list(their_high), list(their_signs)),
        steps=0,
    )
    look_at_box(k, program[0], k.low, k.high, signs, z_low, z_high, program[1], program[0].start.astype(np.float64))
    open_ = their_signs == 0
    assert (signs == their_signs).all()
    np.testing.assert_allclose(z_low[open_], their_low[open_], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(z_high[open_], their_high[open_], rtol=1e-9, atol=1e-9)


@pytest.mark.usefixtures("boxes_at_once")
def test_a_search_over_boxes_that_is_cut_short_holds_an_interval() -> None:
    network = drawn([4, 16, 16, 16, 1], 3)
    problem = LipschitzProblem(network, math.inf, Box.cube(4))
    rng = np.random.default_rng(0)
    longest = np.abs(gradients_at(network, rng.uniform(-1, 1, (5000, 4)))).sum(axis=1).max()
    bounds = []
    for nodes in (1, 20, 200, 2000):
        answer = BranchAndBound().solve(problem, budget=Budget(nodes=nodes))
        assert answer.upper >= longest * (1 - 1e-12)
        assert answer.stats["nodes"] <= nodes
        bounds.append(answer.upper)
    assert bounds == sorted(bounds, reverse=True)
