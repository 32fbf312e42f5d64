"""A tracker on a thread of its own: a store that is slow, hangs, or comes back later costs a study seconds at most."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from tracking.tracker import AbstractTracker, StudyHandle

__all__ = ["BackgroundTracker"]

# Calls that wait for the store; beyond them a call waits itself as long as the store is quick, else it is missed.
MOST_WAITING = 10_000
# How long the study waits for a store that is not quick, at its end or with a full queue.
PATIENCE_SECONDS = 4.0
# A store that has answered a call within this is quick, and waited for anew.
QUICK_SECONDS = 2.0
# Libraries are loaded and tables made in this; what takes longer uses up patience too.
LOADING_SECONDS = 60.0
# A store that is away is asked again after so long, then after twice as long, up to the last.
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 30.0

Call = Callable[[AbstractTracker], object]


class BackgroundTracker(AbstractTracker):
    """Hands every call to another tracker, in order, on a thread that no study waits for.

    While the store does not answer, calls wait and it is asked now and then; once it does they go on where they
    stopped. A call that fails though the store answers is missed, and the next one follows.

    Args:
        inner: what the calls go to; only the thread touches it.
    """

    def __init__(self, inner: AbstractTracker, patience: float = PATIENCE_SECONDS, most: int = MOST_WAITING) -> None:
        self._inner = inner
        self._patience = patience
        self._most = most
        self._calls: deque[Call] = deque()
        self._changed = threading.Condition()
        self._left = patience
        self._begun = 0.0
        self._missed = 0
        self._reason: str | None = None
        self._parent: str | None = None
        self._ready = self._closing = self._gone = False
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)

    @property
    def uri(self) -> str:
        return self._inner.uri

    @property
    def parent_id(self) -> str | None:
        return self._parent

    @property
    def trouble(self) -> str | None:
        with self._changed:
            missed = self._missed + (len(self._calls) if self._gone else 0)
            if not missed:
                return None
            return f"{self._reason or 'the store is too slow'}; {missed} records missed"

    def start(self, study: StudyHandle) -> str | None:
        if not self._thread.is_alive():
            self._begun = time.monotonic()
            self._thread.start()
        self._put(lambda inner: inner.start(study))
        return self._parent

    def progress(self, step: int, metrics: Mapping[str, float], timestamp: float) -> None:
        kept = dict(metrics)
        self._put(lambda inner: inner.progress(step, kept, timestamp))

    def cell(
        self, key: str, name: str, params: Mapping[str, Any], metrics: Mapping[str, float], timestamp: float
    ) -> None:
        kept, measured = dict(params), dict(metrics)
        self._put(lambda inner: inner.cell(key, name, kept, measured, timestamp))

    def metrics(self, metrics: Mapping[str, float], timestamp: float) -> None:
        kept = dict(metrics)
        self._put(lambda inner: inner.metrics(kept, timestamp))

    def artifact(self, path: str, folder: str | None = None) -> None:
        self._put(lambda inner: inner.artifact(path, folder))

    def data_set(self, name: str, points: Any, labels: Any) -> None:
        self._put(lambda inner: inner.data_set(name, points, labels))

    def settle(self) -> None:
        with self._changed:
            if self._thread.is_alive() and not self._gone:
                self._wait(lambda: not self._calls)

    def finish(self, status: str, timestamp: float | None = None) -> None:
        """Close the parent, and wait for everything that was told as long as the store is quick."""
        if not self._thread.is_alive():
            return
        when = time.time() if timestamp is None else timestamp
        self._put(lambda inner: inner.finish(status, when))
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._gone = not self._wait(lambda: not self._calls)
            self._changed.notify_all()

    def _put(self, call: Call) -> None:
        with self._changed:
            if self._gone or not self._wait(lambda: len(self._calls) < self._most):
                self._missed += 1
                return
            self._calls.append(call)
            self._changed.notify_all()

    def _wait(self, done: Callable[[], bool]) -> bool:
        """Wait, with the lock held, until something is so; False once the patience is used up or the thread gave up.

        All waits of a study share one patience, which a quick answer makes whole again. The first seconds, in
        which libraries are loaded, use up none: they are the same with every store.
        """
        while not done():
            if self._gone or self._left <= 0:
                return False
            begun = time.monotonic()
            self._changed.wait(0.1)
            if self._ready or begun - self._begun > LOADING_SECONDS:
                self._left -= time.monotonic() - begun
        return True

    def _work(self) -> None:
        self._inner.prepare()
        with self._changed:
            self._ready, self._reason = True, self._inner.trouble
        while True:
            with self._changed:
                while not self._calls:
                    if self._closing:
                        return
                    self._changed.wait()
                call = self._calls[0]
            if not self._deliver(call):
                return

    def _deliver(self, call: Call) -> bool:
        """Make one call, waiting for the store as long as it takes; False when there is no more time for that."""
        pause = FIRST_RETRY_SECONDS
        while True:
            begun, last = time.monotonic(), self._closing
            reason = self._tried(call)
            if reason is None:
                with self._changed:
                    self._parent = self._inner.parent_id
                    if time.monotonic() - begun <= QUICK_SECONDS:
                        self._left = self._patience
                self._done(missed=False)
                return not self._gone
            with self._changed:
                self._reason = reason
            if self._inner.answers():
                # The store is there: it came back in between, or it is this call that it cannot take.
                reason = self._tried(call)
                with self._changed:
                    self._reason = reason or self._reason
                self._done(missed=reason is not None)
                return not self._gone
            with self._changed:
                # At the end it is asked once more: it may have come back while nobody asked.
                if last or self._gone:
                    self._gone = True
                    self._changed.notify_all()
                    return False
                self._changed.wait_for(lambda: self._closing, pause)
            pause = min(2 * pause, LAST_RETRY_SECONDS)

    def _tried(self, call: Call) -> str | None:
        """Why a call failed; None if it did not."""
        self._inner.forgive()
        call(self._inner)
        return self._inner.trouble

    def _done(self, missed: bool) -> None:
        with self._changed:
            self._missed += missed
            self._calls.popleft()
            self._changed.notify_all()
