"""Nearest points of a set that lies far away: where a k-d tree looks at nearly all of it, and one look serves many.

Queries that lie together, within r of their middle m, are answered together. A target t can be nearest to one of them
only if |m - t|^2 - |m - s|^2 <= 2 r |t - s| for every other target s, since |q - t|^2 - |q - s|^2 is affine in q. Here
s is the target nearest to m, and the one nearest to m among those that lie together with t: seen from afar, thin caps
of a few clusters remain. Near by too much remains, and such queries are handed back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.compiled import compiled
from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.threads import spread
from solvers.complexity.distance_kernels import _square

__all__ = ["far_neighbours"]

# Queries that are answered together, and candidates for them up to which that is worth it.
TOGETHER, MOST_CANDIDATES = 512, 4096
# Groups that are tried before the rest is given up, if most of them have too many candidates.
TRIED = 8
# Rounding of a squared distance, relative to it.
ROUNDOFF = 1e-12


@compiled
def _middle(points, rows):  # type: ignore[no-untyped-def]
    """Mean of the rows and the largest distance from it."""
    d = points.shape[1]
    middle = np.zeros(d)
    for row in rows:
        for k in range(d):
            middle[k] += points[row, k] / len(rows)
    reach = 0.0
    for row in rows:
        reach = max(reach, _square(points[row], middle))
    return middle, np.sqrt(reach) * (1.0 + ROUNDOFF)


@compiled
def _may_win(square, other, apart, reach):  # type: ignore[no-untyped-def]
    """Whether a target can beat another for some query, from squares of distances to the middle and between the two."""
    excess = square - other - 2.0 * ROUNDOFF * (square + other)
    return excess <= 0.0 or excess * excess <= 4.0 * reach * reach * apart * (1.0 + 4.0 * ROUNDOFF)


@compiled
def _nearest_of_group(points, queries, targets, ends, middles, reaches, found):  # type: ignore[no-untyped-def]
    """Enter the nearest target of every query; False, and nothing entered, where too many may be one.

    Args:
        targets: those that lie together after one another, ending at `ends`, within `reaches` of `middles`.
    """
    groups = len(ends)
    middle, reach = _middle(points, queries)
    away = np.empty(groups)
    for g in range(groups):
        away[g] = np.sqrt(_square(middles[g], middle)) * (1.0 - ROUNDOFF) - reaches[g] - 2.0 * reach
    order = np.argsort(away)
    squares = np.empty(len(targets))
    leads = np.empty(groups, dtype=np.int64)
    best, lead, seen = np.inf, -1, 0
    for g in order:
        if away[g] > np.sqrt(best) * (1.0 + ROUNDOFF):
            break
        seen += 1
        least, place = np.inf, -1
        for j in range(ends[g - 1] if g > 0 else 0, ends[g]):
            squares[j] = _square(points[targets[j]], middle)
            if squares[j] < least:
                least, place = squares[j], j
        leads[g] = place
        if least < best:
            best, lead = least, place
    candidates = np.empty(MOST_CANDIDATES, dtype=np.int64)
    count = 0
    for g in order[:seen]:
        near = leads[g]
        for j in range(ends[g - 1] if g > 0 else 0, ends[g]):
            point = points[targets[j]]
            if j != near and not _may_win(squares[j], squares[near], _square(point, points[targets[near]]), reach):
                continue
            if j != lead and not _may_win(squares[j], best, _square(point, points[targets[lead]]), reach):
                continue
            if count == MOST_CANDIDATES:
                return False
            candidates[count] = targets[j]
            count += 1
    for i in range(len(queries)):
        least, place = np.inf, -1
        for j in range(count):
            square = _square(points[queries[i]], points[candidates[j]])
            if square < least:
                least, place = square, candidates[j]
        found[i] = place
    return True


def far_neighbours(
    points: FloatArray, rows: NDArray[np.int64], targets: NDArray[np.int64], threads: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The nearest of the targets for those of the rows that lie far from them.

    Args:
        points: shape (N, d).
        rows, targets: disjoint.
        threads: to use.
    Returns:
        Places among `rows` that are answered, and the targets that they lead to.
    """
    groups = _groups(points[rows])
    together = _groups(points[targets])
    sorted_targets = targets[np.concatenate(together)]
    ends = np.cumsum([len(group) for group in together])
    spheres = [_middle(points, targets[group]) for group in together]
    middles, reaches = np.array([sphere[0] for sphere in spheres]), np.array([sphere[1] for sphere in spheres])
    found = np.full(len(rows), -1, dtype=np.int64)

    def answer(group: NDArray[np.int64]) -> bool:
        leads = np.empty(len(group), dtype=np.int64)
        if not _nearest_of_group(points, rows[group], sorted_targets, ends, middles, reaches, leads):
            return False
        found[group] = leads
        return True

    # Spread over all of the rows, for the sample to stand for them.
    step = max(1, len(groups) // TRIED)
    order = [groups[k] for start in range(step) for k in range(start, len(groups), step)]
    tried, rest = order[:TRIED], order[TRIED:]
    if 2 * sum(spread(answer, tried, threads)) >= len(tried):
        spread(answer, rest, threads)
    answered = np.flatnonzero(found >= 0)
    return answered, found[answered]


def _groups(points: FloatArray) -> list[NDArray[np.int64]]:
    """Places that lie together, at most TOGETHER in a group: leaves of a tree that is cut where there are gaps."""
    from scipy.spatial import cKDTree

    tree = cKDTree(points, leafsize=TOGETHER, balanced_tree=False)
    pending, groups = [tree.tree], []
    while pending:
        node = pending.pop()
        if node.lesser is None:
            groups.append(np.asarray(tree.indices[node.start_idx : node.end_idx], dtype=np.int64))
        else:
            pending += [node.greater, node.lesser]
    return groups
