"""Leaky ReLU and absolute value as pairs of ReLUs: the same function, the same gradients, the same constant."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cluster.cli import app
from solvers.arithmetic.norms import dual_exponent
from solvers.errors import InputError
from solvers.files.models import load_network
from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.networks.activations import network_with_slopes, parse_activation
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.problems.witnesses import gradients_at
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.references.exact_methods import ALL_EXACT, solved
from tests.strategies import gaussian_network

SLOPES = (0.01, 0.5, -1.0, -0.3, 1.0)


def module(network: ReluNetwork, slopes: list[float]) -> torch.nn.Sequential:
    """The network with its activations replaced, in torch's own words."""
    layers = list(network.to_torch())
    hidden = iter(slopes)
    return torch.nn.Sequential(
        *(torch.nn.LeakyReLU(next(hidden)) if isinstance(layer, torch.nn.ReLU) else layer for layer in layers)
    )


def gradients_by_torch(net: torch.nn.Module, points: np.ndarray) -> np.ndarray:
    x = torch.tensor(points, requires_grad=True)
    net(x).sum().backward()
    assert x.grad is not None
    return x.grad.numpy()


@pytest.mark.parametrize("slopes", [[0.01, 0.2], [-1.0, -1.0], [0.0, -0.3], [1.0, 0.5]], ids=str)
def test_values_and_gradients_are_those_of_torch(slopes: list[float]) -> None:
    rng = np.random.default_rng(1)
    base = gaussian_network([3, 6, 5, 1], rng, 0.5)
    pairs = network_with_slopes(base.weights, base.biases, slopes)
    assert pairs.widths == tuple(n * (1 if a == 0 else 2) for n, a in zip(base.widths, slopes, strict=True))
    points = rng.standard_normal((500, 3)) * 3
    net = module(base, slopes)
    with torch.no_grad():
        np.testing.assert_allclose(pairs.evaluate(points), net(torch.tensor(points)).numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(gradients_at(pairs, points), gradients_by_torch(net, points), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("sizes", [[1, 4, 1], [1, 3, 2, 1], [2, 3, 1], [2, 2, 2, 1]], ids=str)
def test_constants_are_the_longest_gradients_there_are(sizes: list[int], slope: float) -> None:
    rng = np.random.default_rng([2, *sizes])
    base = gaussian_network(sizes, rng, 0.4)
    slopes = [slope] * base.depth
    network, d = network_with_slopes(base.weights, base.biases, slopes), sizes[0]
    # Regions are few and not small: a fine grid meets all of them, save slivers, and never another gradient.
    axes = [np.linspace(-1, 1, 20001 if d == 1 else 301)[1:-1] + 1e-5] * d
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, d)
    gradients = gradients_by_torch(module(base, slopes), points)
    for p, answer in solved(LIPSCHITZ_SOLVERS["auto"], network, Box.cube(d)).items():
        assert answer.status is Status.EXACT
        brute = float(np.linalg.norm(gradients, dual_exponent(p), axis=1).max())
        assert answer.upper >= brute * (1 - 1e-9)
        assert answer.lower == pytest.approx(brute, rel=1e-9)


@pytest.mark.parametrize("solver", ALL_EXACT.values(), ids=ALL_EXACT)
def test_opposite_neurons_do_not_fool_any_exact_method(solver: AbstractLipschitzSolver) -> None:
    identity = network_with_slopes([[[1.0]], [[1.0]]], [[0.0], [0.0]], [1.0])  # relu(x) - relu(-x) = x, not slope 2
    assert identity.widths == (2,)
    absolute = network_with_slopes([[[1.0]], [[1.0]]], [[0.0], [0.0]], [-1.0])
    leaky = network_with_slopes([[[1.0, 2.0]], [[3.0]]], [[0.5], [0.0]], [0.25])  # 3 leaky(x + 2 y + 0.5)
    for domain in (WholeSpace(1), Box.cube(1)):
        for network in (identity, absolute):
            for answer in solved(solver, network, domain).values():
                assert answer.status is Status.EXACT
                assert answer.lower == pytest.approx(1.0, rel=1e-9)
                assert answer.upper == pytest.approx(1.0, rel=1e-6)
    for p, answer in solved(solver, leaky, WholeSpace(2)).items():
        assert answer.lower == pytest.approx(3 * np.linalg.norm([1.0, 2.0], dual_exponent(p)), rel=1e-9)
    # Deep, without biases: both neurons of every pair vanish at the origin.
    deep = network_with_slopes([[[1.0]], [[1.0]], [[1.0]]], [[0.0]] * 3, [1.0, 1.0])
    for answer in solved(solver, deep, WholeSpace(1)).values():
        assert answer.status is Status.EXACT
        assert answer.upper == pytest.approx(1.0, rel=1e-6)


def test_activations_by_name() -> None:
    assert [parse_activation(t) for t in ("relu", "abs", "leaky-relu", "Leaky-ReLU:0.2")] == [0.0, -1.0, 0.01, 0.2]
    for wrong in ("tanh", "relu:1", "abs:2", "gelu", "", ":", "relu:", "abs:"):
        with pytest.raises(InputError, match=rf"unknown activation '{wrong}'.*leaky-relu"):
            parse_activation(wrong)
    for wrong in ("leaky-relu:x", "leaky-relu:nan", "leaky-relu:inf", "leaky-relu:"):
        with pytest.raises(InputError, match="finite number"):
            parse_activation(wrong)
    with pytest.raises(InputError, match="1 hidden layers need as many activations, got 2"):
        network_with_slopes([[[1.0]], [[1.0]]], [[0.0], [0.0]], [1.0, 1.0])


def test_state_dicts_and_the_command(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.LeakyReLU(0.1), torch.nn.Linear(5, 1))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    network = load_network(tmp_path / "net.pt", "leaky-relu:0.1")
    points = np.random.default_rng(4).standard_normal((50, 2)).astype(np.float32)
    with torch.no_grad():
        single, double = net(torch.tensor(points)), net.double()(torch.tensor(points).double())
    ours = network.evaluate(points.astype(np.float64))
    np.testing.assert_allclose(ours, single.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours, double.numpy(), rtol=1e-6, atol=1e-7)
    truth = LIPSCHITZ_SOLVERS["auto"].solve(LipschitzProblem(network, math.inf))
    call = ["lipschitz", str(tmp_path / "net.pt"), "--p", "inf", "--activation", "leaky-relu:0.1", "--json"]
    answer = CliRunner().invoke(app, call)
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    assert document["activation"] == "leaky-relu:0.1"
    assert document["lower"] == truth.lower
    (tmp_path / "result.json").write_text(answer.stdout)
    check = ["verify", str(tmp_path / "result.json"), "--model", str(tmp_path / "net.pt")]
    assert CliRunner().invoke(app, [*check, "--activation", "leaky-relu:0.1"]).exit_code in (0, 3)
    refused = CliRunner().invoke(app, check)
    assert refused.exit_code == 2
    assert "pass --activation leaky-relu:0.1" in refused.output
    assert CliRunner().invoke(app, [*call[:-2], "softplus"]).exit_code == 2


def test_onnx_nodes(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra onnx: pip install 'interlip[onnx]'")
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(5)
    arrays = {"A": (3, 4), "a": (4,), "B": (4, 4), "b": (4,), "C": (4, 2)}
    tensors = [numpy_helper.from_array(rng.standard_normal(shape), name) for name, shape in arrays.items()]

    def chain(first: dict[str, Any], second: str) -> Path:
        nodes = [
            helper.make_node("Gemm", ["x", "A", "a"], ["h1"]),
            helper.make_node("LeakyRelu", ["h1"], ["r1"], **first),
            helper.make_node("Gemm", ["r1", "B", "b"], ["h2"]),
            helper.make_node(second, ["h2"], ["r2"]),
            helper.make_node("MatMul", ["r2", "C"], ["y"]),
        ]
        ends = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, s) for n, s in (("x", [None, 3]), ("y", None))]
        graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], tensors)
        path = tmp_path / "net.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)]), str(path))
        return path

    points = rng.standard_normal((40, 3))
    cases: list[tuple[dict[str, Any], str]] = [({"alpha": 0.3}, "Abs"), ({}, "Relu"), ({"alpha": -0.5}, "LeakyRelu")]
    for first, second in cases:
        path = chain(first, second)
        network = load_network(path)
        (wanted,) = ReferenceEvaluator(str(path)).run(None, {"x": points})
        np.testing.assert_allclose(network.evaluate(points), np.asarray(wanted), rtol=1e-6, atol=1e-7)
        assert network.widths == (8, 4 if second == "Relu" else 8)
    with pytest.raises(InputError, match=r"node Elu; supported are chains of .*LeakyRelu and Abs"):
        load_network(chain({}, "Elu"))
    with pytest.raises(InputError, match="says itself which activations"):
        load_network(chain({}, "Relu"), "abs")
