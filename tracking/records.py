"""One finished trial in plain types: what is kept, whatever happens to the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["VARYING_COLUMNS", "TrialRecord", "check_row"]

# Columns that differ from run to run; everything else is the same bits for the same study.
VARYING_COLUMNS = ("wall_seconds", "worker", "finished_at", "traceback")


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """A trial's identity, parameters, measurements and fate.

    Attributes:
        key: content hash of the trial; the ledger of what is done goes by it.
        cell: content hash of its grid cell.
        metrics: measured columns; empty for a failed trial.
        error: why it failed, or None.
        traceback: where it failed, as Python prints it; empty where none is known.
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
    traceback: str = ""

    def to_row(self) -> dict[str, Any]:
        """One flat table row.

        Raises:
            ValueError: a parameter and a measurement share a name; of a failed trial such a parameter is left out.
        """
        row: dict[str, Any] = {
            "trial_key": self.key,
            "cell": self.cell,
            "sweep": self.sweep,
            "replicate": self.replicate,
            "seed": self.seed,
            "failed": self.error is not None,
            "error": self.error or "",
            "traceback": self.traceback,
            "worker": self.worker,
            "finished_at": self.finished_at,
        }
        for group in (self.params, self.metrics):
            clash = set(row) & set(group)
            if clash and self.error is None:
                raise ValueError(f"the column {min(clash)!r} is taken twice: rename the parameter or measurement")
            row.update({name: value for name, value in group.items() if name not in clash})
        return row


def check_row(record: TrialRecord) -> None:
    """Raise when no table can hold a trial's row.

    Raises:
        ValueError: two columns share a name.
        TypeError: a measurement is neither a number, a truth value nor a text.
        OverflowError: a whole number beyond 64 bits.
    """
    record.to_row()
    for name, value in record.metrics.items():
        if isinstance(value, (bool, np.bool_, float, np.floating, str)) or value is None:
            continue
        if not isinstance(value, (int, np.integer)):
            raise TypeError(f"the measurement {name!r} is of type {type(value).__name__}, which no table holds")
        if not -(2**63) <= int(value) < 2**63:
            raise OverflowError(f"the measurement {name!r} is a whole number beyond 64 bits")
