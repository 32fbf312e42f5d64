"""How long this process has been compiling kernels. Loads no numba: clocks of solves ask it all the time."""

from __future__ import annotations

import threading
import time

__all__ = ["COMPILING", "CompileClock"]


class CompileClock:
    """Seconds during which at least one compilation was under way; of several at once, each second counts once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depth = 0
        self._before = 0.0
        self._since = 0.0

    def start(self) -> None:
        """A compilation begins, perhaps inside another one."""
        with self._lock:
            if self._depth == 0:
                self._since = time.perf_counter()
            self._depth += 1

    def end(self) -> None:
        """The compilation that began last ends."""
        with self._lock:
            self._depth -= 1
            if self._depth == 0:
                self._before += time.perf_counter() - self._since

    @property
    def is_running(self) -> bool:
        return self._depth > 0

    def seconds_until(self, now: float) -> float:
        """In all, up to a time of `time.perf_counter` that was read just now."""
        with self._lock:
            return self._before + (max(0.0, now - self._since) if self._depth else 0.0)


# Of this process; `arithmetic.compiled` tells it.
COMPILING = CompileClock()
