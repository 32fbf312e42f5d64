"""Networks in .pt files: the state_dict of an `nn.Sequential` of Linear and ReLU. No file is allowed to run code.

A state_dict holds the parameters of modules by name, in the order in which the modules were defined. It names no
activations. Where `torch.save` kept its `_metadata`, that lists all modules, also those without parameters, not what
they are. What the reader has to take for granted about them it hands over as `Layers.assumed`, by name.
"""

from __future__ import annotations

import itertools
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.files.layers import PLAIN_ARRAYS, Layers, check_entries, first_line

__all__ = ["read"]

# Bytes that an archive may unpack to; archives of torch are not compressed.
MOST_BYTES = 2**34
WAY_OUT = f"export the model to ONNX, or {PLAIN_ARRAYS}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a module stands: 'layers.3' is number 3 of 'layers.', 'fc3' is number 3 of 'fc'."""

    prefix: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.prefix}{self.number}"

    @property
    def in_sequence(self) -> bool:
        """Whether the number is a position in a Sequential, and not part of a name."""
        return not self.prefix or self.prefix.endswith(".")


def read(file: Path) -> Layers:
    """The layers of a state_dict; it names no activations.

    Raises:
        InputError: it is no state_dict, or not one of Linear layers with something between them.
    """
    state = _load(file)
    layers: dict[_Place, dict[str, FloatArray]] = {}
    for name, value in state.items():
        match = re.fullmatch(r"(|.{0,200}[^0-9])(0|[1-9][0-9]{0,5})\.(weight|bias)", str(name))
        if match is None:
            raise InputError(_foreign(name, value))
        layers.setdefault(_Place(match[1], int(match[2])), {})[match[3]] = _numbers(name, value)
    if len({place.prefix for place in layers}) > 1:
        raise InputError(f"the file holds parameters of several modules; save the state_dict of one, or {WAY_OUT}")
    places = _in_order(list(layers))
    weights, biases = [], []
    for place in places:
        part = layers[place]
        if "weight" not in part or part["weight"].ndim != 2:
            raise InputError(f"{place.name} is not a Linear layer; only Linear and ReLU are supported: {WAY_OUT}")
        weights.append(part["weight"])
        biases.append(part.get("bias", np.zeros(len(part["weight"]))))
    assumed = _assumptions(places, _all_modules(state))
    if "bias" not in layers[places[0]]:
        assumed.append(f"{places[0].name}, which has no bias, is a Linear layer and not an Embedding")
    single = all(str(value.dtype) == "torch.float32" for value in state.values())
    return Layers(weights, biases, None, single, "a state_dict", tuple(assumed))


def _load(file: Path) -> Mapping[Any, Any]:
    """What `torch.save` wrote, if it is a dictionary that holds something."""
    import torch

    _check_archive(file)
    try:
        with warnings.catch_warnings(), torch.sparse.check_sparse_tensor_invariants():  # type: ignore[no-untyped-call]
            warnings.simplefilter("ignore")  # about old ways to store tensors
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not what it says, or wants to run code
        raise InputError(
            f"this is not a readable state_dict (saved by torch.save(model.state_dict(), file)): {first_line(error)}"
        ) from None
    if not isinstance(state, dict) or not state:
        raise InputError("the file must hold the state_dict of a Sequential of Linear and ReLU, it holds no parameters")
    return state


def _check_archive(file: Path) -> None:
    """Refuse programs, and archives that would unpack to more than memory holds."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        return  # torch reads older files, and says what is wrong with others
    if sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise InputError(f"this is not a readable state_dict: it unpacks to more than {MOST_BYTES >> 30} GB")
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise InputError(
            "this is a TorchScript program, not a readable state_dict: "
            "save that, torch.save(torch.jit.load(file).state_dict(), other_file)"
        )


def _foreign(name: object, value: object) -> str:
    """What to say of an entry that is no parameter of a numbered module."""
    said = f"{str(name)[:80]!r} is no parameter of a Sequential of Linear and ReLU"
    if isinstance(value, dict):
        return f"{said} but a dictionary: if it is the state_dict of the model, save that alone"
    return f"{said}: {WAY_OUT}"


def _numbers(name: object, value: Any) -> FloatArray:
    """A parameter as a float64 array."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise InputError(_foreign(name, value))
    if not value.is_floating_point() or value.is_quantized:
        raise InputError(f"{name!r} must hold real numbers, it has type {value.dtype}: {WAY_OUT}")
    if value.device.type != "cpu":
        raise InputError(f"{name!r} holds no numbers ({value.device} device): save the model after its weights are set")
    try:
        check_entries(repr(name), tuple(value.shape))
        plain = value.detach()
        dense = plain if plain.layout == torch.strided else plain.to_dense()
        return dense.to(torch.float64).numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:  # layouts and types that torch cannot convert
        raise InputError(f"{name!r} cannot be read as an array ({first_line(error)}): {WAY_OUT}") from None


def _in_order(places: list[_Place]) -> list[_Place]:
    """By number: in a Sequential that is the order of computation. Two orders that disagree are one too many."""
    ordered = sorted(places, key=lambda place: place.number)
    # Tools that sort keys as text put 10 before 2; that order means nothing.
    if places not in (ordered, sorted(places, key=lambda place: place.name)):
        listed = ", ".join(place.name for place in places)
        raise InputError(
            f"the file lists its layers as {listed}, against their numbers: it is not known which comes "
            f"first; rename them in the order of computation, or {WAY_OUT}"
        )
    return ordered


def _all_modules(state: Mapping[Any, Any]) -> list[str] | None:
    """Names of all modules without parts, in the order of definition; None where the file does not list them."""
    listed = getattr(state, "_metadata", None)
    if not isinstance(listed, dict) or not listed:
        return None
    names = [name for name in listed if isinstance(name, str) and name]
    inner = {name.rpartition(".")[0] for name in names}
    return [name for name in names if name not in inner]


def _assumptions(places: list[_Place], modules: list[str] | None) -> list[str]:
    """What is taken for granted about modules without parameters, a clause each.

    Raises:
        InputError: nothing can stand between two of the layers, or something follows the last one.
    """
    first, last = places[0], places[-1]
    assumed = []
    explained = {place.name for place in places}
    for before, after in itertools.pairwise(places):
        between = _between(before.number, after, modules)
        if after.number == before.number + 1 or (before.in_sequence and not between):
            raise InputError(
                f"the Linear layers {before.name} and {after.name} have nothing between them; "
                f"save the state_dict of a Sequential in which a ReLU follows every layer but the last, or {WAY_OUT}"
            )
        explained.update(between)
        if len(between) > 1:
            assumed.append(f"of {_listed(between)} one is the activation, the rest changes nothing")
    if start := _between(-1, first, modules):
        explained.update(start)
        assumed.append(f"{_listed(start)} before the first layer changes nothing")
    if not first.in_sequence and len(places) > 1:
        assumed.append(f"{_listed([place.name for place in places])} follow each other in this order")
    if modules is None:
        return [*assumed, f"nothing follows {last.name}"]
    others = [name for name in modules if name not in explained]
    for name in others:
        if _follows(name, last.name):
            raise InputError(
                f"module {name} follows the last Linear layer {last.name}, and a state_dict does not say what it "
                f"computes: save the state_dict without it, or {WAY_OUT}"
            )
    if others:
        assumed.append(f"{_listed(others)} is an activation between layers or changes nothing")
    return assumed


def _between(before: int, after: _Place, modules: list[str] | None) -> list[str]:
    """Modules of a Sequential between two of its places; all that the numbers leave room for where none are listed."""
    if not after.in_sequence:
        return []
    if modules is None:
        return [_Place(after.prefix, number).name for number in range(before + 1, after.number)]
    return [name for name in modules if before < _position(name, after.prefix) < after.number]


def _position(module: str, prefix: str) -> int:
    """The place in the Sequential of that prefix, -1 for a module elsewhere; 'layers.3.1' is within place 3."""
    match = re.match(r"[0-9]{1,9}(?=\.|$)", module[len(prefix) :]) if module.startswith(prefix) else None
    return int(match[0]) if match else -1


def _follows(module: str, last: str) -> bool:
    """Whether a module comes later in a Sequential that holds the last layer, at any depth."""
    for ours, theirs in zip(last.split("."), module.split("."), strict=False):
        if ours != theirs:
            return re.fullmatch(r"[0-9]{1,9} [0-9]{1,9}", f"{ours} {theirs}") is not None and int(theirs) > int(ours)
    return False


def _listed(names: list[str]) -> str:
    return " and ".join(names if len(names) <= 4 else (*names[:3], f"{len(names) - 3} more"))
