"""Threshold networks as ONNX graphs of standard operators (opset 19): input x (batch, d) float64, two outputs.

    class_index  (batch,) int64: the class answered, an index into the labels (metadata "classes", JSON); -1 for none
    scores       (batch, K) float32: as of `torch_threshold.decision_layer`, the class whose score alone is positive

Where float64 is needed and where float32 is enough: the first layer decides signs, so its numbers and sums are float64
all through. What follows counts 0s and 1s; below 2^24 float32 holds every count exactly, in any order of summation.
Only a first-layer sum within rounding of 0 (near 1e-16 of its size) could get another sign than the exact one of
`ThresholdNetwork.predict`: whoever saves a network evaluates the file on every point. Masks are stored a byte each.

The convolutional first layer is a sum over the rows of its kernel of (gathered pixels) x (matrix): onnxruntime has no
float64 Conv. The second is a wrapped Pad and a Conv. Needs the extra `onnx`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.bits.features import unpack_words
from solvers.errors import InputError, MissingBackendError
from solvers.files.threshold_npz import check_storable
from solvers.networks.conv_threshold import ConvThresholdNetwork
from solvers.networks.detectors import NO_CLASS, BuiltNetwork
from solvers.networks.threshold import ThresholdNetwork

__all__ = ["evaluate_threshold_onnx", "onnx_installed", "write_threshold_onnx"]

OPSET = 19
# A float32 holds every whole number up to this.
FLOAT32_COUNTS = 2**24
# Protocol buffers end at 2 GB.
MOST_BYTES = 2**31 - 2**20
# Numbers that a block of points may bring about in one layer of the reference evaluation.
BLOCK_NUMBERS = 2**25


def onnx_installed() -> bool:
    """Whether the extra `onnx` is there, looked up without importing it."""
    import importlib.util

    return importlib.util.find_spec("onnx") is not None


class _Graph:
    """Nodes and constants of a graph under construction; `add` returns the name of the node's output."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self._make, self._constant = helper.make_node, numpy_helper.from_array
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def add(self, kind: str, *inputs: str, output: str | None = None, **settings: Any) -> str:
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._make(kind, list(inputs), [name], **settings))
        return name

    def constant(self, value: Any, name: str | None = None) -> str:
        called = name or f"constant_{len(self.tensors)}"
        self.tensors.append(self._constant(np.ascontiguousarray(value), called))
        return called


def write_threshold_onnx(network: BuiltNetwork, path: str | Path) -> None:
    """Write a network as ONNX.

    Raises:
        InputError: it has 2^24 features or more, its file would exceed 2 GB, its labels are no plain values, or
            there is no form for networks of this kind.
        MissingBackendError: the package onnx is not installed.
        OSError: the file cannot be written.
    """
    if not onnx_installed():
        raise MissingBackendError("writing ONNX files", "onnx", "onnx")
    import onnx
    from onnx import TensorProto, helper

    check_storable(network.classes)
    if network.kind not in FORMS:
        raise InputError(f"there is no ONNX form of a network of kind {network.kind!r} (known: {', '.join(FORMS)})")
    form, features = FORMS[network.kind], network.features
    if features >= FLOAT32_COUNTS:
        raise InputError(f"an ONNX file counts in float32, below 2^24 = {FLOAT32_COUNTS}: {features} features are more")
    if (size := network.second_layer_width * features + form.first_layer_bytes(network)) > MOST_BYTES:
        raise InputError(f"an ONNX file holds at most 2 GB: this network would take {size / 2**30:.1f} GB")
    graph = _Graph()
    one = graph.constant(np.float32(1), "one")
    zero = graph.constant(np.float32(0), "zero")
    _decision(graph, network, graph.add("Where", form.firing(graph, network), one, zero))
    described = helper.make_graph(
        graph.nodes,
        "interlip",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["batch", network.inputs])],
        [
            helper.make_tensor_value_info("class_index", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(network.classes)]),
        ],
        graph.tensors,
    )
    model = helper.make_model(described, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="interlip")
    model.ir_version = 9  # of opset 19; newer ones are refused by runtimes of that time
    helper.set_model_props(model, {"classes": json.dumps(network.classes, default=str)})
    Path(path).write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path))


def _silent_if_empty(masks: NDArray[Any], thresholds: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Masks (M, ...) and thresholds (M,) as numbers; for M = 0, which no runtime likes, a neuron that never fires."""
    if not len(masks):
        return np.zeros((1, *masks.shape[1:]), np.uint8), np.zeros(1, np.float32)
    return masks.astype(np.uint8), thresholds.astype(np.float32)


def _fully_connected(graph: _Graph, network: ThresholdNetwork) -> str:
    """Which second-layer neurons fire, (batch, M)."""
    weights, biases = graph.constant(network.weights, "W"), graph.constant(network.biases, "b")
    sums = graph.add("Gemm", "x", weights, biases, transB=1)
    features = graph.add("Cast", graph.add("Greater", sums, graph.constant(np.float64(0))), to=_float())
    rows = unpack_words(np.concatenate(network.masks), network.first_layer_width)
    masks, limits = _silent_if_empty(rows, np.concatenate(network.thresholds))
    columns = graph.add("Cast", graph.constant(masks.T, "masks"), to=_float())
    return graph.add("Less", graph.add("MatMul", features, columns), graph.constant(limits, "thresholds"))


def _convolutional(graph: _Graph, network: ConvThresholdNetwork) -> str:
    """Which second-layer neurons fire on some translation, (batch, M)."""
    (channels, height, width), n = network.shape, network.first_layer_width
    kernel_height, kernel_width = network.filters.shape[2:]
    above, left = (kernel_height - 1) // 2, (kernel_width - 1) // 2
    c, i, j, q = np.ogrid[:channels, :height, :width, :kernel_width]
    sums = graph.constant(network.biases, "b")
    for p in range(kernel_height):
        # Pixels that meet row p of the kernel at every position, (H W, C kw).
        pixels = (c * height + (i + p - above) % height) * width + (j + q - left) % width
        table = np.broadcast_to(pixels, (channels, height, width, kernel_width)).transpose(1, 2, 0, 3)
        where = graph.constant(table.reshape(height * width, -1).astype(np.int32))
        matrix = network.filters[:, :, p].reshape(n, -1).T
        product = graph.add("MatMul", graph.add("Gather", "x", where, axis=1), graph.constant(matrix))
        sums = graph.add("Add", product, sums)
    positive = graph.add("Greater", graph.add("Transpose", sums, perm=[0, 2, 1]), graph.constant(np.float64(0)))
    flat = graph.add("Cast", positive, to=_float())
    maps = graph.add("Reshape", flat, graph.constant(np.array([-1, n, height, width])))
    pads = np.array([0, 0, 0, 0, 0, 0, height - 1, width - 1])
    wrapped = graph.add("Pad", maps, graph.constant(pads), mode="wrap")
    bits = np.concatenate([mask.bits(slice(None)) for mask in network.masks]).transpose(0, 3, 1, 2)
    masks, limits = _silent_if_empty(bits, np.concatenate(network.thresholds))
    products = graph.add("Conv", wrapped, graph.add("Cast", graph.constant(masks, "masks"), to=_float()))
    least = graph.add("ReduceMin", products, graph.constant(np.array([2, 3])), keepdims=0)
    return graph.add("Less", least, graph.constant(limits, "thresholds"))


def _dense_bytes(network: ThresholdNetwork) -> int:
    return network.weights.nbytes


def _filter_bytes(network: ConvThresholdNetwork) -> int:
    return network.filters.nbytes + 4 * math.prod(network.filters.shape[1:]) * network.positions


class _Form(NamedTuple):
    """A kind of network as a graph.

    Attributes:
        first_layer_bytes: of its constants.
        firing: adds both hidden layers; the name of which second-layer neurons fire, (batch, M).
    """

    first_layer_bytes: Callable[[Any], int]
    firing: Callable[[_Graph, Any], str]


FORMS = {
    ThresholdNetwork.kind: _Form(_dense_bytes, _fully_connected),
    ConvThresholdNetwork.kind: _Form(_filter_bytes, _convolutional),
}


def _decision(graph: _Graph, network: BuiltNetwork, firing: str) -> None:
    """The outputs, from the neurons that fire as 0 and 1 (batch, M)."""
    from solvers.networks.threshold_module import decision_layer

    neurons = list(network.second_layer_widths)
    if not sum(neurons):
        neurons[0] = 1
    layer = decision_layer(neurons, network.detector_classes, len(network.classes))
    weight, bias = layer.weight.numpy(), layer.bias.numpy()
    layer_constants = graph.constant(weight, "V"), graph.constant(bias, "c")
    scores = graph.add("Gemm", firing, *layer_constants, transB=1, output="scores")
    spoken_for = graph.add("Cast", graph.add("Greater", scores, "zero"), to=_float())
    count = graph.add("ReduceSum", spoken_for, graph.constant(np.array([1])), keepdims=0)
    alone = graph.add("Equal", count, "one")
    first = graph.add("ArgMax", spoken_for, axis=1, keepdims=0)
    graph.add("Where", alone, first, graph.constant(np.int64(NO_CLASS)), output="class_index")


def _float() -> int:
    from onnx import TensorProto

    return int(TensorProto.FLOAT)


def evaluate_threshold_onnx(path: str | Path, points: FloatArray) -> NDArray[np.int64]:
    """Class indices (N,) of points (N, d), by onnx's own reference evaluation of the file.

    Raises:
        MissingBackendError: the package onnx is not installed.
    """
    if not onnx_installed():
        raise MissingBackendError("evaluating ONNX files", "onnx", "onnx")
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(str(path))
    evaluator = ReferenceEvaluator(model)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    masks = sizes["masks"]
    # A convolution gathers n H W numbers for each of its H W positions.
    largest = max(masks) if len(masks) == 2 else math.prod(masks[1:]) * masks[2] * masks[3]
    rows = max(1, BLOCK_NUMBERS // largest)
    found = np.empty(len(points), dtype=np.int64)
    for start in range(0, len(points), rows):
        block = np.ascontiguousarray(points[start : start + rows], dtype=np.float64)
        answers: Any = evaluator.run(["class_index"], {"x": block})
        found[start : start + len(block)] = answers[0]
    return found
