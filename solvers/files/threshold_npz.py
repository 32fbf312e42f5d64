"""Threshold networks in .npz files: plain arrays, bit for bit the network. A file is never allowed to run code.

kind              "fully-connected" or "convolutional"
weights, biases   the first layer, float64: W (n, d) and b (n,); convolutional: filters (n, C, kh, kw)
shape             convolutional only: (C, H, W)
masks             uint8, the u of all second-layer neurons, detector after detector: (M, ceil(n / 8)), convolutional
                  (M, H, W, ceil(n / 8)); bit i % 8 of byte i // 8 is feature (filter) i, unused bits are 0
thresholds        int64, the m, (M,)
neurons           int64, second-layer neurons of every detector
detector_classes  int64, the class that every detector speaks for, an index into
classes           the labels, sorted
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.bits.features import pack_bits
from solvers.bits.maps import PackedMaps
from solvers.errors import InputError
from solvers.files.npz_arrays import npz_arrays
from solvers.networks.conv_threshold import ConvThresholdNetwork
from solvers.networks.detectors import BuiltNetwork
from solvers.networks.threshold import ThresholdNetwork

__all__ = ["check_storable", "load_threshold_network", "save_threshold_network"]

COMMON = ("weights", "biases", "masks", "thresholds", "neurons", "detector_classes", "classes")
ARRAYS = {"fully-connected": ("kind", *COMMON), "convolutional": ("kind", "shape", *COMMON)}
# Labels that a plain array holds: booleans, whole and real numbers, text, bytes.
LABEL_KINDS = "biufUS"


def check_storable(classes: tuple[object, ...]) -> None:
    """Raise InputError unless plain arrays hold these labels."""
    if np.array(classes).dtype.kind not in LABEL_KINDS:
        raise InputError(f"labels like {classes[0]!r} cannot be stored without pickling: use numbers or text")


def save_threshold_network(network: BuiltNetwork, path: str | Path) -> None:
    """Write a network to a file; `load_threshold_network` gives it back bit for bit.

    Raises:
        InputError: the path does not end in .npz, the labels are neither numbers nor text, or there is no form
            for networks of this kind.
        OSError: the file cannot be written.
    """
    file = Path(path)
    if file.suffix.lower() != ".npz":
        raise InputError(f"a threshold network is saved to a file that ends in .npz, got {str(path)!r}")
    if network.kind not in OWN_ARRAYS:
        raise InputError(f"a network of kind {network.kind!r} is no threshold network ({', '.join(OWN_ARRAYS)})")
    check_storable(network.classes)
    arrays: dict[str, Any] = {
        "biases": network.biases,
        "thresholds": np.concatenate(network.thresholds),
        "neurons": np.array(network.second_layer_widths),
        "detector_classes": np.array(network.detector_classes),
        "classes": np.array(network.classes),
    }
    arrays |= {"kind": network.kind, "weights": network.weights, **OWN_ARRAYS[network.kind](network)}
    with file.open("wb") as stream:  # given a name, numpy would add a second ending to NET.NPZ
        np.savez(stream, **arrays)


def _octets(network: ThresholdNetwork) -> dict[str, NDArray[Any]]:
    octets = np.concatenate(network.masks).astype("<u8", copy=False).view(np.uint8)
    return {"masks": octets[:, : -(-network.first_layer_width // 8)]}


def _maps(network: ConvThresholdNetwork) -> dict[str, NDArray[Any]]:
    masks = np.concatenate([mask.maps(slice(None)) for mask in network.masks])
    return {"masks": masks, "shape": np.array(network.shape)}


# Kind of network -> the arrays that it stores in its own way.
OWN_ARRAYS: dict[str, Callable[[Any], dict[str, NDArray[Any]]]] = {
    ThresholdNetwork.kind: _octets,
    ConvThresholdNetwork.kind: _maps,
}


def load_threshold_network(path: str | Path) -> BuiltNetwork:
    """Read a network that `save_threshold_network` wrote.

    Raises:
        InputError: one sentence that says what is wrong with the file.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"there is no file {path}")
    try:
        with zipfile.ZipFile(file) as archive:
            arrays = npz_arrays(archive)
    except Exception as error:  # zipfile, numpy and OS errors alike mean: not what it says
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file} is not a readable .npz file of plain arrays: {reason}") from None
    try:
        return _network(arrays)
    except InputError as error:
        raise InputError(f"{file} holds no threshold network: {error}") from None


def _network(arrays: Mapping[str, NDArray[Any]]) -> BuiltNetwork:
    kind = str(arrays["kind"]) if "kind" in arrays else None
    if kind not in ARRAYS:
        found = ", ".join(sorted(arrays)) or "none" if kind is None else f"kind {kind[:40]!r}"
        raise InputError(f"its array 'kind' must be one of {', '.join(ARRAYS)}; found {found[:200]}")
    odd = sorted(set(arrays) ^ set(ARRAYS[kind]))
    if odd:
        raise InputError(f"it must hold the arrays {', '.join(ARRAYS[kind])}; {odd[0]!r} is missing or does not belong")
    conv = kind == "convolutional"
    weights = _real_numbers(arrays, "weights", 4 if conv else 2)
    biases = _real_numbers(arrays, "biases", 1)
    n = len(biases)
    if not n or 0 in weights.shape or len(weights) != n:
        raise InputError(f"weights and biases must have n >= 1 rows each, got {weights.shape} and {biases.shape}")
    classes, detectors = _classes(arrays)
    neurons, thresholds = _whole_numbers(arrays, "neurons", 0), _whole_numbers(arrays, "thresholds", 1)
    if len(neurons) != len(detectors) or neurons.sum() != len(thresholds):
        raise InputError("neurons must count the thresholds of every detector")
    shape = _shape(arrays) if conv else (1, 1, 1)
    positions = shape[1:] if conv else ()
    features = n * shape[1] * shape[2]
    if len(thresholds) and thresholds.max() > features:
        raise InputError(f"thresholds must lie between 1 and the number of features {features}")
    masks, wanted = arrays["masks"], (len(thresholds), *positions, -(-n // 8))
    if masks.dtype != np.uint8 or masks.shape != wanted:
        raise InputError(f"masks must be uint8 of shape {wanted}, got {masks.dtype} of shape {masks.shape}")
    if n % 8 and (masks[..., -1] >> n % 8).any():
        raise InputError("masks has bits beyond the last feature")
    ends = np.cumsum(neurons)[:-1]
    parts, limits = np.split(masks, ends), tuple(np.split(thresholds, ends))
    if conv:
        maps = tuple(PackedMaps.packed(part, n) for part in parts)
        return ConvThresholdNetwork(shape, weights, biases, maps, limits, detectors, classes)
    words = tuple(pack_bits(np.unpackbits(part, axis=1, count=n, bitorder="little").astype(bool)) for part in parts)
    return ThresholdNetwork(weights, biases, words, limits, detectors, classes)


def _real_numbers(arrays: Mapping[str, NDArray[Any]], name: str, axes: int) -> NDArray[np.float64]:
    array = arrays[name]
    if array.dtype != np.float64 or array.ndim != axes:
        raise InputError(f"{name} must be float64 with {axes} axes, got {array.dtype} of shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds a NaN or infinite value")
    return array


def _whole_numbers(arrays: Mapping[str, NDArray[Any]], name: str, least: int) -> NDArray[np.int64]:
    array = arrays[name]
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise InputError(f"{name} must be a list of whole numbers, got {array.dtype} of shape {array.shape}")
    # Beyond 2^62 a sum could overflow.
    if array.size and (array.min() < least or array.max() > 2**62 // array.size):
        raise InputError(f"{name} must hold whole numbers >= {least} of reasonable size")
    return array.astype(np.int64)


def _classes(arrays: Mapping[str, NDArray[Any]]) -> tuple[tuple[object, ...], tuple[int, ...]]:
    labels = arrays["classes"]
    if labels.dtype.kind not in LABEL_KINDS or labels.ndim != 1 or len(labels) < 2:
        raise InputError(f"classes must be at least two labels, got {labels.dtype} of shape {labels.shape}")
    if not (labels[:-1] < labels[1:]).all():
        raise InputError("classes must be sorted and different from each other")
    detectors = tuple(_whole_numbers(arrays, "detector_classes", 0).tolist())
    count = len(labels)
    if detectors not in (((0,), (1,)) if count == 2 else (tuple(range(count)),)):
        raise InputError(f"detector_classes must be 0 or 1 for two classes, 0, ..., K - 1 for K > 2, got {detectors}")
    return tuple(labels.tolist()), detectors


def _shape(arrays: Mapping[str, NDArray[Any]]) -> tuple[int, int, int]:
    sizes = _whole_numbers(arrays, "shape", 1).tolist()
    if len(sizes) != 3:
        raise InputError(f"shape must be (C, H, W), got {tuple(sizes)}")
    return sizes[0], sizes[1], sizes[2]
