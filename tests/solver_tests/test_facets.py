"""Homogenised facets hold the regions of the whole space: gradients, witnesses, and nothing at the apex."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from solvers.domains import Box, WholeSpace
from solvers.facets import bounded_pieces
from solvers.networks import ReluNetwork
from solvers.problems import LipschitzProblem
from solvers.regions import pattern_at
from solvers.witnesses import gradients_at


def draw(rng: np.random.Generator, widths: list[int], biased: bool) -> ReluNetwork:
    weights = [rng.standard_normal((n, m)) for m, n in itertools.pairwise(widths)]
    return ReluNetwork(weights, [rng.standard_normal(len(w)) * biased for w in weights])


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("widths", [[1, 4, 1], [3, 5, 1], [2, 4, 3, 1], [4, 5, 4, 3, 1]])
def test_the_gradient_on_a_facet_is_that_of_the_network_below_it(widths: list[int], biased: bool) -> None:
    rng = np.random.default_rng(5)
    network = draw(rng, widths, biased)
    problem = LipschitzProblem(network, 2.0)
    pieces = bounded_pieces(problem)
    d = widths[0]
    assert len(pieces) == (2 * d + 1 if biased else 2 * d)
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
