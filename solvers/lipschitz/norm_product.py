"""Upper bounds from norms of the weights alone (`bounds.norm_products`): any depth, any p, all of R^d.

The least of the best chain of operator norms, the absolute values of the weights, and LipLT.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.bounds.norm_products import (
    LayerProducts,
    layer_spectra,
    norm_product_bound,
    norm_product_certificate,
)
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status

__all__ = ["NormProduct"]

# Of the time limit, what goes to the spectral norms of the layers, and of what is then left, to those of products.
SHARE, SHARE_OF_PRODUCTS = 0.4, 0.6


@dataclass(frozen=True)
class NormProduct(AbstractLipschitzSolver):
    """Cheap upper bound from operator norms of the layers; says nothing from below.

    Attributes:
        certified: record the norms of the layers.
    """

    certified: bool = False
    name: ClassVar[str] = "norm-product"
    summary: ClassVar[str] = "upper bound from norms of the layers and of their products: any size, any p"
    cost: ClassVar[str] = "L^2 / 2 times N^3: 2 s for 3 x 1000"
    gives: ClassVar[Gives] = Gives.UPPER
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def certifying(self) -> Self:
        return replace(self, certified=True)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        deadline = budget.start()
        spectra = layer_spectra(problem.network, SHARE * budget.seconds)
        upper = norm_product_bound(problem.network, problem.p, spectra=spectra)
        certificate = norm_product_certificate(problem.network, problem.p, spectra) if self.certified else None
        products = LayerProducts.of(problem.network, SHARE_OF_PRODUCTS * deadline.remaining, spectra)
        if products is not None:
            transformed, proof = products.transformed(problem.p)
            if transformed < upper:
                upper, certificate = transformed, proof if self.certified else None
        status = Status.EXACT if upper == 0 else Status.BOUNDED
        stats = {"wall_seconds": deadline.elapsed}
        return LipschitzBounds(0.0, upper, status, self.name, problem.p, problem.domain, None, certificate, stats)
