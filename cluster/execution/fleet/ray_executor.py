"""Executor `ray`: long-lived actors on every CPU that the cluster has or gets, and no trial lost with any of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from cluster.execution.executor import AbstractExecutor, Notice
from cluster.execution.fleet.dispatch import FleetPolicy
from cluster.execution.fleet.workers import Fleet, GivenUp
from cluster.execution.ray_runtime import cluster_workers, connect, disconnect
from cluster.execution.scheduling import Batch
from cluster.execution.worker import BatchSummary, pin_threads, record_failure, run_batch
from tasks.experiment import AbstractExperiment, RunContext
from tracking.parts import RunFolder

__all__ = ["RayExecutor"]

# A busy cluster is waited for, but with a word, so the study begins without its workers.
FIRST_SECONDS, ALL_SECONDS = 30.0, 15.0


class _Worker:
    """The actor: one CPU, one thread."""

    def __init__(self, experiments: Sequence[AbstractExperiment[Any]]) -> None:
        pin_threads()
        self._experiments = {experiment.name: experiment for experiment in experiments}
        for experiment in experiments:
            experiment.warm_up()

    def ready(self) -> int:
        """Its process."""
        return os.getpid()

    def run(self, batch: Batch, folder: RunFolder, context: RunContext) -> BatchSummary:
        return run_batch(batch, self._experiments[batch.experiment], folder, context)


class RayExecutor(AbstractExecutor):
    """Actors on a local cluster that this executor starts and ends, or on a standing one.

    Args:
        workers: number of actors at most, one CPU each; as many as the cluster has CPUs when left out.
        address: None for a local cluster (inside a Ray job: the job's own), else "auto" or HOST:PORT.
        trial_timeout: seconds that a trial may run; generous when left out, and longer where more is expected.
    """

    def __init__(
        self, workers: int | None = None, address: str | None = None, trial_timeout: float | None = None
    ) -> None:
        self._address = address
        self._wanted = workers
        # Who names a time wants it kept; a batch of many trials may still need more than one of them.
        self._policy = FleetPolicy()
        if trial_timeout is not None:
            self._policy = replace(self._policy, trial_seconds=trial_timeout, cost_factor=2.0)
        self.workers = workers or 1
        self._fleet: Fleet | None = None
        self._connected = False

    def start(self, experiments: Sequence[AbstractExperiment[Any]]) -> None:
        self._owns_runtime = connect(self._address, self._wanted)
        self._connected = True
        self.workers = cluster_workers(self._wanted)
        import ray

        # Ray itself tries nothing again: a worker that dies is dead, and how it died decides who is to blame.
        kind = ray.remote(_Worker).options(num_cpus=1, max_restarts=0, max_task_retries=0)
        self._fleet = Fleet(self._policy, self._wanted, lambda: kind.remote(list(experiments)))
        self._fleet.start(FIRST_SECONDS, ALL_SECONDS)

    def run(
        self,
        batches: Sequence[Batch],
        experiments: dict[str, AbstractExperiment[Any]],
        folder: RunFolder,
        context: RunContext,
    ) -> Iterator[BatchSummary | Notice]:
        if self._fleet is None:
            raise RuntimeError("the executor was not started")
        for outcome in self._fleet.compute(batches, lambda actor, batch: actor.run.remote(batch, folder, context)):
            match outcome:
                case Notice():
                    yield outcome
                case GivenUp(batch, reason):
                    yield record_failure(batch, folder, reason)
                case _:
                    yield outcome.value

    def stop(self) -> None:
        if self._fleet is not None:
            self._fleet.stop()
            self._fleet = None
        if self._connected and self._owns_runtime:
            disconnect()
        self._connected = False
