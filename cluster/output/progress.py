"""Progress on standard error: a bar with the time left on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cluster.output.terminal import console, say

if TYPE_CHECKING:
    from cluster.execution.executor import Progress

__all__ = ["ProgressDisplay", "StageDisplay", "duration"]

LINE_SECONDS = 10.0


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    if not math.isfinite(seconds):
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class _BarContext:
    """A bar on a terminal for as long as it is open; elsewhere there is none, and lines are said instead."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %  {task.fields[detail]}"),
                console=console(),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=1.0, detail="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


class ProgressDisplay(_BarContext):
    """Shows `Progress` on standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._told = 0.0

    def show(self, progress: Progress) -> None:
        """Bring the display up to date."""
        if progress.note:
            (say if self._bar is None else self._bar.console.print)(progress.note)
        rate = progress.done / progress.elapsed_seconds if progress.elapsed_seconds > 0 else 0.0
        failed = f", {progress.failed} failed" if progress.failed else ""
        left = f", {duration(progress.seconds_left)} left" if math.isfinite(progress.seconds_left) else ""
        detail = f"{progress.done} of {progress.total} trials{failed}, {rate:.0f} a second{left}"
        if self._bar is not None:
            self._bar.update(self._task, description="trials", completed=progress.share, detail=detail)
        elif time.monotonic() - self._told > LINE_SECONDS:
            self._told = time.monotonic()
            say(f"{progress.share:4.0%}  {detail}")


class StageDisplay(_BarContext):
    """Shows one stage of a computation after the other, each with the time left in it."""

    def __init__(self) -> None:
        super().__init__()
        self._stage = ""
        self._begun = self._told = time.monotonic()

    def show(self, stage: str, share: float) -> None:
        """Say what is being done and how much of it is done."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begun = stage, now
        spent = now - self._begun
        # The first moments of a stage say little about the rest.
        left = f"{duration(spent * (1 - share) / share)} left" if share > 0.01 and spent > 1.0 else ""
        if self._bar is not None:
            self._bar.update(self._task, description=stage, completed=share, detail=left)
        elif now - self._told > LINE_SECONDS:
            self._told = now
            say(f"{share:4.0%}  {stage}{f', {left}' if left else ''}")
