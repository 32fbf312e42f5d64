"""Numbers in ONNX files: tensors in the file or in a data file beside it, sparse ones, Constant nodes, attributes.

A file with tensors outside names a path; it is looked up beside the model, never in the current folder, and a path that
leaves the model's folder, by its name or by a link, is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.errors import InputError
from solvers.files.layers import check_entries, first_line

__all__ = ["Attributes", "constant_array", "sparse_array", "tensor_array"]

# Types of real numbers; complex ones, text and numbers of fewer than 16 bits are no weights of a network.
REAL_TYPES = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "INT8", "INT16", "INT32", "INT64",
              "UINT8", "UINT16", "UINT32", "UINT64", "BOOL")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of a node, each of the type that its operator wants.

    Every reader raises InputError where the attribute is there with another type.
    """

    node: Any

    def _value(self, key: str, kind: str) -> Any:
        """None where the node has no such attribute."""
        from onnx import AttributeProto, helper

        for attribute in self.node.attribute:
            if attribute.name == key:
                if attribute.type != AttributeProto.AttributeType.Value(kind):
                    raise InputError(f"the attribute {key} of a node {self.node.op_type} is not of type {kind}")
                return helper.get_attribute_value(attribute)
        return None

    def real(self, key: str, default: float) -> float:
        value = self._value(key, "FLOAT")
        return default if value is None else float(value)

    def whole(self, key: str, default: int) -> int:
        value = self._value(key, "INT")
        return default if value is None else int(value)

    def wholes(self, key: str) -> list[int] | None:
        value = self._value(key, "INTS")
        return None if value is None else [int(number) for number in value]

    def text(self, key: str) -> str:
        value = self._value(key, "STRING")
        return "" if value is None else bytes(value).decode("utf-8", "replace")


def tensor_array(tensor: Any, folder: Path) -> NDArray[Any]:
    """A tensor: whole numbers as they are, real ones in float64.

    Args:
        tensor: a TensorProto.
        folder: of the model, where tensors outside of it are looked up.
    Raises:
        InputError: it holds no real numbers, or not as many as its shape says, or too many to read; its data file is
            not in the folder or too short.
    """
    from onnx import TensorProto, numpy_helper

    name, shape = tensor.name[:80], tuple(tensor.dims)
    if tensor.data_type not in {TensorProto.DataType.Value(kind) for kind in REAL_TYPES}:
        known = {number: kind for kind, number in TensorProto.DataType.items()}
        kind = known.get(tensor.data_type, "unknown")
        raise InputError(f"the tensor {name!r} holds no real numbers but type {kind}: export in float32 or float64")
    if any(size < 0 for size in shape):
        raise InputError(f"the tensor {name!r} has the shape {shape}: export the model again")
    check_entries(f"the tensor {name!r}", shape)
    if tensor.data_location == TensorProto.EXTERNAL:
        tensor = _brought_in(tensor, folder)
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # fewer numbers than the shape wants; onnx and numpy raise several kinds
        reason = first_line(error)
        raise InputError(f"the tensor {name!r} is damaged ({reason}): export the model again") from None
    return array if array.dtype.kind in "iub" else array.astype(np.float64)


def _brought_in(tensor: Any, folder: Path) -> Any:
    """A copy of a tensor that holds its data itself."""
    from onnx import TensorProto, helper

    entries = {str(entry.key): str(entry.value) for entry in tensor.external_data}  # bytes where they are no text
    location = entries.get("location", "")
    told = f"the data of tensor {tensor.name[:80]!r}"
    place = _inside(folder, location, told)
    offset = _count(entries.get("offset", "0"), told)
    wanted = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    if "length" in entries and _count(entries["length"], told) != wanted:
        raise InputError(
            f"{told} is {entries['length'][:20]} bytes long, its shape wants {wanted}: export the model again"
        )
    if offset + wanted > place.stat().st_size:
        raise InputError(
            f"{told} ends beyond its file {location!r}, which is cut short or of another model: export the model again"
        )
    with place.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(wanted)
    whole = TensorProto()
    whole.CopyFrom(tensor)
    del whole.external_data[:]
    whole.data_location = TensorProto.DEFAULT
    whole.raw_data = data
    return whole


def _inside(folder: Path, location: str, told: str) -> Path:
    """The file of that location in the folder, links followed."""
    parts = PurePosixPath(location)
    leaves = parts.is_absolute() or ".." in parts.parts or bool(PureWindowsPath(location).anchor) or "\\" in location
    if not location or "\0" in location or leaves:
        raise InputError(
            f"{told} lies at {location[:80]!r}, which leaves the folder of the model: keep it beside the model"
        )
    home = folder.resolve()
    try:
        found = (home / location).resolve(strict=True)
    except (OSError, RuntimeError):  # none there, or a circle of links
        raise InputError(
            f"{told} lies in {location[:80]!r}, which is not beside the model: keep both in one folder"
        ) from None
    if not found.is_relative_to(home):
        raise InputError(
            f"{told} lies at {location[:80]!r}, a link that leaves the folder of the model: put the file there"
        )
    if not found.is_file():
        raise InputError(f"{told} lies at {location[:80]!r}, which is no file: export the model again")
    return found


def _count(text: str, told: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise InputError(f"{told} has the offset or length {text[:20]!r}, no number of bytes: export the model again")
    return int(text)


def sparse_array(sparse: Any, folder: Path) -> NDArray[np.float64]:
    """A SparseTensorProto as a dense array.

    Raises:
        InputError: as of `tensor_array`, or an index lies outside.
    """
    shape, name = tuple(sparse.dims), sparse.values.name[:80]
    if any(size < 0 for size in shape):
        raise InputError(f"the sparse tensor {name!r} has the shape {shape}: export the model again")
    check_entries(f"the sparse tensor {name!r}", shape)
    values, indices = tensor_array(sparse.values, folder), tensor_array(sparse.indices, folder)
    if (
        indices.dtype.kind != "i"
        or values.ndim != 1
        or indices.shape not in ((len(values),), (len(values), len(shape)))
    ):
        raise InputError(f"the sparse tensor {name!r} needs an index for each of its values: export the model again")
    places = indices[:, None] if indices.ndim == 1 else indices
    sides = (math.prod(shape),) if indices.ndim == 1 else shape
    if ((places < 0) | (places >= np.array(sides, dtype=np.int64))).any():
        raise InputError(f"the sparse tensor {name!r} has an index outside its shape {shape}: export the model again")
    dense = np.zeros(sides)
    dense[tuple(places.T)] = values
    return dense.reshape(shape)


def constant_array(node: Any, folder: Path) -> NDArray[Any]:
    """The value of a Constant node, in whatever form it stands.

    Raises:
        InputError: as of `tensor_array`, or the node holds no numbers.
    """
    from onnx import AttributeProto, helper

    if len(node.attribute) != 1:
        raise InputError(f"a Constant must have one value, it has {len(node.attribute)}: export the model again")
    (attribute,) = node.attribute
    kinds = {
        "value": "TENSOR", "sparse_value": "SPARSE_TENSOR", "value_float": "FLOAT", "value_floats": "FLOATS",
        "value_int": "INT", "value_ints": "INTS",
    }  # fmt: skip
    kind = kinds.get(attribute.name)
    if kind is None or attribute.type != AttributeProto.AttributeType.Value(kind):
        raise InputError(f"a Constant holds {attribute.name[:80]!r}, which is no array of real numbers")
    if kind == "TENSOR":
        return tensor_array(attribute.t, folder)
    if kind == "SPARSE_TENSOR":
        return sparse_array(attribute.sparse_tensor, folder)
    return np.array(helper.get_attribute_value(attribute), dtype=np.int64 if "INT" in kind else np.float64)
