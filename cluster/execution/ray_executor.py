"""Executor `ray`: long-lived actors, a bounded number of batches in flight, restarts and retries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.execution.actors import MOST_DEATHS, Policy
from cluster.execution.executor import AbstractExecutor
from cluster.execution.ray_actors import AbstractWorker, RayCalls, end_actors, start_actors
from cluster.execution.ray_runtime import cluster_workers, connect, disconnect
from cluster.execution.scheduling import DEPTH, Batch
from cluster.execution.worker import BatchSummary, pin_threads, record_failure, run_batch
from tasks.experiment import AbstractExperiment, RunContext
from tracking.parts import RunFolder, StorageError

__all__ = ["RayExecutor"]


class _Worker(AbstractWorker):
    """The actor: one CPU, one thread."""

    def __init__(self, experiments: Sequence[AbstractExperiment[Any]]) -> None:
        pin_threads()
        self._experiments = {experiment.name: experiment for experiment in experiments}
        for experiment in experiments:
            experiment.warm_up()

    def run(self, batch: Batch, folder: RunFolder, context: RunContext) -> BatchSummary:
        return run_batch(batch, self._experiments[batch.experiment], folder, context)


class RayExecutor(AbstractExecutor):
    """Actors on a local cluster that this executor starts and ends, or on a standing one.

    Args:
        workers: number of actors, one CPU each; all CPUs of the cluster when left out.
        address: None for a local cluster (inside a Ray job: the job's own), else "auto" or HOST:PORT.
    """

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self._address = address
        self._wanted = workers
        self.workers = workers or 1
        self._actors: list[Any] = []
        self._connected = False

    def start(self, experiments: Sequence[AbstractExperiment[Any]]) -> None:
        self._owns_runtime = connect(self._address, self._wanted)
        self._connected = True
        self.workers = cluster_workers(self._wanted)
        self._actors = start_actors(_Worker, [list(experiments)], self.workers)

    def run(
        self,
        batches: Sequence[Batch],
        experiments: dict[str, AbstractExperiment[Any]],
        folder: RunFolder,
        context: RunContext,
    ) -> Iterator[BatchSummary]:
        calls: RayCalls[Batch] = RayCalls(
            self._actors, Policy(DEPTH), lambda actor, batch: actor.run.remote(batch, folder, context)
        )
        calls.add(batches)
        try:
            for outcome in calls.outcomes():
                if outcome.death is None:
                    yield outcome.value
                else:
                    reason = f"its worker died {MOST_DEATHS} times: {outcome.death}"
                    yield record_failure(outcome.work, folder, reason)
        except StorageError as error:
            raise StorageError(str(error.args[0]) if error.args else str(error)) from None

    def stop(self) -> None:
        end_actors(self._actors)
        self._actors = []
        if self._connected and self._owns_runtime:
            disconnect()
        self._connected = False
