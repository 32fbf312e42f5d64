"""The interface of every Lipschitz method, and the checks that no method can skip."""

from __future__ import annotations

import abc
import enum
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.threads import products_of
from solvers.errors import InputError, SoundnessError, UnsupportedProblemError
from solvers.problems.balance import balance_all
from solvers.problems.budget import Budget
from solvers.problems.domains import Domain
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.problems.shared_exponents import share_between_exponents

if TYPE_CHECKING:
    from solvers.lipschitz.search.kept_proofs import LeafFile

__all__ = ["AbstractLipschitzSolver", "Gives"]


class Gives(enum.Flag):
    """Which sides of the interval a method can move."""

    LOWER = enum.auto()
    UPPER = enum.auto()
    BOTH = LOWER | UPPER


class AbstractLipschitzSolver(abc.ABC):
    """A method that bounds or computes Lip_p(f; X).

    Instances are frozen settings and hold no results. Authors write `_solve_batch` (or, for a method that gains
    nothing from many problems at once, `_solve`) and `refuses`; callers use `solve` and `solve_batch`.

    Class attributes say what the method can do; the contract tests walk the registry and hold it to them.

    Attributes:
        exponents: which p it takes, as people read it.
        needs: what it asks of a network or a machine, beyond what this package brings; empty for nothing.
        cost: what its time and memory grow with, for people who choose a method.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    exponents: ClassVar[str] = "[1, inf]"
    needs: ClassVar[str] = ""
    cost: ClassVar[str] = ""
    gives: ClassVar[Gives]
    exact: ClassVar[bool] = False
    # Relative width down to which an exact method closes its interval, whatever gap is asked for.
    resolution: ClassVar[float] = 1e-9
    domains: ClassVar[tuple[type[Domain], ...]]

    def refuses(self, problem: LipschitzProblem) -> str | None:
        """Why this method cannot take the problem, in one clear clause; None when it can."""
        if not isinstance(problem.domain, self.domains):
            names = " or ".join(kind.__name__ for kind in self.domains)
            return f"it works on {names}, not on {type(problem.domain).__name__}"
        return None

    def certifying(self) -> Self:
        """The same method with a certificate recorded beside every upper bound it proves, where it can make one."""
        return self

    def keeping_leaves(self, file: LeafFile) -> Self:
        """The same method with a file for certificates that are too long for memory, where it can make such ones."""
        return self

    def with_program_solver(self, name: str) -> Self:
        """The same method with another solver of its programs, by its name in capitals.

        Raises:
            InputError: the method has no programs, or no solver has that name.
            MissingBackendError: the solver is not installed.
        """
        raise InputError(f"method {self.name} takes no solver of programs, got {name.lower()!r}")

    def on_device(self, device: str) -> Self:
        """The same method with its heavy products on a torch device; `cpu` for this machine's processors.

        Raises:
            InputError: it uses none, or torch has no such device here.
        """
        if device != "cpu":
            raise InputError(
                f"method {self.name} computes on the processor: --device is for --method semidefinite, ascent and "
                "vertex-enumeration"
            )
        return self

    def starting_at(self, points: FloatArray) -> Self:
        """The same method with points (k, d), such as data, from which it looks for long gradients besides its own.

        Raises:
            InputError: the method looks for none, or these are no points.
        """
        raise InputError(f"method {self.name} starts from no points: --starts is for --method auto, bounds and ascent")

    def solve(
        self, problem: LipschitzProblem, *, budget: Budget | None = None, rng: np.random.Generator | None = None
    ) -> LipschitzBounds:
        """Bound one problem; see `solve_batch`."""
        return self.solve_batch([problem], budget=budget, rngs=None if rng is None else [rng])[0]

    def solve_batch(
        self,
        problems: Sequence[LipschitzProblem],
        *,
        budget: Budget | None = None,
        rngs: Sequence[np.random.Generator] | None = None,
    ) -> list[LipschitzBounds]:
        """Bound many problems; each answer is the one that the problem would get alone, bit for bit.

        Statistics rest on that: a trial's result does not depend on its batch. `solve_together` lets the problems help
        each other.

        What is known of a problem (`LipschitzProblem.known`) stays in its answer, the better end on either side.

        Problems that share a network object and a domain (one for each p) and networks of one shape are computed
        together by the methods that can. Networks of extreme sizes are brought into the safe range of float64 first
        (`problems.balance`), so every method may multiply and square weights and gradients.

        Args:
            problems: the questions.
            budget: limits for the whole batch; none when left out.
            rngs: one generator per problem, for methods that draw; seeded with 0 when left out.
        Raises:
            UnsupportedProblemError: the method cannot take one of the problems.
            SoundnessError: an answer contradicts itself: a bug of ours.
        """
        for problem in problems:
            reason = self.refuses(problem)
            if reason is not None:
                raise UnsupportedProblemError(f"method {self.name} cannot take this problem: {reason}")
        limits = Budget() if budget is None else budget
        generators = [np.random.default_rng(0) for _ in problems] if rngs is None else list(rngs)
        balanced = balance_all(problems)
        weights = max((sum(w.size for w in problem.network.weights) for problem in problems), default=0)
        with products_of(weights):
            found = self._solve_batch([one.problem for one in balanced], limits, generators)
        if len(found) != len(problems):
            raise SoundnessError(f"{self.name} answered {len(found)} of {len(problems)} problems")
        answers = [
            one.answer(problem, bounds, limits) for one, problem, bounds in zip(balanced, problems, found, strict=True)
        ]
        answers = [
            answer if problem.known is None else answer.joined(problem.known, limits)
            for problem, answer in zip(problems, answers, strict=True)
        ]
        for problem, answer in zip(problems, answers, strict=True):
            self._check(problem, answer, limits)
        # What a method does not explain itself, its status does.
        open_ones = (answer.status is not Status.EXACT and not answer.reason for answer in answers)
        return [
            replace(answer, reason=answer.status.advice) if unexplained else answer
            for answer, unexplained in zip(answers, open_ones, strict=True)
        ]

    def solve_together(
        self,
        problems: Sequence[LipschitzProblem],
        *,
        budget: Budget | None = None,
        rngs: Sequence[np.random.Generator] | None = None,
    ) -> list[LipschitzBounds]:
        """Bound many problems, and let what is found for one p count for every other of the same network and domain.

        An answer holds what `solve_batch` says at least; among those to one network object and domain, bounds never
        fall in p, apart from upper ones that have a certificate. `method` names those whose bounds are in an answer.

        Args and errors: as for `solve_batch`.
        """
        answers = self.solve_batch(problems, budget=budget, rngs=rngs)
        limits = Budget() if budget is None else budget
        shared = share_between_exponents(problems, answers, limits)
        for problem, answer in zip(problems, shared, strict=True):
            self._check(problem, answer, limits)
        return shared

    def _solve_batch(
        self, problems: Sequence[LipschitzProblem], budget: Budget, rngs: Sequence[np.random.Generator]
    ) -> list[LipschitzBounds]:
        """One problem after the other, each with an equal share of the time that is left."""
        deadline = budget.start()
        answers: list[LipschitzBounds] = []
        for problem, rng in zip(problems, rngs, strict=True):
            left = budget.within(deadline.remaining / (len(problems) - len(answers)))
            answers.append(self._solve(problem, left, rng))
        return answers

    def _solve(self, problem: LipschitzProblem, budget: Budget, rng: np.random.Generator) -> LipschitzBounds:
        raise NotImplementedError(f"{type(self).__name__} must define _solve or _solve_batch")

    def _check(self, problem: LipschitzProblem, answer: LipschitzBounds, budget: Budget) -> None:
        if answer.lower > 0 and answer.witness is None:
            raise SoundnessError(f"{self.name} claims a lower bound {answer.lower!r} without a witness")
        if answer.status is Status.EXACT and not budget.is_closed(answer.lower, answer.upper):
            raise SoundnessError(f"{self.name} calls [{answer.lower!r}, {answer.upper!r}] exact at a wider gap")
        if answer.witness is not None and not problem.domain.strictly_contains(answer.witness.point):
            raise SoundnessError(f"{self.name} has its witness outside the domain")
