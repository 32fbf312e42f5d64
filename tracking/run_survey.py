"""What a run folder holds, read from its parts alone: while a study runs, after it was killed, and when it is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tracking.parts import RunFolder, one_row_a_trial

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
            with folder.open_part(path) as stream:
                file = pq.ParquetFile(stream)
                names = file.schema_arrow.names
                if not set(NEEDED) <= set(names):
                    raise ValueError("a foreign table")
                wanted = None if columns is None else [n for n in names if n in NEEDED or n in columns]
                tables.append(file.read(columns=wanted))
        except FileNotFoundError:  # replaced or set aside since it was listed
            continue
        except Exception:  # whatever damage does to a reader
            unreadable.append(path.rsplit("/", 1)[-1])
    if not tables:
        return SweepSurvey(sweep, pd.DataFrame(columns=list(NEEDED)), tuple(unreadable))
    frame = pa.concat_tables(tables, promote_options="permissive").to_pandas()
    return SweepSurvey(sweep, one_row_a_trial(frame), tuple(unreadable))
