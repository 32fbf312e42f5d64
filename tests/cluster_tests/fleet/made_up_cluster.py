"""A cluster in made-up time that obeys a `Dispatch`: nodes come and go, trials hang or kill their worker."""

from __future__ import annotations

import functools
import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Mapping

from cluster.execution.fleet.dispatch import Dispatch
from cluster.execution.fleet.signals import (
    Abandon,
    Capacity,
    Cut,
    EndWorker,
    FleetCommand,
    KeepFailed,
    PieceDone,
    PieceRaised,
    Say,
    Send,
    StartWorker,
    WorkerFell,
    WorkerUp,
)

LOOK_SECONDS, START_SECONDS = 0.5, 3.0
Interval = tuple[int, ...]


class MadeUpCluster:
    """Trials are numbers; a worker computes its pieces one after the other, a trial takes its seconds.

    Args:
        seconds: of every trial.
        nodes: name -> CPUs at the beginning.
        kills, hangs, raises: trials that do.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        batches: Iterable[tuple[int, ...]],
        nodes: Mapping[str, int],
        seconds: Callable[[int], float] = lambda trial: 0.05,
        kills: Iterable[int] = (),
        hangs: Iterable[int] = (),
        raises: Iterable[int] = (),
    ) -> None:
        self.dispatch, self.seconds = dispatch, seconds
        self.kills, self.hangs, self.raises = set(kills), set(hangs), set(raises)
        self.free = dict(nodes)
        self.cpus = dict(nodes)
        self.now = 0.0
        self.later: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        held = [tuple(batch) for batch in batches]
        costs = [(len(batch), sum(map(seconds, batch))) for batch in held]
        self.trials = dict(zip(dispatch.add(costs), held, strict=True))
        self.unplaced: list[int] = []
        self.node: dict[int, str] = {}
        self.queues: dict[int, list[int]] = {}
        self.generation: dict[int, int] = {}
        self.answered: list[int] = []
        self.failed: dict[int, str] = {}
        self.said: list[tuple[float, str]] = []
        self.busy_seconds = 0.0
        self.begun: list[int] = []
        self._count()

    def _count(self) -> None:
        self.dispatch.hear(Capacity(sum(self.cpus.values())), self.now)

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self.later, (when, next(self.order), action))

    def add_node(self, name: str, cpus: int) -> None:
        """A node joins."""
        self.free[name] = self.cpus[name] = cpus
        self._count()
        self._arrange()

    def lose_node(self, name: str, noticed_after: float = 0.0) -> None:
        """A node goes with all its workers; the driver hears of it later."""
        self.cpus.pop(name)
        self.free.pop(name)
        gone = [worker for worker, place in self.node.items() if place == name]
        for worker in gone:
            self.generation[worker] += 1
            self.node.pop(worker)

        def hear() -> None:
            self._count()
            for worker in gone:
                self.queues.pop(worker, None)
                self.dispatch.hear(WorkerFell(worker, "its node died", blame=False), self.now)

        self.at(self.now + noticed_after, hear)

    def kill_worker(self, worker: int) -> None:
        """A worker's process dies."""
        name = self.node.pop(worker)
        self.free[name] += 1
        self.generation[worker] += 1
        self.queues.pop(worker, None)
        self.dispatch.hear(WorkerFell(worker, "its process died", blame=True), self.now)
        self._arrange()

    def _arrange(self) -> None:
        """Workers that were started find a CPU, if one is free."""
        for name in list(self.free):
            while self.free[name] > 0 and self.unplaced:
                worker = self.unplaced.pop(0)
                self.free[name] -= 1
                self.node[worker], self.queues[worker], self.generation[worker] = name, [], 0
                self._if_alive(worker, START_SECONDS, functools.partial(self._up, worker))

    def _up(self, worker: int) -> None:
        self.dispatch.hear(WorkerUp(worker), self.now)

    def _if_alive(self, worker: int, seconds: float, action: Callable[[], None]) -> None:
        generation = self.generation[worker]

        def then() -> None:
            if worker in self.node and self.generation[worker] == generation:
                action()

        self.at(self.now + seconds, then)

    def _compute(self, worker: int) -> None:
        if not self.queues[worker]:
            return
        piece = self.queues[worker][0]
        trials = self.trials[piece]
        self.begun.append(piece)
        spent = 0.0
        for trial in trials:
            spent += self.seconds(trial)
            if trial in self.kills:
                self._if_alive(worker, spent, lambda: self.kill_worker(worker))
                return
            if trial in self.hangs:
                return
        self.busy_seconds += spent
        self._if_alive(worker, spent, lambda: self._done(worker, piece))

    def _done(self, worker: int, piece: int) -> None:
        self.queues[worker].pop(0)
        bad = self.raises & set(self.trials[piece])
        if bad:
            self.dispatch.hear(PieceRaised(piece, worker, f"trial {min(bad)} raised"), self.now)
        else:
            if piece not in self.taken:
                self.taken.add(piece)
                self.answered += self.trials[piece]
            self.dispatch.hear(PieceDone(piece, worker), self.now)
        self._compute(worker)

    def _obey(self, command: FleetCommand) -> None:
        match command:
            case StartWorker(worker):
                self.unplaced.append(worker)
                self._arrange()
            case EndWorker(worker):
                if worker in self.unplaced:
                    self.unplaced.remove(worker)
                elif worker in self.node:
                    self.free[self.node.pop(worker)] += 1
                    self.queues.pop(worker, None)
                    self._arrange()
            case Send(piece, worker):
                if worker in self.node:  # else sent to a node of whose end nobody has heard yet
                    self.queues[worker].append(piece)
                    if len(self.queues[worker]) == 1:
                        self._compute(worker)
            case Cut(piece, into):
                trials = self.trials[piece]
                assert [first for _, first, _ in into] == [0, *(stop for _, _, stop in into[:-1])]
                assert into[-1][2] == len(trials)
                self.trials |= {number: trials[first:stop] for number, first, stop in into}
            case KeepFailed(piece, reason):
                (trial,) = self.trials[piece]
                assert trial not in self.failed
                self.failed[trial] = reason
            case Say(text):
                self.said.append((self.now, text))
            case Abandon(reason):
                raise RuntimeError(reason)

    def run(self, until: float = 1e6) -> float:
        """Let time pass until all is done; the time it took."""
        self.taken: set[int] = set()
        look = 0.0
        while not self.dispatch.finished:
            for command in self.dispatch.commands(self.now):
                self._obey(command)
            if self.later and self.later[0][0] <= look:
                self.now, _, action = heapq.heappop(self.later)
                action()
            else:
                self.now, look = look, look + LOOK_SECONDS
            assert self.now < until, f"{len(self.answered)} answered, {self.failed} failed at {self.now}"
        return self.now


def batches_of(sizes: Iterable[int]) -> list[tuple[int, ...]]:
    """Batches of so many trials, numbered through."""
    numbers = itertools.count()
    return [tuple(itertools.islice(numbers, size)) for size in sizes]


def some_sizes(seed: int, batches: int) -> list[int]:
    """Sizes of batches, from one trial to thirty."""
    rng = random.Random(seed)
    return [rng.choice((1, 2, 20, 30)) for _ in range(batches)]
