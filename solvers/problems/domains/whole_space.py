"""All of R^d."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.problems.domains._base import Domain

__all__ = ["WholeSpace"]


@dataclass(frozen=True, slots=True)
class WholeSpace(Domain):
    """All of R^d: the constant is the global one."""

    kind: ClassVar[str] = "global"

    dimension: int = field()  # named here, or the base's property would be taken for a default

    @property
    def key(self) -> Hashable:
        return (self.kind,)

    @property
    def bounds(self) -> None:
        return None

    @property
    def centre(self) -> FloatArray:
        return np.zeros(self.dimension)

    @classmethod
    def around_origin(cls, dimension: int, radius: float) -> Self:
        return cls(dimension)

    def why_outside(self, point: FloatArray) -> None:
        return None

    def strictly_contains(self, points: FloatArray) -> np.ndarray:
        return np.ones(np.shape(points)[:-1], dtype=bool)

    def reach(self, point: FloatArray) -> float:
        return float("inf")

    def nearest(self, points: FloatArray) -> FloatArray:
        return points

    def scaled(self, power: int) -> Self:
        return self

    def draw(self, count: int, rng: np.random.Generator) -> FloatArray:
        raise ValueError("all of R^d has no uniform law")

    def describe(self) -> dict[str, object]:
        return {"kind": self.kind, "dimension": self.dimension}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> Self:
        return cls(int(value["dimension"]))
