"""Actors of Ray that obey `actors.ActorLoop`: who is started, what is sent, how an answer or a death is heard."""

from __future__ import annotations

import collections
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cluster.execution.actors import (
    ActorLoop,
    AskWorker,
    CallDone,
    CallLost,
    Command,
    GiveUp,
    Policy,
    Submit,
    WorkerAway,
    WorkerReady,
)

__all__ = ["AbstractWorker", "Outcome", "RayCalls", "end_actors", "start_actors"]

WAIT_SECONDS = 5.0

Work = TypeVar("Work")


class AbstractWorker:
    """What every actor has: it tells that it is there."""

    def ready(self) -> int:
        """Its process."""
        return os.getpid()


def start_actors(kind: type[AbstractWorker], arguments: Sequence[Any], workers: int) -> list[Any]:
    """Actors of one CPU each that come back when they die; every one has been made when this returns."""
    import ray

    # Ray itself tries nothing again: a call that dies is ours to judge.
    actor = ray.remote(kind).options(num_cpus=1, max_restarts=-1, max_task_retries=0)
    actors: list[Any] = [actor.remote(*arguments) for _ in range(workers)]
    try:
        ray.get([one.ready.remote() for one in actors])
    except BaseException:
        end_actors(actors)
        raise
    return actors


def end_actors(actors: Iterable[Any]) -> None:
    """Kill actors for good."""
    import ray

    for actor in actors:
        ray.kill(actor)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Work]):
    """How a call ended.

    Attributes:
        value: the answer.
        death: what Ray said of the last death of its worker when the call was given up; else None.
    """

    work: Work
    value: Any = None
    death: str | None = None


class RayCalls(Generic[Work]):
    """Calls to actors of Ray, a bounded number at a time, each answered or given up once.

    Args:
        actors: from `start_actors`.
        call: begins one piece of work on an actor and returns Ray's reference.
    """

    def __init__(self, actors: Sequence[Any], policy: Policy, call: Callable[[Any, Work], Any]) -> None:
        self._actors, self._call = actors, call
        self._loop = ActorLoop(len(actors), policy)
        self._numbers = itertools.count()
        self._work: dict[int, Work] = {}
        self._begun: dict[Any, int] = {}
        self._asked: dict[Any, int] = {}
        self._deaths: dict[int, str] = {}
        self._given_up: collections.deque[Outcome[Work]] = collections.deque()

    @property
    def open(self) -> list[Work]:
        """What is neither answered nor given up, in the order in which it came."""
        return list(self._work.values())

    def add(self, work: Iterable[Work]) -> None:
        """Work to do in this order, after what waits already."""
        self._loop.add(self._numbered(work))

    def offer(self, work: Iterable[Work]) -> None:
        """Work for actors that would idle, instead of what was offered before and is not begun."""
        for number in self._loop.offer(self._numbered(work)):
            del self._work[number]

    def _numbered(self, work: Iterable[Work]) -> list[int]:
        fresh = {next(self._numbers): one for one in work}
        self._work.update(fresh)
        return list(fresh)

    def outcomes(self) -> Iterator[Outcome[Work]]:
        """Every call as it ends.

        Raises:
            what a call raised: the others are then left alone.
        """
        while self._given_up or not self._loop.finished:
            outcome = self.turn(WAIT_SECONDS)
            if outcome is not None:
                yield outcome

    def turn(self, seconds: float) -> Outcome[Work] | None:
        """Begin what can be begun, then wait for one thing to happen: the call that it ended, or None.

        Args:
            seconds: the longest wait.
        Raises:
            what the call raised.
        """
        import ray

        self._obey(self._loop.commands(time.monotonic()))
        if self._given_up:
            return self._given_up.popleft()
        seconds = max(0.0, min(seconds, self._loop.due - time.monotonic()))
        references = [*self._begun, *self._asked]
        if not references:
            time.sleep(seconds)
            return None
        done, _ = ray.wait(references, num_returns=1, timeout=seconds)
        for reference in done:
            if reference in self._asked:
                self._hear(reference)
            else:
                return self._end(reference)
        return None

    def drain(self, seconds: float) -> None:
        """Wait for the calls under way, at most so long; nothing is begun any more."""
        import ray

        if self._begun:
            ray.wait(list(self._begun), num_returns=len(self._begun), timeout=seconds)

    def _hear(self, reference: Any) -> None:
        """The answer of a worker that was asked whether it is back."""
        import ray

        worker = self._asked.pop(reference)
        try:
            ray.get(reference)
        except ray.exceptions.RayActorError:
            self._loop.hear(WorkerAway(worker), time.monotonic())
        else:
            self._loop.hear(WorkerReady(worker), time.monotonic())

    def _end(self, reference: Any) -> Outcome[Work] | None:
        import ray

        call = self._begun.pop(reference)
        try:
            value = ray.get(reference)
        except ray.exceptions.RayActorError as error:
            self._deaths[call] = _first_line(error)
            self._loop.hear(CallLost(call), time.monotonic())
            return None
        self._loop.hear(CallDone(call), time.monotonic())
        self._deaths.pop(call, None)
        return Outcome(self._work.pop(call), value)

    def _obey(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Submit(call, worker):
                    self._begun[self._call(self._actors[worker], self._work[call])] = call
                case AskWorker(worker):
                    self._asked[self._actors[worker].ready.remote()] = worker
                case GiveUp(call):
                    self._given_up.append(Outcome(self._work.pop(call), death=self._deaths.pop(call)))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
