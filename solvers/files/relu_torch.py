"""Networks in .pt files: the state_dict of an `nn.Sequential` of Linear and ReLU. No file is allowed to run code."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.files.layers import Layers, first_line

__all__ = ["read"]


def read(file: Path) -> Layers:
    """The layers of a state_dict; it names no activations.

    Raises:
        InputError: it is no state_dict, or not one of Linear layers with something between them.
    """
    import torch

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not what it says, or wants to run code
        raise InputError(
            f"this is not a readable state_dict (saved by torch.save(model.state_dict(), file)): {first_line(error)}"
        ) from None
    if not isinstance(state, dict) or not state:
        raise InputError("the file must hold the state_dict of a Sequential of Linear and ReLU, it holds no parameters")
    layers: dict[tuple[str, int], dict[str, FloatArray]] = {}
    for name, value in state.items():
        match = re.fullmatch(r"(.*?)(\d+)\.(weight|bias)", str(name))
        if match is None or not isinstance(value, torch.Tensor):
            raise InputError(f"{name!r} is no parameter of a Sequential of Linear and ReLU")
        if value.is_complex():
            raise InputError(f"{name!r} must hold real numbers, it has type {value.dtype}")
        place = (match[1], int(match[2]))
        layers.setdefault(place, {})[match[3]] = value.detach().to(torch.float64).numpy()
    if len({prefix for prefix, _ in layers}) > 1:
        raise InputError("the file holds parameters of several modules; save the state_dict of one Sequential")
    weights, biases = [], []
    previous = -2
    for (prefix, number), part in sorted(layers.items()):
        if number == previous + 1:
            raise InputError(
                f"the Linear layers {prefix}{previous} and {prefix}{number} have nothing between them; "
                "save the state_dict of a Sequential in which a ReLU follows every layer but the last"
            )
        previous = number
        if "weight" not in part or part["weight"].ndim != 2:
            raise InputError(f"{prefix}{number} is not a Linear layer; only Linear and ReLU are supported")
        weights.append(part["weight"])
        biases.append(part.get("bias", np.zeros(part["weight"].shape[0])))
    single = all(value.dtype == torch.float32 for value in state.values())
    return Layers(weights, biases, single_precision=single)
