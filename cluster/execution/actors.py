"""The one loop that keeps actors busy: submit, wait, try again when a worker dies.

`ActorLoop` decides and knows no Ray: events go in (a worker is there, a call is done, its worker died, time has
passed), commands come out (submit, ask whether a worker is back, give up). `ray_actors.RayCalls` obeys it with Ray.

Calls that wait at a worker die with the call that kills it. So each of them is a suspect, runs alone on a worker, and
only a death there counts against it. A call must be a function of its arguments alone: it may be begun more than
once, and is answered once.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "MOST_DEATHS",
    "ActorLoop",
    "AskWorker",
    "CallDone",
    "CallLost",
    "Command",
    "Event",
    "GiveUp",
    "Policy",
    "Submit",
    "WorkerAway",
    "WorkerReady",
]

# How often the death of its worker is counted against a call until it is given up.
MOST_DEATHS = 2
RESTART_SECONDS, ASK_SECONDS = 60.0, 0.1


@dataclass(frozen=True, slots=True)
class Policy:
    """How a loop deals calls out.

    Attributes:
        depth: calls at one worker, the one that it computes included.
        most_deaths: of a worker, with the call alone there, until the call is given up.
        restart_seconds: that a worker may take to come back. Later it is taken to be there; a call will say if not.
        ask_seconds: between two questions whether it is back.
    """

    depth: int
    most_deaths: int = MOST_DEATHS
    restart_seconds: float = RESTART_SECONDS
    ask_seconds: float = ASK_SECONDS


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker answered that it is there."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerAway:
    """A worker was asked and is not back."""

    worker: int


@dataclass(frozen=True, slots=True)
class CallDone:
    """A call was answered."""

    call: int


@dataclass(frozen=True, slots=True)
class CallLost:
    """The worker of a call died, or was not there."""

    call: int


@dataclass(frozen=True, slots=True)
class Submit:
    """Send a call to a worker."""

    call: int
    worker: int


@dataclass(frozen=True, slots=True)
class AskWorker:
    """Ask a worker whether it is there; `WorkerReady` or `WorkerAway` is the answer, if one comes."""

    worker: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A call has killed its worker too often; no more will be heard of it."""

    call: int


Event: TypeAlias = WorkerReady | WorkerAway | CallDone | CallLost
Command: TypeAlias = Submit | AskWorker | GiveUp


@dataclass(slots=True)
class _Absence:
    """Of a worker that died: until when it is waited for, and when to ask for it again."""

    until: float
    ask_at: float


class ActorLoop:
    """Which call goes to which worker, as a state machine. Calls and workers are numbers.

    Args:
        workers: how many; all are there at the beginning.
    """

    def __init__(self, workers: int, policy: Policy) -> None:
        self._policy = policy
        self._calls: list[set[int]] = [set() for _ in range(workers)]
        self._at: dict[int, int] = {}
        self._alone: set[int] = set()
        self._away: dict[int, _Absence] = {}
        self._waiting: collections.deque[int] = collections.deque()
        self._spare: collections.deque[int] = collections.deque()
        self._suspects: collections.deque[int] = collections.deque()
        self._hopeless: collections.deque[int] = collections.deque()
        self._deaths: collections.Counter[int] = collections.Counter()

    def add(self, calls: Iterable[int]) -> None:
        """Calls to make in this order, after those that wait already."""
        self._waiting.extend(calls)

    def offer(self, calls: Iterable[int]) -> list[int]:
        """Calls for workers that would idle, instead of those offered before; returns those never begun."""
        withdrawn = list(self._spare)
        self._spare = collections.deque(calls)
        return withdrawn

    @property
    def finished(self) -> bool:
        """Whether every call is answered or given up, and has been said to be."""
        return not (self._waiting or self._spare or self._suspects or self._hopeless or self._at)

    @property
    def due(self) -> float:
        """The time at which the clock alone will bring new commands; infinite when it never will."""
        return min((min(absence.ask_at, absence.until) for absence in self._away.values()), default=math.inf)

    def hear(self, event: Event, now: float) -> None:
        """Take in what happened."""
        match event:
            case WorkerReady(worker):
                self._away.pop(worker, None)
            case WorkerAway(worker):
                if worker in self._away:  # else it was taken to be there meanwhile
                    self._away[worker].ask_at = now + self._policy.ask_seconds
            case CallDone(call):
                self._leave(call)
                self._deaths.pop(call, None)
            case CallLost(call):
                worker = self._at[call]
                self._deaths[call] += worker in self._alone
                self._leave(call)
                self._away.setdefault(worker, _Absence(now + self._policy.restart_seconds, now))
                hopeless = self._deaths[call] >= self._policy.most_deaths
                (self._hopeless if hopeless else self._suspects).append(call)

    def commands(self, now: float) -> list[Command]:
        """What to do now, in order; every command is given once."""
        given_up = [GiveUp(call) for call in self._hopeless]
        self._hopeless.clear()
        return [*given_up, *self._ask(now), *self._deal()]

    def _leave(self, call: int) -> None:
        worker = self._at.pop(call)
        self._calls[worker].remove(call)
        self._alone.discard(worker)

    def _ask(self, now: float) -> list[Command]:
        """A call that meets its worker while it restarts fails too, and would count as a death: so it is waited for."""
        commands: list[Command] = []
        for worker, absence in list(self._away.items()):
            if now >= absence.until:
                del self._away[worker]
            elif now >= absence.ask_at:
                absence.ask_at = math.inf
                commands.append(AskWorker(worker))
        return commands

    def _deal(self) -> list[Command]:
        """Suspects first; while one waits for an idle worker, no other call is begun."""
        commands: list[Command] = []
        here = [worker for worker in range(len(self._calls)) if worker not in self._away]
        for worker in here:
            if self._suspects and not self._calls[worker]:
                self._alone.add(worker)
                commands.append(self._submit(self._suspects.popleft(), worker))
        shared = [worker for worker in here if worker not in self._alone]
        for queue, depth in ((self._waiting, self._policy.depth), (self._spare, 1)):
            if self._suspects:
                break
            while queue and shared:
                worker = min(shared, key=lambda k: len(self._calls[k]))
                if len(self._calls[worker]) >= depth:
                    break
                commands.append(self._submit(queue.popleft(), worker))
        return commands

    def _submit(self, call: int, worker: int) -> Submit:
        self._calls[worker].add(call)
        self._at[call] = worker
        return Submit(call, worker)
