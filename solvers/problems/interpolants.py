"""What an interpolator returns."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.networks.detectors import BuiltNetwork

__all__ = ["Interpolant", "InterpolationStatus"]


class InterpolationStatus(enum.StrEnum):
    """How a construction ended."""

    INTERPOLATES = "interpolates"
    MISSES_POINTS = "misses-points"

    @property
    def advice(self) -> str:
        """What a user can do next."""
        return {
            InterpolationStatus.INTERPOLATES: "every point gets its label",
            InterpolationStatus.MISSES_POINTS: "widen the first layer, or try another maximal bias or seed",
        }[self]


@dataclass(frozen=True, slots=True, eq=False)
class Interpolant:
    """A constructed network and how it does on the points it was made for.

    Attributes:
        network: the network itself.
        missed: rows that the exported torch module does not give their label, (misclassified,).
        centres: per detector the rows x* its neurons were made from, in order of acceptance.
        stats: wall_seconds of the parts, candidates tried.
        at_least: how many second-layer neurons any choice among the candidates has that covers what can be covered;
            None where that was not asked.
    """

    network: BuiltNetwork
    missed: NDArray[np.int64]
    centres: tuple[NDArray[np.int64], ...]
    points: int
    stats: Mapping[str, float] = field(default_factory=dict)
    at_least: int | None = None

    @property
    def interpolates(self) -> bool:
        """Whether every point gets its label."""
        return not len(self.missed)

    @property
    def status(self) -> InterpolationStatus:
        return InterpolationStatus.INTERPOLATES if self.interpolates else InterpolationStatus.MISSES_POINTS

    def to_json(self) -> dict[str, Any]:
        """The answer in plain JSON types."""
        return {
            "interpolates": self.interpolates,
            "first_layer_width": self.network.first_layer_width,
            "second_layer_width": self.network.second_layer_width,
            "second_layer_at_least": self.at_least,
            "second_layer_widths": list(self.network.second_layer_widths),
            "parameters": self.network.parameters,
            "misclassified": len(self.missed),
            "seconds": self.stats.get("wall_seconds", 0.0),
        }
