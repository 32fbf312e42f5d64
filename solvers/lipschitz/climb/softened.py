"""Ascent with slopes that are softened, and hardened bit by bit.

Gradients do not change inside a linear region, so their length has no derivative; with slopes between 0 and 1 it has
one (`SearchNetwork.rise`), which tells where longer gradients begin. The temperature falls on the way, as in annealing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.climb.search_network import AnyArray, SearchNetwork, Towards
from solvers.problems.budget import Deadline

__all__ = ["Paces", "softened_climb", "towards_axes", "towards_longer"]

# Temperatures and lengths of steps, both falling geometrically.
HOT, COLD = 1.0, 0.03
LONG, SHORT = 0.6, 0.05
# By how many decades steps of some points on a box are shorter, for kinks may lie close together near a corner, and how
# much colder some points are.
STEP_DECADES, HEAT_DECADES = 2.5, 1.5
# Of the direction of the step before.
MOMENTUM = 0.7
# Exponents above are too close to a single coordinate for a climb to see others grow.
BLUNT = 8.0


def towards_longer(search: SearchNetwork, q: float) -> Towards:
    """The direction in which the l_q norm of a gradient grows; for q near 1 and for large q that of a smoother norm."""
    xp = search.xp
    blunt = min(q, BLUNT)

    def towards(gradients: AnyArray) -> AnyArray:
        sizes = abs(gradients)
        if blunt < 1.5:  # the sign, but not of what is nearly 0
            typical = sizes.mean(1)[:, None]
            return gradients / (sizes + 0.1 * xp.where(typical > 0, typical, 1.0))
        largest = xp.amax(sizes, 1)[:, None]
        scaled = sizes / xp.where(largest > 0, largest, 1.0)
        return xp.sign(gradients) * scaled ** (blunt - 1)

    return towards


def towards_axes(axes: AnyArray) -> Towards:
    """For every point a fixed direction (count, d), such as a signed coordinate."""
    return lambda gradients: axes


@dataclass(frozen=True, slots=True, eq=False)
class Paces:
    """How fast and how hot each of the points climbs.

    Attributes:
        steps, heats: (count,), factors up to 1 of the lengths of steps and of temperatures.
    """

    steps: FloatArray
    heats: FloatArray

    @classmethod
    def drawn(cls, search: SearchNetwork, count: int, rng: np.random.Generator) -> Paces:
        """Of many sizes on boxes and with biases; 1 on rays, where all distances are alike."""
        if search.rays:
            return cls(np.ones(count), np.ones(count))
        decades = STEP_DECADES if search.bounded else 1.0
        return cls(10.0 ** -rng.uniform(0.0, decades, count), 10.0 ** -rng.uniform(0.0, HEAT_DECADES, count))


def softened_climb(
    search: SearchNetwork,
    u: AnyArray,
    q: float,
    towards: Towards,
    paces: Paces,
    steps: int,
    deadline: Deadline,
) -> tuple[AnyArray, AnyArray]:
    """Climb from points (count, d).

    Returns:
        The best point that each has come by, and its value (count,), in the units of `SearchNetwork.values`.
    """
    xp, d = search.xp, int(u.shape[1])
    pace, heat = search.put(paces.steps)[:, None], search.put(paces.heats)[:, None]
    u = search.placed(u)
    best, values = u, search.values(u, q)
    going: AnyArray = 0.0
    for step in range(steps):
        if deadline.is_over:
            break
        share = step / max(1, steps - 1)
        lengths, rise = search.rise(u, HOT * (COLD / HOT) ** share * heat, towards, q)
        better = lengths > values
        best, values = xp.where(better[:, None], u, best), xp.where(better, lengths, values)
        size = xp.sqrt((rise * rise).sum(1))[:, None]
        going = MOMENTUM * going + rise / xp.where(size > 0, size, 1.0)
        room = d**0.5 if search.bounded or search.rays else xp.sqrt((u * u).sum(1))[:, None]
        u = search.placed(u + (LONG * (SHORT / LONG) ** share * (1 - MOMENTUM)) * pace * room * going)
    lengths = search.values(u, q)
    better = lengths > values
    return xp.where(better[:, None], u, best), xp.maximum(values, lengths)
