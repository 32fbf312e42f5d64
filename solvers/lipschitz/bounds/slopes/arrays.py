"""What computes a network of vectors: numpy on this machine, or torch on a device, in the same words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.arithmetic.norms import FloatArray

__all__ = ["NUMPY", "ArrayLibrary", "on_device"]


@dataclass(frozen=True, slots=True)
class ArrayLibrary:
    """A module of arrays and where its arrays lie.

    Attributes:
        module: numpy, or torch: both know `where`, `einsum`, `outer`, `sqrt`, `concatenate`.
        device: None for numpy.
    """

    module: Any
    device: str | None = None

    def given(self, values: FloatArray, *, single: bool) -> Any:
        """The values there, in float32 or float64; without a copy where none is needed."""
        if self.device is None:
            return np.asarray(values, dtype=np.float32 if single else np.float64)
        kind = self.module.float32 if single else self.module.float64
        return self.module.as_tensor(np.ascontiguousarray(values), dtype=kind, device=self.device)

    def cast(self, values: Any, *, single: bool) -> Any:
        """An array of this module in float32 or float64."""
        if self.device is None:
            return values.astype(np.float32 if single else np.float64, copy=False)
        return values.to(self.module.float32 if single else self.module.float64)

    def taken(self, values: Any) -> FloatArray:
        """An array of this module as float64 in numpy."""
        found = values if self.device is None else values.cpu().numpy()
        return np.asarray(found, dtype=np.float64)


NUMPY = ArrayLibrary(np)


def on_device(device: str) -> ArrayLibrary:
    """Arrays of torch on a device that it has (`devices.check_device`)."""
    import torch

    return ArrayLibrary(torch, device)
