"""The interface of an executor: batches go in, summaries come out in any order; and the count of what came out."""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from cluster.execution.scheduling import Batch
from cluster.execution.worker import BatchSummary
from tasks.experiment import AbstractExperiment, RunContext
from tracking.parts import RunFolder

__all__ = ["AbstractExecutor", "Notice", "Progress", "StudyTally"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person who waits would want to know."""

    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is: trials done of all, and the share of the expected work.

    Attributes:
        note: something to tell besides; empty for nothing.
    """

    done: int
    total: int
    failed: int
    share: float
    elapsed_seconds: float
    note: str = ""

    @property
    def seconds_left(self) -> float:
        """By the share of expected work that is done; infinite before anything is."""
        return self.elapsed_seconds * (1 - self.share) / self.share if self.share > 0 else math.inf


@dataclass(slots=True)
class StudyTally:
    """What is done of a study so far; times are seconds since the epoch."""

    total: int
    total_cost: float
    done: int
    failed: int = 0
    cost: float = 0.0
    first: float = math.inf
    last: float = 0.0
    error: str | None = None
    guilty: str | None = None
    begun: float = field(default_factory=time.time)

    def count(self, summary: BatchSummary) -> None:
        self.first, self.last = min(self.first, summary.started), max(self.last, summary.finished)
        self.done, self.failed = self.done + summary.trials, self.failed + summary.failed
        self.cost += summary.cost_seconds
        self.error, self.guilty = self.error or summary.first_error, self.guilty or summary.first_failed

    def progress(self, note: str = "") -> Progress:
        share = min(1.0, self.cost / self.total_cost)
        return Progress(self.done, self.total, self.failed, share, time.time() - self.begun, note)


class AbstractExecutor(abc.ABC):
    """Where batches run. Used as a context: entering starts the workers and warms them up, leaving ends them."""

    workers: int

    @abc.abstractmethod
    def start(self, experiments: Sequence[AbstractExperiment[Any]], folder: RunFolder) -> None:
        """Start the workers; those that are there have imported and compiled what the experiments need.

        Raises:
            InputError: what a worker writes to the folder is not seen here.
        """

    @abc.abstractmethod
    def run(
        self,
        batches: Sequence[Batch],
        experiments: dict[str, AbstractExperiment[Any]],
        folder: RunFolder,
        context: RunContext,
    ) -> Iterator[BatchSummary | Notice]:
        """Compute batches, a bounded number at a time; the summaries together hold every trial once.

        Raises:
            StorageError: a part could not be written.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """End what this executor started, and nothing else."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
