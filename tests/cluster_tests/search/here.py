"""A pool of workers inside the test's own process: tasks and answers are pickled, nothing else is as on Ray."""

from __future__ import annotations

import collections
import itertools
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cluster.execution.ray_actors import Outcome
from cluster.execution.search.checkpoint import Checkpoint
from cluster.execution.search.dealing import Share
from cluster.execution.search.spread import SpreadSearch
from cluster.execution.search.stopping import Stop
from cluster.execution.search.worker import Found, Question, Task, Workshop
from solvers.networks.relu import ReluNetwork

TINY = Share(1, 0.0)


def tiny_shares(open_nodes: int, workers: int) -> Share:
    """One node, sixteen splits: as many tasks as there can be."""
    return TINY


class Calls:
    """As `RayCalls`: the answers come in any order, and some of them not at all."""

    def __init__(self, pool: PoolHere, question: Question) -> None:
        self._pool, self._shop = pool, Workshop(pickle.loads(pickle.dumps(question)))
        self._tasks: collections.deque[Task] = collections.deque()

    def add(self, tasks: Iterable[Task]) -> None:
        self._tasks.extend(tasks)

    def turn(self, seconds: float) -> Outcome[Task] | None:
        if not self._tasks:
            return None
        place = int(self._pool.rng.integers(len(self._tasks)))
        task = self._tasks[place]
        del self._tasks[place]
        self._pool.turns += 1
        if self._pool.turns == self._pool.stop_after:
            self._pool.stop.signal = 2
        if self._pool.rng.random() < self._pool.silent:
            return None
        if self._pool.rng.random() < self._pool.deadly:
            return Outcome(task, death="the worker died")
        found: Found = pickle.loads(pickle.dumps(self._shop.search(pickle.loads(pickle.dumps(task)))))
        self._pool.most_bytes = max(self._pool.most_bytes, len(pickle.dumps(task)))
        return Outcome(task, found)


class PoolHere:
    """As `SearchPool`.

    Args:
        silent: share of answers that never come; deadly: of tasks that end their worker too often.
        stop_after: turns until the user wants to stop.
    """

    def __init__(self, workers: int = 2, silent: float = 0.0, deadly: float = 0.0, stop_after: int = -1) -> None:
        self.workers, self.silent, self.deadly, self.stop_after = workers, silent, deadly, stop_after
        self.stop = Stop()
        self.turns = self.most_bytes = 0
        self.rng = np.random.default_rng(workers)

    def ask(self, question: Question) -> Any:
        return Calls(self, question)

    def solver(
        self, certified: bool = False, path: Path | None = None, resume: Path | None = None, command: str = "c"
    ) -> SpreadSearch:
        """Branch and bound on this pool."""
        kept = Checkpoint(path, command)
        if resume is not None:
            kept.resume(resume)
        pool: Any = self
        return SpreadSearch(certified=certified, pool=pool, checkpoint=kept, stop=self.stop)


def gaussian_box_network(d: int, widths: tuple[int, ...], seed: int, outputs: int = 1) -> ReluNetwork:
    """He-type weights, biases N(0, 0.3^2)."""
    rng = np.random.default_rng(seed)
    sizes = (d, *widths, outputs)
    return ReluNetwork(
        [rng.standard_normal((n, m)) * np.sqrt(2 / m) for m, n in itertools.pairwise(sizes)],
        [0.3 * rng.standard_normal(n) for n in sizes[1:]],
    )
