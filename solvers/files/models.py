"""Networks in files, one file of this folder per format. A file is never allowed to run code.

A new format is a module with `read`, and `write` where networks are saved to it, and one line in `FORMATS`. What a
module needs beyond numpy it imports in these functions, so that the endings are known at once.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solvers.errors import InputError, MissingBackendError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from solvers.files.layers import Layers
    from solvers.networks.relu import ReluNetwork

__all__ = ["FORMATS", "Format", "Reading", "endings", "load_network", "read_network", "save_network"]


@dataclass(frozen=True, slots=True)
class Format:
    """One file format of networks.

    Attributes:
        module: in this folder, with `read(path) -> Layers` and, if it `writes`, `write(network, path)`.
        writes: whether networks are saved to it.
    """

    module: str
    writes: bool = False

    def home(self) -> Any:
        """The module, imported now."""
        return importlib.import_module(f"solvers.files.{self.module}")


FORMATS = {
    ".npz": Format("relu_npz", writes=True),
    ".onnx": Format("relu_onnx", writes=True),
    ".pt": Format("relu_torch"),
    ".pth": Format("relu_torch"),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A network and how its file was understood.

    Attributes:
        network: what was read.
        description: its layers, as in 'Linear 4→8, ReLU, Linear 8→1'.
        assumed: what the file does not say, a clause each; empty where nothing was assumed.
    """

    network: ReluNetwork
    description: str
    assumed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.description} ({'; '.join(self.assumed)})" if self.assumed else self.description


def endings(formats: Iterable[str] = FORMATS) -> str:
    """A list for people: '.npz, .onnx or .pt'."""
    *first, end = formats
    return f"{', '.join(first)} or {end}" if first else end


def load_network(path: str | Path, activation: str | None = None) -> ReluNetwork:
    """Read a ReLU network; `read_network` also says what had to be assumed.

    Args:
        path: a file of one of `FORMATS`, by its ending.
        activation: of all hidden layers, as `parse_activation` reads it; ReLU when left out. A
            state_dict holds no activations, so a network of LeakyReLU must be called one here; an .onnx file says
            itself what it holds.
    Raises:
        InputError: one sentence that says what is wrong with the file.
        MissingBackendError: the format needs a package that is not installed.
    """
    return read_network(path, activation).network


def read_network(path: str | Path, activation: str | None = None) -> Reading:
    """Read a ReLU network and how it was understood; arguments and errors as of `load_network`."""
    file = Path(path)
    form = FORMATS.get(file.suffix.lower())
    if form is None:
        raise InputError(
            f"a model file ends in {', '.join(FORMATS)}, got {str(path)!r}: export the model to one of them"
        )
    if not os.path.isfile(file):  # a name that no system takes included
        raise InputError(f"there is no model file {path}")
    import numpy as np

    from solvers.files.layers import printable
    from solvers.networks.activations import network_with_slopes, parse_activation

    asked = None if activation is None else parse_activation(activation)
    try:
        layers = _layers(form, file)
        slopes, assumed = _slopes(layers, asked)
        with np.errstate(over="ignore", invalid="ignore"):  # what leaves float64 is refused as a weight
            network = network_with_slopes(layers.weights, layers.biases, slopes)
    except InputError as error:
        raise InputError(f"{file}: {printable(str(error))}") from None
    return Reading(network, layers.described(slopes), (*assumed, *map(printable, layers.assumed)))


def _layers(form: Format, file: Path) -> Layers:
    """What the reader finds; what it did not foresee is about the file too."""
    try:
        found: Layers = form.home().read(file)
    except (InputError, MissingBackendError):
        raise
    except Exception as error:  # of the libraries that take such files apart, or for want of memory
        from solvers.files.layers import first_line

        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"this is not a readable {file.suffix.lower()} file ({reason}): export it again") from error
    return found


def save_network(network: ReluNetwork, path: str | Path) -> None:
    """Write a network, by the ending of the file.

    Raises:
        InputError: networks are not saved to such a file.
        MissingBackendError: the format needs a package that is not installed.
        OSError: the file cannot be written.
    """
    file = Path(path)
    form = FORMATS.get(file.suffix.lower())
    if form is None or not form.writes:
        written = endings(ending for ending, known in FORMATS.items() if known.writes)
        raise InputError(f"a network is saved to a file that ends in {written}, got {str(path)!r}")
    form.home().write(network, file)


def _slopes(layers: Layers, asked: float | None) -> tuple[Sequence[float], tuple[str, ...]]:
    """Of the activations: what the file says, else what the caller says, else ReLU, which is then assumed."""
    if layers.slopes is not None:
        if asked is not None:
            raise InputError("the file says itself which activations it holds: leave the activation out")
        return layers.slopes, ()
    import numpy as np

    from solvers.networks.activations import RELU

    slope = RELU if asked is None else asked
    if layers.single_precision:
        slope = float(np.float32(slope))  # as the file's own library computes it
    hidden = len(layers.weights) - 1
    assumed = hidden and asked is None
    return [slope] * hidden, (f"activation assumed: {layers.source} does not say",) if assumed else ()
