"""Families of small random networks on which rounding, coincidences and scales mislead; each from its own stream."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from solvers.networks.relu import ReluNetwork
from tests.references.traps import whole_numbers

__all__ = ["FAMILIES"]

Family = Callable[[Sequence[int], np.random.Generator], ReluNetwork]


def gaussian(sizes: Sequence[int], rng: np.random.Generator) -> ReluNetwork:
    """General position; biases 0 half of the time."""
    weights = [rng.standard_normal((m, n)) for n, m in itertools.pairwise(sizes)]
    scale = rng.choice([0.0, 0.5])
    return ReluNetwork(weights, [*(scale * rng.standard_normal(m) for m in sizes[1:-1]), np.zeros(sizes[-1])])


def coincident(sizes: Sequence[int], rng: np.random.Generator) -> ReluNetwork:
    """Parallel, opposite, repeated, dead and identically vanishing neurons."""
    return whole_numbers(sizes, float(rng.choice([0.0, 0.5])), rng)


def twins(sizes: Sequence[int], rng: np.random.Generator) -> ReluNetwork:
    """Neurons in pairs of equal or opposite ones, whose outputs cancel exactly or but for the last digits."""
    network = gaussian(sizes, rng)
    weights, biases = [w.copy() for w in network.weights], [b.copy() for b in network.biases]
    for m in range(network.depth):
        for j in range(1, len(biases[m]), 2):
            turn = rng.choice([1.0, -1.0, 2.0])
            weights[m][j], biases[m][j] = turn * weights[m][j - 1], turn * biases[m][j - 1]
            weights[m + 1][:, j] = -weights[m + 1][:, j - 1] / turn * (1 + rng.choice([0.0, 1e-9, 1e-15]))
    return ReluNetwork(weights, biases)


def vanishing(sizes: Sequence[int], rng: np.random.Generator) -> ReluNetwork:
    """Pairs of opposite neurons that are identically 0 on all of space, in every layer but the first."""
    network = coincident(sizes, rng)
    weights, biases = [w.copy() for w in network.weights], [b.copy() for b in network.biases]
    for m in range(network.depth):
        if len(biases[m]) > 1:
            weights[m][1], biases[m][1] = weights[m][0], biases[m][0]
            if m and weights[m].shape[1] > 1:
                weights[m][:2], biases[m][:2] = 0.0, 0.0
                weights[m][0, :2] = 1.0, -1.0
                weights[m][1] = -weights[m][0]
    return ReluNetwork(weights, biases)


def slivers(sizes: Sequence[int], rng: np.random.Generator) -> ReluNetwork:
    """Kinks so close to each other that a steep gradient lies in a strip 1e-6 to 1e-12 wide."""
    network = gaussian(sizes, rng)
    w, b, v = network.weights[0].copy(), network.biases[0].copy(), network.weights[1].copy()
    for j in range(1, len(b), 2):
        w[j], b[j] = w[j - 1], b[j - 1] + 10.0 ** -rng.integers(6, 13)
        v[:, j] = -v[:, j - 1]
    return ReluNetwork([w, v, *network.weights[2:]], [b, *network.biases[1:]])


def scaled(sizes: Sequence[int], rng: np.random.Generator) -> ReluNetwork:
    """Every layer in units of its own, from 1e-8 to 1e8."""
    network = gaussian(sizes, rng)
    units = 10.0 ** rng.uniform(-8, 8, len(sizes))
    weights = [w * units[k + 1] / units[k] for k, w in enumerate(network.weights)]
    return ReluNetwork(weights, [b * units[k + 1] for k, b in enumerate(network.biases)])


def spread(sizes: Sequence[int], rng: np.random.Generator) -> ReluNetwork:
    """Every neuron in units of its own, from 1e-8 to 1e8, on one and the same domain."""
    return _in_units(sizes, 8.0, rng)


def extreme(sizes: Sequence[int], rng: np.random.Generator) -> ReluNetwork:
    """Every neuron in units of its own, from 1e-140 to 1e140: no square of a weight may be taken in float64."""
    return _in_units(sizes, 140.0, rng)


def _in_units(sizes: Sequence[int], decades: float, rng: np.random.Generator) -> ReluNetwork:
    network = gaussian(sizes, rng)
    weights, biases = [w.copy() for w in network.weights], [b.copy() for b in network.biases]
    for m in range(network.depth):
        unit = 10.0 ** rng.uniform(-decades, decades, len(biases[m]))
        weights[m] *= unit[:, None]
        biases[m] *= unit
        weights[m + 1] /= unit
    return ReluNetwork(weights, biases)


# Name -> (sizes d, n_1, ..., outputs; stream) -> network.
FAMILIES: dict[str, Family] = {
    "gaussian": gaussian,
    "coincident": coincident,
    "twins": twins,
    "vanishing": vanishing,
    "slivers": slivers,
    "scaled": scaled,
    "spread": spread,
    "extreme": extreme,
}
