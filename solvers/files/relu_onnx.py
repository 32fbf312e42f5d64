"""ONNX files as ReLU networks: chains of Gemm, MatMul, Add, Conv, Flatten and Relu, LeakyRelu or Abs.

Weights are read as stored and widened to float64; consecutive affine nodes are multiplied out, a convolution becomes
its (dense) matrix. A graph that branches, or holds any other node, is refused by name. Needs the extra `onnx`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError, MissingBackendError
from solvers.files.layers import Layers
from solvers.networks.activations import ABSOLUTE_VALUE, RELU
from solvers.networks.relu import ReluNetwork

__all__ = ["read", "write"]

# A dense matrix of this many entries takes 800 MB; nothing exact is possible far below it.
MOST_ENTRIES = 10**8
SUPPORTED = "Gemm, MatMul, Add, Sub, Conv, Flatten, Reshape, Identity, Dropout, Relu, LeakyRelu and Abs"


@dataclass(frozen=True, slots=True)
class _Flow:
    """The value that flows along the chain, as an affine map of the last hidden layer's output.

    `matrix` is None for the identity. `shape` is the shape of one sample.
    """

    name: str
    shape: tuple[int, ...]
    matrix: FloatArray | None
    offset: FloatArray

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def then(self, name: str, shape: tuple[int, ...], matrix: FloatArray, offset: FloatArray) -> _Flow:
        combined = matrix if self.matrix is None else matrix @ self.matrix
        return _Flow(name, shape, combined, matrix @ self.offset + offset)


def read(path: Path) -> Layers:
    """The layers and the activations of a graph that is a chain.

    Raises:
        InputError: not an ONNX file, an unsupported node, a branch, or a size beyond unrolling.
        MissingBackendError: the package onnx is not installed.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise MissingBackendError("reading ONNX files", "onnx", "onnx") from None
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
        constants = {tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    except Exception as error:  # protobuf and onnx raise many kinds for a file that is not what it says
        raise InputError(f"this is not a readable ONNX model: {type(error).__name__}") from None
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InputError(f"the graph must have one input and one output, it has {len(inputs)} and {len(graph.output)}")
    shape = _sample_shape(inputs[0])
    flow = _Flow(inputs[0].name, shape, None, np.zeros(math.prod(shape)))
    weights: list[FloatArray] = []
    biases: list[FloatArray] = []
    slopes: list[float] = []
    for node in graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            continue
        if flow.name not in node.input:
            raise InputError(f"node {node.name or node.op_type} leaves the chain; branches are not supported")
        if node.op_type in ("Relu", "LeakyRelu", "Abs"):
            slopes.append(_slope(node))
            weights.append(np.eye(flow.size) if flow.matrix is None else flow.matrix)
            biases.append(flow.offset)
            flow = _Flow(node.output[0], flow.shape, None, np.zeros(flow.size))
            continue
        flow = _affine_step(node, flow, constants)
    if flow.name != graph.output[0].name:
        raise InputError("the output is not the end of the chain; branches are not supported")
    weights.append(np.eye(flow.size) if flow.matrix is None else flow.matrix)
    biases.append(flow.offset)
    return Layers(weights, biases, slopes)


def _slope(node: Any) -> float:
    """The slope of an activation below 0."""
    if node.op_type == "LeakyRelu":
        return next((float(a.f) for a in node.attribute if a.name == "alpha"), float(np.float32(0.01)))
    return RELU if node.op_type == "Relu" else ABSOLUTE_VALUE


def _sample_shape(value: Any) -> tuple[int, ...]:
    """Shape of one sample: all dimensions but the batch, which must be fixed."""
    sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    sample = sizes[1:] if len(sizes) > 1 else sizes
    if not sample or any(size <= 0 for size in sample):
        raise InputError(f"the input {value.name} must have a fixed shape after the batch, got {sizes}")
    return tuple(sample)


def _affine_step(node: Any, flow: _Flow, constants: dict[str, Any]) -> _Flow:
    name = node.output[0]
    attributes = {a.name: a for a in node.attribute}

    def constant(position: int) -> FloatArray:
        key = node.input[position]
        if key not in constants:
            raise InputError(f"{node.op_type} needs a constant input {position}; branches are not supported")
        return np.asarray(constants[key], dtype=np.float64)

    def number(key: str, default: float) -> float:
        if key not in attributes:
            return default
        attribute = attributes[key]
        return float(attribute.f if attribute.type == attribute.FLOAT else attribute.i)

    kind = node.op_type
    if kind in ("Identity", "Dropout"):
        return replace(flow, name=name)
    if kind in ("Flatten", "Reshape"):
        return replace(flow, name=name, shape=(flow.size,))
    if kind == "Gemm":
        if number("transA", 0):
            raise InputError("Gemm with transA is not supported")
        matrix = constant(1) * number("alpha", 1.0)
        matrix = matrix if number("transB", 0) else matrix.T
        offset = constant(2) * number("beta", 1.0) if len(node.input) > 2 else np.zeros(matrix.shape[0])
        return _linear(name, flow, matrix, np.broadcast_to(offset.ravel(), (matrix.shape[0],)))
    if kind == "MatMul":
        if node.input[0] != flow.name:
            raise InputError("MatMul is supported as (samples) x (constant matrix) only")
        matrix = constant(1).T
        if matrix.ndim != 2:
            raise InputError(f"MatMul needs a constant matrix, got shape {matrix.T.shape}")
        return _linear(name, flow, matrix, np.zeros(matrix.shape[0]))
    if kind in ("Add", "Sub"):
        first = node.input[0] == flow.name
        if kind == "Sub" and not first:
            raise InputError("Sub is supported as (samples) - (constant) only")
        value = constant(1 if first else 0) * (-1.0 if kind == "Sub" else 1.0)
        try:
            value = np.broadcast_to(value, (1, *flow.shape)).ravel()
        except ValueError:
            raise InputError(f"{kind} of shapes {flow.shape} and {value.shape} does not broadcast") from None
        return replace(flow, name=name, offset=flow.offset + value)
    if kind == "Conv":
        bias = constant(2) if len(node.input) > 2 else None
        return _convolution(name, flow, constant(1), bias, attributes)
    raise InputError(f"the graph holds the node {kind}; supported are chains of {SUPPORTED}")


def _linear(name: str, flow: _Flow, matrix: FloatArray, offset: FloatArray) -> _Flow:
    if matrix.shape[1] != flow.size:
        raise InputError(f"a linear node wants {matrix.shape[1]} inputs, its chain brings {flow.size}")
    return flow.then(name, (matrix.shape[0],), matrix, offset)


def _convolution(
    name: str,
    flow: _Flow,
    kernel: FloatArray,
    bias: FloatArray | None,
    attributes: dict[str, Any],
) -> _Flow:
    """A convolution as its matrix; 1-D convolutions are 2-D ones of height 1."""
    axes = kernel.ndim - 2
    if axes not in (1, 2) or len(flow.shape) != axes + 1:
        raise InputError(f"Conv is supported in one or two dimensions, got a kernel of shape {kernel.shape}")
    if "auto_pad" in attributes and attributes["auto_pad"].s not in (b"", b"NOTSET", b"VALID"):
        raise InputError("Conv with auto_pad is not supported; export with explicit pads")

    def whole(key: str, default: Sequence[int]) -> list[int]:
        return list(attributes[key].ints) if key in attributes else list(default)

    strides, dilations = whole("strides", [1] * axes), whole("dilations", [1] * axes)
    pads = whole("pads", [0] * 2 * axes)
    groups = int(attributes["group"].i) if "group" in attributes else 1
    if axes == 1:
        kernel, shape = kernel[:, :, None, :], (flow.shape[0], 1, flow.shape[1])
        strides, dilations, pads = [1, *strides], [1, *dilations], [0, pads[0], 0, pads[1]]
    else:
        shape = (flow.shape[0], flow.shape[1], flow.shape[2])
    channels, height, width = shape
    outputs, per_group, kernel_height, kernel_width = kernel.shape
    if per_group * groups != channels or outputs % groups:
        raise InputError(f"Conv of kernel {kernel.shape} in {groups} groups does not fit {channels} channels")
    rows = (height + pads[0] + pads[2] - dilations[0] * (kernel_height - 1) - 1) // strides[0] + 1
    columns = (width + pads[1] + pads[3] - dilations[1] * (kernel_width - 1) - 1) // strides[1] + 1
    if rows < 1 or columns < 1:
        raise InputError("a Conv kernel is larger than its padded input")
    if outputs * rows * columns * flow.size > MOST_ENTRIES:
        raise InputError(f"a Conv from {flow.size} to {outputs * rows * columns} values is too large to unroll")
    matrix = np.zeros((outputs, rows, columns, channels, height, width))
    for output in range(outputs):
        first = output // (outputs // groups) * per_group
        for i in range(kernel_height):
            source_rows = np.arange(rows) * strides[0] - pads[0] + i * dilations[0]
            good_rows = np.flatnonzero((source_rows >= 0) & (source_rows < height))
            for j in range(kernel_width):
                source_columns = np.arange(columns) * strides[1] - pads[1] + j * dilations[1]
                good_columns = np.flatnonzero((source_columns >= 0) & (source_columns < width))
                r, c = np.meshgrid(good_rows, good_columns, indexing="ij")
                for k in range(per_group):
                    matrix[output, r, c, first + k, source_rows[r], source_columns[c]] = kernel[output, k, i, j]
    offset = np.zeros(outputs) if bias is None else bias
    sample = (outputs, rows, columns) if axes == 2 else (outputs, columns)
    return flow.then(
        name, sample, matrix.reshape(outputs * rows * columns, flow.size), np.repeat(offset, rows * columns)
    )


def write(network: ReluNetwork, path: Path) -> None:
    """Write a network as a chain of Gemm and Relu in float64 (opset 13), with a free batch size."""
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise MissingBackendError("writing ONNX files", "onnx", "onnx") from None
    nodes, tensors, current = [], [], "x"
    for k, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        tensors += [numpy_helper.from_array(np.array(w), f"W{k}"), numpy_helper.from_array(np.array(b), f"b{k}")]
        last = k == network.depth
        nodes.append(helper.make_node("Gemm", [current, f"W{k}", f"b{k}"], ["y" if last else f"z{k}"], transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [f"z{k}"], [f"a{k}"]))
            current = f"a{k}"
    graph = helper.make_graph(
        nodes,
        "interlip",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["batch", network.input_dimension])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["batch", network.output_dimension])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="interlip")
    onnx.save(model, str(path))
