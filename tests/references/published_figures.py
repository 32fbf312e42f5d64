"""Published figures of the interpolation experiments, per cell: the tables beside this file.

Source: the result tables that accompany [DFG24]. Columns: maximal bias,
first-layer width, trials, share of trials with every point right, second-layer width (mean, all classes together) with
its standard deviation over trials, and mean accuracy. Moons: 1000 points, noise 0.05, class 1 covered, 50 trials a
cell. MNIST: all 70 000 points, one class against the rest, 25 trials a cell.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

__all__ = ["MNIST", "MOONS", "Cell"]


class Cell(NamedTuple):
    """One row of a table.

    Attributes:
        share: of the trials that interpolate.
        neurons, deviation: mean and standard deviation of the second-layer width.
    """

    max_bias: float
    width: int
    trials: int
    share: float
    neurons: float
    deviation: float


def _table(name: str) -> list[Cell]:
    with (Path(__file__).parent / name).open(newline="") as file:
        return [
            Cell(
                float(row["max_bias"]),
                int(row["first_layer_width"]),
                int(row["trials"]),
                float(row["interpolated"]),
                float(row["second_layer_width"]),
                float(row["second_layer_width_sd"]),
            )
            for row in csv.DictReader(file)
        ]


MOONS = _table("published_moons.csv")
MNIST = _table("published_mnist.csv")
