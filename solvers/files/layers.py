"""What a reader hands over: the layers of a network as they stand in its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from solvers.arithmetic.norms import FloatArray

__all__ = ["Layers", "first_line"]


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """The layers of a feed-forward network, not yet checked against each other.

    Attributes:
        weights: W_0, ..., W_L; W_l of shape (n_{l+1}, n_l).
        biases: b_0, ..., b_L; b_l of shape (n_{l+1},).
        slopes: of the L activations below 0, as of `network_with_slopes`; None where the file names no activations.
        single_precision: whether all numbers are float32, so that a slope that the caller names is one too.
    """

    weights: Sequence[FloatArray]
    biases: Sequence[FloatArray]
    slopes: Sequence[float] | None = None
    single_precision: bool = False


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
