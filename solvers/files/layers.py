"""What a reader hands over: the layers of a network as they stand in its file, and what the file does not say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.networks.activations import ABSOLUTE_VALUE, RELU

__all__ = ["PLAIN_ARRAYS", "Layers", "check_entries", "first_line", "printable"]

# The way out of whatever a format cannot say.
PLAIN_ARRAYS = "store its layers as arrays W0, b0, W1, b1, ... in a .npz file"
# An array of this many float64 takes 2 GB.
MOST_ENTRIES = 2**28


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """The layers of a feed-forward network, not yet checked against each other.

    Attributes:
        weights: W_0, ..., W_L; W_l of shape (n_{l+1}, n_l).
        biases: b_0, ..., b_L; b_l of shape (n_{l+1},).
        slopes: of the L activations below 0, as of `network_with_slopes`; None where the file names no activations.
        single_precision: whether all numbers are float32, so that a slope that the caller names is one too.
        source: what the file is, as in "a state_dict does not say".
        assumed: what else the reader took for granted, a clause each.
    """

    weights: Sequence[FloatArray]
    biases: Sequence[FloatArray]
    slopes: Sequence[float] | None = None
    single_precision: bool = False
    source: str = "the file"
    assumed: tuple[str, ...] = ()

    def described(self, slopes: Sequence[float]) -> str:
        """In one line, equal neighbours counted: 'Linear 4→8, ReLU, (Linear 8→8, ReLU) × 3, Linear 8→1'."""
        *hidden, last = (f"Linear {'→'.join(map(str, w.shape[::-1]))}" for w in self.weights)
        blocks = [f"{linear}, {_activation(slope)}" for linear, slope in zip(hidden, slopes, strict=True)]
        parts = []
        for block, equal in itertools.groupby(blocks):
            count = len(list(equal))
            parts.append(block if count == 1 else f"({block}) × {count}")
        return ", ".join((*parts, last))


def _activation(slope: float) -> str:
    return {RELU: "ReLU", ABSOLUTE_VALUE: "Abs"}.get(slope, f"LeakyReLU {slope:.6g}")


def check_entries(what: str, shape: Sequence[int]) -> None:
    """Raise InputError if an array is too large to read, before memory is taken for it."""
    if (entries := math.prod(shape)) > MOST_ENTRIES:
        raise InputError(f"{what} of shape {tuple(shape)} has {entries} entries, more than the {MOST_ENTRIES} readable")


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line of at most 200 characters."""
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return line if len(line) <= 200 else f"{line[:197]}..."


def printable(text: str) -> str:
    """Text with names out of a file, without what would break a line or command a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
