"""Convolutions of ONNX files as dense matrices."""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.files.layers import PLAIN_ARRAYS
from solvers.files.onnx_tensors import Attributes

__all__ = ["convolution_matrix"]


def convolution_matrix(
    kernel: FloatArray, shape: tuple[int, ...], attributes: Attributes, most_entries: int
) -> tuple[FloatArray, tuple[int, ...]]:
    """The matrix of a convolution without bias, and the shape of its result; 1-D ones are 2-D ones of height 1.

    Args:
        kernel: (outputs, channels per group, sides...), of one or two axes.
        shape: of a sample, (channels, sides...).
        attributes: of the Conv node.
        most_entries: that the matrix may have.
    Raises:
        InputError: sizes that do not fit each other, automatic padding, or a matrix that is too large.
    """
    axes = kernel.ndim - 2
    if axes not in (1, 2) or len(shape) != axes + 1 or 0 in kernel.shape:
        raise InputError(
            f"Conv is supported in one or two dimensions, got a kernel of shape {kernel.shape} and samples of shape "
            f"{shape}: {PLAIN_ARRAYS}"
        )
    automatic = attributes.text("auto_pad")
    if automatic not in ("", "NOTSET", "VALID"):
        raise InputError("Conv with auto_pad is not supported; export with explicit pads")
    strides = attributes.wholes("strides") or [1] * axes
    dilations = attributes.wholes("dilations") or [1] * axes
    pads = (attributes.wholes("pads") if automatic != "VALID" else None) or [0] * 2 * axes
    sides = attributes.wholes("kernel_shape") or list(kernel.shape[2:])
    groups = attributes.whole("group", 1)
    fits = len(strides) == len(dilations) == axes and len(pads) == 2 * axes and sides == list(kernel.shape[2:])
    if not fits or min(*strides, *dilations) < 1 or min(pads) < 0:
        raise InputError("Conv has strides, dilations, pads or a kernel_shape that do not fit: export the model again")
    if axes == 1:
        kernel, shape = kernel[:, :, None, :], (shape[0], 1, shape[1])
        strides, dilations, pads = [1, *strides], [1, *dilations], [0, pads[0], 0, pads[1]]
    channels, height, width = shape
    outputs, per_group, kernel_height, kernel_width = kernel.shape
    if groups < 1 or per_group * groups != channels or outputs % groups:
        raise InputError(
            f"Conv of kernel {kernel.shape} in {groups} groups does not fit {channels} channels: export the model again"
        )
    rows = (height + pads[0] + pads[2] - dilations[0] * (kernel_height - 1) - 1) // strides[0] + 1
    columns = (width + pads[1] + pads[3] - dilations[1] * (kernel_width - 1) - 1) // strides[1] + 1
    if rows < 1 or columns < 1:
        raise InputError("a Conv kernel is larger than its padded input: export the model again")
    inputs, values = channels * height * width, outputs * rows * columns
    if values * inputs > most_entries:
        raise InputError(f"a Conv from {inputs} to {values} values is too large to unroll: cut the model down")
    matrix = np.zeros((outputs, rows, columns, channels, height, width))
    per_output = outputs // groups
    for group in range(groups):
        members, sources = (slice(group * n, (group + 1) * n) for n in (per_output, per_group))
        block, part = matrix[members, :, :, sources], kernel[members]
        for i in range(kernel_height):
            source_rows = np.arange(rows) * strides[0] - pads[0] + i * dilations[0]
            good_rows = np.flatnonzero((source_rows >= 0) & (source_rows < height))
            for j in range(kernel_width):
                source_columns = np.arange(columns) * strides[1] - pads[1] + j * dilations[1]
                good_columns = np.flatnonzero((source_columns >= 0) & (source_columns < width))
                r, c = np.meshgrid(good_rows, good_columns, indexing="ij")
                block[:, r, c, :, source_rows[r], source_columns[c]] = part[:, :, i, j]
    sample = (outputs, rows, columns) if axes == 2 else (outputs, columns)
    return matrix.reshape(values, inputs), sample
