"""Upper bounds from norms of the weights alone (`bounds.norm_products`): any depth, any p, all of R^d."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.bounds.norm_products import norm_product_bound, norm_product_certificate
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status

__all__ = ["NormProduct"]


@dataclass(frozen=True)
class NormProduct(AbstractLipschitzSolver):
    """Cheap upper bound from operator norms of the layers; says nothing from below."""

    name: ClassVar[str] = "norm-product"
    summary: ClassVar[str] = "upper bound from operator norms of the layers: any size, any p"
    gives: ClassVar[Gives] = Gives.UPPER
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        deadline = budget.start()
        upper = norm_product_bound(problem.network, problem.p)
        certificate = norm_product_certificate(problem.network, problem.p)
        status = Status.EXACT if upper == 0 else Status.BOUNDED
        stats = {"wall_seconds": deadline.elapsed}
        return LipschitzBounds(0.0, upper, status, self.name, problem.p, problem.domain, None, certificate, stats)
