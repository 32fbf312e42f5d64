"""The interface of a tracker: one study is one parent with a child for every grid cell."""

from __future__ import annotations

import abc
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["AbstractTracker", "StudyHandle", "without_password"]


def without_password(text: str) -> str:
    """A text that may hold URIs, to show: `user:***@host` instead of `user:secret@host`."""
    return re.sub(r"(://[^\s/:@]*):[^\s/]*@", r"\1:***@", text)


@dataclass(frozen=True, slots=True)
class StudyHandle:
    """Identity of a study's record: logging it again finds the same one.

    Attributes:
        key: unique name of the run (its folder's name).
        experiment: name of the MLflow experiment.
        params, tags: of the parent.
        started: when the run began, seconds since the epoch; None is now.
    """

    key: str
    experiment: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    started: float | None = None


class AbstractTracker(abc.ABC):
    """Keeps what happened. No method ever raises for a tracker that is down: `trouble` then says what was missed.

    All methods may be called again with the same content (after a crash, or by `interlip sync`) and change nothing.
    """

    @property
    @abc.abstractmethod
    def uri(self) -> str:
        """Where the records are."""

    @property
    @abc.abstractmethod
    def trouble(self) -> str | None:
        """Why something could not be logged, in one clause; None when all went well."""

    @property
    @abc.abstractmethod
    def parent_id(self) -> str | None:
        """The parent's id; None as long as it is not known."""

    def prepare(self) -> None:
        """Load and make what needs no store elsewhere: what every study pays for once."""
        return

    def settle(self) -> None:
        """Return once what was told is kept, or hopeless: before a file that was told of goes away."""
        return

    def forgive(self) -> None:
        """Forget the trouble: what is told next is tried again."""
        return

    def answers(self) -> bool:
        """Whether the store is there now."""
        return True

    @abc.abstractmethod
    def start(self, study: StudyHandle) -> str | None:
        """Open (or open again) the parent; its id, or None when the tracker cannot be reached, or not yet."""

    @abc.abstractmethod
    def progress(self, step: int, metrics: Mapping[str, float], timestamp: float) -> None:
        """Streaming metrics of the parent."""

    @abc.abstractmethod
    def cell(
        self, key: str, name: str, params: Mapping[str, Any], metrics: Mapping[str, float], timestamp: float
    ) -> None:
        """One finished grid cell as a child."""

    @abc.abstractmethod
    def metrics(self, metrics: Mapping[str, float], timestamp: float) -> None:
        """Summary metrics of the parent."""

    @abc.abstractmethod
    def artifact(self, path: str, folder: str | None = None) -> None:
        """Keep a local file beside the parent."""

    @abc.abstractmethod
    def data_set(self, name: str, points: Any, labels: Any) -> None:
        """Note a data set that the study used."""

    @abc.abstractmethod
    def finish(self, status: str, timestamp: float | None = None) -> None:
        """Close the parent: FINISHED, FAILED or KILLED, at a time in seconds since the epoch or now."""
