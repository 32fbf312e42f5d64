"""Upper bounds by ECLipsE-Fast: one multiplier a layer in closed form, proved like those of `semidefinite`.

For p = 2, from the inputs on, with X_0 = I and W_l from layer l to layer l + 1,

    lambda = 2 / ||W X^-1 W'||_2,   X <- lambda I - lambda^2 / 4 W X^-1 W',   Lip_2 <= sqrt(v X^-1 v') = sqrt rho.

Every X is half as large as lambda I at least, so all of them exist. The multipliers rho lambda / 2 are feasible for the
program of `semidefinite`, so its proof and its checker serve here, and nothing that is computed here has to be right.
They lie on the edge of what is feasible, and a little more of all of them often gives a fifth less: the best of a few
multiples counts. For p > 2 they dominate with a diagonal t, t_k as large as what bounds the k-th derivative; for p = 1
they bound every derivative, and between 1 and 2 norms are interpolated.

A few decompositions a layer: a second for thousands of neurons. Blind to biases and boxes. Loose by the factor that one
multiplier for a whole layer costs: 1.4 above `semidefinite` at three layers of a thousand neurons, 2.9 at eight of 128;
more for p > 2, for the multipliers are made for p = 2. For p = 2 never above the product of spectral norms.

Source: [XS24, section 4].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.bounds.norm_products import norm_product_bound, norm_product_certificate
from solvers.lipschitz.bounds.slopes.eigenvalues import estimated_eigenvalue
from solvers.lipschitz.bounds.slopes.given import GivenProof, prove_given
from solvers.lipschitz.bounds.slopes.layers import SlopeLayers, in_units
from solvers.lipschitz.bounds.slopes.proof import proved_columns
from solvers.lipschitz.bounds.slopes.vectors import Multipliers
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, LipschitzBounds, Status

__all__ = ["EclipseFast"]

# Floating-point operations a second that are sure to be made, for what fits into a time limit.
SURE_RATE = 4e9
# Multiples of the closed form, in the order in which they are tried while that gains.
MULTIPLES = (1.0, 1.003, 1.03, 1.1)
# Of the largest entry of t, what every other has at least.
LEAST_SHARE = 1e-9
UNPROVED = "the multipliers cannot be proved in rounding: the bound is a product of norms"
NO_TIME = (
    "one decomposition a layer does not fit into the time limit, only a product of norms: --time-limit allows more"
)


@dataclass(frozen=True)
class EclipseFast(AbstractLipschitzSolver):
    """LipSDP with one multiplier a layer, in closed form.

    Attributes:
        certified: keep the multipliers as a certificate.
    """

    certified: bool = False
    name: ClassVar[str] = "eclipse-fast"
    summary: ClassVar[str] = "upper bound by one multiplier a layer: one pass, any size, any p"
    cost: ClassVar[str] = "a few times N^3 a layer: 1 s for 3 x 1000"
    gives: ClassVar[Gives] = Gives.UPPER
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def certifying(self) -> Self:
        return replace(self, certified=True)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        deadline = budget.start()
        network, p = problem.network, problem.p
        certificate, reason, upper = None, "", math.inf
        if network.depth > 0:
            if _seconds(network) > deadline.remaining:
                reason = NO_TIME
            else:
                layers = SlopeLayers.of(network)
                proof = _proved(network, layers, p)
                upper = in_units(proof.upper, layers.exponent) if proof.upper else 0.0
                if math.isinf(upper):
                    reason = UNPROVED
                elif self.certified:
                    certificate = Certificate("slope-multipliers", proof.data)
        if math.isinf(upper):
            seconds = math.inf if network.depth == 0 else 0.2 * max(deadline.remaining, 0.0)
            upper = norm_product_bound(network, p, seconds)
            if self.certified and network.depth == 0:
                certificate = norm_product_certificate(network, p)
        status = Status.EXACT if upper == 0 else Status.BOUNDED
        stats = {"wall_seconds": deadline.elapsed}
        return LipschitzBounds(0.0, upper, status, self.name, p, problem.domain, None, certificate, stats, reason)


def _seconds(network: ReluNetwork) -> float:
    """What one pass and its proof take at most on an idle machine of today."""
    shapes = [w.shape for w in network.weights[:-1]]
    return sum(len(MULTIPLES) * (n**3 + 2 * n * n * m + n * m * m) for n, m in shapes) / SURE_RATE


def _proved(network: ReluNetwork, layers: SlopeLayers, p: float) -> GivenProof:
    """The best that the closed form's multipliers prove for p."""
    if layers.is_constant or not layers.representable:
        return prove_given(layers, network.widths, p, None, ())
    parts = _closed_form(network, layers)
    if parts is None:
        return GivenProof(math.inf, {})
    best = GivenProof(math.inf, {})
    for multiple in MULTIPLES:
        found = _with(tuple(multiple * part for part in parts), network, layers, p)
        if math.isfinite(best.upper) and found.upper >= best.upper:
            break
        best = min(best, found, key=lambda proof: proof.upper)
    return best


def _with(parts: tuple[FloatArray, ...], network: ReluNetwork, layers: SlopeLayers, p: float) -> GivenProof:
    """What multipliers prove for p."""
    shape = np.ones(layers.inputs)
    if p > 2:
        sizes = proved_columns(layers, parts)
        shape = shape if sizes is None else np.maximum(sizes, LEAST_SHARE * sizes.max())
    given = Multipliers(parts, shape)
    columns = [(list(range(layers.inputs)), given)] if p < 2 and layers.depth > 1 else []
    return prove_given(layers, network.widths, p, given if p > 1 else None, columns)


def _closed_form(network: ReluNetwork, layers: SlopeLayers) -> tuple[FloatArray, ...] | None:
    """rho lambda_l / 2 for every neuron, in the units of the scaled layers; None where float64 does not suffice."""
    before = np.arange(layers.inputs)
    chosen: list[float] = []
    # X^-1 = half (L L')^-1, and `passed` is L^-1 W'.
    half, factor = 1.0, np.eye(layers.inputs)
    for w, kept in zip(network.weights, [*layers.kept, np.zeros(1, dtype=np.int64)], strict=True):
        passed = w[np.ix_(kept, before)].T
        if chosen:
            passed = solve_triangular(factor, passed, lower=True, check_finite=False)
        if len(chosen) == layers.depth:
            break
        product = half * (passed.T @ passed)
        size = estimated_eigenvalue(product)
        if not 0 < size < math.inf:
            return None
        chosen.append(1 / size)
        half, before = size / 2, kept
        factor = np.eye(len(kept)) - product / (2 * size)
        try:
            factor = cholesky(factor, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
    rho = half * float((passed**2).sum())
    found = []
    for value, after, kept in zip(chosen, layers.shifts, layers.kept, strict=False):
        found.append(np.ldexp(rho * value, np.clip(2 * (after[kept] - layers.exponent), -4000, 4000).astype(np.int32)))
    return tuple(found) if all(np.isfinite(part).all() and part.all() for part in found) else None
