"""Networks in .npz files: plain arrays W0, b0, W1, b1, ... with W_l of shape (outputs, inputs)."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from solvers.errors import InputError
from solvers.files.layers import Layers, first_line
from solvers.files.npz_arrays import npz_arrays
from solvers.networks.relu import ReluNetwork

__all__ = ["read", "write"]

WANTED = "the arrays W0, b0, W1, b1, ... with W of shape (outputs, inputs)"
REAL = "fiuO"  # objects are refused by numpy


def read(file: Path) -> Layers:
    """The layers of a file; it names no activations.

    Raises:
        InputError: it is no archive of plain arrays, or these are not W0, b0, W1, b1, ... of real numbers.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            arrays = npz_arrays(archive, REAL)
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib, numpy and OS errors alike mean: not what it says
        raise InputError(
            f"this is not a readable .npz file of plain arrays ({first_line(error)}); write one by numpy.savez"
        ) from None
    found = {name: int(name[1:]) for name in arrays if re.fullmatch(r"[Wb](0|[1-9][0-9]{0,5})", name)}
    odd = sorted(set(arrays) - set(found))
    if odd:
        raise InputError(f"the file must hold {WANTED}, it also holds {odd[0]!r}")
    if not found:
        raise InputError(f"the file must hold {WANTED}, it holds none")
    depth = 1 + max(found.values())
    for k in range(depth):
        for letter in "Wb":
            if f"{letter}{k}" not in arrays:
                hint = "; store zeros for a layer without bias" if letter == "b" else ", counted from 0"
                raise InputError(f"the file has no array {letter}{k}: every layer 0..{depth - 1} needs W and b{hint}")
    return Layers(
        [arrays[f"W{k}"] for k in range(depth)], [arrays[f"b{k}"] for k in range(depth)], source="a .npz file"
    )


def write(network: ReluNetwork, file: Path) -> None:
    """Write a network, float64 bit for bit."""
    arrays = {f"W{k}": w for k, w in enumerate(network.weights)} | {f"b{k}": b for k, b in enumerate(network.biases)}
    with file.open("wb") as stream:  # given a name, numpy would add a second ending to NET.NPZ
        np.savez(stream, **arrays)  # type: ignore[arg-type]
