"""Executor `ray`: long-lived actors, a bounded number of batches in flight, restarts and retries."""

from __future__ import annotations

import collections
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from cluster.execution.executor import AbstractExecutor
from cluster.execution.ray_runtime import cluster_workers, connect, disconnect
from cluster.execution.scheduling import DEPTH, Batch
from cluster.execution.worker import BatchSummary, pin_threads, record_failure, run_batch
from tasks.experiment import AbstractExperiment, RunContext
from tracking.parts import RunFolder, StorageError

__all__ = ["RayExecutor"]

# A batch that has killed its worker this often is kept as failed.
MOST_DEATHS = 2
WAIT_SECONDS = 5.0
RESTART_SECONDS = 60.0


class _Worker:
    """The actor: one CPU, one thread."""

    def __init__(self, experiments: Sequence[AbstractExperiment[Any]]) -> None:
        pin_threads()
        self._experiments = {experiment.name: experiment for experiment in experiments}
        for experiment in experiments:
            experiment.warm_up()

    def ready(self) -> int:
        return os.getpid()

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
        import ray

        self._owns_runtime = connect(self._address, self._wanted)
        self._connected = True
        self.workers = cluster_workers(self._wanted)
        actor = ray.remote(_Worker).options(num_cpus=1, max_restarts=-1, max_task_retries=0)
        self._actors = [actor.remote(list(experiments)) for _ in range(self.workers)]
        ray.get([worker.ready.remote() for worker in self._actors])

    def run(
        self,
        batches: Sequence[Batch],
        experiments: dict[str, AbstractExperiment[Any]],
        folder: RunFolder,
        context: RunContext,
    ) -> Iterator[BatchSummary]:
        import ray

        waiting = collections.deque(batches)
        # Batches whose worker died. Those queued behind a fatal one die with it, so each suspect runs alone on a
        # worker, and only a death there counts against it.
        suspects: collections.deque[Batch] = collections.deque()
        deaths: collections.Counter[str] = collections.Counter()
        load = [0] * len(self._actors)
        alone: set[int] = set()
        pending: dict[Any, tuple[int, Batch]] = {}
        while waiting or suspects or pending:
            for worker in sorted(range(len(load)), key=load.__getitem__):
                if suspects and load[worker] == 0:
                    alone.add(worker)
                    self._await_restart(worker)
                    self._submit(suspects.popleft(), worker, folder, context, load, pending)
            open_workers = [k for k in range(len(load)) if k not in alone]
            while waiting and open_workers and min(load[k] for k in open_workers) < DEPTH:
                if suspects:
                    break
                worker = min(open_workers, key=load.__getitem__)
                self._submit(waiting.popleft(), worker, folder, context, load, pending)
            done, _ = ray.wait(list(pending), num_returns=1, timeout=WAIT_SECONDS)
            for reference in done:
                worker, batch = pending.pop(reference)
                load[worker] -= 1
                was_alone = worker in alone
                alone.discard(worker)
                try:
                    yield ray.get(reference)
                except StorageError as error:
                    raise StorageError(str(error.args[0]) if error.args else str(error)) from None
                except ray.exceptions.RayActorError as error:
                    deaths[batch.digest] += was_alone
                    if deaths[batch.digest] >= MOST_DEATHS:
                        reason = f"its worker died {MOST_DEATHS} times: {_short(error)}"
                        yield record_failure(batch, folder, reason)
                    else:
                        suspects.append(batch)

    def _await_restart(self, worker: int) -> None:
        """Until the worker answers: a call that meets it while it restarts fails too, and would count as a death."""
        import ray

        deadline = time.monotonic() + RESTART_SECONDS
        while True:
            try:
                ray.get(self._actors[worker].ready.remote(), timeout=RESTART_SECONDS)
                return
            except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError):
                if time.monotonic() > deadline:
                    return  # the batch then says that its worker is gone
                time.sleep(0.1)

    def _submit(
        self,
        batch: Batch,
        worker: int,
        folder: RunFolder,
        context: RunContext,
        load: list[int],
        pending: dict[Any, tuple[int, Batch]],
    ) -> None:
        load[worker] += 1
        pending[self._actors[worker].run.remote(batch, folder, context)] = (worker, batch)

    def stop(self) -> None:
        import ray

        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        if self._connected and self._owns_runtime:
            disconnect()
        self._connected = False


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
