"""Model files: what is written is read back bit by bit, what is wrong is named, and no file runs code."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

from solvers.errors import InputError
from solvers.files import models
from solvers.files.models import FORMATS, load_network, save_network
from solvers.networks.relu import ReluNetwork
from tests.harmful_pickle import Touch
from tests.strategies import DETERMINISTIC, gaussian_network, relu_networks


def same(left: ReluNetwork, right: ReluNetwork) -> bool:
    return all(
        a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip((*left.weights, *left.biases), (*right.weights, *right.biases), strict=True)
    )


@pytest.mark.parametrize("name", ["net.npz", "net.NPZ", "net.onnx"])
@pytest.mark.parametrize("sizes", [[3, 1], [3, 5, 2], [2, 4, 3, 4, 1]], ids=str)
def test_a_saved_network_is_read_back_bit_by_bit(tmp_path: Path, name: str, sizes: list[int]) -> None:
    if name.endswith("onnx"):
        pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'interlip[onnx]'")
    network = gaussian_network(sizes, np.random.default_rng(0))
    save_network(network, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert same(load_network(tmp_path / name), network)
    assert same(load_network(str(tmp_path / name)), network)


@DETERMINISTIC
@given(relu_networks(most_inputs=4, layers=(0, 3), outputs=2))
def test_the_torch_module_of_a_network_comes_back_from_its_state_dict(
    tmp_path_factory: pytest.TempPathFactory, network: ReluNetwork
) -> None:
    file = tmp_path_factory.getbasetemp() / "state.pt"
    module = network.to_torch()
    torch.save(module.state_dict(), file)
    assert same(load_network(file), network)
    points = np.random.default_rng(0).standard_normal((20, network.input_dimension))
    with torch.no_grad():
        outputs = module(torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(network.evaluate(points), outputs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ending", ["pt", "pth"])
def test_a_trained_like_float32_module_computes_the_same(tmp_path: Path, ending: str) -> None:
    module = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(6, 12), torch.nn.ReLU(), torch.nn.Dropout(0.5),
        torch.nn.Linear(12, 11, bias=False), torch.nn.ReLU(), torch.nn.Linear(11, 3),
    ).eval()  # fmt: skip
    # More than ten modules deep, so that names must be put in order as numbers and not as text.
    deep = torch.nn.Sequential(*(torch.nn.ReLU() if k % 2 else torch.nn.Linear(4, 4) for k in range(13))).eval()
    for net, columns in ((module, 6), (deep, 4)):
        torch.save(net.state_dict(), tmp_path / f"net.{ending}")
        network = load_network(tmp_path / f"net.{ending}")
        points = np.random.default_rng(1).standard_normal((50, columns)).astype(np.float32)
        with torch.no_grad():
            wanted = net(torch.from_numpy(points)).numpy()
        np.testing.assert_allclose(network.evaluate(points.astype(np.float64)), wanted, rtol=1e-4, atol=1e-5)


def test_a_sequential_inside_a_module_is_found_by_its_prefix(tmp_path: Path) -> None:
    network = gaussian_network([2, 3, 1], np.random.default_rng(2))
    state = OrderedDict((f"model.layers.{name}", value) for name, value in network.to_torch().state_dict().items())
    torch.save(state, tmp_path / "net.pt")
    assert same(load_network(tmp_path / "net.pt"), network)


@pytest.mark.parametrize("kind", ["torch.save", "pickle", "whole module", "in a state_dict", "npz"])
def test_no_file_runs_code(tmp_path: Path, kind: str) -> None:
    mark, file = tmp_path / "code ran", tmp_path / ("net.npz" if kind == "npz" else "net.pt")
    if kind == "torch.save":
        torch.save(Touch(mark), file)
    elif kind == "pickle":
        file.write_bytes(pickle.dumps(Touch(mark)))
    elif kind == "whole module":
        torch.save(torch.nn.Sequential(torch.nn.Linear(2, 1)), file)
    elif kind == "in a state_dict":
        torch.save({"0.weight": torch.ones(1, 2), "0.bias": Touch(mark)}, file)
    else:
        np.savez(file, W0=np.array([[Touch(mark)]], dtype=object), b0=np.zeros(1))
    with pytest.raises(InputError, match="is not a readable") as caught:
        load_network(file)
    assert not mark.exists()
    assert "\n" not in str(caught.value)


def test_the_harmful_file_of_these_tests_is_harmful(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Touch(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


GOOD = {"W0": np.ones((3, 2)), "b0": np.zeros(3), "W1": np.ones((1, 3)), "b1": np.zeros(1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b1": None}, "has no array b1"),
        ({"W0": None}, "has no array W0"),
        ({"W1": None, "b1": None, "W2": np.ones((1, 3)), "b2": np.zeros(1)}, "has no array W1"),
        ({"weights": np.ones(2)}, "also holds 'weights'"),
        ({"W1": np.ones((3, 1))}, "pass the transpose"),
        ({"W1": np.ones((1, 4))}, r"weights\[1\] must have 3 columns"),
        ({"b0": np.zeros(2)}, r"biases\[0\] must have shape \(3,\)"),
        ({"W0": np.ones((0, 2)), "b0": np.zeros(0)}, "no empty side"),
        ({"W0": np.full((3, 2), np.nan)}, r"weights\[0\] holds NaN or infinite values"),
        ({"b0": np.array([0.0, np.inf, 0.0])}, r"biases\[0\] holds NaN or infinite values"),
        ({"W0": np.full((3, 2), "one")}, "W0 must hold real numbers"),
        ({"W0": np.ones((3, 2), dtype=complex)}, "W0 must hold real numbers"),
    ],
)
def test_a_wrong_npz_is_named(tmp_path: Path, change: dict[str, np.ndarray | None], message: str) -> None:
    arrays = {name: array for name, array in {**GOOD, **change}.items() if array is not None}
    np.savez(tmp_path / "net.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message) as caught:
        load_network(tmp_path / "net.npz")
    assert "net.npz" in str(caught.value)


def test_an_empty_npz_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz")
    with pytest.raises(InputError, match="it holds none"):
        load_network(tmp_path / "net.npz")


LINEAR = {"0.weight": torch.ones(3, 2), "0.bias": torch.zeros(3)}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "holds no parameters"),
        (torch.ones(3), "holds no parameters"),
        ({**LINEAR, "scale": torch.ones(1)}, "'scale' is no parameter"),
        ({**LINEAR, "1.running_mean": torch.zeros(3)}, "'1.running_mean' is no parameter"),
        ({**LINEAR, "2.weight": torch.ones(3), "2.bias": torch.ones(3)}, "2 is not a Linear layer"),
        ({"0.weight": torch.ones(4, 1, 3, 3), "0.bias": torch.ones(4)}, "0 is not a Linear layer"),
        ({"0.bias": torch.ones(4)}, "0 is not a Linear layer"),
        ({"a.0.weight": torch.ones(3, 2), "b.0.weight": torch.ones(1, 3)}, "several modules"),
        ({**LINEAR, "2.weight": torch.ones(1, 4)}, r"weights\[1\] must have 3 columns"),
        ({"0.weight": torch.full((3, 2), torch.inf)}, r"weights\[0\] holds NaN or infinite"),
        ({"0.weight": torch.ones(3, 2, dtype=torch.complex64)}, "real numbers"),
        # Places 0 and 1 of a Sequential leave no room for a ReLU between them.
        ({**LINEAR, "1.weight": torch.ones(1, 3)}, "nothing between"),
    ],
)
def test_a_wrong_state_dict_is_named(tmp_path: Path, state: Any, message: str) -> None:
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(InputError, match=message) as caught:
        load_network(tmp_path / "net.pt")
    assert "net.pt" in str(caught.value)


@pytest.mark.parametrize("name", ["net.npz", "net.pt", "net.pth"])
@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 torn archive"], ids=["empty", "text", "torn"])
def test_a_file_that_is_not_what_it_says_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="is not a readable") as caught:
        load_network(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_single_array_is_not_an_archive(tmp_path: Path) -> None:
    with (tmp_path / "net.npz").open("wb") as stream:
        np.save(stream, np.ones(3))
    with pytest.raises(InputError, match="is not a readable"):
        load_network(tmp_path / "net.npz")


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_of_the_table_reads_what_it_writes_and_refuses_the_rest(tmp_path: Path, ending: str) -> None:
    if ending == ".onnx":
        pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'interlip[onnx]'")
    network, file = gaussian_network([2, 3, 1], np.random.default_rng(3)), tmp_path / f"net{ending}"
    if FORMATS[ending].writes:
        save_network(network, file)
        assert same(load_network(file), network)
    else:
        with pytest.raises(InputError, match="a network is saved to a file that ends in"):
            save_network(network, file)
    file.write_bytes(b"\x00not a model\xff" * 9)
    with pytest.raises(InputError, match=r"this is not a readable") as caught:
        load_network(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_every_reader_is_in_the_table() -> None:
    readers = {path.stem for path in Path(models.__file__).parent.glob("relu_*.py")}
    assert readers == {form.module for form in FORMATS.values()}


def test_unknown_endings_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.npz, \.onnx, \.pt, \.pth"):
        load_network(tmp_path / "net.h5")
    with pytest.raises(InputError, match="there is no model file"):
        load_network(tmp_path / "net.npz")
    for name in ("a" * 5000 + ".npz", "zero\0byte.npz"):
        with pytest.raises(InputError, match="there is no model file"):
            load_network(tmp_path / name)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match="there is no model file"):
        load_network(tmp_path / "folder.npz")
    with pytest.raises(InputError, match=r"ends in \.npz or \.onnx"):
        save_network(ReluNetwork([[[1.0]]], [[0.0]]), tmp_path / "net.pt")


def test_arrays_too_large_to_read_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    header = np.lib.format.magic(1, 0) + (
        text := b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}\n"
    )
    header = header[:8] + len(text).to_bytes(2, "little") + text
    with zipfile.ZipFile(tmp_path / "net.npz", "w") as archive:
        archive.writestr("W0.npy", header + bytes(64))
    with pytest.raises(InputError, match=r"array W0 of shape .* has 1000000000000 entries"):
        load_network(tmp_path / "net.npz")


def test_numbers_beyond_float64_are_refused_without_a_warning(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", **{**GOOD, "W0": np.full((3, 2), np.longdouble(10) ** 400)})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"weights\[0\] holds NaN or infinite"):
        load_network(tmp_path / "net.npz")
    np.savez(tmp_path / "net.npz", **{**GOOD, "W1": np.full((1, 3), 1e200)})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"weights\[1\] holds NaN or infinite"):
        load_network(tmp_path / "net.npz", "leaky-relu:1e200")


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    save_network(ReluNetwork([[[1.0]]], [[0.0]]), tmp_path / "net.npz")
    with (
        zipfile.ZipFile(tmp_path / "net.npz", "a") as archive,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        archive.writestr("W0.npy", archive.read("W0.npy"))
    with pytest.raises(InputError, match="two arrays of one name"):
        load_network(tmp_path / "net.npz")


def test_an_error_that_no_reader_foresees_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from solvers.files import relu_npz

    def read(file: Path) -> None:
        raise MemoryError("no room\nfor this")

    save_network(ReluNetwork([[[1.0]]], [[0.0]]), tmp_path / "net.npz")
    monkeypatch.setattr(relu_npz, "read", read)
    with pytest.raises(
        InputError, match=r"this is not a readable \.npz file \(MemoryError: no room\): export it again$"
    ):
        load_network(tmp_path / "net.npz")
