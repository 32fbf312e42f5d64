"""ONNX files: what is read computes what the file's own reference evaluator computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solvers.errors import InputError
from solvers.files.models import load_network, save_network
from solvers.networks.relu import ReluNetwork

onnx = pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'interlip[onnx]'")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402


def save(path: Path, nodes: list[Any], constants: dict[str, np.ndarray], shape: list[Any], output: str = "y") -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, shape)],
        [helper.make_tensor_value_info(output, TensorProto.DOUBLE, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), str(path))
    return path


def agrees(path: Path, shape: tuple[int, ...]) -> None:
    network = load_network(path)
    points = np.random.default_rng(1).standard_normal((20, *shape))
    (wanted,) = ReferenceEvaluator(str(path)).run(None, {"x": points})
    np.testing.assert_allclose(
        network.evaluate(points.reshape(20, -1)), np.reshape(wanted, (20, -1)), rtol=1e-12, atol=1e-12
    )


def test_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = [(7, 3), (5, 7), (2, 5)]
    network = ReluNetwork([rng.standard_normal(s) for s in sizes], [rng.standard_normal(s[0]) for s in sizes])
    save_network(network, tmp_path / "net.onnx")
    again = load_network(tmp_path / "net.onnx")
    for left, right in zip((*network.weights, *network.biases), (*again.weights, *again.biases), strict=True):
        np.testing.assert_array_equal(left, right)
    agrees(tmp_path / "net.onnx", (3,))


def test_matmul_add_sub_chain(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    constants = {
        "A": rng.standard_normal((3, 6)), "a": rng.standard_normal(6), "B": rng.standard_normal((6, 2)),
        "b": rng.standard_normal((1, 2)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Identity", ["x"], ["x1"]),
        helper.make_node("MatMul", ["x1", "A"], ["h"]),
        helper.make_node("Add", ["a", "h"], ["z"]),
        helper.make_node("Relu", ["z"], ["r"]),
        helper.make_node("MatMul", ["r", "B"], ["o"]),
        helper.make_node("Sub", ["o", "b"], ["y"]),
    ]
    path = save(tmp_path / "net.onnx", nodes, constants, [None, 3])
    assert load_network(path).depth == 1
    agrees(path, (3,))


@pytest.mark.parametrize(
    ("kernel", "settings"),
    [
        ((4, 2, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((4, 2, 2, 3), {"strides": [2, 1], "pads": [0, 1, 1, 0]}),
        ((4, 1, 2, 2), {"group": 2, "dilations": [2, 1]}),
    ],
)
def test_convolutions_are_unrolled(tmp_path: Path, kernel: tuple[int, ...], settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(4)
    constants = {"K": rng.standard_normal(kernel), "k": rng.standard_normal(kernel[0])}
    head = [
        helper.make_node("Conv", ["x", "K", "k"], ["c"], **settings),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
    ]
    probe = save(tmp_path / "probe.onnx", head, constants, [None, 2, 5, 6], output="f")
    (flat,) = ReferenceEvaluator(str(probe)).run(None, {"x": np.zeros((1, 2, 5, 6))})
    width = np.shape(flat)[1]
    constants |= {"W": rng.standard_normal((3, width)), "w": rng.standard_normal(3)}
    nodes = [*head, helper.make_node("Gemm", ["f", "W", "w"], ["y"], transB=1, alpha=0.5, beta=2.0)]
    agrees(save(tmp_path / "net.onnx", nodes, constants, [None, 2, 5, 6]), (2, 5, 6))


def test_one_dimensional_convolution(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    constants = {"K": rng.standard_normal((3, 2, 3))}
    nodes = [
        helper.make_node("Conv", ["x", "K"], ["c"], strides=[2], pads=[1, 0]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["y"]),
    ]
    agrees(save(tmp_path / "net.onnx", nodes, constants, [None, 2, 7]), (2, 7))


def test_refusals_name_the_reason(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is not a model")
    with pytest.raises(InputError, match=r"not a readable ONNX model|one input and one output"):
        load_network(tmp_path / "text.onnx")
    path = save(tmp_path / "tanh.onnx", [helper.make_node("Tanh", ["x"], ["y"])], {}, [None, 3])
    with pytest.raises(InputError, match="node Tanh"):
        load_network(path)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    with pytest.raises(InputError, match="branches"):
        load_network(save(tmp_path / "residual.onnx", nodes, {}, [None, 3]))
    with pytest.raises(InputError, match="fixed shape"):
        load_network(save(tmp_path / "free.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, [None, None]))
