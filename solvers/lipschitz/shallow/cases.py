"""One shallow network on one domain, as vertex enumeration holds it; its cells as patterns, gradients, witnesses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.shallow.cell_enumeration import (
    Arrangement,
    box_arrangements,
    generic_direction,
    open_arrangements,
)
from solvers.lipschitz.shallow.form import ShallowNetwork
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain
from solvers.problems.regions import ActivationPattern, LinearRegion, pattern_at
from solvers.problems.results import Witness

__all__ = [
    "Case",
    "ExactCell",
    "arrangements_of",
    "cell_gradient",
    "cell_pattern",
    "cell_witness",
    "exact_cell_gradient",
    "points_near",
    "to_inputs",
]


@dataclass(slots=True, eq=False)
class Case:
    """One network on one domain, with every p that was asked of it.

    `area` is where cells are enumerated: all of R^d also for a box with the origin inside it when every kink passes
    through the origin, since then every cell is a cone and meets the box.
    """

    network: ReluNetwork
    domain: Domain
    form: ShallowNetwork
    exponents: list[float]
    area: Domain
    doubt: dict[float, float] = field(default_factory=dict)
    degenerate: bool = False
    doubtful_cells: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ExactCell:
    """A cell found in rational arithmetic: gradient, every entry rounded once, a point inside, signs."""

    gradient: FloatArray
    point: FloatArray
    on: np.ndarray


def arrangements_of(group: list[Case]) -> Iterator[Arrangement]:
    """The arrangements whose lowest vertices meet every cell of the domain; nothing for affine networks."""
    first = group[0]
    normals = np.stack([case.form.normals for case in group], axis=-1)
    offsets = np.stack([case.form.offsets for case in group], axis=-1)
    if not first.form.count:
        normals = np.zeros((0, 0, len(group)))
        yield Arrangement(normals, np.zeros((0, len(group))), np.zeros(0), lift=("all",))
        return
    for case in group:
        case.degenerate = case.degenerate or case.form.doubtful_rank
    bounds = first.area.bounds
    if bounds is not None:
        yield from box_arrangements(normals, offsets, Box(*bounds))
    else:
        yield from open_arrangements(normals, None if first.form.central else offsets)


def cell_gradient(form: ShallowNetwork, on: np.ndarray) -> FloatArray:
    """The gradient (d,) on the cell of signs (M,)."""
    total = form.base.copy()
    for j in np.flatnonzero(on):
        total = total + form.jumps[j]
    return total


def exact_cell_gradient(network: ReluNetwork, form: ShallowNetwork, on: np.ndarray) -> FloatArray:
    """The gradient (d,) on the cell of signs (M,), every entry rounded once."""
    # Neurons that cancel with others of their hyperplane add the same on both sides: its negative one is taken.
    side = np.append(on, False)[form.owners] == (form.orientations > 0)
    active = np.flatnonzero(np.where(form.owners >= 0, side, form.orientations < 0))
    total = [Fraction(0)] * network.input_dimension
    for j in active:
        v = Fraction(float(network.weights[-1][0, j]))
        total = [x + v * Fraction(w) for x, w in zip(total, network.weights[0][j].tolist(), strict=True)]
    return np.array([float(x) for x in total])


def cell_pattern(case: Case, on: np.ndarray) -> ActivationPattern:
    """The neurons that are active on the cell of signs (M,); those that cancel count as inactive."""
    if not case.network.depth:
        return ()
    form = case.form
    constant = case.network.biases[0] > 0
    side = np.append(on, False)[form.owners] == (form.orientations > 0)
    return (np.where(form.owners >= 0, side, constant),)


def cell_witness(case: Case, on: np.ndarray, point: FloatArray | None) -> Witness | None:
    """The cell as a witness, if the point is strictly inside it and inside the domain."""
    if point is None or not np.isfinite(point).all():
        return None
    if case.domain.is_bounded and not case.area.is_bounded:
        # A cone: any multiple of the point is in it; half-way to the domain's boundary is well inside both.
        point = point * (0.5 * case.domain.reach(point))
    for candidate in points_near(point) if case.form.cancelled else (point,):
        pattern = pattern_at(case.network, candidate) if case.form.cancelled else cell_pattern(case, on)
        region = LinearRegion(case.network, pattern)
        if region.strictly_contains(candidate) and case.domain.strictly_contains(candidate):
            return Witness(candidate, pattern, region.gradient()[0])
    return None


def points_near(point: FloatArray) -> Iterator[FloatArray]:
    """A point and some next to it: it may lie on a kink of neurons that cancel, which the cell does not know."""
    yield point
    direction = generic_direction(point.size)
    for exponent in range(2, 7):
        for side in (1.0, -1.0):
            yield point + side * 10.0**-exponent * (1.0 + np.abs(point).max()) * direction


def to_inputs(case: Case, point: FloatArray) -> FloatArray:
    """From arrangement coordinates to x."""
    return case.form.basis @ point if case.form.count else case.domain.centre
