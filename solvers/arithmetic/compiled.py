"""The decorator of compiled kernels: numba's, with a cache on disk that no change of any kernel outlives.

Numba keeps compiled code until the file of the function itself changes, not the file of a function that it calls
(numba's documentation, "Caching limitations"); after an upgrade the old bounds could run on inside a new search.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import event

from solvers.arithmetic.compile_clock import COMPILING

__all__ = ["compiled", "is_compiling"]


def _digest() -> str:
    """Of the sources of all kernels, and of all files that speak of them, `rounding` with its constants for one."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        source = path.read_bytes()
        if b"compiled" in source or b"numba" in source:
            found.update(source)
    return found.hexdigest()


SOURCES = _digest()


class _Listener(event.Listener):
    """Tells the clock of compilations; numba sends one event for each, one within the other."""

    def on_start(self, event: object) -> None:
        COMPILING.start()

    def on_end(self, event: object) -> None:
        COMPILING.end()


event.register("numba:compile", _Listener())  # type: ignore[no-untyped-call]


def is_compiling() -> bool:
    """Whether this process compiles a kernel now, which the first calls after an installation wait for."""
    return COMPILING.is_running


def compiled(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """`numba.njit` that leaves Python's lock and is cached; with options or, as a plain decorator, without.

    Args:
        function: to compile.
        options: of `numba.njit`.
    """
    if function is None:
        return lambda given: compiled(given, **options)
    dispatcher = numba.njit(cache=True, nogil=True, **options)(function)
    try:
        index = dispatcher._cache._cache_file
        index._source_stamp = (index._source_stamp, SOURCES)
    except AttributeError:  # another numba, or none that compiles: better slow at every start than ever stale
        return numba.njit(nogil=True, **options)(function)
    return dispatcher
