"""Progress of one solve on standard error: time, and the bounds so far where the method reports them."""

from __future__ import annotations

import math
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cluster.output.progress import duration
from cluster.output.terminal import say
from solvers.arithmetic.compiled import is_compiling
from solvers.arithmetic.norms import exponent_label
from solvers.problems.budget import Budget

if TYPE_CHECKING:
    from cluster.execution.search.spread import Standing

__all__ = ["LINE_SECONDS", "SolveProgress", "progress_line"]

LINE_SECONDS = 10.0


def progress_line(
    elapsed: float,
    limit: float,
    bounds: tuple[float, float, float] | None,
    compiling: bool = False,
    standing: Standing | None = None,
) -> str:
    """`12 s, at most 48 s left; p = 2: 3.1 <= L <= 4.2, gap 26 %; 310 open nodes, 8 workers`.

    Args:
        elapsed, limit: seconds; no limit where it is infinite.
        bounds: p, lower and upper bound, as last reported.
        compiling: whether kernels are being compiled, which no limit counts.
        standing: of a search that is spread over workers.
    """
    if compiling:
        return f"compiling the solver for {duration(elapsed)}, once after an installation (about a minute)"
    left = "" if math.isinf(limit) else f", at most {duration(max(0.0, limit - elapsed))} left"
    if bounds is None:
        return f"solving for {duration(elapsed)}{left}"
    p, lower, upper = bounds
    if math.isinf(upper):
        so_far = f"L >= {lower:.6g}"
    else:
        gap = (upper - lower) / upper if upper > 0 else 0.0
        so_far = f"{lower:.6g} <= L <= {upper:.6g}, gap {gap:.2%}"
    shared = "" if standing is None else f"; {standing.open_nodes} open nodes, {standing.workers} workers"
    return f"solving for {duration(elapsed)}{left}; p = {exponent_label(p)}: {so_far}{shared}"


class SolveProgress:
    """Says a line now and then while a solve runs inside the context; `watch` goes into its budget."""

    def __init__(self, limit: float, every: float = LINE_SECONDS) -> None:
        self._limit, self._every = limit, every
        self._bounds: tuple[float, float, float] | None = None
        self._standing: Standing | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def watch(self, p: float, lower: float, upper: float) -> None:
        """Remember the bounds so far."""
        self._bounds = (p, lower, upper)

    def stands(self, standing: Standing) -> None:
        """Remember where a search stands that is spread over workers."""
        self._standing = standing

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _tick(self) -> None:
        clock = Budget(self._limit).start()
        while not self._ended.wait(self._every):
            compiling = is_compiling()
            seconds = clock.elapsed if compiling else clock.spent
            say(progress_line(seconds, self._limit, self._bounds, compiling, self._standing))
