"""Affine nodes of ONNX graphs: what each does to the value that flows along a chain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.files.layers import PLAIN_ARRAYS
from solvers.files.onnx_convolution import convolution_matrix
from solvers.files.onnx_tensors import Attributes

__all__ = ["NO_BRANCHES", "ChainNode", "Flow", "affine_step"]

# A dense matrix of this many entries takes 800 MB; nothing exact is possible far below it.
MOST_ENTRIES = 10**8
AFFINE = ("Gemm", "MatMul", "Add", "Sub", "Conv", "Flatten", "Reshape", "Identity", "Dropout")
SUPPORTED = f"{', '.join(AFFINE)}, Relu, LeakyRelu and Abs"
NO_BRANCHES = f"branches are not supported: {PLAIN_ARRAYS}"


@dataclass(frozen=True, slots=True)
class Flow:
    """The value that flows along the chain, as an affine map of the last hidden layer's output.

    `matrix` is None for the identity. `shape` is the shape of one sample, `batch` the size of the axis before it: 0
    where it is free, None where there is no such axis.
    """

    name: str
    shape: tuple[int, ...]
    batch: int | None
    matrix: FloatArray | None
    offset: FloatArray

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dense(self) -> FloatArray:
        """The matrix, also where it is the identity."""
        if self.matrix is not None:
            return self.matrix
        _check_dense(self.size, self.size)
        return np.eye(self.size)

    def then(self, name: str, shape: tuple[int, ...], matrix: FloatArray, offset: FloatArray) -> Flow:
        combined = matrix if self.matrix is None else matrix @ self.matrix
        return Flow(name, shape, self.batch, combined, matrix @ self.offset + offset)


@dataclass(frozen=True, slots=True)
class ChainNode:
    """A node of the chain, the constants that it may read, and the version of the operators."""

    raw: Any
    constants: Mapping[str, NDArray[Any]]
    opset: int

    @property
    def kind(self) -> str:
        return str(self.raw.op_type)

    @property
    def output(self) -> str:
        return str(self.raw.output[0])

    @property
    def attributes(self) -> Attributes:
        return Attributes(self.raw)

    def has(self, position: int) -> bool:
        """Whether an optional input is there; an empty name stands for none."""
        return len(self.raw.input) > position and self.raw.input[position] != ""

    def whole_numbers(self, position: int) -> list[int]:
        """A constant input that lists sizes."""
        value = self._constant(position)
        if value.dtype.kind not in "iu" or value.ndim > 1:
            raise InputError(f"{self.kind} needs a list of whole numbers as input {position}: export the model again")
        return [int(number) for number in value.ravel()]

    def real_numbers(self, position: int) -> FloatArray:
        """A constant input of any shape."""
        return self._constant(position).astype(np.float64)

    def _constant(self, position: int) -> NDArray[Any]:
        if not self.has(position) or self.raw.input[position] not in self.constants:
            raise InputError(f"{self.kind} needs a constant input {position}; {NO_BRANCHES}")
        return self.constants[self.raw.input[position]]


def affine_step(node: ChainNode, flow: Flow) -> Flow:
    """The flow after a node that takes it.

    Raises:
        InputError: the node is not supported, or does not fit, or does not keep one row per sample.
    """
    kind = node.kind
    if kind in ("Add", "Sub"):
        return _sum(node, flow)
    if kind not in AFFINE:
        raise InputError(
            f"the graph holds the node {kind[:80]}; supported are chains of {SUPPORTED}; else {PLAIN_ARRAYS}"
        )
    if node.raw.input[0] != flow.name:
        raise InputError(f"{kind} is supported with the samples as first input and constants after it: {PLAIN_ARRAYS}")
    if kind == "Identity":
        return replace(flow, name=node.output)
    if kind == "Dropout":
        # Before opset 7 a node was told by `is_test` not to drop, since opset 12 by its third input to drop.
        if (node.opset < 7 and not node.attributes.whole("is_test", 0)) or (node.has(2) and node.real_numbers(2).any()):
            raise InputError("Dropout is in training mode, where it drops at random: export the model after eval()")
        return replace(flow, name=node.output)
    if kind == "Flatten":
        return _flattened(node, flow)
    if kind == "Reshape":
        return _reshaped(node, flow)
    if kind == "Gemm":
        return _gemm(node, flow)
    if kind == "MatMul":
        matrix = node.real_numbers(1)
        if matrix.ndim != 2 or flow.shape[-1] != flow.size:
            raise InputError(
                f"MatMul is supported as (samples) x (constant matrix) only, got a sample of shape {flow.shape} and a "
                f"constant of shape {matrix.shape}: {PLAIN_ARRAYS}"
            )
        return _linear(node.output, flow, matrix.T, np.zeros(matrix.shape[1]), flow.shape[:-1])
    kernel = node.real_numbers(1)
    matrix, shape = convolution_matrix(kernel, flow.shape, node.attributes, MOST_ENTRIES)
    bias = node.real_numbers(2) if node.has(2) else np.zeros(len(kernel))
    if bias.shape != kernel.shape[:1]:
        raise InputError(
            f"Conv needs a bias for each of its {len(kernel)} outputs, got shape {bias.shape}: export again"
        )
    return flow.then(node.output, shape, matrix, np.repeat(bias, matrix.shape[0] // len(kernel)))


def _sum(node: ChainNode, flow: Flow) -> Flow:
    """(samples) + (constant), (constant) + (samples), and both differences."""
    first = node.raw.input[0] == flow.name
    if len(node.raw.input) != 2:
        raise InputError(f"{node.kind} has {len(node.raw.input)} inputs instead of two: export the model again")
    value = node.real_numbers(1 if first else 0)
    rank = len(flow.shape) + (flow.batch is not None)
    given = value.shape
    if node.opset < 7:
        value = _aligned(node, value, rank, first)
    try:
        # The batch has any size, so that what is added must not depend on the sample.
        value = np.broadcast_to(value, (1,) * (rank - len(flow.shape)) + flow.shape).ravel()
    except ValueError:
        raise InputError(
            f"{node.kind} of samples of shape {flow.shape} and a constant of shape {given} does not broadcast to one "
            f"result of that shape for every sample: {PLAIN_ARRAYS}"
        ) from None
    if node.kind == "Add":
        return replace(flow, name=node.output, offset=flow.offset + value)
    if first:
        return replace(flow, name=node.output, offset=flow.offset - value)
    return replace(flow, name=node.output, matrix=-flow.dense, offset=value - flow.offset)


def _aligned(node: ChainNode, value: FloatArray, rank: int, first: bool) -> FloatArray:
    """A second input as before opset 7: of equal shape, or with `broadcast` from `axis` on, last axes by default."""
    if not node.attributes.whole("broadcast", 0):
        if value.ndim != rank:
            raise InputError(f"{node.kind} of opset {node.opset} does not broadcast: export with opset 7 or later")
        return value
    axis = node.attributes.whole("axis", rank - value.ndim)
    axis += rank if axis < 0 else 0
    if not first or not 0 <= axis <= rank - value.ndim:
        raise InputError(f"{node.kind} of opset {node.opset} broadcasts oddly: export with opset 7 or later")
    return value.reshape((1,) * axis + value.shape + (1,) * (rank - axis - value.ndim))


def _flattened(node: ChainNode, flow: Flow) -> Flow:
    """Flatten, where it leaves one row per sample."""
    rank = len(flow.shape) + (flow.batch is not None)
    axis = node.attributes.whole("axis", 1)
    axis += rank if axis < 0 else 0
    kept = flow.shape[: axis if flow.batch is None else max(axis - 1, 0)]
    if not 0 <= axis <= rank or math.prod(kept) != 1 or (axis == 0 and flow.batch not in (1, None)):
        raise InputError(
            f"Flatten of samples of shape {flow.shape} at axis {axis} keeps no row per sample: {PLAIN_ARRAYS}"
        )
    return replace(flow, name=node.output, shape=(flow.size,), batch=1 if flow.batch is None else flow.batch)


def _reshaped(node: ChainNode, flow: Flow) -> Flow:
    """Reshape, where it leaves one row (of any shape) per sample."""
    if node.opset < 5:
        target = node.attributes.wholes("shape") or []
    else:
        target = node.whole_numbers(1)
    refusal = InputError(
        f"Reshape of samples of shape {flow.shape} to {target[:9]} keeps no row per sample: {PLAIN_ARRAYS}"
    )
    if not node.attributes.whole("allowzero", 0):
        before = flow.shape if flow.batch is None else (flow.batch, *flow.shape)
        if any(size == 0 and k >= len(before) for k, size in enumerate(target)):
            raise refusal
        # A free batch is 0 in both.
        target = [before[k] if size == 0 else size for k, size in enumerate(target)]
    elif 0 in target:
        raise refusal
    if len(target) == 1 and flow.batch in (None, 1) and target[0] in (-1, flow.size):
        return replace(flow, name=node.output, shape=(flow.size,), batch=None)
    batch = 1 if flow.batch is None else flow.batch
    if len(target) < 2 or min(target) < -1 or target.count(-1) > 1:
        raise refusal
    rows, sample = target[0], target[1:]
    if -1 in sample:
        known = -math.prod(sample)
        if known <= 0 or flow.size % known or rows != batch:
            raise refusal
        sample[sample.index(-1)] = flow.size // known
    # As many rows as written is what a free batch must then be.
    if math.prod(sample) != flow.size or (rows not in (-1, batch) and batch):
        raise refusal
    return replace(flow, name=node.output, shape=tuple(sample), batch=batch or max(rows, 0))


def _gemm(node: ChainNode, flow: Flow) -> Flow:
    numbers = node.attributes
    if numbers.whole("transA", 0):
        raise InputError(f"Gemm with transA is not supported: {PLAIN_ARRAYS}")
    matrix = node.real_numbers(1) * numbers.real("alpha", 1.0)
    if matrix.ndim != 2 or len(flow.shape) != 1:
        raise InputError(f"Gemm needs matrices, got {flow.shape} per sample and {matrix.shape}: export the model again")
    matrix = matrix if numbers.whole("transB", 0) else matrix.T
    outputs = matrix.shape[0]
    offset = node.real_numbers(2) * numbers.real("beta", 1.0) if node.has(2) else np.zeros(outputs)
    if (
        offset.ndim > 2
        or (offset.ndim == 2 and offset.shape[0] != 1)
        or offset.shape[-1:] not in ((), (1,), (outputs,))
    ):
        raise InputError(
            f"Gemm must add one row of {outputs} numbers to every sample, got shape {offset.shape}: {PLAIN_ARRAYS}"
        )
    return _linear(node.output, flow, matrix, np.broadcast_to(offset, (1, outputs))[0], ())


def _linear(name: str, flow: Flow, matrix: FloatArray, offset: FloatArray, lead: tuple[int, ...]) -> Flow:
    """A matrix applied to a sample whose axes but the last one, `lead`, have size 1."""
    if matrix.shape[1] != flow.size:
        raise InputError(f"a linear node wants {matrix.shape[1]} inputs, its chain brings {flow.size}: export it again")
    return flow.then(name, (*lead, matrix.shape[0]), matrix, offset)


def _check_dense(rows: int, columns: int) -> None:
    if rows * columns > MOST_ENTRIES:
        raise InputError(f"a map from {columns} to {rows} values is too large to write as a matrix: cut the model down")
