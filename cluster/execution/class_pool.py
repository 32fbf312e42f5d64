"""The classes of one construction, one against the rest, as independent work on Ray. The network is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cluster.execution.actors import MOST_DEATHS, Policy
from cluster.execution.ray_actors import AbstractWorker, RayCalls, end_actors, start_actors
from cluster.execution.ray_runtime import cluster_workers, connect, disconnect
from cluster.execution.worker import pin_threads
from solvers.bits.features import Words
from solvers.interpolation.class_cover import ClassTask, Covered, cover_task

__all__ = ["ClassPool"]


class _Worker(AbstractWorker):
    """The actor: one CPU, one thread."""

    def __init__(self) -> None:
        pin_threads()

    def run(self, blocks: Words, valid: Words, task: ClassTask) -> Covered:
        """One class. The features come from shared memory, read-only: compiled code wants its own copy."""
        return cover_task(np.array(blocks), valid, task)


class ClassPool:
    """Covers classes on a local cluster that it starts and ends, or on a standing one.

    Args:
        workers: how many classes at once; all CPUs of the cluster when left out.
        address: None for a local cluster (inside a Ray job: the job's own), else "auto" or HOST:PORT.
    """

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self._workers, self._address = workers, address

    def cover(self, blocks: Words, valid: Words, tasks: Sequence[ClassTask]) -> list[Covered]:
        """`cover_task` of every task, the largest classes first; results in the order of the tasks.

        Raises:
            InputError: no cluster answers, or it has fewer CPUs than workers.
        """
        owns_runtime = connect(self._address, self._workers, blocks.nbytes)
        import ray

        actors: list[Any] = []
        try:
            actors = start_actors(_Worker, [], min(cluster_workers(self._workers), len(tasks)))
            shared = ray.put(blocks)
            calls: RayCalls[int] = RayCalls(
                actors, Policy(depth=1), lambda actor, k: actor.run.remote(shared, valid, tasks[k])
            )
            calls.add(sorted(range(len(tasks)), key=lambda k: -len(tasks[k].order)))
            found: dict[int, Covered] = {}
            for outcome in calls.outcomes():
                if outcome.death is not None:
                    raise RuntimeError(
                        f"a worker died {MOST_DEATHS + 1} times on one class, most likely for want of memory: "
                        "take fewer workers"
                    )
                found[outcome.work] = outcome.value
            return [found[k] for k in range(len(tasks))]
        finally:
            end_actors(actors)
            if owns_runtime:
                disconnect()
