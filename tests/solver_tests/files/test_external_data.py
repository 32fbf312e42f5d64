"""ONNX tensors in a file of their own: looked up beside the model, wherever the call comes from, nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solvers.errors import InputError
from solvers.files.models import load_network

onnx = pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'interlip[onnx]'")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4)


def saved(path: Path, entries: dict[str, str], data: bytes | None = WEIGHTS.tobytes(), in_node: bool = False) -> Path:
    """y = W x with W in another file, as an initializer or in a Constant node; `data` goes to weights.bin beside it."""
    tensor = numpy_helper.from_array(WEIGHTS, "W")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    nodes = [helper.make_node("Gemm", ["x", "W"], ["y"], transB=1)]
    if in_node:
        nodes.insert(0, helper.make_node("Constant", [], ["W"], value=tensor))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", k]) for n, k in (("x", 4), ("y", 3))]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], [] if in_node else [tensor])
    path.parent.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    path.write_bytes(model.SerializeToString())
    if data is not None:
        (path.parent / "weights.bin").write_bytes(data)
    return path


@pytest.mark.parametrize("in_node", [False, True])
def test_the_file_beside_the_model_counts_and_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_node: bool
) -> None:
    other = np.full(12, 9, dtype=np.float32).tobytes()
    saved(tmp_path / "net.onnx", {"location": "weights.bin"}, other)
    saved(tmp_path / "sub" / "net.onnx", {"location": "weights.bin"}, in_node=in_node)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(load_network("sub/net.onnx").weights[0], WEIGHTS)
    np.testing.assert_array_equal(load_network("net.onnx").weights[0], np.full((3, 4), 9.0))
    monkeypatch.chdir(tmp_path / "sub")
    np.testing.assert_array_equal(load_network("../net.onnx").weights[0], np.full((3, 4), 9.0))


def test_offsets_and_lengths_are_kept(tmp_path: Path) -> None:
    entries = {"location": "weights.bin", "offset": "5", "length": "48"}
    path = saved(tmp_path / "net.onnx", entries, b"12345" + WEIGHTS.tobytes() + b"more")
    np.testing.assert_array_equal(load_network(path).weights[0], WEIGHTS)
    (tmp_path / "data").mkdir()
    (tmp_path / "weights.bin").rename(tmp_path / "data" / "weights.bin")
    path = saved(tmp_path / "net.onnx", {**entries, "location": "data/weights.bin"}, None)
    np.testing.assert_array_equal(load_network(path).weights[0], WEIGHTS)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "above": ({"location": "../weights.bin"}, "leaves the folder of the model"),
    "above and back": ({"location": "sub/../../m/weights.bin"}, "leaves the folder of the model"),
    "another system's path": ({"location": "..\\weights.bin"}, "leaves the folder of the model"),
    "another drive": ({"location": "C:weights.bin"}, "leaves the folder of the model"),
    "empty": ({"location": ""}, "leaves the folder of the model"),
    "no location": ({}, "leaves the folder of the model"),
    "zero byte": ({"location": "weights\0.bin"}, "leaves the folder of the model"),
    "a folder": ({"location": "."}, "which is no file"),
    "missing": ({"location": "other.bin"}, "which is not beside the model"),
    "shorter than its shape": ({"location": "weights.bin", "length": "44"}, "44 bytes long, its shape wants 48"),
    "longer than its shape": ({"location": "weights.bin", "length": "52"}, "52 bytes long, its shape wants 48"),
    "beyond the end": ({"location": "weights.bin", "offset": "4"}, "ends beyond its file"),
    "far beyond the end": ({"location": "weights.bin", "offset": "999999999999999"}, "ends beyond its file"),
    "negative offset": ({"location": "weights.bin", "offset": "-4"}, "no number of bytes"),
    "huge offset": ({"location": "weights.bin", "offset": "9" * 5000}, "no number of bytes"),
    "length in words": ({"location": "weights.bin", "length": "all"}, "no number of bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_leaves_the_folder_or_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    entries, said = REFUSED[name]
    (tmp_path / "weights.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "m" / "sub").mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        load_network(saved(tmp_path / "m" / "net.onnx", entries))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "net.onnx" in str(caught.value)


def test_absolute_paths_and_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "weights.bin"
    outside.write_bytes(WEIGHTS.tobytes())
    path = saved(tmp_path / "m" / "net.onnx", {"location": str(outside)}, None)
    with pytest.raises(InputError, match="leaves the folder of the model"):
        load_network(path)
    # Even a path that leads back into the folder, for the model may be moved.
    path = saved(tmp_path / "m" / "net.onnx", {"location": str(tmp_path / "m" / "weights.bin")})
    with pytest.raises(InputError, match="leaves the folder of the model"):
        load_network(path)
    path = saved(tmp_path / "m" / "net.onnx", {"location": "link.bin"}, None)
    (path.parent / "link.bin").symlink_to(outside)
    with pytest.raises(InputError, match="a link that leaves the folder"):
        load_network(path)
    path = saved(tmp_path / "m" / "net.onnx", {"location": "folder/weights.bin"}, None)
    (path.parent / "folder").symlink_to(tmp_path)
    with pytest.raises(InputError, match="a link that leaves the folder"):
        load_network(path)
    path = saved(tmp_path / "m" / "net.onnx", {"location": "circle.bin"}, None)
    (path.parent / "circle.bin").symlink_to(path.parent / "circle.bin")
    with pytest.raises(InputError, match="not beside the model"):
        load_network(path)


def test_links_within_the_folder_and_to_the_folder_are_followed(tmp_path: Path) -> None:
    path = saved(tmp_path / "m" / "net.onnx", {"location": "link.bin"})
    (path.parent / "link.bin").symlink_to("weights.bin")
    (tmp_path / "name").symlink_to(tmp_path / "m")
    np.testing.assert_array_equal(load_network(tmp_path / "name" / "net.onnx").weights[0], WEIGHTS)


def test_a_pipe_is_no_data_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.onnx", {"location": "pipe"}, None)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="which is no file"):
        load_network(path)


def test_the_default_export_of_onnx_itself_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", k]) for n, k in (("x", 30), ("y", 40))]
    node = helper.make_node("Gemm", ["x", "W"], ["y"], transB=1)
    graph = helper.make_graph([node], "test", ends[:1], ends[1:], [numpy_helper.from_array(weights, "W")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(
        model, str(tmp_path / "net.onnx"), save_as_external_data=True, location="net.onnx.data", size_threshold=256
    )
    assert (tmp_path / "net.onnx.data").stat().st_size >= weights.nbytes
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(load_network(tmp_path / "net.onnx").weights[0], weights)
