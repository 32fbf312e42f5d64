"""Frozen answers: what a solver returns."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.domains import Domain
from solvers.errors import InputError, SoundnessError
from solvers.norms import FloatArray, exponent_label
from solvers.regions import ActivationPattern

__all__ = ["Certificate", "LipschitzBounds", "Status", "Witness"]


class Status(enum.StrEnum):
    """How a solve ended. The interval holds under every one."""

    EXACT = "exact"
    BOUNDED = "bounded"
    BUDGET_SPENT = "budget-spent"
    NUMERICAL_TROUBLE = "numerical-trouble"

    @property
    def advice(self) -> str:
        """What a user can do next."""
        return {
            Status.EXACT: "the bounds agree within the gap asked for",
            Status.BOUNDED: "this method only bounds: ask an exact method, or `auto`, for the constant itself",
            Status.BUDGET_SPENT: "the budget ended before the gap closed: allow more time or a wider gap",
            Status.NUMERICAL_TROUBLE: "rounding leaves the bounds apart: rescale the network or ask another method",
        }[self]


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """A point strictly inside a linear region, with that region's pattern and gradient: it proves a lower bound.

    Attributes:
        point: shape (d,).
        pattern: one boolean array (n_k,) per hidden layer.
        gradient: shape (d,).
    """

    point: FloatArray
    pattern: ActivationPattern
    gradient: FloatArray

    def to_json(self) -> dict[str, Any]:
        return {
            "point": self.point.tolist(),
            "pattern": ["".join("1" if on else "0" for on in layer) for layer in self.pattern],
            "gradient": self.gradient.tolist(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Witness:
        """The witness that `to_json` wrote down.

        Raises:
            InputError: not such a description.
        """
        try:
            pattern = tuple(_bits(layer) for layer in value["pattern"])
            point, gradient = (np.array(value[key], dtype=np.float64) for key in ("point", "gradient"))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the witness of the result cannot be read: {error}") from None
        return cls(point, pattern, gradient)


def _bits(text: str) -> NDArray[np.bool_]:
    if set(text) - {"0", "1"}:
        raise ValueError(f"a pattern holds only the digits 0 and 1, got {text!r}")
    return np.array([digit == "1" for digit in text], dtype=bool)


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """Data from which a short checker can prove an upper bound again, without the solver.

    Attributes:
        kind: which checker replays it.
        data: plain JSON types and arrays.
    """

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class LipschitzBounds:
    """lower <= Lip_p(f; X) <= upper, whatever the status.

    Attributes:
        lower: attained at `witness`; 0.0 without one.
        upper: proved; inf without a proof.
        witness: None when nothing better than 0 was found.
        stats: numbers about the solve: nodes, subsets, wall_seconds.
    """

    lower: float
    upper: float
    status: Status
    method: str
    p: float
    domain: Domain
    witness: Witness | None = None
    certificate: Certificate | None = None
    stats: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if math.isnan(self.lower) or math.isnan(self.upper) or not 0 <= self.lower <= self.upper:
            raise SoundnessError(f"{self.method}: lower bound {self.lower!r} and upper bound {self.upper!r} contradict")

    @property
    def relative_gap(self) -> float:
        """(upper - lower) / upper; 0 when both are 0, 1 without an upper bound."""
        if math.isinf(self.upper):
            return 1.0
        return 0.0 if self.upper == self.lower else (self.upper - self.lower) / self.upper

    def to_json(self) -> dict[str, Any]:
        """The answer in plain JSON types; infinite numbers become the string "inf"."""
        return {
            "lower": self.lower,
            "upper": "inf" if math.isinf(self.upper) else self.upper,
            "status": str(self.status),
            "method": self.method,
            "p": exponent_label(self.p) if math.isinf(self.p) else self.p,
            "domain": self.domain.describe(),
            "witness": None if self.witness is None else self.witness.to_json(),
            "certificate": None if self.certificate is None else self.certificate.kind,
            "stats": dict(self.stats),
        }
