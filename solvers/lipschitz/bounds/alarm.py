"""A flag for compiled code, which cannot ask a clock."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from solvers.problems.budget import Deadline

__all__ = ["alarm"]

# Seconds between two looks at a deadline that is about to pass.
GLANCE = 0.002


@contextlib.contextmanager
def alarm(deadline: Deadline) -> Iterator[NDArray[np.int8]]:
    """A flag of shape (1,) that becomes 1 when the deadline passes, also while compiled code runs.

    The clock stands still while kernels are compiled, so what is left is asked for again each time it should be over.
    """
    stop = np.zeros(1, dtype=np.int8)
    if math.isinf(deadline.remaining):
        yield stop
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(max(deadline.remaining, GLANCE)):
            if deadline.is_over:
                stop.fill(1)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        ended.set()
        watcher.join()
