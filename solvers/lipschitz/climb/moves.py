"""Search without slopes: small moves of the best points, kept where the gradient gets longer.

In few dimensions a step along a coordinate, or a few, crosses one kink after the other; every point has a length of
step of its own, which grows with success and shrinks without.
"""

from __future__ import annotations

import numpy as np

from solvers.lipschitz.climb.search_network import AnyArray, SearchNetwork
from solvers.problems.budget import Deadline

__all__ = ["moved_uphill"]

GROWING, SHRINKING = 1.6, 0.75
LONGEST, SHORTEST = 1.0, 1e-4


def moved_uphill(
    search: SearchNetwork, u: AnyArray, q: float, tries: int, rounds: int, rng: np.random.Generator, deadline: Deadline
) -> tuple[AnyArray, AnyArray]:
    """Points (count, d) moved, each to the best of `tries` moves a round while that gains.

    Returns:
        The points, and their values (count,).
    """
    xp = search.xp
    count, d = int(u.shape[0]), int(u.shape[1])
    values = search.values(u, q)
    lengths = np.full(count, 0.1)
    rows = np.arange(count)
    for _ in range(rounds):
        if deadline.is_over:
            break
        moves = (
            _moves(count, tries, d, rng)
            * (lengths[:, None] * 4.0 ** rng.uniform(-2.0, 1.0, (count, tries)))[:, :, None]
        )
        size = 1.0 if search.bounded else xp.sqrt((u * u).mean(1))[:, None, None]
        tried = search.placed((u[:, None, :] + search.put(moves) * size).reshape(count * tries, d))
        found = search.values(tried, q).reshape(count, tries)
        place = search.fetch(found).argmax(axis=1)
        top, moved = found[rows, place], tried.reshape(count, tries, d)[rows, place]
        better = top > values
        u, values = xp.where(better[:, None], moved, u), xp.where(better, top, values)
        gained = search.fetch(better) > 0
        lengths = np.clip(lengths * np.where(gained, GROWING, SHRINKING), SHORTEST, LONGEST)
        if (lengths <= SHORTEST).all():
            break
    return u, values


def _moves(count: int, tries: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Directions (count, tries, d): half along one to three coordinates, half along all."""
    moves = rng.standard_normal((count, tries, d))
    sparse = tries // 2
    kept = np.zeros((count, sparse, d), dtype=bool)
    for _ in range(min(3, d)):
        chosen = rng.integers(0, d, (count, sparse))
        np.put_along_axis(kept, chosen[:, :, None], True, axis=2)
    moves[:, :sparse] *= kept * np.sqrt(min(d, 9.0))
    return moves
