"""Multipliers found by a network of vectors and proved by decompositions, in rounds, within the time given."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg.lapack import dpotrf

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.bounds.slopes.layers import SlopeLayers
from solvers.lipschitz.bounds.slopes.proof import (
    SPARED_FOR_ACTIVE,
    lipschitz_from_diagonal,
    proved_columns,
    proved_diagonal,
)
from solvers.lipschitz.bounds.slopes.replay import replayed_loss
from solvers.lipschitz.bounds.slopes.vectors import Multipliers, VectorNetwork
from solvers.problems.budget import Deadline

__all__ = ["SlopeProgram", "is_slow", "likely_rank"]

# Room that multipliers are given, layer by layer; the least that is proved is looked for.
ROOMS = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
# Sweeps of the first round; every further round doubles them. The most, and the gap to the optimum that ends them.
FIRST_SWEEPS, MOST_SWEEPS, CLOSE = 32, 2048, 1e-5
# Hidden neurons beyond which a proof takes seconds: more sweeps before the first one, which begins with room that
# rounding does not use up, and a gap of 1e-3 is close enough. Longer vectors cost less than a proof that fails.
LARGE, FIRST_WHEN_LARGE, ROOM_WHEN_LARGE, CLOSE_WHEN_LARGE = 3000, 64, ROOMS.index(1e-5), 1e-3
# Where the time is short for a proof with each of these, the first one has room that a few dozen sweeps suffice for.
ROOM_WHEN_SHORT = ROOMS.index(1e-2)
# Weights from which on sweeps are made in float32.
SLOW = 2 * 10**5
# Floating-point operations a second that a decomposition is sure to reach; what takes longer than SURE_SECONDS at this
# rate is worth a measurement, with PROBES decompositions of side PROBE.
SURE_RATE, SURE_SECONDS, PROBE, PROBES = 4e9, 2.0, 1200, 5
# The share of the time left that one round of sweeps may take.
SWEEPING = 0.25
# Shares of the diagonal beyond which no room is made for a checker.
MOST_LOST = 1e-3


@dataclass(slots=True)
class SlopeProgram:
    """The best proof so far of one program.

    Attributes:
        p: 2 or more; 1 where every derivative is bounded at once, `columns` holds their bounds.
        bound, columns: in the units of the scaled network.
        t: what was proved to dominate, (d,); empty for p = 1.
        shape: (d,), what t is to be a multiple of for p = 2; all ones when left out. The bound is the root of the
            multiple.
        slowest: seconds that a proof has taken.
        rate: operations a second that a proof is expected to make.
        lost: the share of the diagonal that proofs leave to a checker's rounding in sums over active neurons.
    """

    layers: SlopeLayers
    p: float
    network: VectorNetwork
    bound: float = math.inf
    multipliers: Multipliers | None = None
    room: int = 0
    columns: FloatArray = field(default_factory=lambda: np.zeros(0))
    t: FloatArray = field(default_factory=lambda: np.zeros(0))
    slowest: float = 0.0
    rate: float = SURE_RATE
    lost: float = SPARED_FOR_ACTIVE
    shape: FloatArray | None = None

    def improve(self, deadline: Deadline) -> None:
        """Sweep and prove in rounds until the gap to the program's optimum is closed, or nothing gains."""
        large = _is_large(self.layers)
        sweeps, close = (FIRST_WHEN_LARGE, CLOSE_WHEN_LARGE) if large else (FIRST_SWEEPS, CLOSE)
        self.room = max(self.room, ROOM_WHEN_LARGE) if large else self.room
        if self.proof_seconds > SURE_SECONDS:
            self.rate = max(SURE_RATE, _measured_rate())
        if self.proof_seconds * len(ROOMS) > deadline.remaining:
            self.room = max(self.room, ROOM_WHEN_SHORT)
        best = 0.0
        while deadline.remaining > self.proof_seconds:
            multipliers = self._swept(sweeps, deadline)
            before, reached = self.bound, best
            best = self.network.reached
            self._prove(multipliers, best * (1 + close), deadline)
            if self.bound <= best * (1 + close) or self.network.sweeps >= MOST_SWEEPS:
                return
            # Momentum overshoots: a bound that has not gained may do so while the optimum is still closed in on.
            if self.bound > before * (1 - close / 10) and best <= reached * (1 + close / 10):
                if not self.network.single:
                    return
                self.network.single = False
            sweeps = self.network.sweeps

    def _swept(self, sweeps: int, deadline: Deadline) -> Multipliers:
        stop = max((1 - SWEEPING) * deadline.remaining, self.proof_seconds)
        return self.network.run(sweeps, lambda: deadline.remaining < stop)

    @property
    def proof_seconds(self) -> float:
        """What one proof takes: what it took, or what it is expected to."""
        sizes = [self.layers.inputs, *(len(w) for w in self.layers.weights)]
        work = sum(n**3 / 3 + n * n * m + n * m * m for m, n in itertools.pairwise(sizes[:-1]))
        return max((work + sizes[-1] * sizes[-2] ** 2) / self.rate, self.slowest)

    def _prove(self, multipliers: Multipliers, enough: float, deadline: Deadline) -> None:
        """From the room that was right last time: up until one is proved, then down while that gains, until enough."""
        place, best = self.room, math.inf
        while place < len(ROOMS):
            best = self._try(multipliers.raised(ROOMS[place]))
            if math.isfinite(best) or deadline.remaining < self.proof_seconds:
                break
            place += 1
        if math.isinf(best):
            return
        while place and best > enough and deadline.remaining > self.proof_seconds:
            tried = self._try(multipliers.raised(ROOMS[place - 1]))
            if tried >= best:
                break
            best, place = tried, place - 1
        self.room = place

    def _try(self, multipliers: Multipliers) -> float:
        started = time.perf_counter()
        columns = t = np.zeros(0)
        if self.p == 1:  # all derivatives at once
            proved = proved_columns(self.layers, multipliers.layers, self.lost)
            found = math.inf if proved is None else float(proved.max())
            columns = columns if proved is None else proved
        else:
            dominating = proved_diagonal(self.layers, multipliers.layers, multipliers.inputs, self.lost)
            found = math.inf if dominating is None else lipschitz_from_diagonal(self._per_shape(dominating), self.p)
            t = t if dominating is None else dominating
        self.slowest = max(self.slowest, time.perf_counter() - started)
        if found < self.bound:
            self.bound, self.multipliers, self.columns, self.t = found, multipliers, columns, t
        return found

    def make_room(self, deadline: Deadline) -> None:
        """Prove once more, with as much left to a checker as it will lose; without time the proof stays as it is."""
        multipliers, needed = self.multipliers, 4 * self.proof_seconds
        active = any(free < len(w) for free, w in zip(self.layers.free, self.layers.weights, strict=True))
        if multipliers is None or not active or deadline.remaining < needed:
            return
        t = np.full(self.layers.inputs, max(self.bound, 1e-100) ** 2) if self.p == 1 else self.t
        lost = 2 * replayed_loss(self.layers, multipliers.layers, t)
        if self.lost < lost < MOST_LOST:
            before = self.bound, self.multipliers, self.columns, self.t
            self.lost, self.bound = lost, math.inf
            for room in ROOMS:
                if math.isfinite(self._try(multipliers.raised(room))) or deadline.remaining < self.proof_seconds:
                    break
            if math.isinf(self.bound):
                self.bound, self.multipliers, self.columns, self.t = before

    def _per_shape(self, t: FloatArray) -> FloatArray:
        return t if self.shape is None else t / self.shape

    def listed(self, widths: Sequence[int]) -> list[list[float]]:
        """The multipliers, per hidden layer one for every neuron of the network, 0 where the slope is decided."""
        assert self.multipliers is not None
        return self.layers.listed(widths, self.multipliers.layers)


def _is_large(layers: SlopeLayers) -> bool:
    return sum(len(w) for w in layers.weights) > LARGE


def is_slow(layers: SlopeLayers) -> bool:
    """Whether sweeps take long enough for float32."""
    return sum(w.size for w in layers.weights) > SLOW


def likely_rank(layers: SlopeLayers) -> int:
    """Numbers in every vector that are likely to bring the ascent to the program's optimum."""
    return 32 if _is_large(layers) else 16


def _measured_rate() -> float:
    """Operations a second of a decomposition here and now: the best of a few, for the first one also wakes threads."""
    best = math.inf
    for _ in range(PROBES):
        matrix = np.full((PROBE, PROBE), 0.5, order="F")
        matrix[np.diag_indices(PROBE)] = PROBE
        started = time.perf_counter()
        dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
        best = min(best, time.perf_counter() - started)
    return PROBE**3 / 3 / max(best, 1e-6)
