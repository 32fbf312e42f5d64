"""How far a run is, kept in its folder: points of progress and when something was last heard of the driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tracking.parts import RunFolder

__all__ = ["PROGRESS_FILE", "ProgressLog"]

PROGRESS_FILE = "progress.json"
LEAST_SECONDS = 2.0
# Points come as often as this share of the time that has passed: a week has about 5000.
SHARE = 1 / 400


class ProgressLog:
    """Points of `step -> metrics` over time. The file is what `interlip sync` tells a tracker later.

    Args:
        folder: the run folder; points that an earlier driver left there are kept.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._found: list[dict[str, Any]] | None = None

    @property
    def _points(self) -> list[dict[str, Any]]:
        if self._found is None:
            self._found = _stored(self._folder)
        return self._found

    def due(self, now: float) -> bool:
        """Whether it is time for another point."""
        if not self._points:
            return True
        first, last = self._points[0]["at"], self._points[-1]["at"]
        return bool(now - last >= max(LEAST_SECONDS, SHARE * (now - first)))

    def add(self, step: int, metrics: Mapping[str, float], now: float) -> None:
        """Keep a point.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._points.append({"step": step, "at": now, **metrics})
        self._folder.write_json(PROGRESS_FILE, self._points)

    def points(self) -> Iterator[tuple[int, dict[str, float], float]]:
        """Step, metrics and time of every point, the first first."""
        for point in self._points:
            yield point["step"], {k: v for k, v in point.items() if k not in ("step", "at")}, point["at"]


def _stored(folder: RunFolder) -> list[dict[str, Any]]:
    """The points of the file; none where it is not there or damaged, since they are told, not counted on."""
    try:
        found = folder.read_json(PROGRESS_FILE)
        return [dict(point, step=int(point["step"]), at=float(point["at"])) for point in found or ()]
    except (ValueError, TypeError, KeyError):
        return []
