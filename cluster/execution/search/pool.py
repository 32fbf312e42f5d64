"""The workers of spread searches: started once, for as many questions as are asked."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from cluster.execution.actors import Policy
from cluster.execution.ray_actors import RayCalls, end_actors, start_actors
from cluster.execution.ray_runtime import cluster_workers, connect, disconnect
from cluster.execution.search.dealing import DEPTH
from cluster.execution.search.worker import Question, SearchWorker, Task

__all__ = ["SearchPool"]


class SearchPool:
    """Actors on a local cluster that it starts and ends, or on a standing one. Used as a context.

    Args:
        workers: how many; all CPUs of the cluster when left out.
        address: None for a local cluster (inside a Ray job: the job's own), else "auto" or HOST:PORT.
    """

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self._wanted, self._address = workers, address
        self._owns_runtime = False
        self._actors: list[Any] = []

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self._actors)

    def __enter__(self) -> Self:
        """Start the workers; when this returns they have loaded, or compiled, what a search needs.

        Raises:
            InputError: no cluster answers, or it has fewer CPUs than workers.
        """
        self._owns_runtime = connect(self._address, self._wanted)
        import ray

        try:
            self._actors = start_actors(SearchWorker, [], cluster_workers(self._wanted))
            ray.get([actor.warm_up.remote() for actor in self._actors])
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        end_actors(self._actors)
        self._actors = []
        if self._owns_runtime:
            disconnect()
            self._owns_runtime = False

    def ask(self, question: Question) -> RayCalls[Task]:
        """Calls that search tasks of a question; the answer to each is a `Found`."""
        import ray

        # In a list, so that Ray does not bring the whole question to every call.
        shared = [ray.put(question)]
        return RayCalls(self._actors, Policy(DEPTH), lambda actor, task: actor.run.remote(question.key, shared, task))
