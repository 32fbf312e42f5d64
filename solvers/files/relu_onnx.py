"""ONNX files as ReLU networks: chains of Gemm, MatMul, Add, Conv, Flatten and Relu, LeakyRelu or Abs.

Weights are read as stored and widened to float64; consecutive affine nodes are multiplied out, a convolution becomes
its (dense) matrix. A graph that branches, or holds any other node, is refused by name: so is a node of another domain
than the standard one, and a function that the model brings along, whatever their names. Needs the extra `onnx`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError, MissingBackendError
from solvers.files.layers import PLAIN_ARRAYS, Layers, check_entries
from solvers.files.onnx_chain import NO_BRANCHES, ChainNode, Flow, affine_step
from solvers.files.onnx_tensors import constant_array, sparse_array, tensor_array
from solvers.networks.activations import ABSOLUTE_VALUE, RELU
from solvers.networks.relu import ReluNetwork

__all__ = ["read", "write"]

STANDARD = ("", "ai.onnx")


def read(path: Path) -> Layers:
    """The layers and the activations of a graph that is a chain.

    Raises:
        InputError: not an ONNX file, an unsupported node, a branch, data outside its folder, a size beyond unrolling.
        MissingBackendError: the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingBackendError("reading ONNX files", "onnx", "onnx") from None
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf and onnx raise many kinds for a file that is not what it says
        raise InputError(f"this is not a readable ONNX model ({type(error).__name__}): export it again") from None
    if not model.graph.node and not model.graph.output:
        raise InputError("this is not a readable ONNX model (it holds no graph): export it again")
    with np.errstate(over="ignore", invalid="ignore"):  # products beyond float64 are refused as weights
        return _chain(model, path.parent)


def _chain(model: Any, folder: Path) -> Layers:
    """The layers of a model, whose data files lie in a folder."""
    graph = model.graph
    constants = {tensor.name: tensor_array(tensor, folder) for tensor in graph.initializer}
    constants |= {tensor.values.name: sparse_array(tensor, folder) for tensor in graph.sparse_initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InputError(
            f"the graph must have one input and one output, it has {len(inputs)} and {len(graph.output)}: "
            "export the part of the model between one input and its scores"
        )
    flow = _start(inputs[0])
    functions = {(_domain(function), function.name) for function in model.functions}
    # Models from before version 3 of the format name no operator set: it is the first.
    oldest = 1 if model.ir_version < 3 else 0
    opset = max((entry.version for entry in model.opset_import if entry.domain in STANDARD), default=oldest)
    if opset < 1:
        raise InputError("the model does not say by which version of the ONNX standard to read it: export it again")
    _check_names(graph, flow.name)
    weights: list[FloatArray] = []
    biases: list[FloatArray] = []
    slopes: list[float] = []
    for raw in graph.node:
        if flow.name == graph.output[0].name:
            break  # whatever comes later is not asked for
        _check_node(raw, functions)
        _check_schema(raw, opset)
        node = ChainNode(raw, constants, opset)
        if node.kind == "Constant":
            constants[node.output] = constant_array(raw, folder)
        elif node.kind == "Identity" and raw.input[0] in constants:
            constants[node.output] = constants[raw.input[0]]
        elif flow.name not in raw.input:
            raise InputError(f"node {raw.name[:80] or node.kind} leaves the chain; {NO_BRANCHES}")
        elif node.kind in ("Relu", "LeakyRelu", "Abs"):
            if list(raw.input) != [flow.name]:
                raise InputError(f"{node.kind} must have the samples as its only input: export the model again")
            slopes.append(_slope(node))
            weights.append(flow.dense)
            biases.append(flow.offset)
            flow = replace(flow, name=node.output, matrix=None, offset=np.zeros(flow.size))
        else:
            flow = affine_step(node, flow)
    if flow.name != graph.output[0].name:
        raise InputError(f"the output is not the end of the chain; {NO_BRANCHES}")
    return Layers([*weights, flow.dense], [*biases, flow.offset], slopes, source="an ONNX file")


def _check_names(graph: Any, start: str) -> None:
    """Refuse a name that stands for two values, wherever it is in the graph."""
    names = [start, *(tensor.name for tensor in graph.initializer)]
    names += [tensor.values.name for tensor in graph.sparse_initializer]
    names += [name for node in graph.node for name in node.output if name]
    if len(set(names)) < len(names):
        (twice, _), *_ = Counter(names).most_common(1)
        raise InputError(f"the name {twice[:80]!r} stands for two values: export the model again")


def _check_node(raw: Any, functions: set[tuple[str, str]]) -> None:
    """Refuse what only looks like an operator of the standard."""
    if _domain(raw) or ("", raw.op_type) in functions:
        place = f"the domain {raw.domain[:80]!r}" if _domain(raw) else "the model itself"
        raise InputError(
            f"the node {raw.op_type[:80]} is defined by {place}, not by the ONNX standard: "
            f"export the model with standard operators only, or {PLAIN_ARRAYS}"
        )
    if not raw.output or not raw.output[0]:
        raise InputError(f"a node {raw.op_type[:80]} has no output: export the model again")
    if not raw.input and raw.op_type != "Constant":
        raise InputError(f"the graph holds the node {raw.op_type[:80]} without inputs; {NO_BRANCHES}")


def _check_schema(raw: Any, opset: int) -> None:
    """Refuse attributes and inputs that the standard does not know: they would be passed over."""
    from onnx import defs

    try:
        schema = defs.get_schema(str(raw.op_type), opset, "")  # bytes where it is no text
    except defs.SchemaError:  # no such operator, which is refused by name where it is met
        return
    names = [attribute.name for attribute in raw.attribute]
    unknown = [name for name in names if name not in schema.attributes]
    if len(set(names)) < len(names):
        raise InputError(f"a node {raw.op_type} has an attribute twice: export the model again")
    if unknown:
        raise InputError(
            f"a node {raw.op_type} has the attribute {unknown[0][:80]!r}, which opset {opset} does not know: "
            "export the model again"
        )
    if len(raw.input) > schema.max_input:
        raise InputError(f"a node {raw.op_type} has {len(raw.input)} inputs: export the model again")


def _domain(described: Any) -> str:
    return "" if described.domain in STANDARD else str(described.domain)


def _slope(node: ChainNode) -> float:
    """The slope of an activation below 0."""
    if node.kind == "LeakyRelu":
        return node.attributes.real("alpha", float(np.float32(0.01)))
    return RELU if node.kind == "Relu" else ABSOLUTE_VALUE


def _start(value: Any) -> Flow:
    """The input: all dimensions but the batch must be fixed."""
    from onnx import TensorProto

    described = value.type.tensor_type
    if described.elem_type not in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        raise InputError(f"the input {value.name[:80]} does not hold real numbers: {PLAIN_ARRAYS}")
    sizes = [int(dimension.dim_value) for dimension in described.shape.dim]
    batch, sample = (max(sizes[0], 0), sizes[1:]) if len(sizes) > 1 else (None, sizes)
    if not sample or any(size <= 0 for size in sample):
        raise InputError(
            f"the input {value.name[:80]} must have a fixed shape after the batch, got {sizes}: export it with one"
        )
    check_entries(f"the input {value.name[:80]}", sample)
    return Flow(value.name, tuple(sample), batch, None, np.zeros(math.prod(sample)))


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
