"""Work shared by threads of this process, for code that leaves Python's lock: compiled loops, products, torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = ["Crew", "allowed_threads", "process_threads", "products_of", "spread", "usable_cores"]

Item = TypeVar("Item")
Found = TypeVar("Found")

# 0/1 features of all points together, below which handing work to threads costs more than it saves (measured: 1000
# moons take 1.6 times as long with two threads, 100 000 moons the same with one and with two).
MANY_FEATURES = 2**26
# Weights of a network from which products with its layers gain by the threads of BLAS. Below, these wait for each other
# in a loop: 784-512-512-512-10 took 13 s of processor time with one and 133 s with two on a machine with other work.
MANY_WEIGHTS = 10_000_000


def allowed_threads(features: int, wanted: int | None = None) -> int:
    """Threads to use: as many as wanted, else one for little work and for much as many as torch may use.

    Args:
        features: numbers that are to be computed, points times neurons.
        wanted: what the caller asks for.
    """
    if wanted is not None:
        return wanted
    return 1 if features < MANY_FEATURES else process_threads()


def process_threads() -> int:
    """Threads that this process may use: what torch was told, or OMP_NUM_THREADS (Ray sets it), or its cores."""
    torch = sys.modules.get("torch")  # importing it only to ask costs seconds
    if torch is not None:
        return int(torch.get_num_threads())
    named = os.environ.get("OMP_NUM_THREADS", "")
    return int(named) if named.isdigit() and int(named) > 0 else usable_cores()


def usable_cores() -> int:
    """Cores that this process may run on; where the system does not say, those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def products_of(weights: int) -> Iterator[None]:
    """In this context, products with the layers of a network of so many weights take one thread if that is faster."""
    if weights >= MANY_WEIGHTS:
        yield
        return
    with _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _blas() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401, its BLAS is not numpy's
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


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
