"""What a dispatcher hears and what it asks for. Pieces and workers are numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "Abandon",
    "Capacity",
    "Cut",
    "EndWorker",
    "FleetCommand",
    "FleetEvent",
    "KeepFailed",
    "PieceDone",
    "PieceLost",
    "PieceRaised",
    "Say",
    "Send",
    "StartWorker",
    "WorkerFell",
    "WorkerUp",
]


@dataclass(frozen=True, slots=True)
class Capacity:
    """CPUs of the nodes that live."""

    cpus: int


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """A worker that was started is ready."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerFell:
    """A worker is gone for good, with everything it had.

    Attributes:
        blame: whether its own process died, so that what it computed is suspect; not when its node went.
    """

    worker: int
    reason: str
    blame: bool


@dataclass(frozen=True, slots=True)
class PieceDone:
    """A piece was answered by a worker."""

    piece: int
    worker: int


@dataclass(frozen=True, slots=True)
class PieceRaised:
    """A piece ended with an exception that no trial of it could be blamed for."""

    piece: int
    worker: int
    reason: str


@dataclass(frozen=True, slots=True)
class PieceLost:
    """The answer of a piece went astray while its worker lives."""

    piece: int
    worker: int


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker; `WorkerUp` or `WorkerFell` is the answer, whenever it comes."""

    worker: int


@dataclass(frozen=True, slots=True)
class EndWorker:
    """Kill a worker; nothing need be heard of it any more."""

    worker: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send a piece to a worker."""

    piece: int
    worker: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A piece is no more; instead of it there are pieces of its trials from `first` until before `stop`.

    Attributes:
        into: number, first and stop of each.
    """

    piece: int
    into: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class KeepFailed:
    """A piece of one trial is given up."""

    piece: int
    reason: str


@dataclass(frozen=True, slots=True)
class Say:
    """Something a person would want to know; of a piece where one is named."""

    text: str
    piece: int | None = None


@dataclass(frozen=True, slots=True)
class Abandon:
    """Nothing can be computed here: workers die while they start."""

    reason: str


FleetEvent: TypeAlias = Capacity | WorkerUp | WorkerFell | PieceDone | PieceRaised | PieceLost
FleetCommand: TypeAlias = StartWorker | EndWorker | Send | Cut | KeepFailed | Say | Abandon
