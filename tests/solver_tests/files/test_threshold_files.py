"""Threshold networks in .npz and ONNX files: the same network comes back, and what is none gets one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.errors import InputError, MissingBackendError
from solvers.files.threshold_npz import load_threshold_network, save_threshold_network
from solvers.files.threshold_onnx import evaluate_threshold_onnx, write_threshold_onnx
from solvers.interpolation.convolutional import Convolutional
from solvers.interpolation.fully_connected import FullyConnected
from solvers.networks.conv_threshold import ConvThresholdNetwork
from solvers.networks.detectors import NO_CLASS, BuiltNetwork
from solvers.networks.threshold import ThresholdNetwork
from solvers.problems.questions import InterpolationProblem
from tests.harmful_pickle import Touch
from tests.strategies import DETERMINISTIC, labelled_clouds

NAMES = np.array(["ant", "bee", "cat", "dog"])


def cloud(classes: int = 3, seed: int = 0, dimension: int = 6) -> InterpolationProblem:
    rng = np.random.default_rng(seed)
    labels = np.arange(24) % classes
    return InterpolationProblem(rng.standard_normal((24, dimension)) / 4, labels)


def built(kind: str, classes: int = 3, width: int = 77) -> BuiltNetwork:
    solver = FullyConnected(width, 0.5) if kind == "fully-connected" else Convolutional(width, 0.5, (1, 2, 3), 2)
    network: Any = solver.solve(cloud(classes), rng=np.random.default_rng(1)).network
    return network


def same(first: BuiltNetwork, second: BuiltNetwork) -> bool:
    """Whether two networks are equal bit by bit."""
    return repr(contents(first)) == repr(contents(second))


def contents(network: BuiltNetwork) -> list[Any]:
    if isinstance(network, ThresholdNetwork):
        special: list[Any] = [network.weights.tolist(), [mask.tolist() for mask in network.masks]]
    else:
        assert isinstance(network, ConvThresholdNetwork)
        special = [network.shape, network.filters.tolist(), [mask.words.tolist() for mask in network.masks]]
    common = [network.biases.tolist(), [m.tolist() for m in network.thresholds], network.detector_classes]
    return [*special, *common, network.classes]


@settings(DETERMINISTIC, max_examples=20)
@given(labelled_clouds(), st.integers(1, 140), st.sampled_from([0.0, 0.5, 3.0]), st.booleans(), st.integers(0, 9))
def test_files_give_the_network_back(
    tmp_path_factory: pytest.TempPathFactory,
    data: tuple[np.ndarray, np.ndarray],
    width: int,
    bias: float,
    named: bool,
    seed: int,
) -> None:
    points, labels = data
    folder = tmp_path_factory.mktemp("files")
    problem = InterpolationProblem(points, NAMES[labels] if named else labels)
    network: Any = FullyConnected(width, bias).solve(problem, rng=np.random.default_rng(seed)).network
    save_threshold_network(network, folder / "net.npz")
    assert same(load_threshold_network(folder / "net.npz"), network)
    write_threshold_onnx(network, folder / "net.onnx")
    probes = np.concatenate([points, points[::-1] + np.random.default_rng(seed).standard_normal(points.shape)])
    assert evaluate_threshold_onnx(folder / "net.onnx", probes).tolist() == network.predict(probes).tolist()


@settings(DETERMINISTIC, max_examples=15)
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 5)),
    st.tuples(st.integers(1, 4), st.integers(1, 5)),
    st.integers(1, 20),
    st.integers(2, 3),
    st.integers(0, 9),
)
def test_convolutional_networks_too(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    kernel: tuple[int, int],
    width: int,
    classes: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("files")
    points = rng.standard_normal((9, int(np.prod(shape)))) / 2
    problem = InterpolationProblem(points, np.arange(9) % classes)
    sides = min(kernel[0], shape[1]), min(kernel[1], shape[2])
    network: Any = Convolutional(width, 0.5, shape, sides).solve(problem, rng=rng).network
    save_threshold_network(network, folder / "net.npz")
    assert same(load_threshold_network(folder / "net.npz"), network)
    write_threshold_onnx(network, folder / "net.onnx")
    images = np.concatenate([points, rng.standard_normal((20, points.shape[1]))]).reshape(-1, *shape)
    for probes in (images, np.roll(images, (1, 2), axis=(2, 3))):
        flat = probes.reshape(len(probes), -1)
        assert evaluate_threshold_onnx(folder / "net.onnx", flat).tolist() == network.predict(flat).tolist()


@pytest.mark.parametrize("kind", ["fully-connected", "convolutional"])
def test_rescaling_moves_the_scale_into_the_biases(kind: str) -> None:
    network, points = built(kind), cloud().points
    probes = np.concatenate([points, np.random.default_rng(5).standard_normal((50, 6))])
    # A power of two rounds nothing.
    assert network.rescaled(32.0).predict(32.0 * probes).tolist() == network.predict(probes).tolist()
    assert (network.rescaled(32.0).predict(probes) != network.predict(probes)).any()


@pytest.mark.parametrize("kind", ["fully-connected", "convolutional"])
def test_a_graph_says_its_classes_and_passes_the_checker(tmp_path: Path, kind: str) -> None:
    import onnx

    write_threshold_onnx(built(kind), tmp_path / "net.onnx")
    model = onnx.load(str(tmp_path / "net.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert json.loads({p.key: p.value for p in model.metadata_props}["classes"]) == [0, 1, 2]
    assert [output.name for output in model.graph.output] == ["class_index", "scores"]
    # Only the first layer needs float64: masks take a byte each.
    kinds = {t.name: onnx.TensorProto.DataType.Name(t.data_type) for t in model.graph.initializer}
    assert (kinds["masks"], kinds["b"]) == ("UINT8", "DOUBLE")


def test_no_neurons_and_no_class(tmp_path: Path) -> None:
    # A first layer of one neuron that is always on leaves every detector without neurons.
    none = np.zeros(0, np.int64)
    empty = np.zeros((0, 1), np.uint64)
    network = ThresholdNetwork(np.zeros((1, 2)), np.ones(1), (empty,) * 3, (none,) * 3, (0, 1, 2), (0, 1, 2))
    save_threshold_network(network, tmp_path / "net.npz")
    assert same(load_threshold_network(tmp_path / "net.npz"), network)
    write_threshold_onnx(network, tmp_path / "net.onnx")
    assert evaluate_threshold_onnx(tmp_path / "net.onnx", np.ones((4, 2))).tolist() == [NO_CLASS] * 4


def changed(path: Path, **arrays: Any) -> Path:
    """The file with other arrays; None leaves one out."""
    with np.load(path, allow_pickle=False) as archive:
        kept = {**{name: archive[name] for name in archive.files}, **arrays}
    np.savez(path, **{name: value for name, value in kept.items() if value is not None})
    return path


Change = Callable[[dict[str, Any]], dict[str, Any]]

TAMPERED: dict[str, tuple[str, Change, str]] = {
    "no kind": ("fully-connected", lambda a: {"kind": None}, "'kind'"),
    "unknown kind": ("fully-connected", lambda a: {"kind": "recurrent"}, "recurrent"),
    "missing": ("fully-connected", lambda a: {"thresholds": None}, "'thresholds' is missing"),
    "too much": ("fully-connected", lambda a: {"extra": np.zeros(2)}, "'extra'"),
    "NaN": ("fully-connected", lambda a: {"biases": a["biases"] * np.nan}, "biases holds a NaN"),
    "float32": ("fully-connected", lambda a: {"weights": a["weights"].astype(np.float32)}, "float64 with 2 axes"),
    "rows": ("fully-connected", lambda a: {"weights": a["weights"][1:]}, "rows each"),
    "mask shape": ("fully-connected", lambda a: {"masks": a["masks"][:, :-1]}, "masks must be uint8 of shape"),
    "mask bits": ("fully-connected", lambda a: {"masks": a["masks"] | np.uint8(128)}, "beyond the last feature"),
    "threshold 0": ("fully-connected", lambda a: {"thresholds": 0 * a["thresholds"]}, ">= 1"),
    "threshold large": ("fully-connected", lambda a: {"thresholds": a["thresholds"] + 10**6}, "number of features"),
    "neurons": ("fully-connected", lambda a: {"neurons": a["neurons"] + 1}, "neurons must count"),
    "huge neurons": ("fully-connected", lambda a: {"neurons": a["neurons"] + 2**62}, "reasonable size"),
    "detectors": ("fully-connected", lambda a: {"detector_classes": a["detector_classes"][::-1]}, "detector_classes"),
    "classes": ("fully-connected", lambda a: {"classes": a["classes"][::-1]}, "sorted"),
    "objects": ("fully-connected", lambda a: {"classes": a["classes"].astype(complex)}, "at least two labels"),
    "shape": ("convolutional", lambda a: {"shape": a["shape"][1:]}, "shape must be (C, H, W)"),
    "kernel": ("convolutional", lambda a: {"shape": np.array([1, 1, 6]), "masks": masks_of(a, 1, 6)}, "filters must"),
    "other kind": ("convolutional", lambda a: {"kind": "fully-connected"}, "'shape'"),
}


def masks_of(arrays: dict[str, Any], height: int, width: int) -> np.ndarray:
    masks: np.ndarray = arrays["masks"].reshape(-1, height, width, arrays["masks"].shape[-1])
    return masks


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    kind, change, said = TAMPERED[name]
    save_threshold_network(built(kind), tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    changed(tmp_path / "net.npz", **change(arrays))
    with pytest.raises(InputError) as caught:
        load_threshold_network(tmp_path / "net.npz")
    assert said in str(caught.value)
    assert "net.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(DETERMINISTIC, max_examples=50)
@given(st.integers(0, 2**20), st.integers(0, 255))
def test_a_flipped_byte_is_noticed_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    file = tmp_path_factory.mktemp("files") / "net.npz"
    network = built("fully-connected", width=9)
    save_threshold_network(network, file)
    octets = bytearray(file.read_bytes())
    octets[place % len(octets)] = value
    file.write_bytes(bytes(octets))
    try:
        found = load_threshold_network(file)
    except InputError:
        return
    assert same(found, network)


def test_a_foreign_file_is_one_sentence_and_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("this is no archive")
    np.savez(tmp_path / "relu.npz", W0=np.zeros((1, 2)), b0=np.zeros(1))
    harmful = Touch(tmp_path / "touched")
    np.savez(tmp_path / "code.npz", kind=np.array([harmful], dtype=object))
    for name in ("text", "relu", "code", "absent"):
        with pytest.raises(InputError, match=name) as caught:
            load_threshold_network(tmp_path / f"{name}.npz")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "touched").exists()


def test_what_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from solvers.files import threshold_onnx

    network = built("convolutional")
    assert isinstance(network, ConvThresholdNetwork)
    with pytest.raises(InputError, match=r"ends in \.npz"):
        save_threshold_network(network, tmp_path / "net.bin")
    dated = replace(network, classes=(date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)))
    with pytest.raises(InputError, match="numbers or text"):
        save_threshold_network(dated, tmp_path / "net.npz")
    monkeypatch.setattr(threshold_onnx, "FLOAT32_COUNTS", 77 * 6)
    with pytest.raises(InputError, match="462 features are more"):
        write_threshold_onnx(network, tmp_path / "net.onnx")
    monkeypatch.undo()
    monkeypatch.setattr(threshold_onnx, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="at most 2 GB"):
        write_threshold_onnx(network, tmp_path / "net.onnx")
    monkeypatch.setattr(threshold_onnx, "onnx_installed", lambda: False)
    with pytest.raises(MissingBackendError, match=r"interlip\[onnx\]"):
        write_threshold_onnx(network, tmp_path / "net.onnx")
    with pytest.raises(MissingBackendError, match=r"interlip\[onnx\]"):
        evaluate_threshold_onnx(tmp_path / "net.onnx", np.zeros((1, 6)))
