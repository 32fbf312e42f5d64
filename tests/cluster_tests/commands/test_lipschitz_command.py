"""`interlip lipschitz` on a trained network, exact on a box around a sample; and on one that is too large."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner, Result

from cluster.cli import app
from solvers.files.models import save_network
from solvers.networks.relu import ReluNetwork
from tests.strategies import gaussian_network


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A 64-16-16-10 network trained on the digits (pixels in [0, 1]), a sample, its class and the runner-up."""
    import torch

    folder = tmp_path_factory.mktemp("digits")
    points, labels = load_digits(return_X_y=True)
    points = points / 16.0
    generator = torch.Generator().manual_seed(0)
    x, y = torch.tensor(points, dtype=torch.float64), torch.tensor(labels)
    shapes = ((64, 16), (16, 16), (16, 10))
    weights = [torch.randn(n, m, generator=generator, dtype=torch.float64) * (2 / m) ** 0.5 for m, n in shapes]
    biases = [torch.zeros(n, dtype=torch.float64) for _, n in shapes]
    parameters = [tensor.requires_grad_() for tensor in (*weights, *biases)]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    for _ in range(150):
        values = x
        for k in range(3):
            values = values @ weights[k].T + biases[k]
            values = torch.relu(values) if k < 2 else values
        loss = torch.nn.functional.cross_entropy(values, y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network = ReluNetwork([w.detach().numpy() for w in weights], [b.detach().numpy() for b in biases])
    outputs = network.evaluate(points)
    assert (outputs.argmax(axis=1) == labels).mean() > 0.95
    save_network(network, folder / "digits.npz")
    np.savetxt(folder / "sample.txt", points[0])
    second, first = np.argsort(outputs[0])[-2:].tolist()
    return {"network": network, "folder": folder, "sample": points[0], "margin": (first, second)}


def test_a_margin_of_a_trained_network_is_exact_on_a_box_and_proved_again(digits: dict[str, Any]) -> None:
    folder, (first, second) = digits["folder"], digits["margin"]
    where = ["--center", str(folder / "sample.txt"), "--radius", "0.05", "--margin", str(first), str(second)]
    exponents = [part for p in ("inf", "2", "1") for part in ("--p", p)]
    answer = run("lipschitz", str(folder / "digits.npz"), *where, *exponents, "--certify", "--json")
    assert answer.exit_code == 0, answer.output
    (folder / "result.json").write_text(answer.stdout)
    checked = run("verify", str(folder / "result.json"), "--model", str(folder / "digits.npz"))
    assert checked.exit_code == 0, checked.output
    documents = json.loads(answer.stdout)
    margin = digits["network"].margin(first, second)
    rng = np.random.default_rng(0)
    steps = rng.uniform(-0.05, 0.05, (2, 2000, 64))
    left, right = digits["sample"] + steps[0], digits["sample"] + steps[1]
    rises = np.abs(margin.evaluate(left) - margin.evaluate(right))[:, 0]
    for document, order in zip(documents, (math.inf, 2.0, 1.0), strict=True):
        assert document["status"] == "exact"
        assert document["upper"] - document["lower"] <= 1e-6 * document["upper"]
        slopes = rises / np.linalg.norm(left - right, ord=order, axis=1)
        assert 0 < slopes.max() <= document["upper"]


def test_a_network_that_is_too_large_gets_bounds_the_reason_and_exit_code_3(tmp_path: Path) -> None:
    save_network(gaussian_network([784, 256, 256, 10], np.random.default_rng(0), 0.1), tmp_path / "large.npz")
    np.savetxt(tmp_path / "sample.txt", np.random.default_rng(1).uniform(0, 1, 784))
    call = ["lipschitz", str(tmp_path / "large.npz"), "--margin", "0", "1", "--json"]
    for where in ([], ["--center", str(tmp_path / "sample.txt"), "--radius", "0.05"]):
        answer = run(*call, *where)
        assert answer.exit_code == 3, answer.output
        document = json.loads(answer.stdout)
        assert document["status"] == "bounded"
        assert 0 < document["lower"] < document["upper"] < 1e4
        assert "hidden neurons may change sign" in document["reason"]
        assert document["reason"] in answer.stderr
        # Only methods whose work is known beforehand, so that the answer comes soon.
        ran = {name.removesuffix("_seconds") for name in document["stats"] if name.endswith("_seconds")}
        assert ran - {"wall"} == {"ascent", "norm_product", "semidefinite"} | ({"propagation"} if where else set())
        assert "semidefinite" in document["method"]


def test_a_search_that_is_cut_short_says_so(tmp_path: Path) -> None:
    save_network(gaussian_network([20, 60, 60, 1], np.random.default_rng(0), 0.3), tmp_path / "net.npz")
    answer = run("lipschitz", str(tmp_path / "net.npz"), "--time-limit", "1", "--json", "--box", "-1", "1")
    assert answer.exit_code == 3
    document = json.loads(answer.stdout)
    assert document["status"] == "budget-spent"
    assert document["stats"]["branch_and_bound_seconds"] > 0
    assert "--time-limit allows more" in answer.stderr


def test_a_certificate_that_is_not_made_is_missed_aloud(tmp_path: Path) -> None:
    save_network(gaussian_network([3, 5, 1], np.random.default_rng(0), 0.3), tmp_path / "net.npz")
    answer = run("lipschitz", str(tmp_path / "net.npz"), "--method", "sampling", "--certify", "--json")
    assert answer.exit_code == 3
    assert json.loads(answer.stdout)["certificate"] is None
    assert "no certificate for 1 of 1" in answer.stderr


def test_the_solver_of_programs_is_chosen_in_two_ways(tmp_path: Path) -> None:
    save_network(gaussian_network([3, 5, 4, 1], np.random.default_rng(0), 0.3), tmp_path / "net.npz")
    found = []
    for words in (["semidefinite", "--solver", "clarabel"], ["semidefinite:clarabel"], ["semidefinite"]):
        answer = run("lipschitz", str(tmp_path / "net.npz"), "--json", "--method", *words)
        assert answer.exit_code == 3, answer.output
        found.append(json.loads(answer.stdout)["upper"])
    assert found[0] == found[1] == pytest.approx(found[2], rel=1e-3)
    for words, said in (
        (["auto", "--solver", "scs"], "takes no solver of programs"),
        (["semidefinite", "--solver", "highs"], "CLARABEL, SCS, MOSEK"),
        (["mixed-integer", "--solver", "clarabel"], "HIGHS, SCIP, GUROBI"),
    ):
        answer = run("lipschitz", str(tmp_path / "net.npz"), "--method", *words)
        assert answer.exit_code == 2
        assert said in answer.stderr


@pytest.mark.parametrize("method", ["auto", "bounds"])
def test_starts_are_taken_and_those_outside_are_said_to_be_moved(method: str, tmp_path: Path) -> None:
    save_network(gaussian_network([3, 5, 1], np.random.default_rng(0), 0.3), tmp_path / "small.npz")
    np.save(tmp_path / "points.npy", np.array([[0.5, 0.5, 0.5], [0.5, 7.0, 0.5]]))
    where = ("--box", "0", "1", "--method", method, "--starts", str(tmp_path / "points.npy"))
    answer = run("lipschitz", str(tmp_path / "small.npz"), *where)
    assert answer.exit_code in (0, 3)
    assert "1 of 2 starts lie outside" in answer.stderr


@pytest.mark.parametrize("kind", ["npy", "csv", "npz"])
def test_starts_come_from_a_file_and_those_outside_are_said_to_be_moved(tmp_path: Path, kind: str) -> None:
    """A bump of slope 1000 on a ten thousandth of the box: a start on it finds it."""
    at, wide = 0.7312, 1e-5
    network = ReluNetwork([np.ones((3, 1)), [[1000.0, -2000.0, 1000.0]]], [[-at, -at - wide, -at - 2 * wide], [0.0]])
    save_network(network, tmp_path / "bump.npz")
    points = np.array([[at + wide / 2], [3.0]])
    path = tmp_path / f"points.{kind}"
    if kind == "npy":
        np.save(path, points)
    elif kind == "csv":
        np.savetxt(path, points, delimiter=",")
    else:
        np.savez(path, x=points)
    asked = ["lipschitz", str(tmp_path / "bump.npz"), "--method", "ascent", "--box", "0", "1", "--json"]
    answer = run(*asked, "--starts", str(path))
    assert answer.exit_code == 3, answer.stderr
    assert json.loads(answer.stdout)["lower"] == pytest.approx(1000.0, rel=1e-9)
    assert "1 of 2 starts lie outside the domain and were moved to its boundary" in answer.stderr
