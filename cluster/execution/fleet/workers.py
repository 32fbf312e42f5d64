"""Actors of Ray that obey a `Dispatch`. Nothing here waits longer than `TURN_SECONDS`."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from cluster.execution.executor import Notice
from cluster.execution.fleet.dispatch import Dispatch, FleetPolicy
from cluster.execution.fleet.endings import ending_of
from cluster.execution.fleet.signals import (
    Abandon,
    Capacity,
    Cut,
    EndWorker,
    FleetCommand,
    KeepFailed,
    PieceDone,
    PieceLost,
    PieceRaised,
    Say,
    Send,
    StartWorker,
    WorkerFell,
    WorkerUp,
)
from cluster.execution.scheduling import Batch
from tracking.parts import StorageError

__all__ = ["Answer", "Fleet", "GivenUp"]

TURN_SECONDS = 0.5
COUNT_SECONDS = 2.0
# After a call that found its worker unreachable: Ray notices a lost node within about 20 s.
ASK_AGAIN_SECONDS, DOUBT_SECONDS = 1.0, 90.0
# Until what a worker wrote is seen by the driver: network file systems keep old listings for some seconds.
SEEN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker answered to some trials."""

    batch: Batch
    value: Any


@dataclass(frozen=True, slots=True)
class GivenUp:
    """One trial that cannot be computed, and why."""

    batch: Batch
    reason: str


@dataclass(slots=True)
class _Doubt:
    """A worker that cannot be reached: since when, what was lost there, when to ask again."""

    since: float
    pieces: list[int]
    ask_at: float


class _Count(threading.Thread):
    """Counts the CPUs of living nodes on a thread of its own: Ray waits long for a head node that is away."""

    def __init__(self) -> None:
        super().__init__(name="count-cpus", daemon=True)
        self.cpus = _living_cpus()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(COUNT_SECONDS):
            try:
                self.cpus = _living_cpus()
            except Exception:  # Ray is away or ending: the last count stays
                continue


def _living_cpus() -> int:
    """CPUs of the nodes that live."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return int(sum(node["Resources"].get("CPU", 0) for node in nodes if node["Alive"]))


class Fleet:
    """Workers on all CPUs that there are, more when nodes join, each replaced when it dies.

    Args:
        most_workers: None for one on each CPU.
        make: starts an actor; it answers `ready` when it is there.
        refused: of that answer: None when the actor can be used, else why not. It is asked again for `SEEN_SECONDS`;
            then the actor is left where it is, idle, so that no other one is put there.
    """

    def __init__(
        self,
        policy: FleetPolicy,
        most_workers: int | None,
        make: Callable[[], Any],
        refused: Callable[[Any], str | None] = lambda answer: None,
    ) -> None:
        self._dispatch = Dispatch(policy, most_workers)
        self._make, self._refused = make, refused
        self._unseen: dict[int, tuple[Any, float]] = {}
        self.refusals: list[str] = []
        self._call: Callable[[Any, Batch], Any] | None = None
        self._actors: dict[int, Any] = {}
        self._pings: dict[Any, int] = {}
        self._calls: dict[Any, tuple[int, int]] = {}
        self._work: dict[int, Batch] = {}
        self._doubts: dict[int, _Doubt] = {}
        self._out: collections.deque[Answer | GivenUp | Notice] = collections.deque()
        self._count = _Count()
        self._count.start()

    @property
    def workers_up(self) -> int:
        """Workers that are ready."""
        return self._dispatch.workers_up

    def start(self, patience: float, patience_for_all: float) -> None:
        """Start workers; wait for the first one, and for all of them, at most so many seconds; or for a refusal."""
        begun = time.monotonic()
        while True:
            self._turn(wait=True)
            waited = time.monotonic() - begun
            some, every = self.workers_up > 0, self.workers_up >= self._dispatch.workers_wanted
            if self.refusals or every or waited > (patience_for_all if some else patience):
                return

    def compute(
        self, batches: Iterable[Batch], call: Callable[[Any, Batch], Any]
    ) -> Iterator[Answer | GivenUp | Notice]:
        """Every batch answered or given up, whole or trial by trial, and what a person should know meanwhile.

        Raises:
            StorageError: a part could not be written.
            RuntimeError: workers cannot start.
        """
        self._call = call
        held = list(batches)
        numbers = self._dispatch.add((len(batch.trials), batch.cost_seconds) for batch in held)
        self._work.update(zip(numbers, held, strict=True))
        while self._out or not self._dispatch.finished:
            while self._out:
                yield self._out.popleft()
            self._turn(wait=False)

    def stop(self) -> None:
        """End all workers."""
        self._count.ended.set()
        for worker in list(self._actors):
            self._drop(worker, kill=True)

    def _turn(self, wait: bool) -> None:
        """Do what the dispatcher asks for, then wait for something to happen, unless there is something to tell."""
        import ray

        now = time.monotonic()
        self._dispatch.hear(Capacity(self._count.cpus), now)
        self._resolve_doubts(now)
        self._admit(now)
        for command in self._dispatch.commands(now):
            self._obey(command)
        if self._out and not wait:
            return
        references = [*self._calls, *self._pings]
        if not references:
            time.sleep(TURN_SECONDS)
            return
        done, _ = ray.wait(references, num_returns=1, timeout=TURN_SECONDS)
        if done:  # and whatever else is there
            done, _ = ray.wait(references, num_returns=len(references), timeout=0)
        for reference in done:
            if reference in self._pings:
                self._hear_ping(reference)
            elif reference in self._calls:
                self._hear_call(reference)

    def _hear_ping(self, reference: Any) -> None:
        import ray

        worker = self._pings.pop(reference)
        now = time.monotonic()
        try:
            answer = ray.get(reference)
        except ray.exceptions.ActorUnavailableError:
            self._doubt(worker, [], now)
        except ray.exceptions.RayActorError as error:
            self._fell(worker, error)
        except StorageError as error:
            self._refuse(worker, str(error.args[0]) if error.args else str(error))
        else:
            doubt = self._doubts.pop(worker, None)
            for piece in doubt.pieces if doubt else ():
                self._dispatch.hear(PieceLost(piece, worker), now)
            self._unseen[worker] = (answer, now)
            self._admit(now)

    def _admit(self, now: float) -> None:
        """Workers whose token is seen are used; on a shared folder that may take a while."""
        for worker, (answer, since) in list(self._unseen.items()):
            reason = self._refused(answer)
            if reason is None:
                del self._unseen[worker]
                self._dispatch.hear(WorkerUp(worker), now)
            elif now - since > SEEN_SECONDS:
                self._refuse(worker, reason)

    def _refuse(self, worker: int, reason: str) -> None:
        self._unseen.pop(worker, None)
        self.refusals.append(reason)
        self._out.append(Notice(f"{reason}; this node stays unused"))

    def _hear_call(self, reference: Any) -> None:
        import ray

        piece, worker = self._calls.pop(reference)
        now = time.monotonic()
        try:
            value = ray.get(reference)
        except ray.exceptions.ActorUnavailableError:
            self._doubt(worker, [piece], now)
        except ray.exceptions.RayActorError as error:
            self._calls[reference] = (piece, worker)
            self._fell(worker, error)
        except StorageError as error:
            raise StorageError(str(error.args[0]) if error.args else str(error)) from None
        except Exception as error:  # of any kind: it is one batch's, and the others go on
            self._dispatch.hear(PieceRaised(piece, worker, _sentence(error)), now)
        else:
            batch = self._work.pop(piece, None)
            if batch is not None:
                self._out.append(Answer(batch, value))
            self._dispatch.hear(PieceDone(piece, worker), now)

    def _doubt(self, worker: int, pieces: list[int], now: float) -> None:
        """A worker cannot be reached: whether it died, and of what, is known when Ray knows."""
        doubt = self._doubts.setdefault(worker, _Doubt(now, [], now))
        doubt.pieces += pieces
        doubt.ask_at = now if pieces and worker not in self._pings.values() else now + ASK_AGAIN_SECONDS

    def _resolve_doubts(self, now: float) -> None:
        asked = set(self._pings.values()) if self._doubts else set()
        for worker, doubt in list(self._doubts.items()):
            if now - doubt.since > DOUBT_SECONDS:
                self._drop(worker, kill=True)
                self._dispatch.hear(WorkerFell(worker, "it cannot be reached", blame=False), now)
            elif now >= doubt.ask_at and worker not in asked:
                doubt.ask_at = now + ASK_AGAIN_SECONDS
                self._pings[self._actors[worker].ready.remote()] = worker

    def _fell(self, worker: int, error: Exception) -> None:
        reason, blame = ending_of(str(error))
        self._drop(worker, kill=False)
        self._dispatch.hear(WorkerFell(worker, reason, blame), time.monotonic())

    def _drop(self, worker: int, kill: bool) -> None:
        """Forget a worker, and whatever may still be heard of it."""
        import ray

        actor = self._actors.pop(worker, None)
        self._doubts.pop(worker, None)
        self._unseen.pop(worker, None)
        self._pings = {reference: other for reference, other in self._pings.items() if other != worker}
        self._calls = {reference: call for reference, call in self._calls.items() if call[1] != worker}
        if kill and actor is not None:
            ray.kill(actor)

    def _obey(self, command: FleetCommand) -> None:
        match command:
            case StartWorker(worker):
                self._actors[worker] = actor = self._make()
                self._pings[actor.ready.remote()] = worker
            case EndWorker(worker):
                self._drop(worker, kill=True)
            case Send(piece, worker):
                assert self._call is not None
                self._calls[self._call(self._actors[worker], self._work[piece])] = (piece, worker)
            case Cut(piece, into):
                whole = self._work.pop(piece)
                self._work.update({number: whole.part(first, stop) for number, first, stop in into})
            case KeepFailed(piece, reason):
                self._out.append(GivenUp(self._work.pop(piece), reason))
            case Say(text, piece):
                named = f"{self._work[piece].described} " if piece in self._work else ""
                self._out.append(Notice(named + text))
            case Abandon(reason):
                raise RuntimeError(f"workers die while they start: {reason}")


def _sentence(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[-1] if lines else 'no message'}"
