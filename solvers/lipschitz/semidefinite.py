"""Upper bounds by LipSDP-Neuron without a program solver: multipliers from a network of vectors, proved by Cholesky.

For p >= 2 one certificate bounds |f(x) - f(x')|^2 by sum t_k (x_k - x'_k)^2. For p = 1 the largest derivative counts,
each with multipliers of its own where that matters; a shallow network has a closed form: max over k of the larger of
sum_i (v_i W_ik)_+ and sum_i (v_i W_ik)_-. Between 1 and 2 bounds h_k of the derivatives are weights of a program for
p = 2: sum |g_k|^q <= sum h_k^(q - 2) g_k^2, q dual to p. With all h_k equal that is ||g||_q <= ||g||_2^(2/q)
||g||_inf^(1 - 2/q) (Hoelder); it is never more, and no more than ||h||_q, but for how far multipliers are from optimal.
On a box, ranges of pre-activations fix the slopes of the neurons that they decide (`bounds.relaxation`); on R^d every
slope is free.

Loose where many neurons meet few inputs, for sign patterns that no input reaches count, and on pairs relu(x), relu(-x).

Sources: [FRHMP19, theorem 2] (LipSDP-Neuron); [WPJ22] (other norms); the parts name theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from solvers.arithmetic.devices import check_device
from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.bounds.norm_products import norm_product_bound, norm_product_certificate
from solvers.lipschitz.bounds.slopes.arrays import NUMPY, on_device
from solvers.lipschitz.bounds.slopes.given import prove_given
from solvers.lipschitz.bounds.slopes.layers import SlopeLayers, in_units
from solvers.lipschitz.bounds.slopes.program import SlopeProgram, is_slow, likely_rank
from solvers.lipschitz.bounds.slopes.proof import lipschitz_between, shallow_derivatives
from solvers.lipschitz.bounds.slopes.vectors import Multipliers, VectorNetwork
from solvers.lipschitz.programs.slope_statement import (
    Stated,
    check_semidefinite_backend,
    solve_statement,
    too_large_to_state,
)
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, LipschitzBounds, Status

__all__ = ["Semidefinite"]


@dataclass(frozen=True, slots=True)
class _Proof:
    """What bounds a scaled network, and the certificate's data.

    Attributes:
        upper: inf where nothing was proved.
        reached: a lower bound of the program's optimum; nan where there is none.
    """

    upper: float
    reached: float
    sweeps: int
    data: dict[str, Any]


# For 1 < p < 2 derivatives below this share of the largest count as much as that, for a checker rounds; so do those
# whose weight would be below LEAST_WEIGHT. All are raised by a share of the largest, for the same reason.
LEAST_DERIVATIVE, LEAST_WEIGHT, SPARED = 1e-2, 1e-12, 1e-5
# Seconds below which nothing is begun: scaling the layers of a large network takes as long.
LEAST_SECONDS = 0.05
NO_TIME = "no multipliers were proved within the time limit, only a product of norms: --time-limit allows more"


@dataclass(frozen=True)
class Semidefinite(AbstractLipschitzSolver):
    """LipSDP-Neuron for every p, global and on boxes, for any depth and thousands of neurons.

    `stats` has `gap_to_optimum`: how far the bound is above the program's optimum at most, relatively. For p >= 2 the
    optimum is the program's on all inputs, for p = 1 the largest one over programs on one input. A shallow network has
    a closed form for p = 1, and between 1 and 2 the weights are bounds themselves: there it is left out.
    `optimum_at_least` is the lower bound of the optimum that this rests on, but for the rounding of a sum.

    Attributes:
        rank: numbers in every vector of the network of vectors; 16, and 32 for thousands of neurons, when left out.
        certified: keep the multipliers as a certificate.
        program_solver: CLARABEL, SCS or MOSEK, for the program stated in one piece in place of the network of vectors:
            a reference for small networks. Its multipliers are proved as any others.
        device: where vectors are swept; a torch device, or `cpu` for numpy. Proofs are made on the processor.
    """

    rank: int | None = None
    certified: bool = False
    program_solver: str | None = None
    device: str = "cpu"
    name: ClassVar[str] = "semidefinite"
    summary: ClassVar[str] = "upper bound by LipSDP-Neuron, proved: deep and wide networks, any p"
    cost: ClassVar[str] = "N^3 a layer, some hundred times N^2: 3 s for 3 x 2000"
    gives: ClassVar[Gives] = Gives.UPPER
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def certifying(self) -> Self:
        return replace(self, certified=True)

    def with_program_solver(self, name: str) -> Self:
        check_semidefinite_backend(name)
        return replace(self, program_solver=name)

    def on_device(self, device: str) -> Self:
        check_device(device)
        return replace(self, device=device)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        deadline = budget.start()
        stats: dict[str, float] = {}
        certificate, reason = None, ""
        if problem.network.depth == 0:
            upper = norm_product_bound(problem.network, problem.p)
            certificate = norm_product_certificate(problem.network, problem.p) if self.certified else None
        elif deadline.remaining < LEAST_SECONDS:
            upper, reason = math.inf, NO_TIME
        else:
            signs = ranges = None
            if isinstance(problem.domain, Box):
                from solvers.lipschitz.bounds.relaxation.fixed_slopes import fixed_slopes  # compiled kernels

                signs, ranges = fixed_slopes(problem, problem.domain, deadline)
            layers = SlopeLayers.of(problem.network, signs)
            if self.program_solver is None:
                proof = self._bound(layers, problem, deadline, rng)
            else:
                proof, reason = self._stated(layers, problem, deadline)
            upper = in_units(proof.upper, layers.exponent) if proof.upper else 0.0
            stats["sweeps"] = proof.sweeps
            if proof.reached > 0 and math.isfinite(proof.upper):
                stats["gap_to_optimum"] = proof.upper / proof.reached - 1
            if proof.reached > 0:
                stats["optimum_at_least"] = in_units(proof.reached, layers.exponent)
            if math.isfinite(upper) and self.certified:
                certificate = Certificate("slope-multipliers", {**proof.data, "ranges": ranges})
            if math.isinf(upper):
                reason = reason or _why_not(layers, budget)
        # Another method's bound is in the answer anyway.
        if math.isinf(upper) and (problem.known is None or math.isinf(problem.known.upper)):
            upper = norm_product_bound(problem.network, problem.p, 0.0)
        status = Status.EXACT if upper == 0 else Status.BOUNDED
        stats["wall_seconds"] = deadline.elapsed
        return LipschitzBounds(
            0.0, upper, status, self.name, problem.p, problem.domain, None, certificate, stats, reason
        )

    def _bound(
        self, layers: SlopeLayers, problem: LipschitzProblem, deadline: Deadline, rng: np.random.Generator
    ) -> _Proof:
        p, widths = problem.p, problem.network.widths
        data: dict[str, Any] = {"square": None, "derivative": None, "columns": []}
        if not layers.representable:
            return _Proof(math.inf, math.nan, 0, data)
        if layers.is_constant:
            return _Proof(0.0, math.nan, 0, data)
        if p >= 2:
            program = SlopeProgram(layers, p, self._network(layers, p, rng))
            program.improve(deadline)
            if self.certified:
                program.make_room(deadline)
            if math.isfinite(program.bound):
                data["square"] = {"t": program.t.tolist(), "layers": program.listed(widths)}
            return _Proof(program.bound, program.network.reached, program.network.sweeps, data)
        # Between 1 and 2 both programs count; the second one's share is what the first one leaves.
        first = deadline if p == 1 else deadline.budget.within(deadline.remaining / 2).start()
        bounds, reached, sweeps = np.zeros(0), math.nan, 0
        if layers.depth == 1:
            bounds = shallow_derivatives(layers)
        else:
            bounds, programs, reached, sweeps = self._derivatives(layers, first, rng)
            data["columns"] = [{"inputs": own, "layers": part.listed(widths)} for own, part in programs if own]
        largest = float(bounds.max()) if len(bounds) else math.inf
        if p == 1 or largest == 0:
            data["derivative"] = largest if math.isfinite(largest) else None
            return _Proof(largest, reached, sweeps, data)
        shape = None
        if math.isfinite(largest):
            floor = max(LEAST_DERIVATIVE, LEAST_WEIGHT ** ((p - 1) / (2 - p)))
            bounds = np.minimum(np.maximum(bounds, largest * floor) + largest * SPARED, largest)
            shape = (bounds / largest) ** -((2 - p) / (p - 1))
            data["derivative"] = bounds.tolist()
        program = SlopeProgram(layers, 2.0, self._network(layers, 2.0, rng, shape), shape=shape)
        program.improve(deadline)
        if self.certified:
            program.make_room(deadline)
        sweeps += program.network.sweeps
        if math.isfinite(program.bound):
            data["square"] = {"t": program.t.tolist(), "layers": program.listed(widths)}
        return _Proof(lipschitz_between(p, program.t, bounds), math.nan, sweeps, data)

    def _stated(self, layers: SlopeLayers, problem: LipschitzProblem, deadline: Deadline) -> tuple[_Proof, str]:
        """What the multipliers of a program's solver prove, and what there is to say about them."""
        assert self.program_solver is not None
        check_semidefinite_backend(self.program_solver)
        p, nothing = problem.p, _Proof(math.inf, math.nan, 0, {})
        told = too_large_to_state(layers)
        if told and not layers.is_constant:
            return nothing, f"{told}: the bound is a product of norms; without --solver multipliers are found anyway"
        ends: list[Stated] = []

        def solve(part: SlopeLayers, exponent: float) -> Multipliers | None:
            ends.append(solve_statement(part, exponent, self.program_solver or "", deadline.remaining))
            return ends[-1].multipliers

        square, columns = None, []
        if layers.representable and not layers.is_constant:
            square = solve(layers, max(p, 2.0)) if p > 1 else None
            if p < 2 and layers.depth > 1:
                found = [([k], solve(layers.column(k), 2.0)) for k in range(layers.inputs)]
                columns = [(own, part) for own, part in found if part is not None]
                columns = columns if len(columns) == len(found) else []
        proof = prove_given(layers, problem.network.widths, p, square, columns)
        odd = [end.status for end in ends if end.status != "optimal"]
        said = f"{self.program_solver} ended {odd[0]}" if odd else ""
        if math.isinf(proof.upper):
            said = said or f"the multipliers of {self.program_solver} cannot be proved in rounding"
            return nothing, f"{said}: the bound is a product of norms"
        return _Proof(proof.upper, math.nan, 0, proof.data), said and f"{said}: the bound is what its multipliers prove"

    def _network(
        self, layers: SlopeLayers, p: float, rng: np.random.Generator, shape: FloatArray | None = None
    ) -> VectorNetwork:
        arrays = NUMPY if self.device == "cpu" else on_device(self.device)
        return VectorNetwork(
            layers, p, self.rank or likely_rank(layers), rng, arrays, single=is_slow(layers), shape=shape
        )

    def _derivatives(
        self, layers: SlopeLayers, deadline: Deadline, rng: np.random.Generator
    ) -> tuple[FloatArray, list[tuple[list[int], SlopeProgram]], float, int]:
        """Bounds (d,) of every derivative: by one program for all of them, then one each while the largest has none.

        Returns:
            The bounds, empty where none is proved; the programs, each with the inputs that it is for; a lower bound of
            the largest optimum of one derivative's program, nan where none had its own; sweeps.
        """
        shared = SlopeProgram(layers, 1.0, self._network(layers, 2.0, rng))
        shared.improve(deadline)
        if self.certified:
            shared.make_room(deadline)
        bounds, sweeps = shared.columns.copy(), shared.network.sweeps
        reached = math.nan
        alone: dict[int, SlopeProgram] = {}
        tried: set[int] = set()
        while len(bounds):
            k = int(np.argmax(bounds))
            if k in tried or deadline.remaining < 2 * shared.proof_seconds:
                break
            tried.add(k)
            column = layers.column(k)
            own = SlopeProgram(column, 2.0, self._network(column, 2.0, rng))
            own.improve(deadline)
            if self.certified:
                own.make_room(deadline)
            sweeps += own.network.sweeps
            reached = max(own.network.reached, reached)
            if own.bound < bounds[k]:
                bounds[k], alone[k] = own.bound, own
        rest = [k for k in range(len(bounds)) if k not in alone]
        return bounds, [(rest, shared), *(([k], own) for k, own in alone.items())], reached, sweeps


def _why_not(layers: SlopeLayers, budget: Budget) -> str:
    if not layers.representable:
        return "weights of one neuron differ by more than 120 orders of magnitude: the bound is a product of norms"
    if math.isfinite(budget.seconds):
        return NO_TIME
    return "no multipliers were found that can be proved in rounding: the bound is a product of norms"
