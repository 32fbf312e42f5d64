"""The options that say what shape the points of a data set have."""

from __future__ import annotations

from typing import Annotated

import typer

from solvers.errors import InputError

__all__ = ["Conv", "Shape", "asked_shape", "picture_sizes", "whole_numbers"]

Conv = Annotated[bool, typer.Option("--conv", help="The translation-invariant convolutional network.")]
Shape = Annotated[
    str | None, typer.Option(metavar="C,H,W", help="Shape of a point, for --conv and pictures; H = 1 for signals.")
]


def asked_shape(data: str, conv: bool, shape: str | None) -> tuple[int, int, int] | None:
    """(C, H, W) with --conv, else None; a named data set may know its own.

    Raises:
        InputError: --shape without --conv, no shape, or none that could be one.
    """
    from tasks.constructions import known_shape

    if not conv:
        if shape is not None:
            raise InputError("--shape is for --conv")
        return None
    if shape is None:
        known = known_shape(data)
        if known is None:
            raise InputError("--conv needs the shape of a point: --shape C,H,W (H = 1 for a 1-D signal)")
        return known
    return _sizes(shape)


def picture_sizes(data: str, shape: str | None) -> tuple[int, int, int] | None:
    """(C, H, W) of a point as a picture: as asked, or as a named data set knows it; else None.

    Raises:
        InputError: no shape.
    """
    from tasks.constructions import known_shape

    return known_shape(data) if shape is None else _sizes(shape)


def _sizes(shape: str) -> tuple[int, int, int]:
    channels, height, width = whole_numbers("--shape", shape, "C,H,W", (3,))
    return channels, height, width


def whole_numbers(option: str, text: str, form: str, counts: tuple[int, ...]) -> tuple[int, ...]:
    """The numbers of `text`, separated by commas.

    Args:
        form: what the option looks like, for the message.
        counts: how many numbers there may be.
    Raises:
        InputError: another count, or anything but whole numbers >= 1.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in counts or min(numbers) < 1:
        raise InputError(f"{option} must be {form} in whole numbers >= 1, got {text!r}")
    return numbers
