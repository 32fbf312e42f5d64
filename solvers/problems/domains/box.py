"""Boxes with an interior."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError, UnsupportedProblemError
from solvers.problems.domains._base import Domain

__all__ = ["Box"]


@dataclass(frozen=True, slots=True, eq=False)
class Box(Domain):
    """The points with lower <= x <= upper in every coordinate (an l_inf ball when the sides are equal).

    Attributes:
        lower, upper: shape (d,), lower < upper everywhere: a box without interior has no linear regions.
    """

    kind: ClassVar[str] = "box"

    lower: FloatArray
    upper: FloatArray

    def __init__(self, lower: ArrayLike, upper: ArrayLike) -> None:
        low, high = (np.array(side, dtype=np.float64) for side in (lower, upper))
        if low.ndim != 1 or low.shape != high.shape or low.size == 0:
            raise InputError(f"a box needs lower and upper corners of shape (d,), got {low.shape} and {high.shape}")
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InputError("a box needs finite corners; use the global constant for all of space")
        if not (low < high).all():
            k = int(np.argmin(high - low))
            raise InputError(f"the box is empty in coordinate {k}: lower {low[k]:g} must be below upper {high[k]:g}")
        for side in (low, high):
            side.setflags(write=False)
        object.__setattr__(self, "lower", low)
        object.__setattr__(self, "upper", high)

    @classmethod
    def cube(cls, dimension: int, low: float = -1.0, high: float = 1.0) -> Box:
        """[low, high]^d."""
        return cls(np.full(dimension, low), np.full(dimension, high))

    @classmethod
    def ball(cls, centre: ArrayLike, radius: float) -> Box:
        """The l_inf ball of a radius around a point of shape (d,)."""
        middle = np.asarray(centre, dtype=np.float64)
        return cls(middle - radius, middle + radius)

    @property
    def dimension(self) -> int:
        return int(self.lower.size)

    @property
    def key(self) -> Hashable:
        return (self.kind, self.lower.tobytes(), self.upper.tobytes())

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        return self.lower, self.upper

    @property
    def centre(self) -> FloatArray:
        return np.asarray((self.lower + self.upper) / 2)

    @classmethod
    def around_origin(cls, dimension: int, radius: float) -> Self:
        return cls(np.full(dimension, -radius), np.full(dimension, radius))

    def why_outside(self, point: FloatArray) -> str | None:
        if self.strictly_contains(point):
            return None
        k = int(np.argmin(np.minimum(point - self.lower, self.upper - point)))
        return f"coordinate {k} of the point, {float(point[k])!r}, is not strictly inside the box"

    def strictly_contains(self, points: FloatArray) -> np.ndarray:
        return np.asarray(((points > self.lower) & (points < self.upper)).all(axis=-1))

    def reach(self, point: FloatArray) -> float:
        room = np.where(point > 0, self.upper, -self.lower) / np.maximum(np.abs(point), 1e-300)
        return float(room.min())

    def nearest(self, points: FloatArray) -> FloatArray:
        return np.clip(points, self.lower, self.upper)

    def scaled(self, power: int) -> Self:
        with np.errstate(over="ignore", under="ignore"):
            low, high = np.ldexp(self.lower, power), np.ldexp(self.upper, power)
            exact = np.isfinite([low, high]).all() and (np.ldexp(low, -power) == self.lower).all()
            if not (exact and (np.ldexp(high, -power) == self.upper).all()):
                raise UnsupportedProblemError(
                    "the sides of the box differ by more than float64 can hold side by side: move its corners closer"
                )
        return type(self)(low, high)

    def draw(self, count: int, rng: np.random.Generator) -> FloatArray:
        return rng.uniform(self.lower, self.upper, (count, self.dimension))

    def describe(self) -> dict[str, object]:
        return {"kind": self.kind, "lower": self.lower.tolist(), "upper": self.upper.tolist()}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> Self:
        return cls(value["lower"], value["upper"])
