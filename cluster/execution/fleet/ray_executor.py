"""Executor `ray`: long-lived actors on every CPU that the cluster has or gets, and no trial lost with any of them."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.execution.executor import AbstractExecutor, Notice
from cluster.execution.fleet.dispatch import FleetPolicy
from cluster.execution.fleet.workers import Fleet, GivenUp
from cluster.execution.ray_runtime import cluster_workers, connect, disconnect
from cluster.execution.scheduling import Batch
from cluster.execution.worker import BatchSummary, pin_threads, record_failure, run_batch
from solvers.errors import InputError
from tasks.experiment import AbstractExperiment, RunContext
from tracking.parts import RunFolder, StorageError

__all__ = ["RayExecutor"]

TOKENS = ".seen"
WAY_OUT = "give --out a folder or URI that all nodes share, e.g. s3://..."
# A busy cluster is waited for, but with a word, so the study begins without its workers.
FIRST_SECONDS, ALL_SECONDS = 30.0, 15.0


@dataclass(frozen=True, slots=True)
class _Token:
    """What a worker wrote to the run folder, and on which host."""

    host: str
    name: str
    word: str


def _unseen(folder: RunFolder, token: _Token) -> str | None:
    """Why what a worker wrote is not seen here; None when it is."""
    try:
        if folder.read(token.name) == token.word.encode():
            folder.remove(token.name)
            return None
    except Exception as error:  # every backend raises its own kinds
        return f"what the worker on {token.host} writes to {folder.uri} cannot be read here ({error})"
    return f"what the worker on {token.host} writes to {folder.uri} is not seen here"


class _Worker:
    """The actor: one CPU, one thread."""

    def __init__(self, experiments: Sequence[AbstractExperiment[Any]], folder: RunFolder) -> None:
        pin_threads()
        self._folder = folder
        self._experiments = {experiment.name: experiment for experiment in experiments}
        for experiment in experiments:
            experiment.warm_up()

    def ready(self) -> _Token:
        """A word written to the run folder from here: the driver looks whether it can read it.

        Raises:
            StorageError: the folder cannot be written from here.
        """
        import ray

        node, word = ray.get_runtime_context().get_node_id(), uuid.uuid4().hex
        name = f"{TOKENS}/{node}-{os.getpid()}"
        try:
            self._folder.write(name, word.encode())
        except StorageError as error:
            raise StorageError(f"{error} on the node {platform.node()}") from None
        return _Token(platform.node(), name, word)

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

    def start(self, experiments: Sequence[AbstractExperiment[Any]], folder: RunFolder) -> None:
        if folder.uri.startswith("memory:"):
            raise InputError(f"{folder.uri} is the memory of one process, which no worker sees; {WAY_OUT}")
        self._owns_runtime = connect(self._address, self._wanted)
        self._connected = True
        self.workers = cluster_workers(self._wanted)
        import ray

        # Ray itself tries nothing again: a worker that dies is dead, and how it died decides who is to blame.
        kind = ray.remote(_Worker).options(num_cpus=1, max_restarts=0, max_task_retries=0)
        arguments = (list(experiments), folder)
        self._fleet = Fleet(
            self._policy, self._wanted, lambda: kind.remote(*arguments), lambda token: _unseen(folder, token)
        )
        self._fleet.start(FIRST_SECONDS, ALL_SECONDS)
        if self._fleet.refusals:
            raise InputError(f"{self._fleet.refusals[0]}; {WAY_OUT}")

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
