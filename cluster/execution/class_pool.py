"""The classes of one construction, one against the rest, as independent work on Ray. The network is the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cluster.execution.ray_runtime import cluster_workers, connect, disconnect
from cluster.execution.worker import pin_threads
from solvers.bits.features import Words
from solvers.interpolation.threshold_layer import ClassTask, Covered, cover_class

__all__ = ["ClassPool"]

# How often a class is tried again when its worker dies.
RETRIES = 2


def _cover(blocks: Words, valid: Words, task: ClassTask) -> Covered:
    """One class on one thread. The features come from shared memory, read-only: compiled code wants its own copy."""
    pin_threads()
    return cover_class(np.array(blocks), task.first, task.last, valid, task.order)


class ClassPool:
    """Covers classes on a local cluster that it starts and ends, or on a standing one.

    Args:
        workers: how many classes at once; all CPUs of the cluster when left out.
        address: None for a local cluster (inside a Ray job: the job's own), else "auto" or HOST:PORT.
    """

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self._workers, self._address = workers, address

    def cover(self, blocks: Words, valid: Words, tasks: Sequence[ClassTask]) -> list[Covered]:
        """`cover_class` of every task, the largest classes first; results in the order of the tasks.

        Raises:
            InputError: no cluster answers, or it has fewer CPUs than workers.
        """
        owns_runtime = connect(self._address, self._workers, blocks.nbytes)
        import ray

        try:
            workers = cluster_workers(self._workers)
            work = ray.remote(_cover).options(num_cpus=1, max_retries=RETRIES)
            shared = ray.put(blocks)
            order = sorted(range(len(tasks)), key=lambda k: -len(tasks[k].order))
            begun: dict[Any, int] = {}
            found: dict[int, Covered] = {}
            while len(found) < len(tasks):
                while order and len(begun) < workers:
                    k = order.pop(0)
                    begun[work.remote(shared, valid, tasks[k])] = k
                done, _ = ray.wait(list(begun), num_returns=1)
                for reference in done:
                    found[begun.pop(reference)] = ray.get(reference)
            return [found[k] for k in range(len(tasks))]
        finally:
            if owns_runtime:
                disconnect()
