"""Activations with one kink at 0, as pairs of ReLU neurons: leaky ReLU and the absolute value.

t -> t for t > 0, a t for t < 0 is relu(t) - a relu(-t): a = 0.01 is the usual leaky ReLU, a = -1 the absolute value. So
a layer with such an activation is a ReLU layer of twice the width, [W; -W] and [b; -b], read by [V, -a V]. The
function is the same, and so are its gradients and its linear regions; every method takes it. The products a V are
rounded once, except where they are exact: for a = -1, for powers of 2, and for a float32 a with float32 weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from solvers.errors import InputError
from solvers.networks.relu import ReluNetwork

__all__ = ["ABSOLUTE_VALUE", "RELU", "network_with_slopes", "parse_activation"]

# Slopes a below 0.
RELU, ABSOLUTE_VALUE = 0.0, -1.0
KNOWN = "relu, leaky-relu:SLOPE (leaky-relu alone has slope 0.01) and abs"


def parse_activation(text: str) -> float:
    """The slope below 0 of an activation: relu, leaky-relu, leaky-relu:0.2, abs.

    Raises:
        InputError: another activation, or a slope that is no finite number.
    """
    name, colon, slope = text.strip().lower().partition(":")
    if name == "leaky-relu":
        try:
            value = float(slope) if colon else 0.01
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"the slope of leaky-relu must be a finite number, got {slope!r}")
        return value
    if colon or name not in ("relu", "abs"):
        raise InputError(f"unknown activation {text!r} (known: {KNOWN})")
    return RELU if name == "relu" else ABSOLUTE_VALUE


def network_with_slopes(
    weights: Sequence[ArrayLike], biases: Sequence[ArrayLike], slopes: Sequence[float]
) -> ReluNetwork:
    """The ReLU network that equals a network whose hidden layer l has the slope `slopes[l]` below 0.

    Args:
        weights, biases: as of a `ReluNetwork` with L hidden layers.
        slopes: L numbers; 0 leaves a layer as it is.
    Raises:
        InputError: as of `ReluNetwork`.
    """
    network = ReluNetwork(weights, biases)
    if len(slopes) != network.depth:
        raise InputError(f"{network.depth} hidden layers need as many activations, got {len(slopes)}")
    w, b = list(network.weights), list(network.biases)
    for layer, slope in enumerate(slopes):
        if slope != RELU:
            w[layer], b[layer] = np.concatenate([w[layer], -w[layer]]), np.concatenate([b[layer], -b[layer]])
            w[layer + 1] = np.concatenate([w[layer + 1], -slope * w[layer + 1]], axis=1)
    return ReluNetwork(w, b)
