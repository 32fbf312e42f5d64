"""Where a Lipschitz constant is taken: all of R^d, or a box with an interior."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError

__all__ = ["Box", "Domain", "WholeSpace", "domain_from_json"]


@dataclass(frozen=True, slots=True)
class WholeSpace:
    """All of R^d: the constant is the global one."""

    dimension: int

    @property
    def key(self) -> Hashable:
        """Equal for equal domains, and for them alone."""
        return ("global", self.dimension)

    def strictly_contains(self, points: FloatArray) -> np.ndarray:
        """Whether points of shape (..., d) lie in the interior; shape (...)."""
        return np.ones(np.shape(points)[:-1], dtype=bool)

    def describe(self) -> dict[str, object]:
        return {"kind": "global", "dimension": self.dimension}


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """The points with lower <= x <= upper in every coordinate (an l_inf ball when the sides are equal).

    Attributes:
        lower, upper: shape (d,), lower < upper everywhere: a box without interior has no linear regions.
    """

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
        """Equal for equal domains, and for them alone."""
        return ("box", self.lower.tobytes(), self.upper.tobytes())

    def strictly_contains(self, points: FloatArray) -> np.ndarray:
        """Whether points of shape (..., d) lie in the interior; shape (...)."""
        return np.asarray(((points > self.lower) & (points < self.upper)).all(axis=-1))

    def describe(self) -> dict[str, object]:
        return {"kind": "box", "lower": self.lower.tolist(), "upper": self.upper.tolist()}


Domain: TypeAlias = WholeSpace | Box


def domain_from_json(value: Mapping[str, Any]) -> Domain:
    """The domain that `describe` wrote down.

    Raises:
        InputError: not such a description.
    """
    try:
        if value["kind"] == "global":
            return WholeSpace(int(value["dimension"]))
        if value["kind"] == "box":
            return Box(value["lower"], value["upper"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the domain of the result cannot be read: {error}") from None
    raise InputError(f"the domain of the result must be of kind 'global' or 'box', got {value['kind']!r}")
