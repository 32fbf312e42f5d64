"""Devices of torch that compute in float64."""

from __future__ import annotations

from solvers.errors import InputError

__all__ = ["check_device"]


def check_device(device: str) -> None:
    """Raise InputError unless torch has the device here, with float64."""
    if device == "cpu":
        return
    import torch

    try:
        torch.ones(1, dtype=torch.float64, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        # What torch says first: lists of all it knows follow.
        why = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise InputError(f"torch cannot compute in float64 on device {device!r} here: {why}") from None
