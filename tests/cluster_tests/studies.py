"""Small studies for the tests of the runner."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tasks.sweeps import Study, parse_study
from tracking.parts import RunFolder
from tracking.records import VARYING_COLUMNS


def small_study(replicates: int = 6, **changes: Any) -> Study:
    """Two sweeps of both experiments, a few seconds of work at most."""
    raw: dict[str, Any] = {
        "name": "small",
        "seed": 3,
        "sweeps": {
            "lipschitz": {
                "experiment": "lipschitz-monte-carlo",
                "replicates": replicates,
                "grid": {"d": [2, 3], "p": [1.0, 1.5, float("inf")], "bias": ["zero", "normal"]},
                "fixed": {"N": 8},
            },
            "moons": {
                "experiment": "interpolation",
                "replicates": replicates,
                "grid": {"width": [20, 100], "max_bias": [0.0, 0.5]},
                "fixed": {"data": "moons:100"},
            },
        },
    }
    return parse_study({**raw, **changes}, "small study")


def stable(folder: RunFolder, sweep: str) -> pd.DataFrame:
    """All trials of a sweep without the columns that differ from run to run."""
    frame = folder.frame(sweep)
    return frame.drop(columns=[name for name in VARYING_COLUMNS if name in frame])
