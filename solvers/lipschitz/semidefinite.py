"""Upper bounds by LipSDP-Neuron without a program solver: multipliers from a network of vectors, proved by Cholesky.

For p >= 2 one certificate bounds |f(x) - f(x')|^2 by sum t_k (x_k - x'_k)^2. For p = 1 the largest derivative counts,
each with multipliers of its own where that matters; a shallow network has a closed form: max over k of the larger of
sum_i (v_i W_ik)_+ and sum_i (v_i W_ik)_-. Between 1 and 2, ||g||_p' <= ||g||_2^(2/p') ||g||_inf^(1 - 2/p') (Hoelder).
On a box, ranges of pre-activations fix the slopes of the neurons that they decide; on R^d every slope is free.

Loose where many neurons meet few inputs, for sign patterns that no input reaches count, and on pairs relu(x), relu(-x).

Sources: Fazlyab et al. 2019 (LipSDP-Neuron); Wang et al. 2022 (other norms); the parts name theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.arithmetic.rounding import EPSILON
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.lipschitz.bounds.norm_products import norm_product_bound
from solvers.lipschitz.bounds.slope_layers import SlopeLayers
from solvers.lipschitz.bounds.slope_proof import lipschitz_from_diagonal, proved_columns, proved_diagonal
from solvers.lipschitz.bounds.vector_network import Multipliers, VectorNetwork
from solvers.problems.budget import Budget, Deadline
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, LipschitzBounds, Status

__all__ = ["Semidefinite"]

# Room that multipliers are given, layer by layer; the least that is proved is looked for.
ROOMS = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
FIRST_ROOM = 3
# Sweeps of the first round; every further round doubles them. The most, and the gap to the optimum that ends them.
FIRST_SWEEPS, MOST_SWEEPS, CLOSE = 32, 2048, 1e-5
# Floating-point operations a second that a decomposition is sure to reach, for what fits into a time limit.
SURE_RATE = 4e9


@dataclass(slots=True)
class _Program:
    """The best proof so far of one program.

    Attributes:
        p: 2 or more; 1 where every derivative is bounded at once, `columns` holds their bounds.
        column: the input whose derivative alone is bounded; None for all inputs.
    """

    layers: SlopeLayers
    p: float
    network: VectorNetwork
    bound: float = math.inf
    multipliers: Multipliers | None = None
    room: int = FIRST_ROOM
    columns: FloatArray = field(default_factory=lambda: np.zeros(0))
    column: int | None = None

    def improve(self, deadline: Deadline) -> None:
        """Sweep and prove in rounds until the gap to the program's optimum is closed, or nothing gains."""
        sweeps = FIRST_SWEEPS
        while True:
            multipliers = self._swept(sweeps, deadline)
            before = self.bound
            self._prove(multipliers, deadline)
            if self.bound <= self.network.reached * (1 + CLOSE) or self.network.sweeps >= MOST_SWEEPS:
                return
            if deadline.remaining < 2 * self.proof_seconds or self.bound > before * (1 - CLOSE / 10):
                return
            sweeps = self.network.sweeps

    def _swept(self, sweeps: int, deadline: Deadline) -> Multipliers:
        multipliers = self.network.run(1)
        for _ in range(sweeps - 1):
            if deadline.remaining < 2 * self.proof_seconds:
                break
            multipliers = self.network.run(1)
        return multipliers

    @property
    def proof_seconds(self) -> float:
        """What one proof takes at most, on a machine of today."""
        sizes = [self.layers.inputs, *(len(w) for w in self.layers.weights)]
        work = sum(n**3 / 3 + n * n * m + 2 * n * m * m for m, n in zip(sizes, sizes[1:], strict=False))
        return work / SURE_RATE

    def _prove(self, multipliers: Multipliers, deadline: Deadline) -> None:
        """From the room that was right last time: up until one is proved, then down while that gains."""
        place, best = self.room, math.inf
        while place < len(ROOMS):
            best = self._try(multipliers.raised(ROOMS[place]))
            if math.isfinite(best) or deadline.is_over:
                break
            place += 1
        if math.isinf(best):
            return
        while place and not deadline.is_over:
            tried = self._try(multipliers.raised(ROOMS[place - 1]))
            if tried >= best:
                break
            best, place = tried, place - 1
        self.room = place

    def _try(self, multipliers: Multipliers) -> float:
        if self.p == 1:  # all derivatives at once
            columns = proved_columns(self.layers, multipliers.layers)
            found = math.inf if columns is None else float(columns.max())
            if columns is not None:
                self.columns = columns if not len(self.columns) else np.minimum(self.columns, columns)
        else:
            t = proved_diagonal(self.layers, multipliers.layers, multipliers.inputs)
            found = math.inf if t is None else lipschitz_from_diagonal(t, self.p)
        if found < self.bound:
            self.bound, self.multipliers = found, multipliers
        return found


@dataclass(frozen=True)
class Semidefinite(AbstractLipschitzSolver):
    """LipSDP-Neuron for every p, global and on boxes, for any depth and thousands of neurons.

    `stats` has `gap_to_optimum`: how far the bound is above the program's optimum at most, relatively.

    Attributes:
        rank: numbers in every vector of the network of vectors.
        certified: keep the multipliers as a certificate.
    """

    rank: int = 16
    certified: bool = False
    name: ClassVar[str] = "semidefinite"
    summary: ClassVar[str] = "upper bound of LipSDP-Neuron, proved in rounding: deep and wide networks, any p"
    gives: ClassVar[Gives] = Gives.UPPER
    domains: ClassVar[tuple[type[WholeSpace] | type[Box], ...]] = (WholeSpace, Box)

    def certifying(self) -> Self:
        return replace(self, certified=True)

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        deadline = budget.start()
        if problem.network.depth == 0:
            upper, stats, certificate = norm_product_bound(problem.network, problem.p), {}, None
        else:
            signs = _box_signs(problem)
            upper, stats, programs = self._bound(SlopeLayers.of(problem.network, signs), problem.p, deadline, rng)
            certificate = self._certificate(problem, programs) if self.certified and math.isfinite(upper) else None
        reason = "" if math.isfinite(upper) else "the time limit leaves no room for one proof of multipliers"
        status = Status.EXACT if upper == 0 else Status.BOUNDED
        stats = {**stats, "wall_seconds": deadline.elapsed}
        return LipschitzBounds(
            0.0, upper, status, self.name, problem.p, problem.domain, None, certificate, stats, reason
        )

    def _bound(
        self, layers: SlopeLayers, p: float, deadline: Deadline, rng: np.random.Generator
    ) -> tuple[float, dict[str, float], list[_Program]]:
        """Upper bound, statistics and what proves it."""
        if min(len(w) for w in layers.weights) == 0 or not layers.output.any():
            return 0.0, {}, []  # a silent layer: f is constant
        programs = []
        if p > 1:
            programs.append(self._program(layers, max(p, 2.0), rng))
            programs[0].improve(deadline)
        largest = math.inf
        if p < 2:
            derivatives = self._derivatives(layers, deadline, rng)
            largest = float(derivatives[0].columns.max(initial=0.0)) if len(derivatives[0].columns) else math.inf
            programs += derivatives
        stats = {"sweeps": float(sum(program.network.sweeps for program in programs))}
        if p == 1:
            return largest, stats, programs
        euclid = programs[0].bound
        if p >= 2:
            stats["gap_to_optimum"] = _above(euclid, programs[0].network.reached)
            return euclid, stats, programs
        # ||g||_q <= ||g||_2^(2/q) ||g||_inf^(1 - 2/q), q = p'; and Lip_p <= Lip_2.
        share = 2 * (1 - 1 / p)
        mixed = euclid**share * largest ** (1 - share) * (1 + 16 * EPSILON)
        return min(mixed, euclid), stats, programs

    def _program(self, layers: SlopeLayers, p: float, rng: np.random.Generator) -> _Program:
        return _Program(layers, p, VectorNetwork(layers, 2.0 if p == 1 else p, self.rank, rng))

    def _derivatives(self, layers: SlopeLayers, deadline: Deadline, rng: np.random.Generator) -> list[_Program]:
        """Programs that bound every derivative: one for all of them, then one each while the largest has none."""
        shared = self._program(layers, 1.0, rng)
        shared.improve(deadline)
        programs = [shared]
        if not len(shared.columns):
            return programs
        own: set[int] = set()
        while not deadline.is_over:
            k = int(np.argmax(shared.columns))
            if k in own or deadline.remaining < 2 * shared.proof_seconds:
                break
            own.add(k)
            alone = _Program(layers.column(k), 2.0, VectorNetwork(layers.column(k), 2.0, self.rank, rng), column=k)
            alone.improve(deadline)
            if alone.bound < shared.columns[k]:
                shared.columns[k] = alone.bound
                programs.append(alone)
        return programs


def _above(upper: float, reached: float) -> float:
    """How far an upper bound is above what a program reaches, relatively."""
    return upper / reached - 1 if reached > 0 and math.isfinite(upper) else math.inf


def _box_signs(problem: LipschitzProblem) -> Sequence[NDArray[np.int8]] | None:
    """Slopes that ranges over a box fix: 1 active, -1 silent, 0 undecided; None on all of R^d."""
    if not isinstance(problem.domain, Box):
        return None
    from solvers.lipschitz.bounds.pattern_bounds import settle
    from solvers.lipschitz.bounds.piece_arrays import PieceArrays
    from solvers.problems.facets import solid_piece

    arrays = PieceArrays.of(solid_piece(problem, problem.domain), None)
    shape = arrays.kernel.biases.shape
    signs = np.zeros(shape, dtype=np.int8)
    settle(arrays, signs, np.full(shape, -np.inf), np.full(shape, np.inf))
    return [row[:n] for row, n in zip(signs, problem.network.widths, strict=True)]
