"""What every domain X can say about itself, so that no caller asks which kind it is."""

from __future__ import annotations

import abc
from collections.abc import Hashable, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from solvers.arithmetic.norms import FloatArray

__all__ = ["Domain"]


class Domain(abc.ABC):
    """A set X in R^d with an interior, on which a Lipschitz constant is taken.

    Instances are frozen. A method states the kinds it takes (`AbstractLipschitzSolver.domains`); what is written here
    holds for all of them.
    """

    __slots__ = ()

    # The word of the kind in results: its entry in the table of domains.
    kind: ClassVar[str]

    @property
    @abc.abstractmethod
    def dimension(self) -> int:
        """d."""

    @property
    @abc.abstractmethod
    def key(self) -> Hashable:
        """Equal for equal sets of one dimension, to group problems that share a domain."""

    @property
    @abc.abstractmethod
    def bounds(self) -> tuple[FloatArray, FloatArray] | None:
        """Lower and upper corner (d,) of the smallest box that holds the domain; None where it is unbounded."""

    @property
    def is_bounded(self) -> bool:
        """Whether some box holds the domain."""
        return self.bounds is not None

    @property
    @abc.abstractmethod
    def centre(self) -> FloatArray:
        """A point (d,) in the interior, well away from the boundary."""

    @classmethod
    @abc.abstractmethod
    def around_origin(cls, dimension: int, radius: float) -> Self:
        """The domain of its kind that reaches `radius` far from the origin; an unbounded kind has no use for it."""

    @abc.abstractmethod
    def why_outside(self, point: FloatArray) -> str | None:
        """Why a finite point (d,) is not in the interior, in one clause that names it "the point"; None where it is."""

    @abc.abstractmethod
    def strictly_contains(self, points: FloatArray) -> np.ndarray:
        """Whether points of shape (..., d) lie in the interior; shape (...)."""

    @abc.abstractmethod
    def reach(self, point: FloatArray) -> float:
        """The largest c with c `point` in the closure, for a domain with the origin inside; inf where there is none."""

    @abc.abstractmethod
    def nearest(self, points: FloatArray) -> FloatArray:
        """Points of shape (..., d), those outside moved to the boundary."""

    @abc.abstractmethod
    def scaled(self, power: int) -> Self:
        """All points times 2^power, exactly.

        Raises:
            UnsupportedProblemError: float64 does not hold them.
        """

    @abc.abstractmethod
    def draw(self, count: int, rng: np.random.Generator) -> FloatArray:
        """Uniform points of a bounded domain; shape (count, d).

        Raises:
            ValueError: the domain is unbounded: there is no uniform law.
        """

    @abc.abstractmethod
    def describe(self) -> dict[str, object]:
        """As in a result file: `kind` and what `from_description` needs."""

    @classmethod
    @abc.abstractmethod
    def from_description(cls, value: Mapping[str, Any]) -> Self:
        """The domain that `describe` wrote down.

        Raises:
            KeyError, TypeError, ValueError: not such a description; InputError is a ValueError.
        """
