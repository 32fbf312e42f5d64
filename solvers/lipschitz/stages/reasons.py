"""Why an interval of `auto` is open, and which option would narrow it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from solvers.lipschitz.stages.choice import ASCENT, PATIENCE, Choice, Stage
from solvers.problems.budget import Deadline
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds

__all__ = ["why_open"]

# Inputs from which climbs that begin at data find what drawn points do not.
MANY_INPUTS = 20


def why_open(
    problem: LipschitzProblem,
    choice: Choice,
    asked: Sequence[Stage],
    best: LipschitzBounds,
    deadline: Deadline,
    searches: bool,
) -> str:
    """One sentence: what ended the search or kept it from being started, then what helps.

    Args:
        asked: the stages that were met.
        best: the interval that is left.
        searches: whether there are exact methods to ask at all.
    """
    limited = math.isfinite(deadline.budget.seconds) or deadline.budget.nodes is not None
    searched = [stage for stage in asked if stage.exact]
    help_ = []
    if choice.exact:
        why = f"without a time limit a method is given up after {PATIENCE:g} s"
        if limited:
            why = "the limit ended the search before the gap closed"
        help_.append("--time-limit allows more")
    elif not searches:
        return "this method never searches: method auto does where the network is small or the bounds are close"
    else:
        ratio = f"a factor of {best.upper / best.lower:.3g} between them" if best.lower else "no lower bound"
        why = f"{choice.reason}; here it was, and did not end" if searched else f"{choice.reason}: {ratio}"
        if searched or deadline.is_over:
            help_.append("--time-limit allows more")
    help_.append(
        "a smaller box decides more neurons" if problem.domain.is_bounded else "a box (--box, --center) is less"
    )
    if any(stage.method == ASCENT for stage in asked) and problem.network.input_dimension >= MANY_INPUTS:
        help_.append("--starts FILE lets the lower bound begin at data")
    if 1 < problem.p < 2:
        help_.append("p = 1 and p = 2 have tighter bounds than those between")
    return f"{why}; what helps: {', '.join(help_)}"
