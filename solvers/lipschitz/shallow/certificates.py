"""Certificates of vertex enumeration: all cells of a shallow network, each with a point that is strictly inside.

On R^d the checker counts the cells (`solvers.checkers.shallow_cells`); on a box, where no formula counts them, it
crosses every facet of every cell (`solvers.checkers.region_list`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.shallow.cases import Case, ExactCell, arrangements_of, cell_pattern, points_near, to_inputs
from solvers.lipschitz.shallow.cell_enumeration import Arrangement, cells
from solvers.lipschitz.shallow.interior_points import point_in_cell
from solvers.problems.regions import pattern_at
from solvers.problems.results import Certificate
from solvers.problems.witnesses import exact_gradient

__all__ = ["MOST_CELLS", "MOST_CELLS_IN_BOX", "cell_certificate"]

# A checker in rational arithmetic takes a millisecond a cell to count, and tens of them to cross facets.
MOST_CELLS = 20_000
MOST_CELLS_IN_BOX = 4_000


def cell_certificate(
    case: Case, exact: list[ExactCell] | None, device: str, proceed: Callable[[], bool]
) -> Certificate | str:
    """The cells of a network as a certificate, or why there is none, in one clause.

    Args:
        case: a network and a domain on which all cells were found without doubt.
        exact: the cells, if rational arithmetic found them; else they are enumerated again.
        device: torch device of the enumeration.
        proceed: called between cells; False stops.
    """
    if not case.network.depth:
        return Certificate("norm-product", {"chain": None})
    boxed = case.area.is_bounded
    if boxed and case.form.cancelled:
        return "neurons that cancel cut cells of the box apart which vertex enumeration knows as one"
    most = MOST_CELLS_IN_BOX if boxed else MOST_CELLS
    points: list[list[float]] = []
    patterns: list[str] = []
    seen: set[bytes] = set()
    for on, point in _cells(case, device) if exact is None else ((cell.on, cell.point) for cell in exact):
        # A cone that the slice of a central arrangement misses on neither side is met from both.
        if on.tobytes() in seen:
            continue
        seen.add(on.tobytes())
        if len(points) == most:
            return f"there are more than {most} cells, too many for a checker in rational arithmetic"
        if not proceed():
            return "the time ended while the cells were listed"
        inside = _point_inside(case, on, point)
        if inside is None:
            return "a cell is too thin for a float64 point strictly inside it"
        points.append(inside[0].tolist())
        patterns.append(inside[1])
    if boxed:
        return Certificate("region-list", {"pieces": [{"points": points, "patterns": [[own] for own in patterns]}]})
    return Certificate("shallow-cells", {"points": points, "patterns": patterns})


def _cells(case: Case, device: str) -> Iterator[tuple[np.ndarray, FloatArray | None]]:
    """Signs (M,) of every cell, and a point (d,) that should lie in it."""
    import torch

    chain: list[Arrangement] = []
    for index, arrangement in enumerate(arrangements_of([case])):
        chain.append(arrangement)
        for batch in cells(arrangement, device):
            for m in torch.nonzero(batch.found[:, 0]).flatten().tolist():
                signs, subset = batch.positive[:, m, 0].cpu().numpy(), batch.subsets[m].tolist()
                for mirror in (False, True) if arrangement.mirrored else (False,):
                    point = point_in_cell(chain, index, subset, signs, 0, mirror)
                    yield ~signs if mirror else signs, None if point is None else to_inputs(case, point)


def _point_inside(case: Case, on: np.ndarray, point: FloatArray | None) -> tuple[FloatArray, str] | None:
    """A point proved to lie strictly inside a cell, and the pattern of the network there."""
    if point is None or not np.isfinite(point).all():
        return None
    own = cell_pattern(case, on)[0]
    for candidate in points_near(point) if case.form.cancelled else (point,):
        pattern = pattern_at(case.network, candidate)[0]
        # Where neurons cancel, the cell knows the others only.
        same = (pattern == own)[case.form.owners >= 0].all()
        strictly = same and not isinstance(exact_gradient(case.network, candidate, (pattern,)), str)
        if strictly and case.area.strictly_contains(candidate):
            return candidate, "".join("1" if active else "0" for active in pattern)
    return None
