"""The best points of a climb, judged in float64, and what they prove."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from solvers.arithmetic.norms import FloatArray, vector_norm
from solvers.problems.budget import Deadline
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Witness
from solvers.problems.witnesses import FLOAT_ENOUGH, SEARCH_ENOUGH, gradients_at, witness_bound

__all__ = ["BestPoints"]

# Lengths that agree so far are those of one pattern.
SAME = 1e-9
# Weights from which more digits than float64's take a minute, and what a bound may then stay below a gradient by.
MANY_WEIGHTS, MANY_ENOUGH = 20_000_000, 1e-4
# Points that are tried before the longest gradient is given up: the first may lie too near to a kink.
TRIES = 8
# Weights a second that a proof is sure to go through, and the seconds from which proofs wait for the end of the search.
SURE_RATE, LONG = 1e7, 1.0


@dataclass(slots=True)
class BestPoints:
    """At most `most` points with different gradients, the longest first.

    Attributes:
        lower, witness: what has been proved.
        slowest: seconds that a proof has taken, or surely takes.
    """

    problem: LipschitzProblem
    most: int
    points: FloatArray = field(init=False)
    lengths: FloatArray = field(init=False)
    lower: float = 0.0
    witness: Witness | None = None
    slowest: float = field(init=False)

    def __post_init__(self) -> None:
        self.slowest = sum(w.size for w in self.problem.network.weights) / SURE_RATE
        self.points = np.zeros((0, self.problem.network.input_dimension))
        self.lengths = np.zeros(0)

    @property
    def longest(self) -> float:
        """The length of the longest gradient, in float64; 0 before any."""
        return float(self.lengths[0]) if len(self.lengths) else 0.0

    def enter(self, points: FloatArray) -> None:
        """Take the best of these points (count, d) in."""
        inside = points[self.problem.domain.strictly_contains(points)]
        if len(inside):
            lengths = vector_norm(gradients_at(self.problem.network, inside), self.problem.dual_p)
            lengths = np.where(np.isfinite(lengths), lengths, 0.0)
            everything = np.concatenate([self.lengths, lengths])
            order = np.argsort(-everything, kind="stable")
            ordered = everything[order]
            new = np.concatenate([[True], ordered[1:] < ordered[:-1] * (1 - SAME)])
            kept = order[new][: self.most]
            self.points = np.concatenate([self.points, inside])[kept]
            self.lengths = everything[kept]

    def prove(self, deadline: Deadline, *, last: bool = False) -> None:
        """Prove the longest gradient that can be proved, if it is longer than what is proved.

        Args:
            last: with all digits that a network of its size can have, even where the time is over; long proofs are made
                then only, and then only one.
        """
        problem = self.problem
        long = self.slowest > LONG
        if long and not last:
            return
        enough = FLOAT_ENOUGH if last else SEARCH_ENOUGH
        if sum(w.size for w in problem.network.weights) > MANY_WEIGHTS:
            enough = MANY_ENOUGH
        for k, (point, length) in enumerate(zip(self.points[:TRIES], self.lengths, strict=False)):
            if length * (1 - FLOAT_ENOUGH) <= self.lower or (deadline.is_over and (not last or (long and k > 0))):
                return
            started = time.perf_counter()
            # A point on a kink has others beside it, on either side.
            for tried in (point, *self._beside(point)):
                lower, witness = witness_bound(problem, tried, enough)
                if lower > self.lower and witness is not None:
                    self.lower, self.witness = lower, witness
                    deadline.tell(problem.p, lower, np.inf)
                if witness is not None or (deadline.is_over and (long or self.lower > 0)):
                    break
            self.slowest = max(self.slowest, time.perf_counter() - started)
            if self.lower >= length * (1 - SAME):
                return

    def _beside(self, point: FloatArray) -> FloatArray:
        """Two points (2, d) very near, on opposite sides, in one direction in general position."""
        direction = np.cos(np.arange(1.0, len(point) + 1))
        size = 1e-9 * max(float(np.abs(point).max()), 1e-9)
        return np.stack([point + size * direction, point - size * direction])
