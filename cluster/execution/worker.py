"""What a worker does: compute one batch and keep its trials. The same function runs in-process and in a Ray actor."""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cluster.execution.scheduling import Batch
from tasks.experiment import AbstractExperiment, RunContext, Trial
from tracking.parts import PartSeal, RunFolder, StorageError
from tracking.records import TrialRecord, check_row

__all__ = ["BatchSummary", "pin_threads", "record_failure", "run_batch"]


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What the driver hears of a batch; the trials themselves are in its part.

    Attributes:
        seal: of its part, which the driver looks at before it counts the batch.
        started, finished: seconds since the epoch, on the worker's clock.
        first_error, first_failed: of the failed trials: why, and the trial's key; or None.
    """

    sweep: str
    trials: int
    failed: int
    started: float
    finished: float
    cost_seconds: float
    seal: PartSeal
    first_error: str | None = None
    first_failed: str | None = None


def pin_threads(threads: int = 1) -> None:
    """One thread per worker: two workers on two cores must not run four (torch and BLAS alike)."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(limits=threads)


def run_batch(
    batch: Batch, experiment: AbstractExperiment[Any], folder: RunFolder, context: RunContext
) -> BatchSummary:
    """Compute a batch and write its part.

    A batch that raises is computed again trial by trial, so one bad trial costs only itself; it is kept as failed.

    Raises:
        StorageError: the part cannot be written; the batch is not done.
    """
    started = time.time()
    records = _compute(batch.trials, experiment, context)
    return _summary(batch, records, folder.write_part(batch.sweep, batch.digest, records), started)


def record_failure(batch: Batch, folder: RunFolder, error: str) -> BatchSummary:
    """Keep a batch that no worker survives as failed trials, so that the study goes on."""
    now = time.time()
    records = [_record(trial, {}, error, now) for trial in batch.trials]
    return _summary(batch, records, folder.write_part(batch.sweep, batch.digest, records), now)


def _summary(batch: Batch, records: Sequence[TrialRecord], seal: PartSeal, started: float) -> BatchSummary:
    failed = [record for record in records if record.error is not None]
    first = failed[0] if failed else None
    return BatchSummary(
        batch.sweep,
        len(records),
        len(failed),
        started,
        time.time(),
        batch.cost_seconds,
        seal,
        first.error if first else None,
        first.key if first else None,
    )


def _compute(trials: Sequence[Trial], experiment: AbstractExperiment[Any], context: RunContext) -> list[TrialRecord]:
    configs = [experiment.config_type.model_validate(dict(trial.params)) for trial in trials]
    streams = [experiment.streams(trial) for trial in trials]
    try:
        measured = experiment.run_batch(configs, streams, context)
        if len(measured) != len(trials):
            raise RuntimeError(f"{experiment.name} measured {len(measured)} of {len(trials)} trials")
        now = time.time()
        return [_kept(trial, row, now) for trial, row in zip(trials, measured, strict=True)]
    except StorageError:
        raise
    except (Exception, SystemExit) as error:  # an experiment may fail in any way; the other trials must not
        if len(trials) > 1:
            return [record for trial in trials for record in _compute([trial], experiment, context)]
        return [_failed(trials[0], error)]


def _failed(trial: Trial, error: BaseException) -> TrialRecord:
    text = str(error) or "no message"
    told = "out of memory" if isinstance(error, MemoryError) else text
    trace = "".join(traceback.format_exception(error))
    return _record(trial, {}, f"{type(error).__name__}: {told}", time.time(), trace)


def _kept(trial: Trial, measured: dict[str, Any], now: float) -> TrialRecord:
    """A measured trial, or the failed one that it is when no table can hold what was measured."""
    record = _record(trial, measured, None, now)
    try:
        check_row(record)
    except (ValueError, TypeError, OverflowError) as error:
        return _failed(trial, error)
    return record


def _record(trial: Trial, metrics: dict[str, Any], error: str | None, now: float, trace: str = "") -> TrialRecord:
    return TrialRecord(
        key=trial.key,
        cell=trial.cell,
        sweep=trial.sweep,
        replicate=trial.replicate,
        seed=trial.seed,
        params=trial.params,
        metrics=metrics,
        error=error,
        traceback=trace,
        worker=f"{platform.node()}/{os.getpid()}",
        finished_at=now,
    )
