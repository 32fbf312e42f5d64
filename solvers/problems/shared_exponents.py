"""What is found for one p counts for every p: one network and domain, several exponents.

For p <= q and vectors of R^d, ||g||_{p'} <= ||g||_{q'} <= d^(1/p - 1/q) ||g||_{p'}, 1/p + 1/p' = 1. So Lip_p <= Lip_q
<= d^(1/p - 1/q) Lip_p: upper bounds hold both ways, a lower bound for p is one for q with the same witness, and every
witness is measured in every norm.

Source: Hölder's inequality.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from solvers.arithmetic.norms import scalar_norm
from solvers.problems.budget import Budget
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.problems.witnesses import witness_bound

__all__ = ["share_between_exponents"]

# Covers the rounding of d^(1/p - 1/q), d < 10^15: 1/p - 1/q is off by two roundings, the power by one more.
UPWARD = 1 + 1e-13
# How much longer a gradient must look than what is proved already, to be proved anew.
WORTHWHILE = 1 + 1e-12


@dataclass(frozen=True, slots=True)
class _Side:
    """One end of an interval, and whose it was."""

    answer: LipschitzBounds
    value: float


def share_between_exponents(
    problems: Sequence[LipschitzProblem], answers: Sequence[LipschitzBounds], budget: Budget
) -> list[LipschitzBounds]:
    """The answers, each improved by those to the same question for other p.

    An upper bound with a certificate stays as it is: another p's certificate would not prove it.

    Args:
        problems, answers: one answer for each problem.
        budget: whose gap says what is exact.
    """
    groups: dict[tuple[int, str], list[int]] = {}
    for i, problem in enumerate(problems):
        groups.setdefault((id(problem.network), json.dumps(problem.domain.describe())), []).append(i)
    shared = list(answers)
    for group in groups.values():
        if len({problems[i].p for i in group}) > 1:
            group = sorted(group, key=lambda i: problems[i].p)
            found = _shared([problems[i] for i in group], [answers[i] for i in group], budget)
            for i, answer in zip(group, found, strict=True):
                shared[i] = answer
    return shared


def _shared(
    problems: Sequence[LipschitzProblem], answers: Sequence[LipschitzBounds], budget: Budget
) -> list[LipschitzBounds]:
    """The same for one network and domain, p increasing."""
    lowers, witnesses = [_Side(answer, answer.lower) for answer in answers], [answer.witness for answer in answers]
    for i, problem in enumerate(problems):
        for other in answers:
            witness = other.witness
            if other is answers[i] or witness is None:
                continue
            if scalar_norm(witness.gradient.tolist(), problem.dual_p) <= lowers[i].value * WORTHWHILE:
                continue
            lower, proved = witness_bound(problem, witness.point)
            if lower > lowers[i].value:
                lowers[i], witnesses[i] = _Side(other, lower), proved
    uppers = [_Side(answer, answer.upper) for answer in answers]
    d = problems[0].network.input_dimension
    for i, problem in enumerate(problems):
        if answers[i].certificate is None:
            for j, other in enumerate(answers):
                upper = other.upper
                if j < i and upper > 0:  # a smaller p costs a factor
                    factor = float(d) ** (1 / problems[j].p - 1 / problem.p) * UPWARD
                    upper = math.nextafter(upper * factor, math.inf)
                if upper < uppers[i].value:
                    uppers[i] = _Side(other, upper)
    for before, i in itertools.pairwise(range(len(problems))):
        if lowers[before].value > lowers[i].value:
            lowers[i], witnesses[i] = lowers[before], witnesses[before]
    found = []
    for answer, low, high, witness in zip(answers, lowers, uppers, witnesses, strict=True):
        if low.answer is answer and high.answer is answer:
            found.append(answer)
            continue
        exact = budget.is_closed(low.value, high.value)
        names = f"{low.answer.method}+{high.answer.method}".split("+")
        found.append(
            replace(
                answer,
                lower=low.value,
                upper=high.value,
                status=Status.EXACT if exact else answer.status,
                method="+".join(dict.fromkeys(names)),
                witness=witness,
                certificate=answer.certificate if high.answer is answer else None,
                reason="" if exact else answer.reason,
            )
        )
    return found
