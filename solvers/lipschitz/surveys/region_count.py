"""How many linear regions a network has, and where they lie in the plane."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.lipschitz.regions.pieces import region_pieces
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain
from solvers.problems.facets import bounded_pieces, solid_piece
from solvers.problems.questions import LipschitzProblem

__all__ = ["count_regions", "planar_corners", "planar_regions"]


def count_regions(network: ReluNetwork, domain: Domain | None = None) -> int:
    """The number of activation regions with non-empty interior that meet the interior of the domain.

    Two points lie in one region if no neuron changes its activation between them; a neuron whose pre-activation is
    identically zero on a region is undetermined and splits nothing. Neighbouring regions may share their gradient.

    Memory is constant on a box. On all of R^d, and for networks without biases on boxes around the origin, a region
    meets several bounded pieces (`regions.pieces`); there a set of the patterns is kept, about 100 bytes a region.

    Args:
        network: any number of outputs; d up to `region_enumeration.MOST_INPUTS`.
        domain: a box; all of R^d when left out.
    Raises:
        InputError: too many inputs.
    Source: [Zas75] and [MPCB14] count what this enumerates.
    """
    scalar = network if network.output_dimension == 1 else network.select_output(0)
    problem = LipschitzProblem(scalar, 2.0, domain)
    reason = RegionEnumeration().refuses(problem)
    if reason is not None:
        raise InputError(f"linear regions cannot be counted: {reason}")
    if network.depth == 0:
        return 1
    pieces = region_pieces(problem)
    if len(pieces) == 1:
        return int(RegionEnumeration(every=True).solve(problem).stats["regions"])
    from solvers.lipschitz.regions.stream import stream_regions

    patterns: set[bytes] = set()
    for piece in pieces:
        for region in stream_regions(piece):
            patterns.add(np.packbits(np.concatenate(region.pattern)).tobytes())
    return len(patterns)


def planar_regions(network: ReluNetwork, box: Box) -> Iterator[tuple[FloatArray, FloatArray]]:
    """The linear regions of a network with two inputs on a box.

    Args:
        network: one output, d = 2.
    Yields:
        Corners (V, 2) in counterclockwise order, gradient (2,).
    Raises:
        InputError: d is not 2.
    """
    if network.input_dimension != 2:
        raise InputError(f"regions are polygons for d = 2 inputs only, the network has d = {network.input_dimension}")
    if network.depth == 0:
        low, high = box.lower, box.upper
        corners = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
        yield corners, network.weights[0][0].copy()
        return
    from solvers.lipschitz.regions.stream import stream_regions

    for region in stream_regions(solid_piece(LipschitzProblem(network, 2.0, box), box)):
        around = region.vertices - region.vertices.mean(axis=0)
        yield region.vertices[np.argsort(np.arctan2(around[:, 1], around[:, 0]))], region.gradient


def planar_corners(network: ReluNetwork) -> FloatArray:
    """The points in which regions of all the plane have corners, shape (count, 2); none in fewer than two directions.

    Args:
        network: one output, d = 2.
    Raises:
        InputError: d is not 2.
    """
    if network.input_dimension != 2:
        raise InputError(f"regions are polygons for d = 2 inputs only, the network has d = {network.input_dimension}")
    if network.depth == 0:
        return np.zeros((0, 2))
    if network.is_homogeneous:
        return np.zeros((1, 2))
    from solvers.lipschitz.regions.stream import stream_regions

    found: dict[tuple[float, ...], FloatArray] = {}
    for piece in bounded_pieces(LipschitzProblem(network, 2.0)):
        for region in stream_regions(piece):
            inner = region.vertices[_inside(region.vertices, piece.box)]
            for u in inner:
                x = piece.to_inputs(u)
                found[tuple(np.round(x / max(1.0, float(np.abs(x).max())), 9))] = x
    return np.array(list(found.values())).reshape(-1, 2)


def _inside(points: FloatArray, box: Box) -> np.ndarray:
    """Which vertices lie off the faces of a piece, so that they are corners of regions and not of the piece."""
    room = 1e-9 * (box.upper - box.lower)
    return np.asarray(((points > box.lower + room) & (points < box.upper - room)).all(axis=1))
