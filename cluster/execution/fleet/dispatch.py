"""Who computes what, as a state machine: no Ray, no clock of its own. Events go in, commands come out.

A piece is some trials that travel together. A worker computes its pieces one after the other, so when it dies the
oldest one that is not answered is the suspect, and the others are innocent. A suspect is cut in half and its halves
run with nothing behind them, until one trial stands alone; that one is given up in the end, and it alone. What ends
with its node, or by an answer that went astray, counts against nobody.

A piece may be begun more than once and is answered once: it must be a function of its trials alone.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.execution.fleet.signals import (
    Abandon,
    Capacity,
    Cut,
    EndWorker,
    FleetCommand,
    FleetEvent,
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

__all__ = ["Dispatch", "FleetPolicy"]


# A piece that runs too long is cut into so many at once: every further round would take as long again.
OVERDUE_PIECES = 32


@dataclass(frozen=True, slots=True)
class FleetPolicy:
    """How pieces are dealt out, and when they are given up.

    Attributes:
        depth: pieces at one worker, the one that it computes included.
        ahead_seconds: of expected work at a worker; with more it is sent nothing that would wait there.
        trial_seconds, cost_factor: a piece may take the larger of `trial_seconds` and its expected time times the
            factor, then its worker is ended.
        most_deaths, most_alone: of workers, by a trial and the pieces it was in, and of these with the trial alone;
            a trial that reaches both is given up.
        steal_seconds: that a piece runs until an idle worker takes what waits behind it.
        say_seconds: between two words on what is waited for.
        most_bad_starts: of workers in a row that die before they are up.
    """

    depth: int = 3
    ahead_seconds: float = 2.5
    trial_seconds: float = 3600.0
    cost_factor: float = 100.0
    most_deaths: int = 5
    most_alone: int = 2
    steal_seconds: float = 5.0
    say_seconds: float = 30.0
    most_bad_starts: int = 5

    def allowed(self, cost_seconds: float) -> float:
        """Seconds that a piece may run."""
        return max(self.trial_seconds, self.cost_factor * cost_seconds)


@dataclass(slots=True)
class _Piece:
    size: int
    cost_seconds: float
    deaths: int = 0
    alone: int = 0
    at: set[int] = field(default_factory=set)

    @property
    def suspect(self) -> bool:
        return self.deaths > 0


@dataclass(slots=True)
class _Worker:
    """Pieces in the order in which they were sent; the first is the one that it computes, since `begun`."""

    up: bool = False
    pieces: list[int] = field(default_factory=list)
    begun: float = math.inf
    said: float = -math.inf


class Dispatch:
    """Deals pieces to workers and starts workers while there are CPUs for them.

    Args:
        most_workers: how many at most; None for one on each CPU.
    """

    def __init__(self, policy: FleetPolicy, most_workers: int | None = None) -> None:
        self._policy, self._most_workers = policy, most_workers
        self._cpus = 0
        self._pieces: dict[int, _Piece] = {}
        self._workers: dict[int, _Worker] = {}
        self._starting: dict[int, None] = {}
        self._numbers = self._next_worker = 0
        self._waiting: collections.deque[int] = collections.deque()
        self._suspects: collections.deque[int] = collections.deque()
        # Workers that would take another piece, by how many they have: the least busy is found at once.
        self._open_to: list[dict[int, None]] = [{} for _ in range(policy.depth)]
        self._out: list[FleetCommand] = []
        self._bad_starts = 0
        self._looked = self._served = -math.inf
        self._idle_since: float | None = None

    def add(self, pieces: Iterable[tuple[int, float]]) -> list[int]:
        """Pieces to compute in this order: how many trials and expected seconds of each. Returns their numbers."""
        numbers = [self._new(_Piece(size, cost)) for size, cost in pieces]
        self._waiting.extend(numbers)
        return numbers

    @property
    def finished(self) -> bool:
        """Whether every piece is answered or given up, and has been said to be."""
        return not (self._pieces or self._out)

    @property
    def workers_up(self) -> int:
        """Workers that are ready."""
        return len(self._workers) - len(self._starting)

    @property
    def workers_wanted(self) -> int:
        """Workers that there should be."""
        return self._cpus if self._most_workers is None else min(self._cpus, self._most_workers)

    def hear(self, event: FleetEvent, now: float) -> None:
        """Take in what happened; what is no longer of interest changes nothing."""
        match event:
            case Capacity(cpus):
                self._cpus = cpus
            case WorkerUp(worker) if worker in self._starting:
                del self._starting[worker]
                self._bad_starts = 0
                self._workers[worker].up = True
                self._place(worker)
            case WorkerFell(worker, reason, blame) if worker in self._workers:
                self._fell(worker, reason, blame, now)
            case PieceDone(piece, worker):
                self._leave(piece, worker, now)
                self._pieces.pop(piece, None)
            case PieceRaised(piece, worker, reason):
                self._leave(piece, worker, now)
                if piece in self._pieces:
                    self._divide(piece, 2, reason)
            case PieceLost(piece, worker):
                self._leave(piece, worker, now)
                self._again(piece)

    def commands(self, now: float) -> list[FleetCommand]:
        """What to do now, in order; every command is given once."""
        if now - self._looked >= min(1.0, self._policy.say_seconds):
            self._looked = now
            self._look(now)
        self._hire()
        self._deal(now)
        out, self._out = self._out, []
        return out

    def _new(self, piece: _Piece) -> int:
        self._numbers += 1
        self._pieces[self._numbers] = piece
        return self._numbers

    def _hire(self) -> None:
        """Workers for CPUs without one, as long as there is work for them; those that can find none are let go."""
        room = self.workers_wanted - len(self._workers)
        needed = len(self._pieces) - len(self._workers) if self._numbers else room
        for _ in range(min(room, needed)):
            self._next_worker += 1
            self._workers[self._next_worker] = _Worker()
            self._starting[self._next_worker] = None
            self._out.append(StartWorker(self._next_worker))
        for worker in list(self._starting)[: max(0, -room)]:
            self._forget(worker)
            self._out.append(EndWorker(worker))

    def _deal(self, now: float) -> None:
        """Suspects first, each to a worker with nothing else: for every suspect a worker runs dry."""
        reserved = self._reserve()
        for worker in reserved:
            if not self._workers[worker].pieces:
                self._send(self._suspects.popleft(), worker, now)
        while self._waiting:
            free = next(
                (worker for level in self._open_to for worker in level if worker not in reserved),
                None,
            )
            if free is None:
                return
            self._send(self._waiting.popleft(), free, now)

    def _reserve(self) -> set[int]:
        found: set[int] = set()
        for level in self._open_to if self._suspects else ():
            for worker in level:
                if len(found) == len(self._suspects):
                    return found
                found.add(worker)
        return found

    def _send(self, piece: int, worker: int, now: float) -> None:
        here = self._workers[worker]
        if not here.pieces:
            here.begun = here.said = now
        here.pieces.append(piece)
        self._pieces[piece].at.add(worker)
        self._served = now
        self._place(worker)
        self._out.append(Send(piece, worker))

    def _place(self, worker: int) -> None:
        """Enter a worker under the number of its pieces, if it would take another one."""
        for level in self._open_to:
            level.pop(worker, None)
        here = self._workers.get(worker)
        if here is None or not here.up or len(here.pieces) >= self._policy.depth:
            return
        held = [self._pieces[piece] for piece in here.pieces if piece in self._pieces]
        if any(piece.suspect for piece in held):
            return
        if held and sum(piece.cost_seconds for piece in held) >= self._policy.ahead_seconds:
            return
        self._open_to[len(here.pieces)][worker] = None

    def _leave(self, piece: int, worker: int, now: float) -> None:
        """A worker is through with a piece, and so begins the next one."""
        here = self._workers.get(worker)
        if here is not None and piece in here.pieces:
            if here.pieces[0] == piece:
                here.begun = here.said = now
            here.pieces.remove(piece)
            self._place(worker)
        if piece in self._pieces:
            self._pieces[piece].at.discard(worker)

    def _forget(self, worker: int) -> list[int]:
        """Strike a worker off; the pieces that nobody else has, the oldest first."""
        gone = self._workers.pop(worker)
        self._starting.pop(worker, None)
        self._place(worker)
        left = []
        for piece in gone.pieces:
            if piece in self._pieces:
                self._pieces[piece].at.discard(worker)
                left += [piece] if not self._pieces[piece].at else []
        return left

    def _again(self, piece: int) -> None:
        """A piece that nobody has any more waits again, before those that were never begun."""
        if piece in self._pieces and not self._pieces[piece].at:
            (self._suspects.append if self._pieces[piece].suspect else self._waiting.appendleft)(piece)

    def _fell(self, worker: int, reason: str, blame: bool, now: float) -> None:
        started = worker not in self._starting
        head = next(iter(self._workers[worker].pieces), None)
        left = self._forget(worker)
        self._bad_starts = 0 if started else self._bad_starts + blame
        if self._bad_starts >= self._policy.most_bad_starts:
            self._out.append(Abandon(reason))
        if not blame and started:
            self._out.append(Say(f"a worker is gone ({reason}); what it had is computed elsewhere"))
        for piece in reversed(left):
            if piece == head and blame:
                self._blame(piece, reason)
            else:
                self._again(piece)

    def _blame(self, number: int, reason: str) -> None:
        piece = self._pieces[number]
        piece.deaths += 1
        piece.alone += piece.size == 1
        if piece.size > 1:
            self._divide(number, 2, reason)
        elif piece.deaths >= self._policy.most_deaths and piece.alone >= self._policy.most_alone:
            self._divide(number, 1, f"its worker died {piece.alone} times with this trial alone: {reason}")
        else:
            self._suspects.append(number)

    def _divide(self, number: int, most: int, reason: str) -> None:
        """Cut a suspect into at most so many pieces; one of a single trial is given up."""
        piece = self._pieces.pop(number)
        if piece.size == 1:
            self._out.append(KeepFailed(number, reason))
            return
        count = min(most, piece.size)
        ends = [piece.size * k // count for k in range(count + 1)]
        into = []
        for first, stop in itertools.pairwise(ends):
            share = piece.cost_seconds * (stop - first) / piece.size
            into.append((self._new(_Piece(stop - first, share, max(1, piece.deaths), 0)), first, stop))
        self._out.append(Cut(number, tuple(into)))
        self._suspects.extend(part for part, _, _ in into)

    def _look(self, now: float) -> None:
        """What only the clock tells: pieces that run too long, workers that would idle, silence."""
        self._steal(now)
        for worker, here in list(self._workers.items()):
            if not here.pieces:
                continue
            # Somebody else may have answered the piece that it still computes.
            head, known = here.pieces[0], self._pieces.get(here.pieces[0])
            seconds, allowed = now - here.begun, self._policy.allowed(known.cost_seconds if known else 0.0)
            if seconds > allowed:
                self._overdue(worker, head, allowed)
            elif known and now - here.said >= self._policy.say_seconds:
                here.said = now
                self._out.append(Say(f"runs for {seconds:.0f} s, of {allowed:.0f} s at most", head))
        self._say_waiting(now)

    def _overdue(self, worker: int, head: int, allowed: float) -> None:
        self._out.append(EndWorker(worker))
        for piece in reversed(self._forget(worker)):
            if piece == head:
                self._out.append(Say(f"did not end in {allowed:.0f} s; its worker is ended", piece))
                self._divide(piece, OVERDUE_PIECES, f"timed out: it did not end in {allowed:.0f} s")
            else:
                self._again(piece)

    def _say_waiting(self, now: float) -> None:
        if self.workers_up or not self._pieces:
            self._idle_since = None
            return
        if self._idle_since is None:
            self._idle_since = now
            self._served = now - self._policy.say_seconds * 2 / 3  # the first word comes early
        elif now - self._served >= self._policy.say_seconds:
            self._served = now
            self._out.append(
                Say(f"waiting for a free CPU since {now - self._idle_since:.0f} s; the cluster has {self._cpus} CPUs")
            )

    def _steal(self, now: float) -> None:
        """Idle workers begin what waits behind a piece that takes long; whoever answers first is heard."""
        idle = [] if self._waiting or self._suspects else list(self._open_to[0])
        if not idle:
            return
        for here in self._workers.values():
            if len(here.pieces) < 2 or now - here.begun < self._policy.steal_seconds:
                continue
            for piece in here.pieces[1:]:
                if idle and piece in self._pieces and len(self._pieces[piece].at) == 1:
                    self._send(piece, idle.pop(), now)
