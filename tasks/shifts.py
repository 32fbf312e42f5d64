"""Data whose classes are shifted patterns: K random patterns a class, each in all its cyclic translations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.errors import InputError

__all__ = ["MOST_NUMBERS", "check_sizes", "named_shape", "named_shifts", "shifted_patterns"]

# 2 GB of float64.
MOST_NUMBERS = 2**28
FORM = "shifts:patterns,height,width,channels,noise"
DEFAULTS = (8.0, 16.0, 16.0, 1.0, 0.0)


def check_sizes(patterns: int, height: int, width: int, channels: int, noise: float) -> None:
    """Raise InputError unless `shifted_patterns` can make this: sizes, at least two positions, memory."""
    if min(patterns, height, width, channels) < 1 or height * width < 2:
        raise InputError(
            f"{FORM} needs every size to be at least 1 and two positions at least, "
            f"got {patterns} patterns of height {height}, width {width}, channels {channels}"
        )
    if not 0 <= noise < math.inf:
        raise InputError(f"{FORM} needs a finite noise >= 0, got {noise}")
    positions = height * width
    if 2 * patterns * positions * positions * channels > MOST_NUMBERS:
        raise InputError(
            f"{2 * patterns * positions} images of {channels * positions} numbers take more than 2 GB: "
            "take fewer patterns or smaller ones"
        )


def shifted_patterns(
    rng: np.random.Generator,
    *,
    patterns: int,
    height: int,
    width: int,
    channels: int = 1,
    noise: float = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Two classes of K standard Gaussian patterns, each in all its H W cyclic translations.

    Args:
        patterns: K, patterns of each class.
        height, width, channels: H, W, C; H = 1 for 1-D signals.
        noise: standard deviation of independent Gaussian noise on every number of every translate; a pattern's own
            numbers have standard deviation 1.
    Returns:
        Points (2 K H W, C H W) and labels 0 and 1; pattern after pattern, class 0 first.
    Raises:
        InputError: a size below 1, fewer than two positions, or more than fits in memory.
    """
    check_sizes(patterns, height, width, channels, noise)
    drawn = rng.standard_normal((2 * patterns, channels, height, width))
    positions = height * width
    images = np.stack(
        [np.roll(drawn, (a, b), axis=(2, 3)) for a in range(height) for b in range(width)], axis=1
    ).reshape(2 * patterns * positions, -1)
    if noise > 0:
        images = images + noise * rng.standard_normal(images.shape)
    return images, np.repeat([0, 1], patterns * positions)


def named_shifts(arguments: list[str], seed: int, rng: np.random.Generator, data_dir: str | None) -> tuple[Any, Any]:
    """Shifted random patterns by name: `shifts:K,H,W,C,noise`, 8 patterns a class of 16 x 16 when left out."""
    del data_dir
    (patterns, height, width, channels), noise = _read_sizes(arguments)
    return shifted_patterns(rng, patterns=patterns, height=height, width=width, channels=channels, noise=noise)


def named_shape(arguments: list[str]) -> tuple[int, int, int]:
    """(C, H, W) of the patterns with that name."""
    (_, height, width, channels), _ = _read_sizes(arguments)
    return channels, height, width


def _read_sizes(arguments: list[str]) -> tuple[tuple[int, int, int, int], float]:
    """Patterns, height, width and channels; the noise."""
    try:
        given = [float(text) for text in arguments]
    except ValueError:
        raise InputError(f"the numbers of a data set must be like {FORM}, got {','.join(arguments)!r}") from None
    values = [*given, *DEFAULTS[len(given) :]]
    if len(values) > len(DEFAULTS) or not all(value.is_integer() for value in values[:4]):
        raise InputError(f"{FORM} takes four whole numbers and the noise at most, got {','.join(arguments)!r}")
    patterns, height, width, channels = (int(value) for value in values[:4])
    return (patterns, height, width, channels), values[4]
