"""A clock for tests: no assertion hangs on the machine's speed."""

from __future__ import annotations

import pytest

from solvers.problems.budget import Budget, Deadline

__all__ = ["LookedAtClock"]


class LookedAtClock:
    """A clock of all budgets that moves on by one second at every look."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        patch.setattr(Budget, "start", lambda budget: Deadline(budget, self.look()))
        patch.setattr(Deadline, "elapsed", property(lambda deadline: self.look() - deadline.started))

    def look(self) -> float:
        self.now += 1.0
        return self.now
