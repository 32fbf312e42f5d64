"""Networks in files: .npz arrays, .pt state dicts and .onnx graphs. A file is never allowed to run code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.networks.activations import RELU, network_with_slopes, parse_activation
from solvers.networks.relu import ReluNetwork

__all__ = ["load_network", "save_network"]

KINDS = (".npz", ".onnx", ".pt", ".pth")


def load_network(path: str | Path, activation: str | None = None) -> ReluNetwork:
    """Read a ReLU network.

    Args:
        path: `.npz` with W0, b0, W1, b1, ... (W_l of shape (outputs, inputs)); `.pt` or `.pth`, the state_dict of a
            Sequential of Linear and ReLU; `.onnx`, a chain of affine nodes and Relu, LeakyRelu or Abs.
        activation: of all hidden layers, as `parse_activation` reads it; ReLU when left out. A
            state_dict holds no activations, so a network of LeakyReLU must be called one here; an .onnx file says
            itself what it holds.
    Raises:
        InputError: one sentence that says what is wrong with the file.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in KINDS:
        raise InputError(f"a model file ends in {', '.join(KINDS)}, got {str(path)!r}")
    if not file.is_file():
        raise InputError(f"there is no model file {path}")
    if kind == ".onnx":
        from solvers.files.relu_onnx import read_onnx

        if activation is not None:
            raise InputError(f"{path} says itself which activations it holds: leave the activation out")
        return read_onnx(file)
    slope = RELU if activation is None else parse_activation(activation)
    return _read_npz(file, slope) if kind == ".npz" else _read_torch(file, slope)


def save_network(network: ReluNetwork, path: str | Path) -> None:
    """Write a network to .npz or .onnx, by the ending."""
    file = Path(path)
    if file.suffix.lower() == ".onnx":
        from solvers.files.relu_onnx import write_onnx

        write_onnx(network, file)
        return
    if file.suffix.lower() != ".npz":
        raise InputError(f"a network is saved to a file that ends in .npz or .onnx, got {str(path)!r}")
    arrays = {f"W{k}": w for k, w in enumerate(network.weights)} | {f"b{k}": b for k, b in enumerate(network.biases)}
    with file.open("wb") as stream:  # given a name, numpy would add a second ending to NET.NPZ
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _read_npz(file: Path, slope: float) -> ReluNetwork:
    try:
        # Opened here, for numpy leaves the file of a torn archive open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, numpy and OS errors alike mean: not what it says
        raise InputError(f"{file} is not a readable .npz file of plain arrays: {_first_line(error)}") from None
    found = {name: int(name[1:]) for name in arrays if re.fullmatch(r"[Wb]\d+", name)}
    odd = sorted(set(arrays) - set(found))
    if odd:
        raise InputError(f"{file} must hold the arrays W0, b0, W1, b1, ..., it also holds {odd[0]!r}")
    depth = 1 + max(found.values(), default=-1)
    for k in range(depth):
        for letter in "Wb":
            if f"{letter}{k}" not in arrays:
                raise InputError(f"{file} has no array {letter}{k}: every layer 0..{depth - 1} needs W and b")
    if not depth:
        raise InputError(f"{file} must hold the arrays W0, b0, W1, b1, ..., it holds none")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise InputError(f"{file}: array {name} must hold real numbers, it has type {array.dtype}")
    return _network(file, [arrays[f"W{k}"] for k in range(depth)], [arrays[f"b{k}"] for k in range(depth)], slope)


def _read_torch(file: Path, slope: float) -> ReluNetwork:
    import torch

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not what it says, or wants to run code
        raise InputError(
            f"{file} is not a readable state_dict (saved by torch.save(model.state_dict(), file)): {_first_line(error)}"
        ) from None
    if not isinstance(state, dict) or not state:
        raise InputError(f"{file} must hold the state_dict of a Sequential of Linear and ReLU, it holds no parameters")
    layers: dict[tuple[str, int], dict[str, FloatArray]] = {}
    for name, value in state.items():
        match = re.fullmatch(r"(.*?)(\d+)\.(weight|bias)", str(name))
        if match is None or not isinstance(value, torch.Tensor):
            raise InputError(f"{file}: {name!r} is no parameter of a Sequential of Linear and ReLU")
        if value.is_complex():
            raise InputError(f"{file}: {name!r} must hold real numbers, it has type {value.dtype}")
        place = (match[1], int(match[2]))
        layers.setdefault(place, {})[match[3]] = value.detach().to(torch.float64).numpy()
    if len({prefix for prefix, _ in layers}) > 1:
        raise InputError(f"{file} holds parameters of several modules; save the state_dict of one Sequential")
    weights, biases = [], []
    previous = -2
    for (prefix, number), part in sorted(layers.items()):
        if number == previous + 1:
            raise InputError(
                f"{file}: the Linear layers {prefix}{previous} and {prefix}{number} have nothing between them; "
                "save the state_dict of a Sequential in which a ReLU follows every layer but the last"
            )
        previous = number
        if "weight" not in part or part["weight"].ndim != 2:
            raise InputError(f"{file}: {prefix}{number} is not a Linear layer; only Linear and ReLU are supported")
        weights.append(part["weight"])
        biases.append(part.get("bias", np.zeros(part["weight"].shape[0])))
    if all(value.dtype == torch.float32 for value in state.values()):
        slope = float(np.float32(slope))  # as torch computes it
    return _network(file, weights, biases, slope)


def _network(file: Path, weights: list[Any], biases: list[Any], slope: float) -> ReluNetwork:
    try:
        return network_with_slopes(weights, biases, [slope] * (len(weights) - 1))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
