"""`bounds`: an interval from the methods that only bound, in seconds for networks of thousands of neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from solvers.lipschitz.portfolio import Portfolio

__all__ = ["TwoSided"]


@dataclass(frozen=True)
class TwoSided(Portfolio):
    """The bounds of `auto` without its searches: what a norm product, climbs and multipliers for slopes prove.

    As loose as the best of them on either side: on networks with far more neurons than inputs the upper bound may be
    twice the lower one.

    Attributes:
        members: the methods to ask, none of them exact.
    """

    name: ClassVar[str] = "bounds"
    summary: ClassVar[str] = "both ends in seconds at any size: ascent and semidefinite, no search"
    cost: ClassVar[str] = "those of ascent and semidefinite: seconds at 3 x 512"
