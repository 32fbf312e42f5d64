"""Worst-case counts of a data set: from its own number of points and its own smallest distance."""

from __future__ import annotations

import numpy as np
import pytest

from solvers.complexity import size_comparison
from solvers.complexity.size_comparison import worst_case_of
from solvers.complexity.worst_case import worst_case_counts
from solvers.problems.questions import InterpolationProblem


@pytest.mark.parametrize("d", [2, 12])
def test_points_that_are_there_twice_count_once_and_lengths_are_relative(
    d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = np.zeros((5, d))
    points[:, 0] = [0.0, 3.0, 3.0, 10.0, -4.0]
    problem = InterpolationProblem(points, [0, 1, 1, 0, 1])
    # Four different points; the nearest two lie 3 apart where max ||x|| is 10.
    assert worst_case_of(problem) == worst_case_counts(4, d, 0.3)
    monkeypatch.setattr(size_comparison, "MOST_WORK", 1)
    monkeypatch.setattr(size_comparison, "TREE_DIMENSIONS", 0)
    assert [counts.source for counts in worst_case_of(problem)] == ["Huang and Huang 1991", "Baum 1988"]
    assert worst_case_of(problem) == worst_case_counts(4, d, 0.3)[:2]
