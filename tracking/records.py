"""One finished trial in plain types: what is kept, whatever happens to the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["VARYING_COLUMNS", "TrialRecord"]

# Columns that differ from run to run; everything else is the same bits for the same study.
VARYING_COLUMNS = ("wall_seconds", "worker", "finished_at")


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """A trial's identity, parameters, measurements and fate.

    Attributes:
        key: content hash of the trial; the ledger of what is done goes by it.
        cell: content hash of its grid cell.
        metrics: measured columns; empty for a failed trial.
        error: why it failed, or None.
        worker: host and process that computed it.
        finished_at: seconds since the epoch.
    """

    key: str
    cell: str
    sweep: str
    replicate: int
    seed: int
    params: Mapping[str, Any]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    worker: str = ""
    finished_at: float = 0.0

    def to_row(self) -> dict[str, Any]:
        """One flat table row.

        Raises:
            ValueError: a parameter and a measurement share a name.
        """
        row: dict[str, Any] = {
            "trial_key": self.key,
            "cell": self.cell,
            "sweep": self.sweep,
            "replicate": self.replicate,
            "seed": self.seed,
            "failed": self.error is not None,
            "error": self.error or "",
            "worker": self.worker,
            "finished_at": self.finished_at,
        }
        for group in (self.params, self.metrics):
            clash = set(row) & set(group)
            if clash:
                raise ValueError(f"the column {min(clash)!r} is taken twice: rename the parameter or measurement")
            row.update(group)
        return row
