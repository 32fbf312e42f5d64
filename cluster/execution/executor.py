"""The interface of an executor: batches go in, summaries come out in any order."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from cluster.execution.scheduling import Batch
from cluster.execution.worker import BatchSummary
from tasks.experiment import AbstractExperiment, RunContext
from tracking.parts import RunFolder

__all__ = ["AbstractExecutor", "Notice"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person who waits would want to know."""

    text: str


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
