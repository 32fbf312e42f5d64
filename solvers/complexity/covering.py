"""Mutual coverings of two classes, [DFG24, Definition 1.2 and Theorem 1.4]: the size of the problem that they pose.

Centres lie in their class, balls cover it, and the radius of a ball about c is at most
C * d(c, C') / sqrt(log(e R / d(c, C'))), with C' the centres of the other class and C the constant. The radii used
here come from the distance to the whole other class: it is at most d(c, C'), and the limit grows with the distance, so
the condition holds whichever centres either class takes, and the two classes are covered one after the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.complexity.distances import AbstractDistances, Rows, Tell, unheard
from solvers.errors import InputError

__all__ = ["MutualCovering", "Side", "allowed_radius", "cover", "mutual_covering", "verify_covering"]

# Candidates whose balls are computed together, at most: fewer when many turn out covered by one before them.
LARGEST_BATCH, LOOK_AHEAD = 1024, 8192
# Rounding of distances and of the limit, when a covering is checked.
CHECK_SLACK = 1e-9


def allowed_radius(distances: FloatArray, radius: float, constant: float) -> FloatArray:
    """C d / sqrt(log(e R / d)) for distances 0 < d <= 2 R to the other class; it grows with d.

    Args:
        distances: d, shape (N,).
        radius: R = max ||x||_2.
        constant: C > 0.
    """
    found: FloatArray = constant * distances / np.sqrt(1.0 + np.log(radius / distances))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The covering of one class.

    Attributes:
        rows: the class, increasing.
        centres: rows of the centres; largest radius first, then those that cover nothing but themselves.
        radii: of their balls.
        components: per centre the rows of the class in its ball, for the first len(components) centres; each one
            after them covers itself alone.
    """

    rows: Rows
    centres: Rows
    radii: FloatArray
    components: tuple[Rows, ...]


@dataclass(frozen=True, slots=True, eq=False)
class MutualCovering:
    """Coverings of both classes that satisfy the condition between them.

    Attributes:
        constant: C of the condition.
        radius: R = max ||x||_2.
        to_plus: distance from every centre of `minus` to the nearest centre of `plus`.
        to_minus: the other way round.
    """

    constant: float
    radius: float
    minus: Side
    plus: Side
    to_plus: FloatArray
    to_minus: FloatArray

    @property
    def separation(self) -> float:
        """delta, the smallest distance between centres of opposite classes."""
        return float(self.to_plus.min())


def cover(distances: AbstractDistances, rows: Rows, radii: FloatArray, alone: FloatArray, tell: Tell = unheard) -> Side:
    """Cover a class greedily: again and again the uncovered point with the largest radius becomes a centre.

    No centre lies in another's ball, so no ball can be left out.

    Args:
        distances: the metric.
        rows: the class, increasing.
        radii: (N,), the radius that each row may have.
        alone: (N,), the distance from each row to the next one of its class; inf without one.
        tell: told the share of the class that is dealt with.
    """
    covered = np.zeros(distances.size, dtype=np.bool_)
    reaching = rows[radii[rows] >= alone[rows]]
    queue = reaching[np.lexsort((reaching, -radii[reaching]))]
    chosen: list[int] = []
    components: list[Rows] = []
    begin, batch = 0, 1
    while begin < len(queue):
        # The next uncovered candidates.
        window = queue[begin : begin + LOOK_AHEAD]
        candidates = window[~covered[window]][:batch]
        begin += len(window) if len(candidates) < batch else int(np.flatnonzero(window == candidates[-1])[0]) + 1
        if not len(candidates):
            continue
        taken = 0
        for row, ball in zip(candidates, distances.balls(candidates, radii[candidates], rows), strict=True):
            if not covered[row]:
                covered[ball] = True
                covered[row] = True
                chosen.append(int(row))
                components.append(ball)
                taken += 1
        if 4 * taken >= 3 * len(candidates):
            batch = min(LARGEST_BATCH, 2 * batch)
        elif 2 * taken < len(candidates):
            batch = max(1, batch // 2)
        tell(begin / len(queue))
    # A point whose own ball holds no other is in no smaller ball either: it is covered by a larger one, or a centre.
    single = rows[(radii[rows] < alone[rows]) & ~covered[rows]]
    single = single[np.lexsort((single, -radii[single]))]
    tell(1.0)
    centres = np.concatenate([np.array(chosen, dtype=np.int64), single])
    return Side(rows, centres, radii[centres], tuple(components))


def mutual_covering(
    distances: AbstractDistances,
    minus: Rows,
    plus: Rows,
    *,
    radius: float,
    constant: float,
    across: tuple[FloatArray, Rows],
    alone: FloatArray,
    tell: Tell = unheard,
) -> MutualCovering:
    """A mutual covering of two disjoint classes.

    Args:
        distances: the metric.
        minus, plus: rows of the classes, increasing.
        radius: R.
        constant: C.
        across: (N,) distances from each row to the other class, and the rows that they lead to.
        alone: (N,) distances from each row to the next one of its own class.
        tell: told the share of the work that is done.
    Raises:
        InputError: the constant is no positive number.
    """
    if not 0 < constant < math.inf:
        raise InputError(f"the constant of a mutual covering must be a positive number, got {constant}")
    radii = allowed_radius(across[0], radius, constant)
    share = len(minus) / (len(minus) + len(plus))
    minus_side = cover(distances, minus, radii, alone, lambda done: tell(share * done))
    plus_side = cover(distances, plus, radii, alone, lambda done: tell(share + (1.0 - share) * done))
    return MutualCovering(
        constant,
        radius,
        minus_side,
        plus_side,
        _to_centres(distances, minus_side.centres, plus_side.centres, across),
        _to_centres(distances, plus_side.centres, minus_side.centres, across),
    )


def _to_centres(
    distances: AbstractDistances, centres: Rows, others: Rows, across: tuple[FloatArray, Rows]
) -> FloatArray:
    """Distances to the nearest of the others, which is known where the nearest of their class is one of them."""
    found = across[0][centres].copy()
    unknown = ~np.isin(across[1][centres], others)
    if unknown.any():
        found[unknown] = distances.nearest(centres[unknown], others)[0]
    return found


def verify_covering(covering: MutualCovering, points: FloatArray) -> None:
    """Check a covering against the definition, in plain float64 and with nothing of how it was made.

    Args:
        covering: of Euclidean classes.
        points: shape (N, d).
    Raises:
        ValueError: what is violated, and where.
    """
    sides = (covering.minus, covering.plus)
    if set(sides[0].rows.tolist()) & set(sides[1].rows.tolist()):
        raise ValueError("the classes share a row")
    for side, other in (sides, sides[::-1]):
        if not set(side.centres.tolist()) <= set(side.rows.tolist()):
            raise ValueError("a centre is not of its class")
        covered: set[int] = set()
        for centre, radius in zip(side.centres, side.radii, strict=True):
            away = float(np.sqrt(((points[other.centres] - points[centre]) ** 2).sum(axis=1)).min())
            limit = covering.constant * away / math.sqrt(math.log(math.e * covering.radius / away))
            if radius > limit * (1 + CHECK_SLACK):
                raise ValueError(f"the ball about row {centre} has radius {radius}, more than {limit}")
            lengths = np.sqrt(((points[side.rows] - points[centre]) ** 2).sum(axis=1))
            covered.update(side.rows[lengths <= radius * (1 + CHECK_SLACK)].tolist())
        missed = set(side.rows.tolist()) - covered
        if missed:
            raise ValueError(f"row {min(missed)} is in no ball of its class")
