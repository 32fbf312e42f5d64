"""What the ONNX standard means by a node, its domain, shapes and constants: read so, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from solvers.errors import InputError
from solvers.files.models import load_network

onnx = pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'interlip[onnx]'")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(0)
W, V = RNG.standard_normal((6, 4)), RNG.standard_normal((2, 6))
POINTS = RNG.standard_normal((20, 4))
node = helper.make_node


def model(
    nodes: list[Any], constants: dict[str, Any], shape: tuple[Any, ...] = ("N", 4), opset: int = 17, **more: Any
) -> Any:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, shape)],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), *more.get("imports", [])],
        functions=more.get("functions", []),
    )


def computes(folder: Path, found: Any, wanted: Callable[[np.ndarray], np.ndarray], points: np.ndarray = POINTS) -> None:
    """The file, once read, computes what a function of points (N, ...) gives."""
    (folder / "net.onnx").write_bytes(found.SerializeToString())
    outputs = load_network(folder / "net.onnx").evaluate(points.reshape(len(points), -1))
    np.testing.assert_allclose(outputs, wanted(points).reshape(len(points), -1), rtol=1e-12, atol=1e-12)


def refused(folder: Path, found: Any, said: str) -> None:
    (folder / "net.onnx").write_bytes(found.SerializeToString())
    with pytest.raises(InputError, match=said) as caught:
        load_network(folder / "net.onnx")
    assert "\n" not in str(caught.value)


GEMM = node("Gemm", ["x", "W"], ["z"], transB=1)
LAST = node("Gemm", ["a", "V"], ["y"], transB=1)


def net(middle: list[Any], constants: dict[str, Any] | None = None, **more: Any) -> Any:
    """x -> z = W x -> (middle) a -> y = V a."""
    return model([GEMM, *middle, LAST], {"W": W, "V": V, **(constants or {})}, **more)


def test_a_node_of_another_domain_is_not_the_standard_one(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("my", 1)]
    refused(
        tmp_path,
        net([node("Relu", ["z"], ["a"], domain="my")], imports=imports),
        "node Relu is defined by the domain 'my'",
    )
    computes(tmp_path, net([node("Relu", ["z"], ["a"], domain="ai.onnx")]), lambda x: np.maximum(x @ W.T, 0) @ V.T)
    body = [node("Tanh", ["t"], ["u"])]
    for domain in ("my", ""):
        function = helper.make_function(domain, "Relu", ["t"], ["u"], body, [helper.make_opsetid("", 17)])
        called = net([node("Relu", ["z"], ["a"], domain=domain)], imports=imports, functions=[function])
        refused(tmp_path, called, "node Relu is defined by the (domain 'my'|model itself)")
    refused(tmp_path, net([node("FusedRelu", ["z"], ["a"], domain="com.microsoft")]), "FusedRelu.*'com.microsoft'")


def test_before_opset_7_a_sum_broadcasts_from_an_axis_on(tmp_path: Path) -> None:
    points, kernel = RNG.standard_normal((9, 2, 3, 3)), RNG.standard_normal((3, 2, 1, 1))
    addend = np.array([1.0, 2.0, 3.0])
    conv = node("Conv", ["x", "K"], ["c"])

    def summed(**settings: Any) -> Any:
        nodes = [conv, node("Add", ["c", "k"], ["s"], **settings), node("Flatten", ["s"], ["y"])]
        return model(nodes, {"K": kernel, "k": addend}, ("N", 2, 3, 3), opset=6)

    def along(*axes: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: np.einsum("oc,ncij->noij", kernel[:, :, 0, 0], x) + np.expand_dims(addend, axes)

    # All axes have 3 entries, so that only the attribute says where the addend goes.
    computes(tmp_path, summed(broadcast=1, axis=1), along(0, 2, 3), points)
    computes(tmp_path, summed(broadcast=1, axis=2), along(0, 1, 3), points)
    computes(tmp_path, summed(broadcast=1, axis=-1), along(0, 1, 2), points)
    computes(tmp_path, summed(broadcast=1), along(0, 1, 2), points)
    refused(tmp_path, summed(), "Add of opset 6 does not broadcast")
    refused(tmp_path, summed(broadcast=1, axis=0), "does not broadcast to one result")
    refused(tmp_path, summed(broadcast=1, axis=4), "broadcasts oddly")


def test_a_sum_must_be_the_same_for_every_sample(tmp_path: Path) -> None:
    def summed(value: Any, *, kind: str = "Add") -> Any:
        return net([node(kind, ["z", "k"], ["a"])], {"k": value}, shape=(6, 4))

    row = RNG.standard_normal(6)
    computes(tmp_path, summed(row), lambda x: (x @ W.T + row) @ V.T)
    computes(tmp_path, summed(row[None], kind="Sub"), lambda x: (x @ W.T - row) @ V.T)
    computes(tmp_path, summed(2.0), lambda x: (x @ W.T + 2) @ V.T)
    for value in (np.ones((6, 1)), np.ones((6, 6)), np.ones((2, 1, 6)), np.ones(5)):
        refused(tmp_path, summed(value), "does not broadcast to one result")
    backwards = net([node("Sub", ["k", "z"], ["a"])], {"k": row})
    computes(tmp_path, backwards, lambda x: (row - x @ W.T) @ V.T)
    refused(tmp_path, net([node("Add", ["z", "z"], ["a"])]), "needs a constant input")


def test_a_reshape_keeps_one_row_per_sample_or_is_refused(tmp_path: Path) -> None:
    column = np.array([[1.0], [2.0], [3.0]])

    def reshaped(target: list[int], shape: tuple[Any, ...] = ("N", 4), **settings: Any) -> Any:
        # The addend shows where the entries are, the Flatten brings them back.
        middle = [
            node("Reshape", ["z", "s"], ["r"], **settings),
            node("Add", ["r", "k"], ["t"]),
            node("Flatten", ["t"], ["a"]),
        ]
        return net(middle, {"s": np.array(target, dtype=np.int64), "k": column}, shape=shape)

    def wanted(x: np.ndarray) -> np.ndarray:
        return ((x @ W.T).reshape(-1, 3, 2) + column).reshape(-1, 6) @ V.T

    for target in ([-1, 3, 2], [0, 3, 2], [0, -1, 2], [0, 3, -1]):
        computes(tmp_path, reshaped(target), wanted)
    computes(tmp_path, reshaped([1, 3, 2], (1, 4)), wanted)
    computes(tmp_path, reshaped([1, 3, -1], (1, 4)), wanted)
    computes(tmp_path, reshaped([-1, 3, 2], allowzero=1), wanted)
    for wrong in (
        [-1, 2],
        [3, 2],
        [-1],
        [6],
        [2, 3, -1],
        [-1, 3, -1],
        [-1, 2, 3, 2],
        [0, 0, 0],
        [0, 4, -1],
        [-2, 3, 2],
        [],
    ):
        refused(tmp_path, reshaped(wrong), "keeps no row per sample|does not broadcast")
    refused(tmp_path, reshaped([0, 3, 2], allowzero=1), "keeps no row per sample")
    refused(tmp_path, reshaped([2, 3, -1], (1, 4)), "keeps no row per sample")
    refused(tmp_path, net([node("Reshape", ["z", "s"], ["a"])], {"s": np.array([0.0, 6.0])}), "whole numbers")


def test_reshapes_of_old_operator_sets_name_their_shape_themselves(tmp_path: Path) -> None:
    middle = [node("Reshape", ["z"], ["a"], shape=[0, -1])]
    computes(tmp_path, net(middle, opset=4), lambda x: x @ W.T @ V.T)
    refused(tmp_path, net([node("Reshape", ["z"], ["a"], shape=[-1])], opset=4), "keeps no row per sample")


@pytest.mark.parametrize("axis", range(-3, 4))
def test_a_flatten_keeps_one_row_per_sample_or_is_refused(tmp_path: Path, axis: int) -> None:
    points, matrix = RNG.standard_normal((7, 2, 3)), RNG.standard_normal((2, 6))
    nodes = [node("Flatten", ["x"], ["f"], axis=axis), node("Gemm", ["f", "M"], ["y"], transB=1)]
    found = model(nodes, {"M": matrix}, ("N", 2, 3))
    if axis in (1, -2):
        computes(tmp_path, found, lambda x: x.reshape(7, 6) @ matrix.T, points)
    else:
        refused(tmp_path, found, "keeps no row per sample")


@pytest.mark.parametrize("opset", [6, 11, 13])
def test_dropout_is_the_identity_unless_it_drops(tmp_path: Path, opset: int) -> None:
    def dropped(inputs: list[str], constants: dict[str, Any], **settings: Any) -> Any:
        return net([node("Dropout", ["z", *inputs], ["a"], **settings)], constants, opset=opset)

    same: Callable[[np.ndarray], np.ndarray] = lambda x: x @ W.T @ V.T  # noqa: E731
    if opset < 7:
        computes(tmp_path, dropped([], {}, is_test=1), same)
        refused(tmp_path, dropped([], {}), "training mode")
        return
    computes(tmp_path, dropped([], {}), same)
    if opset >= 12:
        computes(tmp_path, dropped(["p", "t"], {"p": np.float32(0.5), "t": np.array(False)}), same)
        refused(tmp_path, dropped(["p", "t"], {"p": np.float32(0.5), "t": np.array(True)}), "training mode")


def test_gemm_adds_one_row_to_every_sample(tmp_path: Path) -> None:
    def shifted(value: Any, **settings: Any) -> Any:
        nodes = [node("Gemm", ["x", "W", "c"], ["z"], transB=1, **settings), node("Relu", ["z"], ["a"]), LAST]
        return model(nodes, {"W": W, "V": V, "c": value}, (6, 4))

    def right(value: Any, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.maximum(x @ W.T + 0.5 * value, 0) @ V.T)

    row = RNG.standard_normal(6)
    for value in (row, row[None], np.float64(2), np.array([2.0]), np.array([[2.0]])):
        computes(tmp_path, shifted(value, beta=0.5), partial(right, value))
    for value in (np.ones((6, 6)), np.ones((6, 1)), np.ones((2, 6)), np.ones(3), np.ones((1, 1, 6))):
        refused(tmp_path, shifted(value), "one row of 6 numbers")
    absent = model([node("Gemm", ["x", "W", ""], ["z"], transB=1), node("Relu", ["z"], ["a"]), LAST], {"W": W, "V": V})
    computes(tmp_path, absent, lambda x: np.maximum(x @ W.T, 0) @ V.T)


CONSTANTS: dict[str, tuple[dict[str, Any], Any]] = {
    "float": ({"value_float": 2.5}, 2.5),
    "floats": ({"value_floats": [1.0, 2.0, 3.0, 4.0]}, [1, 2, 3, 4]),
    "int": ({"value_int": 3}, 3),
    "ints": ({"value_ints": [1, 2, 3, 4]}, [1, 2, 3, 4]),
    "half": ({"value": numpy_helper.from_array(np.array([0.5, 1, 2, 3], np.float16))}, [0.5, 1, 2, 3]),
    "bfloat16": ({"value": helper.make_tensor("t", TensorProto.BFLOAT16, [4], [0.5, 1, 2, 3])}, [0.5, 1, 2, 3]),
    "sparse": ({"sparse_value": helper.make_sparse_tensor(
        helper.make_tensor("v", TensorProto.FLOAT, [2], [5.0, 7.0]),
        helper.make_tensor("i", TensorProto.INT64, [2], [1, 3]), [4])}, [0, 5, 0, 7]),
    "sparse, an index per axis": ({"sparse_value": helper.make_sparse_tensor(
        helper.make_tensor("v", TensorProto.FLOAT, [2], [5.0, 7.0]),
        helper.make_tensor("i", TensorProto.INT64, [2, 2], [0, 1, 0, 3]), [1, 4])}, [0, 5, 0, 7]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_in_every_form(tmp_path: Path, name: str) -> None:
    settings, value = CONSTANTS[name]
    nodes = [
        node("Constant", [], ["k"], **settings), node("Identity", ["k"], ["j"]), node("Add", ["x", "j"], ["q"]),
        node("Gemm", ["q", "W"], ["y"], transB=1),
    ]  # fmt: skip
    computes(tmp_path, model(nodes, {"W": W}), lambda x: (x + np.asarray(value, float)) @ W.T)


def test_constants_that_are_none(tmp_path: Path) -> None:
    def added(**settings: Any) -> Any:
        return model([node("Constant", [], ["k"], **settings), node("Add", ["x", "k"], ["y"])], {})

    refused(tmp_path, added(value_string="text"), "'value_string', which is no array")
    refused(tmp_path, added(value_strings=["text"]), "'value_strings', which is no array")
    refused(tmp_path, added(), "must have one value, it has 0")
    refused(tmp_path, added(value_float=1.0, value_int=1), "must have one value, it has 2")
    refused(tmp_path, added(value_float=1), "is no array|not of type")
    complex_one = helper.make_tensor("k", TensorProto.COMPLEX64, [1], cast(Any, [1j]))
    refused(tmp_path, added(value=complex_one), "COMPLEX64")
    for indices, shape in (([4], [1]), ([-1], [1]), ([0, 1], [1, 2])):
        sparse = helper.make_sparse_tensor(
            helper.make_tensor("v", TensorProto.FLOAT, [1], [5.0]),
            helper.make_tensor("i", TensorProto.INT64, shape, indices),
            [4],
        )
        refused(tmp_path, added(sparse_value=sparse), "outside its shape|an index for each")


def test_sparse_initializers_are_constants(tmp_path: Path) -> None:
    found = model([node("MatMul", ["x", "S"], ["y"])], {})
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("S", TensorProto.DOUBLE, [2], [5.0, 7.0]),
        helper.make_tensor("i", TensorProto.INT64, [2], [1, 6]),
        [4, 2],
    )
    found.graph.sparse_initializer.append(sparse)
    dense = np.array([[0, 5], [0, 0], [0, 0], [7, 0]])
    computes(tmp_path, found, lambda x: x @ dense)


def test_what_is_larger_than_memory_is_refused_before_it_is_made(tmp_path: Path) -> None:
    relu = [node("Relu", ["x"], ["y"])]
    refused(tmp_path, model(relu, {}, ("N", 10**6)), "too large to write as a matrix")
    refused(tmp_path, model(relu, {}, ("N", 10**6, 10**6)), "more than the .* readable")
    huge = helper.make_tensor("W", TensorProto.FLOAT, [0], [])
    huge.dims[:] = [2**40, 2**40]
    found = model([node("MatMul", ["x", "W"], ["y"])], {})
    found.graph.initializer.append(huge)
    refused(tmp_path, found, "more than the .* readable")
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("W", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("i", TensorProto.INT64, [1], [0]),
        [2**40, 4],
    )
    found = model([node("MatMul", ["x", "W"], ["y"])], {})
    found.graph.sparse_initializer.append(sparse)
    refused(tmp_path, found, "more than the .* readable")
    wide = model([node("Conv", ["x", "K"], ["y"], pads=[10**9] * 4)], {"K": np.ones((1, 1, 1, 1))}, ("N", 1, 2, 2))
    refused(tmp_path, wide, "too large to unroll")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strides": [0, 1]}, "do not fit"), ({"dilations": [1, 0]}, "do not fit"),
        ({"pads": [-1, 0, 0, 0]}, "do not fit"), ({"pads": [1, 1]}, "do not fit"), ({"strides": [1]}, "do not fit"),
        ({"kernel_shape": [3, 3]}, "do not fit"),
        ({"group": 0}, "groups"), ({"group": 2}, "groups"), ({"auto_pad": "SAME_UPPER"}, "auto_pad"),
        ({"strides": 2}, "not of type INTS"), ({"group": 1.0}, "not of type INT"),
        ({"dilations": [9, 9]}, "larger than"),
    ],
)  # fmt: skip
def test_convolutions_that_do_not_fit(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    found = model([node("Conv", ["x", "K"], ["y"], **settings)], {"K": np.ones((2, 1, 2, 2))}, ("N", 1, 4, 4))
    refused(tmp_path, found, said)


def test_products_beyond_float64_are_refused_without_a_warning(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "A"], ["h"]), node("MatMul", ["h", "A"], ["y"])]
    refused(tmp_path, model(nodes, {"A": np.full((4, 4), 1e200)}), "NaN or infinite")


def test_names_for_two_values_and_samples_that_come_second(tmp_path: Path) -> None:
    refused(tmp_path, net([node("Relu", ["z"], ["z"]), node("Identity", ["z"], ["a"])]), "'z' stands for two values")
    refused(tmp_path, net([node("Identity", ["W"], ["V"])]), "'V' stands for two values")
    refused(tmp_path, model([node("Relu", ["x"], ["x"]), node("Abs", ["x"], ["y"])], {}), "'x' stands for two values")
    same = net([node("Relu", ["z"], ["a"])])
    same.graph.output[0].name, same.graph.node[0].output[0] = "x", "x"
    refused(tmp_path, same, "'x' stands for two values")
    refused(tmp_path, model([node("MatMul", ["W", "x"], ["y"])], {"W": W}), "samples as first input")
    refused(tmp_path, model([node("Relu", ["W", "x"], ["y"])], {"W": W}), "Relu has 2 inputs")
    refused(tmp_path, net([node("and", ["z"], ["a"])]), "holds the node and")


def test_attributes_and_inputs_that_the_standard_does_not_know(tmp_path: Path) -> None:
    fused = model([node("Gemm", ["x", "W"], ["y"], transB=1, activation="Relu")], {"W": W})
    refused(tmp_path, fused, "attribute 'activation', which opset 17 does not know")
    # Since opset 7 a sum broadcasts by itself; an axis would be passed over.
    aligned = net([node("Add", ["z", "k"], ["a"], axis=1, broadcast=1)], {"k": np.ones(6)})
    refused(tmp_path, aligned, "attribute 'axis', which opset 17 does not know")
    refused(tmp_path, net([node("Relu", ["z", "z"], ["a"])]), "Relu has 2 inputs")
    twice = net([node("LeakyRelu", ["z"], ["a"], alpha=0.5)])
    twice.graph.node[1].attribute.append(helper.make_attribute("alpha", 0.25))
    refused(tmp_path, twice, "an attribute twice")
    for alpha in (np.inf, np.nan):
        refused(tmp_path, net([node("LeakyRelu", ["z"], ["a"], alpha=alpha)]), "NaN or infinite")
    refused(tmp_path, net([node("Relu", ["z"], ["a"])], opset=0), "does not say by which version")
    unsaid = net([node("Relu", ["z"], ["a"])])
    del unsaid.opset_import[:]
    refused(tmp_path, unsaid, "does not say by which version")


def test_nodes_after_the_output_do_not_matter(tmp_path: Path) -> None:
    found = net([node("Relu", ["z"], ["a"])])
    found.graph.node.append(node("Tanh", ["y"], ["unused"]))
    computes(tmp_path, found, lambda x: np.maximum(x @ W.T, 0) @ V.T)
