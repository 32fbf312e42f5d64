"""Arrays of .npz files: memory is taken for what a file holds, not for what its headers claim."""

from __future__ import annotations

import math
import zipfile
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from solvers.errors import InputError
from solvers.files.layers import check_entries

__all__ = ["npz_arrays"]

LONGEST_HEADER = 10_000  # characters, as numpy.load allows without pickles


def npz_arrays(archive: zipfile.ZipFile, kinds: str | None = None) -> dict[str, NDArray[Any]]:
    """All arrays of an archive by name.

    Args:
        kinds: numpy's letters of the types that are allowed; None for all but objects, which numpy refuses.
    Raises:
        InputError: two arrays share a name, one has another type, more entries than can be read, or another size than
            its bytes.
    """
    members = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise InputError("the file holds two arrays of one name; write it anew by numpy.savez")
    for name, entry in members.items():
        with archive.open(entry) as stream:
            shape, kind = _header(stream)
            there = entry.file_size - stream.tell()
        if kinds is not None and kind.kind not in kinds:
            raise InputError(f"array {name[:40]} must hold real numbers, it has type {kind}")
        check_entries(f"array {name[:40]}", shape)
        if kind.kind != "O" and math.prod(shape) * kind.itemsize != there:
            raise InputError(f"array {name[:40]} claims the shape {shape}, but the file holds {there} bytes of it")
    arrays = {}
    for name, entry in members.items():
        with archive.open(entry) as stream:
            arrays[name] = np.lib.format.read_array(stream, allow_pickle=False, max_header_size=LONGEST_HEADER)
    return arrays


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, before its numbers are read."""
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(stream, max_header_size=LONGEST_HEADER)
    return shape, kind
