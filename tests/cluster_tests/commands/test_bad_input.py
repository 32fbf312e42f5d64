"""Bad input to every command: exit code 2, one clear sentence on standard error, nothing else, no traceback."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from tests.one_sentence import assert_one_sentence, without_progress


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder of files that are not what they should be, and some that are."""
    w0, w1 = np.ones((3, 2)), np.ones((1, 3))
    np.savez(tmp_path / "good.npz", W0=w0, b0=np.zeros(3), W1=w1, b1=np.zeros(1))
    np.savez(tmp_path / "two.npz", W0=w0, b0=np.zeros(3), W1=np.ones((2, 3)), b1=np.zeros(2))
    np.savez(tmp_path / "nan.npz", W0=w0 * np.nan, b0=np.zeros(3), W1=w1, b1=np.zeros(1))
    np.savez(tmp_path / "shape.npz", W0=w0.T, b0=np.zeros(3), W1=w1, b1=np.zeros(1))
    np.savez(tmp_path / "keys.npz", weight=w0)
    (tmp_path / "text.npz").write_text("not a model")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"0.weight": pytest.approx(1.0)}))
    (tmp_path / "model.h5").write_text("x")
    points = np.arange(8.0).reshape(4, 2)
    np.savez(tmp_path / "one_class.npz", X=points, y=np.zeros(4))
    np.savez(tmp_path / "clash.npz", X=points[[0, 1, 0, 2]], y=[0, 0, 1, 1])
    np.savez(tmp_path / "nan_data.npz", X=points * np.nan, y=[0, 0, 1, 1])
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "point.txt").write_text("1 2 3")
    np.save(tmp_path / "points.npy", points)
    np.save(tmp_path / "three.npy", np.ones((4, 3)))
    np.save(tmp_path / "nan.npy", points * np.nan)
    (tmp_path / "words.csv").write_text("a,b\n1,2\n")
    (tmp_path / "broken.toml").write_text("[study\n")
    (tmp_path / "file").write_text("a file, no folder")
    return tmp_path


CASES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no model file": (lambda f: ["lipschitz", str(f / "absent.npz")], "absent.npz"),
    "NaN weights": (lambda f: ["lipschitz", str(f / "nan.npz")], "NaN"),
    "transposed weights": (lambda f: ["lipschitz", str(f / "shape.npz")], "shape"),
    "no W0": (lambda f: ["lipschitz", str(f / "keys.npz")], "W0"),
    "text named .npz": (lambda f: ["lipschitz", str(f / "text.npz")], "text.npz"),
    "a pickle that could run code": (lambda f: ["lipschitz", str(f / "evil.pt")], "evil.pt"),
    "unknown kind of model": (lambda f: ["lipschitz", str(f / "model.h5")], ".npz"),
    "p below 1": (lambda f: ["lipschitz", str(f / "good.npz"), "--p", "0.5"], "p must lie in"),
    "p no number": (lambda f: ["lipschitz", str(f / "good.npz"), "--p", "two"], "p must be a number"),
    "no such device": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--method", "semidefinite", "--device", "nonsense"],
        "device 'nonsense'",
    ),
    "a device for a method without one": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--device", "cuda"],
        "--method semidefinite, ascent and vertex-enumeration",
    ),
    "a device on a cluster": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--executor", "ray", "--device", "cuda"],
        "--executor local",
    ),
    "empty box": (lambda f: ["lipschitz", str(f / "good.npz"), "--box", "1", "-1"], "box is empty"),
    "two domains": (lambda f: ["lipschitz", str(f / "good.npz"), "--global", "--box", "-1", "1"], "exclude"),
    "centre of another dimension": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--center", str(f / "point.txt"), "--radius", "1"],
        "2 numbers",
    ),
    "negative radius": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--center", str(f / "point.txt"), "--radius", "-1"],
        "--center",
    ),
    "no file of starts": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--method", "ascent", "--starts", str(f / "absent.npy")],
        "absent.npy",
    ),
    "starts that are a table of text": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--method", "ascent", "--starts", str(f / "words.csv")],
        "words.csv",
    ),
    "starts without x": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--method", "ascent", "--starts", str(f / "one_class.npz")],
        "no array x",
    ),
    "starts of another dimension": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--method", "ascent", "--starts", str(f / "three.npy")],
        "2 numbers",
    ),
    "starts of another kind": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--method", "ascent", "--starts", str(f / "point.txt")],
        ".npy, .csv or .npz",
    ),
    "NaN starts": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--method", "ascent", "--starts", str(f / "nan.npy")],
        "finite",
    ),
    "a method without starts": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--method", "norm-product", "--starts", str(f / "points.npy")],
        "norm-product",
    ),
    "starts for a search that is spread": (
        lambda f: ["lipschitz", str(f / "good.npz"), "--executor", "ray", "--starts", str(f / "points.npy")],
        "--executor local",
    ),
    "unknown method": (lambda f: ["lipschitz", str(f / "good.npz"), "--method", "vertex-enum"], "did you mean"),
    "many outputs, none chosen": (lambda f: ["lipschitz", str(f / "two.npz")], "--output"),
    "no such output": (lambda f: ["lipschitz", str(f / "two.npz"), "--output", "7"], "0..1"),
    "negative time": (lambda f: ["lipschitz", str(f / "good.npz"), "--time-limit", "-1"], "time limit"),
    "one class": (lambda f: ["interpolate", str(f / "one_class.npz"), "--width", "5"], "two classes"),
    "same point twice": (lambda f: ["interpolate", str(f / "clash.npz"), "--width", "5"], "rows 0 and 2"),
    "NaN data": (lambda f: ["interpolate", str(f / "nan_data.npz"), "--width", "5"], "NaN"),
    "empty table": (lambda f: ["interpolate", str(f / "empty.csv"), "--width", "5"], "empty.csv"),
    "unknown data set": (lambda f: ["interpolate", "diggits", "--width", "5"], "digits"),
    "no width": (lambda f: ["interpolate", "digits", "--width", "0"], "width"),
    "negative bias": (lambda f: ["interpolate", "digits", "--width", "5", "--max-bias", "-1"], "bias"),
    "mnist without its folder": (lambda f: ["interpolate", "mnist", "--width", "5"], "--data-dir"),
    "mnist in the wrong folder": (
        lambda f: ["interpolate", "mnist", "--width", "5", "--data-dir", str(f)],
        "mnist.npz",
    ),
    "unknown study": (lambda f: ["run", "overveiw"], "overview"),
    "study that is no TOML": (lambda f: ["run", str(f / "broken.toml")], "broken.toml"),
    "unknown key of a study": (
        lambda f: ["run", "overview", "--set", "sweeps.lipschitz.replicats=2"],
        "replicates",
    ),
    "unknown parameter": (lambda f: ["run", "overview", "--set", "sweeps.lipschitz.grid.dd=[2]"], "d"),
    "--set without a value": (lambda f: ["run", "overview", "--set", "sweeps"], "--set"),
    "unknown executor": (lambda f: ["run", "overview", "--executor", "spark"], "ray or local"),
    "no workers": (lambda f: ["run", "overview", "--workers", "0"], "at least 1"),
    "a file where the runs should go": (
        lambda f: ["run", "overview", "--executor", "local", "--out", str(f / "file")],
        "file",
    ),
    "odd tracking URI": (
        lambda f: ["run", "overview", "--executor", "local", "--tracking-uri", "htp:/x", "--out", str(f)],
        "tracking URI",
    ),
    "cluster that is not there": (lambda f: ["run", "overview", "--address", f"127.0.0.1:{closed_port()}"], "no Ray"),
    "address that is none": (lambda f: ["run", "overview", "--address", "nowhere"], "HOST:PORT"),
    "job server that is not there": (
        lambda f: ["submit", "overview", "--address", f"http://127.0.0.1:{closed_port()}"],
        "no Ray cluster",
    ),
    "job server without http": (lambda f: ["submit", "overview", "--address", "127.0.0.1:8265"], "http://"),
    "no run to log": (lambda f: ["sync", str(f / "absent")], "absent"),
    "no store to show": (lambda f: ["ui", "--out", str(f / "absent")], "absent"),
}


def closed_port() -> int:
    """A port of loopback where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_sentence(name: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, said = CASES[name]
    monkeypatch.chdir(files)
    answer = CliRunner().invoke(app, arguments(files))
    assert_one_sentence(answer, said)
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("name", ["NaN weights", "unknown key of a study", "job server that is not there"])
def test_so_it_is_from_a_shell(name: str, files: Path, root: Path) -> None:
    command = [sys.executable, "-m", "cluster.cli", *CASES[name][0](files)]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert len(without_progress(answer.stderr)) == 1
    assert CASES[name][1] in answer.stderr
