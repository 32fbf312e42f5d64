"""What a checker is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from solvers.problems.questions import LipschitzProblem

__all__ = ["CertificateChecker", "Check"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what, whether it holds, and why (not)."""

    subject: str
    holds: bool
    reason: str


# (problem, certificate data in plain JSON types or arrays, the upper bound it has to prove) -> whether it does.
# Wrong or missing data is an answer that does not hold, with the reason; never an exception.
CertificateChecker: TypeAlias = Callable[[LipschitzProblem, Mapping[str, Any], float], Check]
