"""The problem-adaptive complexity of a data set: mutual coverings, their mean widths, the network sizes they promise.

Source: [DFG24, Theorem 1.4]: with high probability the construction interpolates with O(M- + R log(2 M- M+) / delta +
R omega) neurons, whatever the number of samples. The theorem leaves its constants open, so sizes are orders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.bits.images import as_images
from solvers.complexity.covering import MutualCovering, Side, mutual_covering
from solvers.complexity.distances import AbstractDistances, Rows, Tell, distances_between
from solvers.complexity.mean_width import mean_width, widest_possible
from solvers.complexity.worst_case import WorstCase, worst_case_counts
from solvers.errors import InputError
from solvers.problems.orbits import find_orbits, refuse_translated_classes
from solvers.problems.questions import InterpolationProblem

__all__ = ["DataComplexity", "NetworkSize", "Omega", "PairComplexity", "Report", "measure_complexity"]

# Told what is being done and the share of it that is done.
Report: TypeAlias = Callable[[str, float], None]

# All classes but one, together.
REST = "rest"
# Distances from every point to every class, at most: 2 GB.
MOST_NUMBERS = 2**28
# Lengths about 1 suit a float32 screen; others are multiplied by a power of two, which rounds nothing.
LEAST_RADIUS, LARGEST_RADIUS = 2.0**-10, 2.0**10


@dataclass(frozen=True, slots=True)
class Omega:
    """max over the components of a class of w^2(X_l - c_l) / d^3(c_l, C'), in units of 1 / length.

    Attributes:
        value: an estimate at the component that looked largest, from draws of its own.
        error: its standard error.
        mean_width: w of that component.
    """

    value: float
    error: float
    mean_width: float

    def to_json(self) -> dict[str, Any]:
        """In plain JSON types."""
        return {"value": self.value, "error": self.error, "mean_width": self.mean_width}


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """What the theorem promises, up to a constant: orders, no counts.

    Attributes:
        first_layer: R (log(2 M- M+) / delta + omega).
        second_layer: M-.
        parameters: (d + M-) times the first layer.
    """

    first_layer: float
    second_layer: float
    parameters: float

    @property
    def neurons(self) -> float:
        """Both layers together."""
        return self.first_layer + self.second_layer

    def to_json(self) -> dict[str, Any]:
        """In plain JSON types."""
        return {
            "first_layer": self.first_layer,
            "second_layer": self.second_layer,
            "neurons": self.neurons,
            "parameters": self.parameters,
        }


@dataclass(frozen=True, slots=True, eq=False)
class PairComplexity:
    """One class against another or against all others, for one constant of the condition.

    Attributes:
        minus, plus: their labels; `plus` is None for all others together.
        covering: of the two; rows count among `DataComplexity.rows`, lengths are those of the data.
        omega_minus, omega_plus: of the two sides.
        dimension: d.
    """

    minus: object
    plus: object
    covering: MutualCovering
    omega_minus: Omega
    omega_plus: Omega
    dimension: int

    @property
    def omega(self) -> Omega:
        """The larger of the two."""
        return max(self.omega_minus, self.omega_plus, key=lambda omega: omega.value)

    def size(self, swapped: bool = False) -> NetworkSize:
        """The network that covers `minus`; `swapped`, the one that covers `plus`."""
        here, there = len(self.covering.minus.centres), len(self.covering.plus.centres)
        if swapped:
            here, there = there, here
        first = self.covering.radius * (math.log(2.0 * here * there) / self.covering.separation + self.omega.value)
        return NetworkSize(first, here, (self.dimension + here) * first)

    def to_json(self) -> dict[str, Any]:
        """In plain JSON types; `sizes` both ways round, the class named in `covers` being the covered one."""
        covering, plus = self.covering, REST if self.plus is None else self.plus
        return {
            "minus": self.minus,
            "plus": plus,
            "centres_minus": len(covering.minus.centres),
            "centres_plus": len(covering.plus.centres),
            "separation": covering.separation,
            "omega": self.omega.value,
            "omega_error": self.omega.error,
            "omega_minus": self.omega_minus.to_json(),
            "omega_plus": self.omega_plus.to_json(),
            "sizes": [
                {"covers": self.minus, **self.size().to_json()},
                {"covers": plus, **self.size(swapped=True).to_json()},
            ],
        }


@dataclass(frozen=True, slots=True, eq=False)
class DataComplexity:
    """The measure of a data set.

    Attributes:
        points: samples, repeated ones (translated ones for orbits) included.
        rows: the first row of every different point; N = len(rows).
        dimension: d.
        radius: R = max ||x||_2.
        classes: the labels.
        separation: smallest distance between points of different classes.
        separation_rows: a pair of rows that attains it.
        closest: smallest distance between two different points.
        constants: C of the conditions, in the order asked.
        pairs: per constant, per class against the rest; of two classes the second against the first alone.
        worst_case: what any N points cost.
    """

    points: int
    rows: Rows
    dimension: int
    radius: float
    classes: tuple[object, ...]
    separation: float
    separation_rows: tuple[int, int]
    closest: float
    constants: tuple[float, ...]
    pairs: tuple[tuple[PairComplexity, ...], ...]
    worst_case: tuple[WorstCase, ...]

    def network(self, index: int) -> NetworkSize:
        """The network for all classes, with the constant of that index.

        Of two classes the cheaper one is covered; more share a first layer and each gets a second layer of its own.
        """
        pairs = self.pairs[index]
        if len(pairs) == 1:
            return min((pairs[0].size(swapped) for swapped in (False, True)), key=lambda size: size.parameters)
        sizes = [pair.size() for pair in pairs]
        first, second = max(size.first_layer for size in sizes), sum(size.second_layer for size in sizes)
        return NetworkSize(first, second, (self.dimension + second) * first)

    def to_json(self) -> dict[str, Any]:
        """The measure in plain JSON types."""
        return {
            "points": self.points,
            "different_points": len(self.rows),
            "dimension": self.dimension,
            "radius": self.radius,
            "classes": list(self.classes),
            "separation": self.separation,
            "separation_rows": list(self.separation_rows),
            "closest": self.closest,
            "covering": [
                {
                    "constant": constant,
                    "classes": [pair.to_json() for pair in pairs],
                    "network": self.network(index).to_json(),
                }
                for index, (constant, pairs) in enumerate(zip(self.constants, self.pairs, strict=True))
            ],
            "worst_case": [counts.to_json() for counts in self.worst_case],
        }


def measure_complexity(
    problem: InterpolationProblem,
    *,
    constants: Sequence[float],
    draws: int,
    rng: np.random.Generator,
    shape: tuple[int, int, int] | None = None,
    threads: int = 1,
    report: Report = lambda stage, share: None,
) -> DataComplexity:
    """Cover every class against the others and estimate what the theorem needs.

    Args:
        problem: the points and labels; the same point several times counts once.
        constants: C of the condition on radii; each gives a covering.
        draws: Gaussian vectors to find the component with the largest mean width, and as many to measure it.
        rng: draws them; they do not depend on the constants.
        shape: (C, H, W) for the translation-invariant construction, with distances between orbits.
        threads: for the k-d trees; -1 for all.
        report: told what is being done and how much of it is done.
    Raises:
        InputError: the settings do not fit the data; classes equal up to translation, or too close for float64.
    """
    if draws < 2:
        raise InputError(f"mean widths need at least two draws, got {draws}")
    if not constants or any(not 0 < constant < math.inf for constant in constants):
        raise InputError(f"the constants of a mutual covering must be positive numbers, got {list(constants)}")
    number, dimension, classes = len(problem.labels), problem.points.shape[1], len(problem.classes)
    if number * classes > MOST_NUMBERS:
        raise InputError(f"distances from {number} points to {classes} classes take more than 2 GB: take fewer classes")
    largest = float(np.abs(problem.points).max())
    scale = 1.0 if LEAST_RADIUS <= largest <= LARGEST_RADIUS else 2.0 ** -math.frexp(largest)[1]
    report("finding different points", 0.0)
    rows = _different(problem, shape)
    points = problem.points if len(rows) == number else problem.points[rows]
    labels = problem.labels[rows]
    points = points if scale == 1.0 else points * scale
    distances = distances_between(points, shape, threads)
    listen = _part_of(report, "nearest points of every class", 0.0, 1.0)
    near, leads = distances.nearest_by_class(labels, classes, listen)
    radius = math.sqrt(max(float((part**2).sum(axis=1).max()) for part in np.array_split(points, 1 + number // 4096)))
    own = np.arange(len(rows))
    others = near.copy()
    others[own, labels] = np.inf
    closest_other = others.min(axis=1)
    first = int(closest_other.argmin())
    second = int(leads[first, others[first].argmin()])
    separation = float(closest_other[first])
    if not separation > 0:
        raise InputError(
            f"rows {rows[first]} and {rows[second]} of different classes are so close that float64 gives them "
            "distance 0: scale the data or drop one of the rows"
        )
    directions = rng.standard_normal((draws, dimension)), rng.standard_normal((draws, dimension))
    targets = [1] if classes == 2 else list(range(classes))
    pairs = []
    for index, constant in enumerate(constants):
        found = []
        for place, k in enumerate(targets):
            done = (index * len(targets) + place) / (len(constants) * len(targets))
            tell = _part_of(report, f"covering with constant {constant:g}", done, 1 / (len(constants) * len(targets)))
            covering = _cover_pair(distances, labels, k, near, leads, radius, constant, tell)
            omegas = [
                _omega(distances, side, away, directions, scale)
                for side, away in ((covering.minus, covering.to_plus), (covering.plus, covering.to_minus))
            ]
            plus = problem.classes[0] if classes == 2 else None
            found.append(
                PairComplexity(problem.classes[k], plus, _scaled(covering, 1 / scale), omegas[0], omegas[1], dimension)
            )
        pairs.append(tuple(found))
    closest = float(near.min())
    return DataComplexity(
        points=number,
        rows=rows,
        dimension=dimension,
        radius=radius / scale,
        classes=problem.classes,
        separation=separation / scale,
        separation_rows=(int(rows[min(first, second)]), int(rows[max(first, second)])),
        closest=closest / scale,
        constants=tuple(constants),
        pairs=tuple(pairs),
        worst_case=worst_case_counts(len(rows), dimension, closest / radius),
    )


def _part_of(report: Report, stage: str, before: float, part: float) -> Tell:
    """Progress of a part of a stage as progress of the stage."""
    return lambda share: report(stage, before + part * share)


def _different(problem: InterpolationProblem, shape: tuple[int, int, int] | None) -> Rows:
    """The first row of every different point, or of every orbit."""
    if shape is not None:
        orbits = find_orbits(as_images(problem.points, shape))
        refuse_translated_classes(orbits, problem.labels, problem.classes)
        return orbits.representatives
    return problem.distinct_rows()


def _cover_pair(
    distances: AbstractDistances,
    labels: NDArray[np.int64],
    k: int,
    near: FloatArray,
    leads: Rows,
    radius: float,
    constant: float,
    tell: Tell,
) -> MutualCovering:
    """Class k against all others."""
    inside = labels == k
    rest = near.copy()
    rest[:, k] = np.inf
    nearest_rest = rest.argmin(axis=1)
    places = np.arange(len(labels))
    to_rest, to_class = rest[places, nearest_rest], near[:, k]
    across = np.where(inside, to_rest, to_class), np.where(inside, leads[places, nearest_rest], leads[:, k])
    return mutual_covering(
        distances,
        np.flatnonzero(inside),
        np.flatnonzero(~inside),
        radius=radius,
        constant=constant,
        across=across,
        alone=np.where(inside, to_class, to_rest),
        tell=tell,
    )


def _omega(
    distances: AbstractDistances, side: Side, away: FloatArray, directions: tuple[FloatArray, FloatArray], scale: float
) -> Omega:
    """The largest w^2 / d^3 of the components of one side.

    Components are looked at in the order of a bound on theirs, until no bound exceeds the largest estimate. The one
    with the largest estimate is measured again with other draws: the maximum of estimates is too large on average.
    """
    bounds = np.array(
        [
            widest_possible(float(side.radii[k]), len(component) - 1, distances.dimension) ** 2 / away[k] ** 3
            for k, component in enumerate(side.components)
        ]
    )
    best, chosen = 0.0, -1
    for k in np.argsort(-bounds, kind="stable"):
        if bounds[k] <= best:
            break
        members = distances.differences(int(side.centres[k]), side.components[k])
        value = mean_width(members, directions[0]).value ** 2 / away[k] ** 3
        if value > best:
            best, chosen = value, int(k)
    if chosen < 0:
        return Omega(0.0, 0.0, 0.0)
    width = mean_width(distances.differences(int(side.centres[chosen]), side.components[chosen]), directions[1])
    cube = float(away[chosen]) ** 3
    return Omega(width.value**2 / cube * scale, 2.0 * width.value * width.error / cube * scale, width.value / scale)


def _scaled(covering: MutualCovering, factor: float) -> MutualCovering:
    """The same covering with all lengths multiplied."""
    if factor == 1.0:
        return covering
    sides = [Side(s.rows, s.centres, s.radii * factor, s.components) for s in (covering.minus, covering.plus)]
    return MutualCovering(
        covering.constant,
        covering.radius * factor,
        sides[0],
        sides[1],
        covering.to_plus * factor,
        covering.to_minus * factor,
    )
