"""The worst-case counts for a data set at hand, as far as its smallest distance is quickly found."""

from __future__ import annotations

import numpy as np

from solvers.complexity.distances import distances_between
from solvers.complexity.worst_case import WorstCase, worst_case_counts
from solvers.problems.questions import InterpolationProblem

__all__ = ["worst_case_of"]

# Multiply-adds of all distances, a few seconds; in few dimensions a tree finds the smallest one quickly.
MOST_WORK = 3e10
TREE_DIMENSIONS = 3


def worst_case_of(problem: InterpolationProblem) -> tuple[WorstCase, ...]:
    """Networks that theorems promise for any points of a kind, for the different points of a data set.

    Returns:
        All of `worst_case_counts`; on data so large that `interlip complexity` is the way to its smallest distance, or
        with points too close for float64, only those that do not need it.
    """
    rows = problem.distinct_rows()
    points = problem.points[rows]
    count, dimension = points.shape
    if dimension <= TREE_DIMENSIONS or count * count * dimension <= MOST_WORK:
        everything = np.arange(count)
        closest = float(distances_between(points).nearest(everything, everything)[0].min())
        if closest / problem.radius > 0:
            return worst_case_counts(count, dimension, closest / problem.radius)
    return tuple(counts for counts in worst_case_counts(count, dimension, 1.0) if counts.precise)
