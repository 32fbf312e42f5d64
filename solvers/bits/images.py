"""Points as images: rows of d = C H W numbers as arrays (C, H, W); a 1-D signal has H = 1."""

from __future__ import annotations

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError

__all__ = ["as_images", "check_shape"]


def check_shape(shape: tuple[int, int, int]) -> None:
    """Raise InputError unless `shape` is (C, H, W) with C, H, W >= 1."""
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"shape must be (C, H, W) with C, H, W >= 1 (H = 1 for a 1-D signal), got {tuple(shape)}")


def as_images(points: FloatArray, shape: tuple[int, int, int]) -> FloatArray:
    """Points of shape (N, d) as images of shape (N, C, H, W); images pass as they are.

    Raises:
        InputError: `shape` is not three positive numbers, or C H W differs from d.
    """
    check_shape(shape)
    if points.shape[1:] == tuple(shape):
        return points
    channels, height, width = shape
    if points.ndim != 2 or channels * height * width != points.shape[1]:
        raise InputError(
            f"shape (C, H, W) = {tuple(shape)} holds {channels * height * width} numbers, "
            f"but points have {f'd = {points.shape[1]}' if points.ndim == 2 else f'shape {points.shape}'}"
        )
    return points.reshape(-1, channels, height, width)
