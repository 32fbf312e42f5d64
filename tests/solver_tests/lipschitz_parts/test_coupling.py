"""Signs coupled with inputs: no region of a node has a longer gradient, no constant changes, fewer nodes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import linprog

from solvers.lipschitz.bounds.directions import dual_directions
from solvers.lipschitz.bounds.pattern_bounds import bound_gradients, settle
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.ranges import EMPTY
from solvers.lipschitz.bounds.relaxation.coupling import ANY, coupled_bound
from solvers.lipschitz.bounds.relaxation.penalties import least_penalty
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.search.node_kernels import gather_rows
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box
from solvers.problems.facets import solid_piece
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from tests.references.random_networks import FAMILIES
from tests.references.rational_constants import exact_regions
from tests.strategies import gaussian_network


@pytest.mark.parametrize("seed", range(20))
def test_penalties_are_least(seed: int) -> None:
    """Against the primal program by HiGHS: what a point breaks, at these prices, and rows that it must obey."""
    rng = np.random.default_rng(seed)
    k, m = int(rng.integers(1, 7)), int(rng.integers(1, 30))
    rows, beta = rng.standard_normal((k, m)), rng.standard_normal(m)
    turn, cap = rng.choice([-1.0, 0.0, 1.0], m), rng.uniform(0.0, 2.0, m)
    inside = rng.uniform(-1.0, 1.0, k)
    hard = rng.random(m) < 0.3
    turn = np.where(hard, np.sign(rows.T @ inside + beta), turn)
    cap = np.where(hard, np.inf, cap)
    y, xi = np.zeros(m), rng.uniform(-1.0, 1.0, k)
    least_penalty(rows, beta, turn, cap, m, 3.0, -np.inf, 1000, y, xi)
    assert (y >= 0).all()
    assert (y <= cap).all()
    assert not y[turn == 0].any()
    value = 3.0 + float(y @ (turn * beta)) + float(np.abs(rows @ (turn * y)).sum())
    soft = ~hard & (turn != 0)
    penalties = np.where(soft, cap, 0.0)
    program = linprog(
        np.concatenate([np.zeros(k), penalties]),
        A_ub=np.hstack([-(turn * rows).T, -np.diag(soft * 1.0)]),
        b_ub=turn * beta,
        bounds=[(-1, 1)] * k + [(0, None)] * m,
    )
    assert program.status == 0
    assert value == pytest.approx(3.0 - program.fun, abs=1e-7)


@pytest.mark.parametrize("p", [1.0, math.inf], ids=str)
@pytest.mark.parametrize("family", ["gaussian", "coincident", "twins", "scaled", "spread"])
@pytest.mark.parametrize("sizes", [[3, 7, 1], [2, 3, 5, 1]], ids=str)
def test_no_region_of_a_node_has_a_longer_gradient(sizes: list[int], family: str, p: float) -> None:
    """Regions in exact arithmetic; in every direction that is left out, too."""
    rng = np.random.default_rng([len(sizes), len(family), int(p)] if p == 1 else [len(sizes), len(family)])
    looked_at = 0
    for _ in range(3):
        network = FAMILIES[family](sizes, rng)
        problem = LipschitzProblem(network, p, Box.cube(sizes[0]))
        directions = dual_directions(network, problem.dual_p)
        piece = PieceArrays.of(solid_piece(problem, Box.cube(sizes[0])), directions)
        k, last = piece.kernel, network.depth - 1
        box = (k.low.tolist(), k.high.tolist())
        found = [
            (region.pattern, np.array([float(g) for g in region.gradient]))
            for region in exact_regions(network.weights, network.biases, box)
        ]
        for pattern, _ in found[:: max(1, len(found) // 6)]:
            signs = np.zeros(k.biases.shape, dtype=np.int8)
            for m, active in enumerate(pattern):
                known = np.ones(len(active), dtype=bool) if m < last else rng.random(len(active)) < 0.3
                signs[m, : len(active)] = np.where(known, 2 * np.array(active) - 1, 0)
            mine = [
                gradient
                for other, gradient in found
                if all(
                    (signs[m, i] == 0) or (signs[m, i] > 0) == on for m, a in enumerate(other) for i, on in enumerate(a)
                )
            ]
            z_low, z_high = np.full(k.biases.shape, -np.inf), np.full(k.biases.shape, np.inf)
            settled = settle(piece, signs, z_low, z_high)
            if settled.first != last:
                assert settled.first != EMPTY
                continue
            a, b, slack, _ = gather_rows(k.widths, last, k.low, k.high, signs, settled.below, settled.errors)
            every = np.arange(k.directions.shape[1])
            uncoupled, _, _ = bound_gradients(piece, signs, last, every.astype(np.int32), -np.inf)
            for share in (0.0, 0.8, 1.2):
                longest = max((float(np.linalg.norm(g, problem.dual_p)) for g in mine), default=0.0)
                floor, chosen = share * longest, every.copy()
                wanted = np.full(k.biases.shape[1], ANY, dtype=np.int8)
                bound, left, neuron, _ = coupled_bound(
                    k, signs, a, b, slack, settled.below[last], settled.errors[last], z_low, z_high,
                    np.zeros(sizes[0]), chosen, len(chosen), floor, wanted,
                )  # fmt: skip
                room = 1e-9 * uncoupled + k.slack
                assert longest <= bound + room
                assert bound <= uncoupled + room
                dropped = np.setdiff1d(every, chosen[:left])
                for gradient in mine:
                    assert (np.abs(gradient @ k.directions[:, dropped]) <= floor + room).all()
                assert neuron < 0 or signs[last, neuron] == 0
                looked_at += 1
    assert looked_at > 0


@pytest.mark.parametrize("p", [1.0, math.inf], ids=str)
def test_a_search_that_keeps_proofs_and_so_couples_nothing_finds_the_same(p: float) -> None:
    nodes = [0.0, 0.0]
    for seed in range(3):
        problem = LipschitzProblem(gaussian_network([8, 40, 1], np.random.default_rng(seed), 0.3), p, Box.cube(8))
        plain, certified = BranchAndBound().solve(problem), BranchAndBound(certified=True).solve(problem)
        assert plain.status is certified.status is Status.EXACT
        assert plain.lower == pytest.approx(certified.lower, rel=1e-9)
        nodes = [nodes[0] + plain.stats["nodes"], nodes[1] + certified.stats["nodes"]]
    assert nodes[0] < nodes[1]


def test_rows_of_any_size_are_coupled_or_left_out() -> None:
    """Neurons in units from 1e-140 to 1e140, and one that is exactly parallel to the opposite of another."""
    network = FAMILIES["extreme"]([4, 9, 1], np.random.default_rng(1))
    w, b, v = network.weights[0], network.biases[0], network.weights[1]
    doubled = ReluNetwork(
        [np.vstack([w, -w[:1]]), np.append(v, [[0.5 * v[0, 0]]], axis=1)], [np.append(b, -b[0]), [0.0]]
    )
    for net in (network, doubled):
        problem = LipschitzProblem(net, math.inf, Box.cube(4))
        answer, other = BranchAndBound().solve(problem), BranchAndBound(certified=True).solve(problem)
        assert answer.status is other.status is Status.EXACT
        assert answer.lower == pytest.approx(other.lower, rel=1e-9)
