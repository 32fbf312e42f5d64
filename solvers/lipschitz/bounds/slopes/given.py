"""What multipliers that somebody else has found prove for one p, with the data of their certificate.

However they were found, a bound counts only once `slopes.proof` has proved it; where it does not succeed at first, the
multipliers are given more room.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.lipschitz.bounds.slopes.layers import SlopeLayers
from solvers.lipschitz.bounds.slopes.proof import (
    lipschitz_between,
    lipschitz_from_diagonal,
    proved_columns,
    proved_diagonal,
    shallow_derivatives,
)
from solvers.lipschitz.bounds.slopes.vectors import Multipliers

__all__ = ["GivenProof", "prove_given"]

# Room that multipliers are given in turn, layer by layer, until a proof succeeds.
ROOMS = (0.0, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True, slots=True)
class GivenProof:
    """A bound and its certificate.

    Attributes:
        upper: in the units of the scaled network; inf where nothing was proved.
        data: of a certificate of the kind "slope-multipliers".
    """

    upper: float
    data: dict[str, Any]


def prove_given(
    layers: SlopeLayers,
    widths: Sequence[int],
    p: float,
    square: Multipliers | None,
    columns: Sequence[tuple[list[int], Multipliers]],
) -> GivenProof:
    """The least bound of Lip_p that is proved from multipliers.

    Args:
        layers: the slopes, with a hidden layer at least.
        widths: neurons of every hidden layer of the network.
        square: for sum t_k x_k^2, needed for p > 1; its `inputs` are the shape of t.
        columns: for p < 2 in networks of more than one hidden layer, inputs and the multipliers that bound the
            derivatives by them: one input alone, or all of them. A shallow network has a closed form.
    """
    data: dict[str, Any] = {"square": None, "derivative": None, "columns": []}
    if not layers.representable:
        return GivenProof(math.inf, data)
    if layers.is_constant:
        return GivenProof(0.0, data)
    euclid = largest = math.inf
    t = np.zeros(0)
    if p > 1 and square is not None:
        euclid, t, multipliers = _diagonal(layers, square, max(p, 2.0))
        if math.isfinite(euclid):
            data["square"] = {"t": t.tolist(), "layers": layers.listed(widths, multipliers.layers)}
    if p >= 2:
        return GivenProof(euclid, data)
    if layers.depth == 1:
        largest = float(shallow_derivatives(layers).max())
    elif columns:
        found = [(inputs, *_columns(layers, inputs, own)) for inputs, own in columns]
        largest = max(bound for _, bound, _ in found)
        data["columns"] = [{"inputs": own, "layers": layers.listed(widths, part.layers)} for own, _, part in found]
    data["derivative"] = largest if math.isfinite(largest) else None
    if p == 1 or largest == 0:
        return GivenProof(largest, data)
    return GivenProof(
        lipschitz_between(p, t, np.full(len(t), largest) if math.isfinite(largest) else np.zeros(0)), data
    )


def _diagonal(layers: SlopeLayers, given: Multipliers, p: float) -> tuple[float, FloatArray, Multipliers]:
    """The bound for p >= 2, t and the multipliers that prove it; inf where none does."""
    for room in ROOMS:
        raised = given.raised(room)
        t = proved_diagonal(layers, raised.layers, given.inputs)
        if t is not None:
            return lipschitz_from_diagonal(t, p), t, raised
    return math.inf, np.zeros(0), given


def _columns(layers: SlopeLayers, inputs: list[int], given: Multipliers) -> tuple[float, Multipliers]:
    """A bound of the derivatives by these inputs, and the multipliers that prove it; inf where none does."""
    mine = layers if len(inputs) == layers.inputs else layers.column(*inputs)
    for room in ROOMS:
        raised = given.raised(room)
        found = proved_columns(mine, raised.layers)
        if found is not None:
            return float(found.max()), raised
    return math.inf, given
