"""Progress of a width search on standard error: one line kept up to date on a terminal, a plain line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cluster.output.terminal import console, say

if TYPE_CHECKING:
    from cluster.execution.least_width import SearchProgress

__all__ = ["SearchDisplay", "search_line"]

LINE_SECONDS = 10.0
STAGES = {
    "screen": "looking for",
    "certify": "showing wide enough",
    "refute": "showing too narrow",
    "curve": "measuring sizes",
}


def search_line(progress: SearchProgress) -> str:
    """`looking for: width 64 (above 32, 128 looks wide enough), 80 restarts, 8 a second, 10 s`."""
    above = f"above {progress.narrow}" if progress.narrow else "any"
    bracket = above if progress.wide is None else f"{above}, {progress.wide} looks wide enough"
    rate = progress.restarts / progress.seconds if progress.seconds > 0 else 0.0
    return (
        f"{STAGES[progress.stage]}: width {progress.width} ({bracket}), "
        f"{progress.restarts} restarts, {rate:.0f} a second, {progress.seconds:.0f} s"
    )


class SearchDisplay:
    """Shows `SearchProgress` on standard error."""

    def __init__(self) -> None:
        self._status: Any = None
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._status = console().status("starting")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def show(self, progress: SearchProgress) -> None:
        """Bring the display up to date."""
        if self._status is not None:
            self._status.update(search_line(progress))
        elif time.monotonic() - self._told > LINE_SECONDS:
            self._told = time.monotonic()
            say(search_line(progress))
