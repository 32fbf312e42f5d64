"""How a model file was understood: one line for people, one key for machines, in `lipschitz` and `verify` alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cluster.cli import app
from solvers.files.models import save_network
from tests.strategies import gaussian_network

LINE = "Linear 2→3, ReLU, Linear 3→1 (activation assumed: a state_dict does not say)"


@pytest.fixture
def tanh(tmp_path: Path) -> str:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    torch.save(net.state_dict(), tmp_path / "tanh.pt")
    return str(tmp_path / "tanh.pt")


def test_a_tanh_network_never_passes_as_relu_without_a_word(tanh: str, tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["lipschitz", tanh, "--p", "inf"])
    assert answer.exit_code == 0, answer.output
    assert f"read as {LINE}" in answer.stderr.splitlines()
    answer = CliRunner().invoke(app, ["lipschitz", tanh, "--p", "inf", "--certify", "--json"])
    assert json.loads(answer.stdout)["read_as"] == LINE
    assert f"read as {LINE}" in answer.stderr.splitlines()
    (tmp_path / "result.json").write_text(answer.stdout)
    check = ["verify", str(tmp_path / "result.json"), "--model", tanh]
    answer = CliRunner().invoke(app, check)
    assert answer.stdout.splitlines()[0] == f"read as {LINE}"
    assert json.loads(CliRunner().invoke(app, [*check, "--json"]).stdout)["read_as"] == LINE


def test_what_the_caller_or_the_file_says_is_not_assumed(tanh: str, tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["lipschitz", tanh, "--activation", "relu", "--json"])
    assert json.loads(answer.stdout)["read_as"] == "Linear 2→3, ReLU, Linear 3→1"
    assert "read as" not in answer.stderr
    pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'interlip[onnx]'")
    save_network(gaussian_network([2, 3, 1], np.random.default_rng(0)), tmp_path / "net.onnx")
    answer = CliRunner().invoke(app, ["lipschitz", str(tmp_path / "net.onnx"), "--json"])
    assert json.loads(answer.stdout)["read_as"] == "Linear 2→3, ReLU, Linear 3→1"
    assert "assumed" not in answer.stderr


def test_several_exponents_say_it_each(tanh: str) -> None:
    answer = CliRunner().invoke(app, ["lipschitz", tanh, "--p", "1", "--p", "inf", "--json"])
    assert [document["read_as"] for document in json.loads(answer.stdout)] == [LINE, LINE]
    assert answer.stderr.count("read as") == 1
