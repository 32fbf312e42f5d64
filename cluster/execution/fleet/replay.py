"""One trial of a run once more, alone and in this process: to see why it failed, or that it gives the same again."""

from __future__ import annotations

from typing import Any

from solvers.errors import InputError
from tasks.experiment import Measurement, RunContext, Trial
from tasks.registry import experiment_named
from tasks.sweeps import Study, trials_of
from tracking.parts import RunFolder
from tracking.records import VARYING_COLUMNS

__all__ = ["differences", "kept_row", "named_trial", "replay_trial"]


def named_trial(study: Study, key: str) -> Trial:
    """The trial whose key begins so.

    Raises:
        InputError: there is none, or more than one.
    """
    found = {trial.key: trial for trial in trials_of(study) if trial.key.startswith(key)}
    if not found:
        raise InputError(f"the study {study.name} has no trial {key!r}: the column trial_key of its parts names them")
    if len(found) > 1:
        raise InputError(f"{len(found)} trials of the study {study.name} begin with {key!r}: give more of the key")
    return next(iter(found.values()))


def kept_row(folder: RunFolder, trial: Trial) -> dict[str, Any] | None:
    """What a run folder keeps of a trial, the computed row before a failed one; None when it was never done."""
    best: dict[str, Any] | None = None
    for table in folder.tables(trial.sweep):
        keys = table.column("trial_key").to_pylist()
        if trial.key in keys:
            row = table.slice(keys.index(trial.key), 1).to_pylist()[0]
            if best is None or best["failed"]:
                best = row
    return best


def replay_trial(trial: Trial, context: RunContext) -> Measurement:
    """Measure a trial as a worker does, in a batch of its own; what it raises comes through."""
    experiment = experiment_named(trial.experiment)
    config = experiment.config_type.model_validate(dict(trial.params))
    (measured,) = experiment.run_batch([config], [experiment.streams(trial)], context)
    return measured


def differences(kept: dict[str, Any], measured: Measurement) -> list[str]:
    """Columns in which a trial differs from what was kept of it; times are left aside. NaN equals NaN."""
    return [
        name
        for name, value in measured.items()
        if name not in VARYING_COLUMNS
        and kept.get(name) != value
        and not (value != value and kept.get(name) != kept.get(name))
    ]
