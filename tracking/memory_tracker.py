"""A tracker that keeps everything in this process: for tests and dry runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracking.tracker import AbstractTracker, StudyHandle

__all__ = ["MemoryTracker"]


class MemoryTracker(AbstractTracker):
    """Records in dictionaries, under the names the methods have."""

    def __init__(self) -> None:
        self.study: StudyHandle | None = None
        self.progress_points: list[tuple[int, dict[str, float]]] = []
        self.cells: dict[str, tuple[str, dict[str, Any], dict[str, float]]] = {}
        self.study_metrics: dict[str, float] = {}
        self.artifacts: list[str] = []
        self.data_sets: dict[str, tuple[int, ...]] = {}
        self.status: str | None = None

    @property
    def uri(self) -> str:
        return "memory:"

    @property
    def trouble(self) -> str | None:
        return None

    @property
    def parent_id(self) -> str | None:
        return None if self.study is None else self.study.key

    def start(self, study: StudyHandle) -> str | None:
        self.study, self.status = study, "RUNNING"
        return study.key

    def progress(self, step: int, metrics: Mapping[str, float], timestamp: float) -> None:
        self.progress_points.append((step, dict(metrics)))

    def cell(
        self, key: str, name: str, params: Mapping[str, Any], metrics: Mapping[str, float], timestamp: float
    ) -> None:
        self.cells[key] = (name, dict(params), dict(metrics))

    def metrics(self, metrics: Mapping[str, float], timestamp: float) -> None:
        self.study_metrics.update(metrics)

    def artifact(self, path: str, folder: str | None = None) -> None:
        name = path.rsplit("/", 1)[-1]
        entry = f"{folder}/{name}" if folder else name
        if entry not in self.artifacts:
            self.artifacts.append(entry)

    def data_set(self, name: str, points: Any, labels: Any) -> None:
        self.data_sets[name] = tuple(points.shape)

    def finish(self, status: str, timestamp: float | None = None) -> None:
        self.status = status
