"""How far second-layer neurons are from firing: m - 1/2 - <u, Phi(x)>, convolutional ones at their best translation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.networks.detectors import BuiltNetwork

__all__ = ["detector_margins", "neuron_margins"]

# Numbers in a layer's output for one block of points.
BLOCK_NUMBERS = 2**21


def _blocks(network: BuiltNetwork, points: FloatArray, device: str) -> Iterator[tuple[slice, FloatArray]]:
    """Margins of all neurons (rows, M) for one slice of the points after the other."""
    import torch

    margins = network.margins(device)
    rows = max(1, BLOCK_NUMBERS // (max(network.first_layer_width, network.second_layer_width) * network.positions))
    with torch.inference_mode():
        for start in range(0, len(points), rows):
            part = slice(start, min(start + rows, len(points)))
            block = torch.tensor(points[part], dtype=torch.float64, device=device)
            yield part, margins(block).cpu().numpy().astype(np.float64)


def neuron_margins(
    network: BuiltNetwork, points: FloatArray, neurons: NDArray[np.int64], device: str = "cpu"
) -> FloatArray:
    """Margins (N, len(neurons)) of some second-layer neurons at points (N, d): positive where a neuron fires.

    Args:
        neurons: indices into the neurons of all detectors, detector after detector.
    """
    found = np.empty((len(points), len(neurons)))
    if len(neurons):
        for part, margins in _blocks(network, points, device):
            found[part] = margins[:, neurons]
    return found


def detector_margins(network: BuiltNetwork, points: FloatArray, device: str = "cpu") -> FloatArray:
    """The largest margin of every detector's neurons (N, detectors): positive where the detector fires.

    A detector without neurons has a margin below that of any neuron.
    """
    found = np.full((len(points), len(network.masks)), -1.0 - network.features)
    ends = np.cumsum((0, *network.second_layer_widths)).tolist()
    if not ends[-1]:
        return found
    for part, margins in _blocks(network, points, device):
        for k, (first, last) in enumerate(itertools.pairwise(ends)):
            if last > first:
                found[part, k] = margins[:, first:last].max(axis=1)
    return found
