"""The longest gradients seen so far, for every dual exponent and every network of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from solvers.arithmetic.norms import FloatArray, scalar_norm

if TYPE_CHECKING:
    import torch

__all__ = ["Champion", "Incumbents"]

# Norms taken by tensor operations may be off by this much; the precise ones decide.
SCREEN = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Champion:
    """A cell whose gradient is the longest so far.

    Attributes:
        value: its norm, by `scalar_norm`.
        gradient: (d,).
        place: where it was found: arrangement, then the subset of hyperplanes.
        signs: (M,) bool.
    """

    value: float
    gradient: tuple[float, ...]
    place: tuple[int, ...]
    signs: np.ndarray


class Incumbents:
    """Keeps the longest gradient per exponent and network; the outcome does not depend on the order of cells.

    Ties go to the gradient, then the place, that comes first in lexicographic order.
    """

    def __init__(self, exponents: Sequence[float], batch: int) -> None:
        self.exponents = tuple(exponents)
        self.best: list[list[Champion | None]] = [[None] * batch for _ in exponents]
        self._floor = np.full((len(self.exponents), batch), -1.0)

    def offer(
        self,
        gradients: list[torch.Tensor],
        found: torch.Tensor,
        positive: torch.Tensor,
        subsets: torch.Tensor,
        arrangement: int,
    ) -> None:
        """Look at M cells of B networks.

        Args:
            gradients: d tensors of shape (M, B).
            found: (M, B): which entries are cells.
            positive: (hyperplanes, M, B): their signs.
            subsets: (M, k).
            arrangement: index of the arrangement, for `place`.
        """
        import torch

        total, peak, square = (torch.zeros_like(gradients[0]) for _ in range(3))
        for g in gradients:
            size = g.abs()
            total, peak, square = total + size, torch.maximum(peak, size), square + g * g
        length = square.sqrt()
        for e, q in enumerate(self.exponents):
            floor = torch.as_tensor(self._floor[e], device=found.device)
            if q in (1.0, 2.0) or math.isinf(q):
                size = total if q == 1 else length if q == 2 else peak
                size = torch.where(found, size, -2.0)
                keep = size >= torch.maximum(size.amax(0), floor)[None] * (1 - SCREEN)
                rows, columns = torch.nonzero(keep & found, as_tuple=True)
            else:
                rows, columns = self._screen(q, gradients, found, total, length, peak, floor)
            self._take(e, rows, columns, gradients, positive, subsets, arrangement)

    def _screen(
        self,
        q: float,
        gradients: list[torch.Tensor],
        found: torch.Tensor,
        total: torch.Tensor,
        length: torch.Tensor,
        peak: torch.Tensor,
        floor: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cells that may beat the floor in l_q, powers taken only where a cheap bound leaves them a chance."""
        import torch

        leader = torch.where(found, length, -1.0).argmax(0)
        columns = torch.arange(found.shape[1], device=found.device)
        here = found[leader, columns]
        level = torch.where(here, _norms([g[leader, columns] for g in gradients], q), -1.0)
        floor = torch.maximum(floor, level) * (1 - SCREEN)
        factor = 1.0 if q > 2 else len(gradients) ** (1 / q - 0.5)
        rows, columns = torch.nonzero(found & (length * (factor * (1 + SCREEN)) >= floor[None]), as_tuple=True)
        # Hoelder between l_2 and the nearer of l_1 and l_inf.
        middle = length[rows, columns]
        other = (peak if q > 2 else total)[rows, columns]
        weight = 1 - 2 / q if q > 2 else 2 / q - 1
        bound = middle ** (1 - weight) * other**weight * (1 + SCREEN)
        keep = bound >= floor[columns]
        rows, columns = rows[keep], columns[keep]
        keep = _norms([g[rows, columns] for g in gradients], q) >= floor[columns]
        return rows[keep], columns[keep]

    def _take(
        self,
        e: int,
        rows: torch.Tensor,
        columns: torch.Tensor,
        gradients: list[torch.Tensor],
        positive: torch.Tensor,
        subsets: torch.Tensor,
        arrangement: int,
    ) -> None:
        import torch

        if not len(rows):
            return
        vectors: FloatArray = torch.stack([g[rows, columns] for g in gradients], 1).cpu().numpy()
        row_list, column_list = rows.tolist(), columns.tolist()
        for i, vector in enumerate(vectors.tolist()):
            b = column_list[i]
            value = scalar_norm(vector, self.exponents[e])
            if value < self._floor[e, b]:
                continue
            old = self.best[e][b]
            place = (arrangement, *subsets[row_list[i]].tolist())
            gradient = tuple(vector)
            if old is not None and value == old.value and (old.gradient, old.place) <= (gradient, place):
                continue
            signs = positive[:, row_list[i], b].cpu().numpy().copy()
            self.best[e][b] = Champion(value, gradient, place, signs)
            self._floor[e, b] = value


def _norms(columns: list[torch.Tensor], q: float) -> torch.Tensor:
    """l_q norms by tensor operations, to a few units in the last place; vectors given by their d components."""
    import torch

    peak = torch.zeros_like(columns[0])
    for column in columns:
        peak = torch.maximum(peak, column.abs())
    scale = torch.where(peak > 0, peak, torch.ones_like(peak))
    total = torch.zeros_like(peak)
    for column in columns:
        total = total + (column.abs() / scale) ** q
    return scale * total ** (1 / q)
