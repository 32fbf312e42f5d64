"""What a run folder came to so far, from its parts alone: no tracker, no Ray, no experiment is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from solvers.errors import InputError
from tasks.registry import EXPERIMENTS
from tasks.statistics import open_intervals
from tasks.sweeps import Study, Sweep, read_study
from tracking.parts import RunFolder
from tracking.run_survey import IDENTITY, described_run, survey_sweep

__all__ = ["FailedTrials", "RunReport", "SweepReport", "cell_means", "measured_columns", "opened_run", "report_run"]

# Kinds of failure that are told; the rest is counted.
MOST_ERRORS = 5
# Who finished a trial in the last seconds before the newest one counts as a worker.
WORKER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class FailedTrials:
    """Trials that failed with one error.

    Attributes:
        trial_key, replicate, cell: of the first of them, the cell by its values on the grid's axes.
    """

    error: str
    count: int
    trial_key: str
    replicate: int
    cell: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SweepReport:
    """Counts of one sweep.

    Attributes:
        trials: planned; `done` are finished well, `failed` kept as failed, the others still to do.
        cells, cells_begun: of the grid, and those with a trial.
        open: intervals of finished trials that are wider than `tasks.statistics.OPEN_GAP`.
        work_left: core-seconds of the trials to do, by those of their cell that are measured; None where a cell has
            none yet.
        failures: by error, the first first.
        unreadable: parts that are damaged.
    """

    name: str
    experiment: str
    trials: int
    done: int
    failed: int
    cells: int
    cells_begun: int
    open: int
    work_left: float | None
    failures: Sequence[FailedTrials]
    unreadable: Sequence[str]


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run folder in numbers; times in seconds since the epoch, None where unknown."""

    run_dir: str
    study: str
    title: str
    finished: bool
    started_at: float | None
    finished_at: float | None
    last_trial_at: float | None
    workers: int
    sweeps: Sequence[SweepReport]

    @property
    def trials(self) -> int:
        return sum(sweep.trials for sweep in self.sweeps)

    @property
    def done(self) -> int:
        return sum(sweep.done for sweep in self.sweeps)

    @property
    def failed(self) -> int:
        return sum(sweep.failed for sweep in self.sweeps)

    @property
    def open(self) -> int:
        return sum(sweep.open for sweep in self.sweeps)

    @property
    def seconds_left(self) -> float | None:
        """With as many workers as finished the last trials; None while some cell's trials are not measured."""
        work = [sweep.work_left for sweep in self.sweeps]
        if any(one is None for one in work):
            return None
        return math.fsum(one for one in work if one is not None) / max(self.workers, 1)

    def document(self) -> dict[str, Any]:
        """Everything, as `--json` says it."""
        totals = {name: getattr(self, name) for name in ("trials", "done", "failed", "open", "seconds_left")}
        sweeps = [asdict(sweep) for sweep in self.sweeps]
        return {**asdict(self), **totals, "sweeps": sweeps}


def opened_run(run: str) -> tuple[RunFolder, Mapping[str, Any]]:
    """A run folder named by a user, and its study as it was written.

    Raises:
        InputError: it is none.
    """
    from pathlib import Path

    folder = RunFolder(run.rstrip("/") if "://" in run else str(Path(run).resolve()))
    described = described_run(folder)
    if described is None:
        raise InputError(f"{run} is not a run folder: it holds no readable study.json")
    return folder, described


def report_run(run: str) -> RunReport:
    """Count what a run folder holds.

    Raises:
        InputError: it is no run folder.
    """
    folder, described = opened_run(run)
    study = read_study(described, f"{run}/study.json")
    times = folder.read_json("times.json") or {}
    sweeps, ends, workers = [], [], []
    for name, sweep in study.sweeps.items():
        survey = survey_sweep(folder, name, ["wall_seconds", "lower", "upper", *sweep.grid])
        sweeps.append(_sweep_report(name, sweep, survey.trials, survey.unreadable))
        if len(survey.trials):
            ends.append(survey.trials[["finished_at", "worker"]])
    last = None
    if ends:
        told = pd.concat(ends)
        last = float(told["finished_at"].max())
        workers = list(told["worker"][told["finished_at"] > last - WORKER_SECONDS].unique())
    whole = all(sweep.done + sweep.failed >= sweep.trials for sweep in sweeps)
    return RunReport(
        run_dir=folder.uri,
        study=study.name,
        title=study.title,
        finished=whole and "finished_at" in times,
        started_at=times.get("started_at"),
        finished_at=times.get("finished_at"),
        last_trial_at=last,
        workers=len(workers),
        sweeps=sweeps,
    )


def _sweep_report(name: str, sweep: Sweep, trials: pd.DataFrame, unreadable: Sequence[str]) -> SweepReport:
    bad = trials["failed"].astype(bool)
    good = trials[~bad]
    return SweepReport(
        name=name,
        experiment=sweep.experiment,
        trials=sweep.cells * sweep.replicates,
        done=len(good),
        failed=int(bad.sum()),
        cells=sweep.cells,
        cells_begun=int(trials["cell"].nunique()),
        open=int(_open_rows(good).sum()),
        work_left=_work_left(sweep, trials),
        failures=_failures(trials[bad], list(sweep.grid)),
        unreadable=unreadable,
    )


def _open_rows(trials: pd.DataFrame) -> pd.Series:
    """Which trials ended with an open interval; none where the experiment gives no intervals."""
    found = pd.Series(False, index=trials.index)
    if {"lower", "upper"} <= set(trials.columns):
        known = trials["lower"].notna() & trials["upper"].notna()
        if known.any():
            ends = trials[known]
            found[known] = open_intervals(ends["lower"].to_numpy(), ends["upper"].to_numpy())
    return found


def _work_left(sweep: Sweep, trials: pd.DataFrame) -> float | None:
    counts = trials.groupby("cell").size()
    missing = (sweep.replicates - counts).clip(lower=0)
    missing = missing[missing > 0]
    if len(counts) >= sweep.cells and missing.empty:
        return 0.0
    if len(counts) < sweep.cells or "wall_seconds" not in trials:
        return None
    costs = trials.groupby("cell")["wall_seconds"].mean()[missing.index]
    return None if costs.isna().any() else float((missing * costs).sum())


def _failures(bad: pd.DataFrame, axes: Sequence[str]) -> list[FailedTrials]:
    found = []
    for error, rows in bad.sort_values("finished_at", kind="stable").groupby("error", sort=False):
        first = rows.iloc[0]
        cell = {axis: _plain(first[axis]) for axis in axes if axis in rows}
        key, replicate = str(first["trial_key"]), int(first["replicate"])
        found.append(FailedTrials(str(error), len(rows), key, replicate, cell))
    return found[:MOST_ERRORS]


def _plain(value: Any) -> Any:
    """A table's entry as Python's own type."""
    return value.item() if isinstance(value, np.generic) else value


def measured_columns(sweep: Sweep, trials: pd.DataFrame) -> list[str]:
    """What was measured, as columns of the trials: those that the experiment declares.

    Of an experiment that this version does not know they are all that are named neither in the grid nor as fixed.
    """
    known = EXPERIMENTS.get(sweep.experiment)
    if known is not None:
        return [name for name in known.columns if name in trials]
    return [name for name in trials if name not in {*IDENTITY, *sweep.grid, *sweep.fixed}]


def cell_means(study: Study, name: str, trials: pd.DataFrame) -> pd.DataFrame:
    """One row for every cell that has a trial: its axes, counts, and means of what its finished trials measured.

    Columns: the grid's axes, `trials` (finished or failed), `failed`, `open`, then every measured number.
    """
    sweep = study.sweeps[name]
    axes = [axis for axis in sweep.grid if axis in trials]
    bad = trials["failed"].astype(bool)
    numbers = [c for c in measured_columns(sweep, trials) if pd.api.types.is_numeric_dtype(trials[c].convert_dtypes())]
    good = trials[~bad].assign(open=lambda rows: _open_rows(rows))
    by_cell = trials.assign(failed=bad).groupby("cell", sort=False)
    found = by_cell[axes].first()
    found["trials"], found["failed"] = by_cell.size(), by_cell["failed"].sum()
    found["open"] = good.groupby("cell")["open"].sum().reindex(found.index, fill_value=0)
    means = good.groupby("cell")[numbers].agg(lambda values: values.astype(float).mean())
    found = pd.concat([found, means.reindex(found.index)], axis=1)
    return found.sort_values(axes, kind="stable", key=_sortable).reset_index(drop=True) if axes else found


def _sortable(values: pd.Series) -> pd.Series:
    return values if pd.api.types.is_numeric_dtype(values) else values.astype(str)
