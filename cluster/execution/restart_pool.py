"""Where the restarts of a width search run: threads of this process, or Ray actors. The answers are the same."""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from types import TracebackType
from typing import Any, Self

from cluster.execution.actors import MOST_DEATHS, Policy
from cluster.execution.ray_actors import AbstractWorker, Outcome, RayCalls, end_actors, start_actors
from cluster.execution.ray_runtime import cluster_workers, connect, disconnect
from cluster.execution.worker import pin_threads
from solvers.arithmetic.threads import usable_cores
from solvers.errors import InputError
from solvers.interpolation.width_search import Restart, Round
from solvers.problems.questions import InterpolationProblem
from tasks.constructions import ConstructionChoice, RestartOutcome, compute_restart

__all__ = ["AbstractRestartPool", "LocalPool", "OutOfTimeError", "RayPool"]

# Seconds of work in one call: quick restarts travel together.
CALL_SECONDS = 0.2
MOST_TOGETHER = 64
# Calls at every actor, the one that it computes included.
DEPTH = 2
WAIT_SECONDS, STOP_SECONDS = 1.0, 5.0


class OutOfTimeError(Exception):
    """The time allowed ended before a round did."""


class AbstractRestartPool(abc.ABC):
    """Computes rounds of restarts. Used as a context: entering starts the workers, leaving ends them.

    Args:
        problem: the points and labels.
        choice: the construction.
        source: name and seed of the data, for the random streams.
    """

    workers: int

    def __init__(self, problem: InterpolationProblem, choice: ConstructionChoice, source: tuple[str, int]) -> None:
        self._problem, self._choice, self._source = problem, choice, source
        self.computed = 0
        self._mean_seconds = math.inf

    def _learn(self, outcomes: Sequence[RestartOutcome]) -> None:
        self.computed += len(outcomes)
        seconds = sum(outcome.seconds for outcome in outcomes) / max(1, len(outcomes))
        self._mean_seconds = seconds if math.isinf(self._mean_seconds) else (self._mean_seconds + seconds) / 2

    def _together(self, restarts: int) -> int:
        """Restarts in one call: about CALL_SECONDS of work, but never fewer calls than workers."""
        by_time = int(CALL_SECONDS / max(self._mean_seconds, 1e-6)) if math.isfinite(self._mean_seconds) else 1
        return max(1, min(MOST_TOGETHER, by_time, -(-restarts // self.workers)))

    @abc.abstractmethod
    def compute(self, asked: Round, deadline: float = math.inf) -> list[RestartOutcome]:
        """The outcomes of the restarts wanted, in their order.

        Args:
            deadline: on the clock of `time.monotonic`.
        Raises:
            OutOfTimeError: the deadline came first.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """End what this pool started, and nothing else."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class LocalPool(AbstractRestartPool):
    """Threads of this process: counting bits, products and torch all leave Python's lock."""

    def __init__(
        self,
        problem: InterpolationProblem,
        choice: ConstructionChoice,
        source: tuple[str, int],
        workers: int | None = None,
    ) -> None:
        super().__init__(problem, choice, source)
        self.workers = workers or usable_cores()
        pin_threads()
        self._threads = ThreadPoolExecutor(self.workers)

    def compute(self, asked: Round, deadline: float = math.inf) -> list[RestartOutcome]:
        futures = [
            self._threads.submit(compute_restart, self._problem, self._choice, restart, self._source)
            for restart in asked.wanted
        ]
        left = None if math.isinf(deadline) else max(0.0, deadline - time.monotonic())
        _, late = wait_for(futures, timeout=left)
        if late:
            for future in late:
                future.cancel()
            raise OutOfTimeError
        outcomes = [future.result() for future in futures]
        self._learn(outcomes)
        return outcomes

    def stop(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)


class _Worker(AbstractWorker):
    """The actor: one CPU, one thread."""

    def __init__(self, choice: ConstructionChoice, source: tuple[str, int]) -> None:
        pin_threads()
        self._choice, self._source = choice, source

    def run(self, problem: InterpolationProblem, restarts: Sequence[Restart]) -> list[RestartOutcome] | str:
        """The outcomes, or the sentence of a user's mistake: an exception would come back with its traceback.

        The problem lies in shared memory. It comes with every call because an actor that dies begins anew without it.
        """
        try:
            return [compute_restart(problem, self._choice, restart, self._source) for restart in restarts]
        except InputError as error:
            return str(error)


class RayPool(AbstractRestartPool):
    """Actors on a local cluster that this pool starts and ends, or on a standing one.

    Workers that would idle begin with restarts that will probably be wanted next. Outcomes count only where and in
    the order in which the search asks for them.

    Args:
        workers: number of actors; all CPUs of the cluster when left out.
        address: None for a local cluster (inside a Ray job: the job's own), else "auto" or HOST:PORT.
    """

    def __init__(
        self,
        problem: InterpolationProblem,
        choice: ConstructionChoice,
        source: tuple[str, int],
        workers: int | None = None,
        address: str | None = None,
    ) -> None:
        super().__init__(problem, choice, source)
        import ray

        size = problem.points.nbytes + problem.labels.nbytes
        self._owns_runtime = connect(address, workers, size)
        self._actors: list[Any] = []
        try:
            self.workers = cluster_workers(workers)
            shared = ray.put(problem)
            self._actors = start_actors(_Worker, [choice, source], self.workers)
        except BaseException:
            self.stop()
            raise
        self._calls: RayCalls[tuple[Restart, ...]] = RayCalls(
            self._actors, Policy(DEPTH), lambda actor, restarts: actor.run.remote(shared, restarts)
        )
        self._known: dict[Restart, RestartOutcome] = {}

    def compute(self, asked: Round, deadline: float = math.inf) -> list[RestartOutcome]:
        self._calls.offer(())
        begun = {restart for restarts in self._calls.open for restart in restarts} | self._known.keys()
        wanted = [restart for restart in asked.wanted if restart not in begun]
        together = self._together(len(wanted))
        self._calls.add(_chunks(wanted, together))
        self._calls.offer(_chunks([restart for restart in asked.likely if restart not in begun], together))
        while any(restart not in self._known for restart in asked.wanted):
            left = deadline - time.monotonic()
            if left <= 0:
                raise OutOfTimeError
            outcome = self._calls.turn(min(WAIT_SECONDS, left))
            if outcome is not None:
                self._take(outcome)
        outcomes = [self._known.pop(restart) for restart in asked.wanted]
        self._learn(outcomes)
        return outcomes

    def _take(self, outcome: Outcome[tuple[Restart, ...]]) -> None:
        if outcome.death is not None:
            raise RuntimeError(
                f"a worker died {MOST_DEATHS + 1} times on width {outcome.work[0].width}, most likely for want of "
                "memory: take fewer workers"
            )
        if isinstance(outcome.value, str):
            raise InputError(outcome.value)
        self._known.update(zip(outcome.work, outcome.value, strict=True))

    def stop(self) -> None:
        if self._actors:  # a call begun on suspicion and killed would be reported on the terminal
            self._calls.drain(STOP_SECONDS)
        end_actors(self._actors)
        self._actors = []
        if self._owns_runtime:
            disconnect()
            self._owns_runtime = False


def _chunks(restarts: list[Restart], size: int) -> list[tuple[Restart, ...]]:
    return [tuple(restarts[k : k + size]) for k in range(0, len(restarts), size)]
