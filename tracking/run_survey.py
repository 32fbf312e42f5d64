"""What a run folder holds, read from its parts alone: while a study runs, after it was killed, and when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from tracking.parts import DamagedPartError, RunFolder, joined_tables, one_row_a_trial

__all__ = ["IDENTITY", "SweepSurvey", "described_run", "survey_sweep"]

# Columns of every part that are neither parameters nor measurements.
IDENTITY = ("trial_key", "cell", "sweep", "replicate", "seed", "failed", "error", "worker", "finished_at")
NEEDED = ("trial_key", "cell", "replicate", "failed", "error", "worker", "finished_at")


@dataclass(frozen=True, slots=True)
class SweepSurvey:
    """The kept trials of one sweep.

    Attributes:
        trials: one row a trial, one that failed and was computed later as computed; empty without parts.
        unreadable: names of the parts that are damaged or foreign; their trials are not among the rows.
    """

    sweep: str
    trials: pd.DataFrame
    unreadable: tuple[str, ...]


def described_run(folder: RunFolder) -> Mapping[str, Any] | None:
    """The study of a run folder as it was written; None where the place is no run folder."""
    try:
        described = folder.read_json("study.json")
    except Exception:  # every backend, and every kind of damage, has its own
        return None
    return described if isinstance(described, dict) and isinstance(described.get("sweeps"), dict) else None


def survey_sweep(folder: RunFolder, sweep: str, columns: Sequence[str] | None = None) -> SweepSurvey:
    """Read a sweep's parts one at a time.

    Args:
        columns: what is wanted beside identity and fate, where a part has it; None is every column.
    """
    tables: list[pa.Table] = []
    unreadable: list[str] = []
    for path in folder.part_names(sweep):
        try:
            table = folder.read_part(path)
            if not set(NEEDED) <= set(table.column_names):
                raise DamagedPartError("is a foreign table")
        except DamagedPartError:
            unreadable.append(path.rsplit("/", 1)[-1])
            continue
        wanted = [n for n in table.column_names if columns is None or n in NEEDED or n in columns]
        tables.append(table.select(wanted))
    if not tables:
        return SweepSurvey(sweep, pd.DataFrame(columns=list(NEEDED)), tuple(unreadable))
    return SweepSurvey(sweep, one_row_a_trial(joined_tables(tables).to_pandas()), tuple(unreadable))
