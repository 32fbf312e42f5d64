"""Work shared by threads of this process, for code that leaves Python's lock: compiled loops, products, torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

__all__ = ["Crew", "allowed_threads", "spread"]

Item = TypeVar("Item")
Found = TypeVar("Found")


def allowed_threads(wanted: int | None = None) -> int:
    """Threads to use: as many as wanted, else as many as torch may use - a worker's number of CPUs."""
    if wanted is not None:
        return wanted
    import torch

    return torch.get_num_threads()


def spread(work: Callable[[Item], Found], items: Iterable[Item], threads: int) -> list[Found]:
    """`work` of every item, in their order; the first exception is raised."""
    if threads == 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))


class Crew:
    """Threads that stand ready for many short pieces of work; used as a context.

    Args:
        threads: how many take part, the caller's own included.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(max(1, threads - 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def run(self, work: Callable[..., None], *arguments: Any) -> None:
        """`work` of 0, ..., threads - 1 and the arguments at once; returns when all are done."""
        others = [self._pool.submit(work, k, *arguments) for k in range(1, self._threads)]
        work(0, *arguments)
        for other in others:
            other.result()
