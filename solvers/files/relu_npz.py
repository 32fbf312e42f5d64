"""Networks in .npz files: plain arrays W0, b0, W1, b1, ... with W_l of shape (outputs, inputs)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from solvers.errors import InputError
from solvers.files.layers import Layers, first_line
from solvers.networks.relu import ReluNetwork

__all__ = ["read", "write"]


def read(file: Path) -> Layers:
    """The layers of a file; it names no activations.

    Raises:
        InputError: it is no archive of plain arrays, or these are not W0, b0, W1, b1, ... of real numbers.
    """
    try:
        # Opened here, for numpy leaves the file of a torn archive open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, numpy and OS errors alike mean: not what it says
        raise InputError(f"this is not a readable .npz file of plain arrays: {first_line(error)}") from None
    found = {name: int(name[1:]) for name in arrays if re.fullmatch(r"[Wb]\d+", name)}
    odd = sorted(set(arrays) - set(found))
    if odd:
        raise InputError(f"the file must hold the arrays W0, b0, W1, b1, ..., it also holds {odd[0]!r}")
    depth = 1 + max(found.values(), default=-1)
    for k in range(depth):
        for letter in "Wb":
            if f"{letter}{k}" not in arrays:
                raise InputError(f"the file has no array {letter}{k}: every layer 0..{depth - 1} needs W and b")
    if not depth:
        raise InputError("the file must hold the arrays W0, b0, W1, b1, ..., it holds none")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise InputError(f"array {name} must hold real numbers, it has type {array.dtype}")
    return Layers([arrays[f"W{k}"] for k in range(depth)], [arrays[f"b{k}"] for k in range(depth)])


def write(network: ReluNetwork, file: Path) -> None:
    """Write a network, float64 bit for bit."""
    arrays = {f"W{k}": w for k, w in enumerate(network.weights)} | {f"b{k}": b for k, b in enumerate(network.biases)}
    with file.open("wb") as stream:  # given a name, numpy would add a second ending to NET.NPZ
        np.savez(stream, **arrays)  # type: ignore[arg-type]
