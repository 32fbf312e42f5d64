"""`bounds`: an interval from the methods that only bound, in seconds for networks of thousands of neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.portfolio import Portfolio
from solvers.lipschitz.stages.choice import ASCENT
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds

__all__ = ["TwoSided"]


@dataclass(frozen=True)
class TwoSided(AbstractLipschitzSolver):
    """The bounds of `auto` without its searches: what a norm product, climbs and multipliers for slopes prove.

    As loose as the best of them on either side: on networks with far more neurons than inputs the upper bound may be
    twice the lower one.

    Attributes:
        members: the methods to ask, none of them exact.
        certified: the upper bound comes with a certificate.
        together: as for `Portfolio`.
    """

    members: tuple[AbstractLipschitzSolver, ...]
    certified: bool = False
    together: bool = False
    name: ClassVar[str] = "bounds"
    summary: ClassVar[str] = "both ends in seconds at any size: ascent and semidefinite, no search"
    cost: ClassVar[str] = "those of ascent and semidefinite: seconds at 3 x 512"
    gives: ClassVar[Gives] = Gives.BOTH
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def certifying(self) -> Self:
        return replace(self, certified=True, members=tuple(member.certifying() for member in self.members))

    def starting_at(self, points: FloatArray) -> Self:
        """The same method, whose climbs start from these points (k, d) too."""
        moved = (member.starting_at(points) if member.name == ASCENT else member for member in self.members)
        return replace(self, members=tuple(moved))

    def solve_together(
        self,
        problems: Sequence[LipschitzProblem],
        *,
        budget: Budget | None = None,
        rngs: Sequence[np.random.Generator] | None = None,
    ) -> list[LipschitzBounds]:
        helping = replace(self, together=True)
        return super(TwoSided, helping).solve_together(problems, budget=budget, rngs=rngs)

    def _solve_batch(
        self, problems: Sequence[LipschitzProblem], budget: Budget, rngs: Sequence[np.random.Generator]
    ) -> list[LipschitzBounds]:
        staged = Portfolio(self.members, self.certified, self.together)
        return staged.solve_batch(problems, budget=budget, rngs=rngs)
