"""The table of experiments: name -> instance. Adding one is a file in `tasks/` and a line here."""

from __future__ import annotations

import difflib
from typing import Any

from solvers.errors import InputError
from tasks.experiment import AbstractExperiment
from tasks.experiments.bound_tightness import BoundTightness
from tasks.experiments.complexity import ComplexityExperiment
from tasks.experiments.interpolation import Interpolation
from tasks.experiments.lipschitz_monte_carlo import LipschitzMonteCarlo
from tasks.experiments.memorizer_robustness import MemorizerRobustness
from tasks.experiments.shifts import Shifts

__all__ = ["EXPERIMENTS", "experiment_named"]

_ALL: tuple[AbstractExperiment[Any], ...] = (
    LipschitzMonteCarlo(),
    Interpolation(),
    MemorizerRobustness(),
    ComplexityExperiment(),
    Shifts(),
    BoundTightness(),
)

EXPERIMENTS: dict[str, AbstractExperiment[Any]] = {experiment.name: experiment for experiment in _ALL}


def experiment_named(name: str) -> AbstractExperiment[Any]:
    """Look an experiment up.

    Raises:
        InputError: unknown; the message gives the nearest name.
    """
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(name, EXPERIMENTS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"unknown experiment {name!r}{hint} (known: {', '.join(EXPERIMENTS)})")
    return EXPERIMENTS[name]
