"""Frozen answers: what a solver returns."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray, exponent_label, parse_exponent
from solvers.errors import InputError, SoundnessError
from solvers.problems.budget import Budget
from solvers.problems.domains import Domain, domain_from_json
from solvers.problems.regions import ActivationPattern

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
        except (KeyError, OverflowError, TypeError, ValueError) as error:
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
        data: plain JSON types and arrays; empty where a result was written down without them.
    """

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "data": dict(self.data)}

    @classmethod
    def from_json(cls, value: Any) -> Certificate:
        """The certificate that `to_json` wrote down, or its kind alone.

        Raises:
            InputError: not such a description.
        """
        if isinstance(value, str):
            return cls(value)
        if isinstance(value, Mapping) and isinstance(value.get("kind"), str) and isinstance(value.get("data"), Mapping):
            return cls(value["kind"], value["data"])
        raise InputError("the certificate of the result must be a kind, or an object with `kind` and `data`")


@dataclass(frozen=True, slots=True, eq=False)
class LipschitzBounds:
    """lower <= Lip_p(f; X) <= upper, whatever the status.

    Attributes:
        lower: attained at `witness`; 0.0 without one.
        upper: proved; inf without a proof.
        witness: None when nothing better than 0 was found.
        stats: numbers about the solve: nodes, subsets, wall_seconds (its share, where one pass answered several).
        reason: why the method did not do more than it did; never empty where the status is not EXACT.
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
    reason: str = ""

    def __post_init__(self) -> None:
        if math.isnan(self.lower) or math.isnan(self.upper) or not 0 <= self.lower <= self.upper:
            raise SoundnessError(f"{self.method}: lower bound {self.lower!r} and upper bound {self.upper!r} contradict")

    @property
    def relative_gap(self) -> float:
        """(upper - lower) / upper; 0 when both are 0, 1 without an upper bound."""
        if math.isinf(self.upper):
            return 1.0
        return 0.0 if self.upper == self.lower else (self.upper - self.lower) / self.upper

    def joined(self, other: LipschitzBounds, budget: Budget) -> LipschitzBounds:
        """The better end of two answers to one question, each with what proves it.

        Where an upper bound closes the gap, one that does so counts, with a certificate if there is such a one. While
        none does, an upper bound with a certificate is not given up for one without, however much lower that is.
        Statistics are of this answer; status and reason too, where the ends leave a gap.

        Args:
            budget: whose gap says what is exact.
        """
        low = max(self, other, key=lambda answer: answer.lower)
        high = min(
            self,
            other,
            key=lambda one: (not budget.is_closed(low.lower, one.upper), one.certificate is None, one.upper),
        )
        if low is self and high is self:
            return self
        names = f"{low.method}+{high.method}".split("+")
        status, reason = self.status, self.reason
        if budget.is_closed(low.lower, high.upper):
            status, reason = Status.EXACT, ""
        return replace(
            self,
            lower=low.lower,
            upper=high.upper,
            status=status,
            method="+".join(dict.fromkeys(names)),
            witness=low.witness,
            certificate=high.certificate,
            reason=reason,
        )

    def to_json(self, *, certificate_data: bool = False) -> dict[str, Any]:
        """The answer in plain JSON types; infinite numbers become the string "inf".

        Args:
            certificate_data: write the certificate down whole, for `from_json` and a checker, and not its kind alone.
        """
        certificate: Any = None
        if self.certificate is not None:
            certificate = self.certificate.to_json() if certificate_data else self.certificate.kind
        return {
            "lower": self.lower,
            "upper": "inf" if math.isinf(self.upper) else self.upper,
            "status": str(self.status),
            "method": self.method,
            "p": exponent_label(self.p) if math.isinf(self.p) else self.p,
            "domain": self.domain.describe(),
            "witness": None if self.witness is None else self.witness.to_json(),
            "certificate": certificate,
            "stats": dict(self.stats),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, value: Any) -> LipschitzBounds:
        """The answer that `to_json` wrote down.

        Raises:
            InputError: not such a description; the message says what is wrong.
            SoundnessError: the bounds contradict each other.
        """
        if not isinstance(value, Mapping):
            raise InputError(f"a result must be a JSON object, got {type(value).__name__}")
        missing = [key for key in ("lower", "upper", "status", "p", "domain") if key not in value]
        if missing:
            raise InputError(f"this is no result of `interlip lipschitz --json`: it has no {missing[0]!r}")
        if value["status"] not in [str(status) for status in Status]:
            raise InputError(f"the status of the result is unknown: {value['status']!r}")
        witness, certificate = value.get("witness"), value.get("certificate")
        stats = value.get("stats", {})
        if not isinstance(stats, Mapping):
            raise InputError("`stats` of the result must be an object of numbers")
        return cls(
            _number("lower", value["lower"]),
            _number("upper", value["upper"]),
            Status(value["status"]),
            str(value.get("method", "")),
            parse_exponent(value["p"]),
            domain_from_json(value["domain"]),
            None if witness is None else Witness.from_json(witness),
            None if certificate is None else Certificate.from_json(certificate),
            {str(key): _number(f"stats.{key}", number) for key, number in stats.items()},
            str(value.get("reason", "")),
        )


def _number(name: str, value: Any) -> float:
    """A real number or "inf" from JSON."""
    if value == "inf":
        return math.inf
    try:
        if not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value):
            return float(value)
    except OverflowError:  # a whole number that no float64 comes near
        pass
    raise InputError(f"`{name}` of the result must be a number, got {str(value)[:40]!r}")
