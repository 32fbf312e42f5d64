"""Executor `local`: everything in this process, one batch after the other, true tracebacks, no Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.execution.executor import AbstractExecutor, Notice
from cluster.execution.scheduling import Batch
from cluster.execution.worker import BatchSummary, pin_threads, run_batch
from tasks.experiment import AbstractExperiment, RunContext
from tracking.parts import RunFolder

__all__ = ["InProcessExecutor"]


class InProcessExecutor(AbstractExecutor):
    """One worker: this process, on one thread as the Ray workers are."""

    workers = 1

    def start(self, experiments: Sequence[AbstractExperiment[Any]], folder: RunFolder) -> None:
        pin_threads()
        for experiment in experiments:
            experiment.warm_up()

    def run(
        self,
        batches: Sequence[Batch],
        experiments: dict[str, AbstractExperiment[Any]],
        folder: RunFolder,
        context: RunContext,
    ) -> Iterator[BatchSummary | Notice]:
        for batch in batches:
            yield run_batch(batch, experiments[batch.experiment], folder, context)

    def stop(self) -> None:
        return
