"""Torch modules as ReLU networks: the same function of real numbers, or a refusal that names the layer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.networks.activations import RELU, network_with_slopes
from solvers.networks.relu import ReluNetwork

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["network_from_torch"]

READ = "Linear, ReLU, LeakyReLU, Flatten, Identity, Dropout and Sequential"


def network_from_torch(module: nn.Module) -> ReluNetwork:
    """The network of an `nn.Sequential` of Linear, ReLU, LeakyReLU, Flatten, Identity and Dropout, nested or not.

    What is read is the module in evaluation mode: Dropout does nothing, whatever `module.training` says. The module is
    not changed. Weights go over as they are (every float32 is a float64), so the network is the function that torch
    rounds at each step. The slope of a LeakyReLU is the one that torch computes with, float32 unless weights are
    float64; its products with the next weights are exact for float32, and rounded once for float64.

    Args:
        module: takes points of shape (N, d), or of any (N, ...) that its first Flatten makes (N, d) of.
    Returns:
        A network of d inputs. An activation that no Linear comes before or after gets an identity there.
    Raises:
        InputError: anything else, in one sentence: a layer of another kind, hooks, parametrizations, two Linear
            layers with nothing between them.
    """
    import torch
    from torch import nn

    if not isinstance(module, nn.Module):
        raise InputError(f"a torch module is wanted, got {type(module).__name__}")
    affine: list[tuple[str, FloatArray, FloatArray]] = []
    slopes: list[float] = []
    waiting: list[tuple[str, float]] = []  # activations since the last Linear
    precise = any(value.dtype == torch.float64 for value in module.parameters())
    for name, layer in _layers(module, ""):
        if isinstance(layer, nn.Linear):
            weight, bias = _linear(name, layer)
            if affine and not waiting:
                raise InputError(
                    f"{affine[-1][0]} and {name} have nothing between them: put them together into one Linear, whose "
                    "weight is the product of theirs"
                )
            _close(affine, slopes, waiting, weight.shape[1])
            affine.append((name, weight, bias))
        elif isinstance(layer, nn.ReLU):
            waiting.append((name, RELU))
        elif isinstance(layer, nn.LeakyReLU):
            slope = layer.negative_slope
            waiting.append((name, float(slope) if precise else float(np.float32(slope))))
        elif isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) != (1, -1):
            raise InputError(
                f"{name} flattens dimensions {layer.start_dim} to {layer.end_dim}: only Flatten(1, -1), which makes "
                "one vector of each point, is read"
            )
    if not affine:
        raise InputError("the module holds no Linear layer: a network needs at least one")
    if waiting:
        _close(affine, slopes, waiting, len(affine[-1][2]))
        size = len(affine[-1][2])
        affine.append(("the end", np.eye(size), np.zeros(size)))
    for (before, weight, _), (name, following, _) in pairwise(affine):
        if following.shape[1] != weight.shape[0]:
            raise InputError(f"{name} takes {following.shape[1]} numbers, but {before} gives {weight.shape[0]}")
    return network_with_slopes([w for _, w, _ in affine], [b for _, _, b in affine], slopes)


def _close(
    affine: list[tuple[str, FloatArray, FloatArray]], slopes: list[float], waiting: list[tuple[str, float]], size: int
) -> None:
    """Take in the activations that wait, with an identity before each that no Linear comes before."""
    for number, (name, slope) in enumerate(waiting):
        if number or not affine:
            affine.append((f"the input of {name}", np.eye(size), np.zeros(size)))
        slopes.append(slope)
    waiting.clear()


def _layers(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers in the order in which they act, each with its place and kind, those inside others one by one.

    Raises:
        InputError: a layer that is not read.
    """
    from torch import nn
    from torch.nn.parameter import is_lazy
    from torch.nn.utils.parametrize import is_parametrized

    kind = type(module).__name__
    where = f"layer {name} ({kind})" if name else f"the module ({kind})"
    if is_parametrized(module):
        raise InputError(f"{where} is parametrized: call torch.nn.utils.parametrize.remove_parametrizations first")
    known = (nn.Linear, nn.ReLU, nn.LeakyReLU, nn.Flatten, nn.Identity, nn.Dropout, nn.Sequential)
    base = next((base for base in known if isinstance(module, base)), None)
    if base is None:
        raise InputError(f"{where} cannot be read exactly: only {READ} are")
    if "forward" in vars(module) or type(module).forward is not base.forward:
        raise InputError(f"{where} has a forward of its own: only {READ} as torch has them are read")
    if any(is_lazy(weight) for weight in module.parameters(recurse=False)):
        raise InputError(f"{where} has no weights yet: call the module once")
    hooks: tuple[Any, ...] = (module._forward_hooks, module._forward_pre_hooks)
    if any(hooks):
        raise InputError(f"{where} has forward hooks, which may change what it computes: remove them first")
    if isinstance(module, nn.Sequential):
        for child, part in module.named_children():
            yield from _layers(part, f"{name}.{child}" if name else child)
    else:
        yield where, module


def _linear(name: str, layer: nn.Linear) -> tuple[FloatArray, FloatArray]:
    """Weight (outputs, inputs) and bias (outputs,) as float64."""
    weight = _array(name, "weight", layer.weight)
    bias = np.zeros(len(weight)) if layer.bias is None else _array(name, "bias", layer.bias)
    return weight, bias


def _array(name: str, part: str, value: Tensor) -> FloatArray:
    import torch

    if value.is_meta or not value.dtype.is_floating_point:
        what = "holds no values (it lies on the device meta)" if value.is_meta else f"has the type {value.dtype}"
        raise InputError(f"the {part} of {name} {what}: real floating-point numbers are wanted")
    found: FloatArray = value.detach().cpu().to(torch.float64).numpy()
    if not np.isfinite(found).all():
        raise InputError(
            f"the {part} of {name} holds NaN or infinite values: a Lipschitz constant needs finite weights"
        )
    return found
