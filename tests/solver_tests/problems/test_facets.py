"""Homogenised facets hold the regions of the whole space: gradients, witnesses, and nothing at the apex."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.facets import bounded_pieces, solid_piece
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import pattern_at
from solvers.problems.witnesses import gradients_at


def draw(rng: np.random.Generator, widths: list[int], biased: bool) -> ReluNetwork:
    weights = [rng.standard_normal((n, m)) for m, n in itertools.pairwise(widths)]
    return ReluNetwork(weights, [rng.standard_normal(len(w)) * biased for w in weights])


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("widths", [[1, 4, 1], [3, 5, 1], [2, 4, 3, 1], [4, 5, 4, 3, 1], [5, 3, 4, 1], [4, 4, 1]])
def test_the_gradient_on_a_facet_is_that_of_the_network_below_it(widths: list[int], biased: bool) -> None:
    rng = np.random.default_rng(5)
    network = draw(rng, widths, biased)
    problem = LipschitzProblem(network, 2.0)
    pieces = bounded_pieces(problem)
    k = min(widths[:2])
    if widths[0] >= widths[1] and len(widths) == 3:
        assert len(pieces) == 1
    else:
        assert len(pieces) == (2 * k + 1 if biased else 2 * k)
    assert {piece.box.dimension for piece in pieces} <= {k, k - 1}
    for piece in pieces:
        for u in rng.uniform(piece.box.lower, piece.box.upper, (20, piece.box.dimension)):
            x = piece.to_inputs(u)
            slope = piece.gradient(pattern_at(piece.network, u))
            np.testing.assert_allclose(slope, gradients_at(network, x[None])[0], rtol=1e-9, atol=1e-12)
            lower, witness = piece.lower_bound(u)
            assert lower == 0 or (witness is not None and lower <= np.linalg.norm(slope) * (1 + 1e-12))


def test_every_point_of_space_lies_below_a_facet() -> None:
    rng = np.random.default_rng(6)
    network = draw(rng, [3, 6, 4, 1], True)
    pieces = bounded_pieces(LipschitzProblem(network, 1.0))
    for x in rng.standard_normal((200, 3)) * np.exp(rng.uniform(-3, 6, (200, 1))):
        whole = np.append(x, 1.0) / max(1.0, np.abs(x).max())
        met = 0
        for piece in pieces:
            u = np.linalg.lstsq(piece.lift, whole - piece.lift_offset, rcond=None)[0]
            inside = (u >= piece.box.lower - 1e-12).all() and (u <= piece.box.upper + 1e-12).all()
            if inside and np.allclose(piece.lift @ u + piece.lift_offset, whole, atol=1e-12):
                met += 1
                np.testing.assert_allclose(piece.to_inputs(u), x, rtol=1e-9, atol=1e-9)
        assert met >= 1


def test_more_inputs_than_neurons_are_posed_in_pre_activations() -> None:
    # Every pattern of a first layer that is onto is a region: the constant is a maximum over all of them.
    rng = np.random.default_rng(9)
    network = draw(rng, [6, 4, 1], True)
    w, v = network.weights[0], network.weights[1][0]
    patterns = (np.arange(16)[:, None] >> np.arange(4)) & 1
    for p, q in ((1.0, np.inf), (2.0, 2.0), (np.inf, 1.0)):
        truth = np.linalg.norm((patterns * v) @ w, q, axis=1).max()
        answer = BranchAndBound().solve(LipschitzProblem(network, p))
        assert answer.lower == pytest.approx(truth, rel=1e-9)
        assert answer.upper == pytest.approx(truth, rel=1e-9)
    # Two equal neurons are not onto: the facets of the inputs do the work.
    twins = ReluNetwork([np.vstack([w[:2], w[:1]]), [[1.0, -2.0, 3.0]]], [np.zeros(3), [0.0]])
    assert len(bounded_pieces(LipschitzProblem(twins, 2.0))) == 12
    single = BranchAndBound().solve(LipschitzProblem(ReluNetwork([w[:2], [[4.0, -2.0]]], [np.zeros(2), [0.0]]), 2.0))
    assert BranchAndBound().solve(LipschitzProblem(twins, 2.0)).upper == pytest.approx(single.upper, rel=1e-9)


def test_deep_networks_posed_in_pre_activations_agree_with_the_facets_of_their_inputs() -> None:
    for seed in range(4):
        network = draw(np.random.default_rng([10, seed]), [3, 3, 4, 1], True)
        for p in (1.0, 2.0, np.inf):
            problem = LipschitzProblem(network, p)
            direct = [
                BranchAndBound().solve(LipschitzProblem(piece.network, p, piece.box)).upper
                for piece in [solid_piece(problem, Box.cube(3, -300.0, 300.0))]
            ]
            answer = BranchAndBound().solve(problem)
            # A box this large meets nearly every region, and no other.
            assert answer.upper >= max(direct) * (1 - 1e-9)
            assert answer.upper == pytest.approx(max(direct), rel=1e-6)


def test_cones_of_a_box_around_the_origin_have_their_witness_inside_it() -> None:
    network = draw(np.random.default_rng(7), [2, 5, 1], False)
    domain = Box([-0.01, -3.0], [5.0, 0.001])
    pieces = bounded_pieces(LipschitzProblem(network, np.inf, domain))
    assert len(pieces) == 4
    for piece in pieces:
        lower, witness = piece.lower_bound(np.array([0.3]))
        assert lower > 0
        assert witness is not None
        assert domain.strictly_contains(witness.point)


def test_a_box_and_an_affine_map_are_one_piece() -> None:
    affine = ReluNetwork([[[3.0, -4.0]]], [[1.0]])
    for domain in (WholeSpace(2), Box.cube(2)):
        (piece,) = bounded_pieces(LipschitzProblem(affine, 2.0, domain))
        np.testing.assert_array_equal(piece.gradient(()), [3.0, -4.0])
    shifted = Box([0.0, 0.0], [1.0, 1.0])  # the origin is no inner point: the regions are not all cones inside
    assert len(bounded_pieces(LipschitzProblem(draw(np.random.default_rng(8), [2, 4, 1], False), 2.0, shifted))) == 1
