"""`interlip verify`: honest results are proved, lies refuted with their reason, what is open is said to be open."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cluster.cli import app
from solvers.files.models import load_network
from solvers.networks.relu import ReluNetwork
from solvers.verify import network_digest
from tests.strategies import gaussian_network


def saved(path: Path, network: ReluNetwork) -> str:
    arrays = {f"W{k}": w for k, w in enumerate(network.weights)} | {f"b{k}": b for k, b in enumerate(network.biases)}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return str(path)


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


def solved(model: str, *arguments: str) -> Any:
    answer = run("lipschitz", model, "--certify", "--json", *arguments)
    assert answer.exit_code in (0, 3), answer.output
    return json.loads(answer.stdout)


def verified(tmp_path: Path, document: Any, model: str) -> Result:
    (tmp_path / "result.json").write_text(json.dumps(document))
    return run("verify", str(tmp_path / "result.json"), "--model", model, "--json")


@pytest.fixture
def model(tmp_path: Path) -> str:
    return saved(tmp_path / "net.npz", gaussian_network([2, 5, 4, 3], np.random.default_rng(1), 0.4))


REGIONS = ("--method", "region-enumeration", "--output", "1", "--box", "-1", "1")


@pytest.mark.parametrize("where", [["--global"], ["--box", "-1", "1"]], ids=["global", "box"])
def test_an_honest_list_of_results_is_proved(model: str, tmp_path: Path, where: list[str]) -> None:
    exponents = ["--p", "1", "--p", "1.5", "--p", "inf"]
    document = solved(model, "--method", "region-enumeration", "--margin", "2", "0", *where, *exponents)
    answer = verified(tmp_path, document, model)
    assert answer.exit_code == 0, answer.output
    reports = json.loads(answer.stdout)
    assert [report["p"] for report in reports] == [1.0, 1.5, "inf"]
    assert {report["verdict"] for report in reports} == {"proved"}
    assert [check["subject"] for check in reports[0]["checks"]] == ["lower bound", "upper bound", "exactness"]


def test_it_reads_from_a_pipe_and_speaks_to_people(model: str) -> None:
    document = json.dumps(solved(model, *REGIONS))
    answer = run("verify", "-", "--model", model, stdin=document)
    assert answer.exit_code == 0, answer.output
    assert "proved" in answer.stdout
    assert "regions cover the domain" in answer.stdout


def test_a_product_of_norms_is_proved_and_promises_no_exactness(model: str, tmp_path: Path) -> None:
    answer = verified(tmp_path, solved(model, "--method", "norm-product", "--output", "0"), model)
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["verdict"] == "proved"


def test_it_says_what_was_proved(model: str, tmp_path: Path) -> None:
    digest = network_digest(load_network(model))
    for asked, output, said in (
        (["--output", "1", "--box", "-1", "2"], {"output": 1}, "output 1 on [-1.0, 2.0]^2"),
        (["--margin", "2", "0", "--global"], {"margin": [2, 0]}, "output 2 minus output 0 on all of R^2"),
        (["--all-outputs", "--box", "-1", "1"], {"all_outputs": True}, "all outputs on [-1.0, 1.0]^2"),
    ):
        document = solved(model, "--method", "region-enumeration", "--p", "1.5", *asked)
        answer = verified(tmp_path, document, model)
        assert answer.exit_code == 0, answer.output
        report = json.loads(answer.stdout)
        assert {key: report[key] for key in output} == output
        assert {key: report[key] for key in ("p", "domain", "lower", "upper")} == {
            key: document[key] for key in ("p", "domain", "lower", "upper")
        }
        assert (report["network_sha256"], report["gap"]) == (digest, 1e-6)
        shown = run("verify", str(tmp_path / "result.json"), "--model", model).stdout
        for text in (said, digest, "p = 1.5", f"{document['lower']} <= L <= {document['upper']}", "1e-06"):
            assert text in shown
    document = solved(model, *REGIONS)
    document["domain"]["upper"] = [1.0, 0.5]
    verified(tmp_path, document, model)
    assert "on [-1.0, 1.0] x [-1.0, 0.5]" in run("verify", str(tmp_path / "result.json"), "--model", model).stdout


def test_the_gap_is_the_callers_and_not_that_of_the_result(model: str, tmp_path: Path) -> None:
    document = solved(model, "--output", "1", "--box", "-1", "1", "--method", "norm-product")
    # A wide interval that calls itself exact, to whatever gap it likes.
    for gap in (5, 1.0, 1e300):
        lie = {**document, "status": "exact", "gap": gap}
        assert verified(tmp_path, lie, model).exit_code == 1
        answer = run("verify", str(tmp_path / "result.json"), "--model", model, "--gap", "0.9")
        assert answer.exit_code == 1
        assert "further apart than to the relative gap 0.9" in answer.stdout
    # Honest, solved to a wide gap: proved for those who ask for no more, open for others.
    loose = solved(model, *REGIONS)
    loose = {**loose, "gap": 0.1, "lower": 0.95 * loose["lower"]}
    answer = verified(tmp_path, loose, model)
    assert answer.exit_code == 3
    assert "--gap 0.1" in json.loads(answer.stdout)["unproved"][0]
    asked = run("verify", str(tmp_path / "result.json"), "--model", model, "--gap", "0.1", "--json")
    assert asked.exit_code == 0, asked.output
    assert json.loads(asked.stdout)["gap"] == 0.1
    for text in ("-1", "nan", "inf"):
        answer = run("verify", str(tmp_path / "result.json"), "--model", model, "--gap", text)
        assert answer.exit_code == 2
        assert "relative gap" in answer.stderr


def change(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update(values)


def drop_region(document: dict[str, Any]) -> None:
    for part in document["certificate"]["data"]["pieces"][0].values():
        del part[0]


def move_witness(document: dict[str, Any]) -> None:
    document["witness"]["point"] = [1.0, 1.0]


def flip_neuron(document: dict[str, Any]) -> None:
    first = document["witness"]["pattern"][0]
    document["witness"]["pattern"][0] = ("1" if first[0] == "0" else "0") + first[1:]


LIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "raised lower bound": (lambda d: d.update(lower=d["upper"]), "shorter than the lower bound"),
    "lowered upper bound": (
        lambda d: d.update(lower=0.9 * d["lower"], upper=0.99 * d["upper"]),
        "longer than the upper",
    ),
    "crossed bounds": (lambda d: d.update(lower=2 * d["upper"]), "contradict"),
    "exact in name only": (lambda d: d.update(lower=0.5 * d["lower"]), "further apart"),
    "other exponent": (change(p=1.0), "bound"),
    "other output": (change(output=0), "not the gradient of its region"),
    "no witness": (change(witness=None), "without a witness"),
    "witness on the boundary": (move_witness, "strictly inside the box"),
    "pattern of another region": (flip_neuron, "other sign"),
    "dropped region": (drop_region, "not in the list"),
    "larger domain": (change(domain={"kind": "box", "lower": [-2, -2], "upper": [2, 2]}), "not in the list"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_are_refuted_with_the_reason(name: str, model: str, tmp_path: Path) -> None:
    lie, reason = LIES[name]
    document = solved(model, *REGIONS)
    lie(document)
    answer = verified(tmp_path, document, model)
    assert answer.exit_code == 1, answer.output
    report = json.loads(answer.stdout)
    assert report["verdict"] == "refuted"
    assert any(reason in check["reason"] for check in report["checks"] if not check["holds"]), report


def test_one_lie_among_honest_results_is_enough(model: str, tmp_path: Path) -> None:
    documents = solved(model, *REGIONS, "--p", "1", "--p", "2")
    documents[1]["lower"] = documents[1]["upper"] = 0.5 * documents[1]["upper"]
    answer = verified(tmp_path, documents, model)
    assert answer.exit_code == 1
    assert [report["verdict"] for report in json.loads(answer.stdout)] == ["proved", "refuted"]


@pytest.mark.parametrize("method", ["region-enumeration", "norm-product", "auto"])
def test_the_result_of_another_model_is_refuted(method: str, model: str, tmp_path: Path) -> None:
    document = solved(model, "--method", method, "--output", "1", "--box", "-1", "1")
    other = gaussian_network([2, 5, 4, 3], np.random.default_rng(2), 0.4)
    louder = ReluNetwork([3 * w for w in other.weights], other.biases)
    answer = verified(tmp_path, document, saved(tmp_path / "other.npz", louder))
    assert answer.exit_code == 1, answer.output


def test_a_small_change_of_one_weight_is_noticed(model: str, tmp_path: Path) -> None:
    document = solved(model, *REGIONS)
    arrays = dict(np.load(model))
    arrays["W0"][0, 0] *= 1 + 1e-6
    np.savez(tmp_path / "changed.npz", **arrays)
    assert verified(tmp_path, document, str(tmp_path / "changed.npz")).exit_code == 1


def test_what_carries_no_proof_is_open(model: str, tmp_path: Path) -> None:
    honest = solved(model, *REGIONS)
    for certificate, reason in (
        (None, "without a certificate"),
        ("region-list", "--certify"),
        ({"kind": "oracle", "data": {"trust": "me"}}, "no checker"),
    ):
        answer = verified(tmp_path, {**copy.deepcopy(honest), "certificate": certificate}, model)
        assert answer.exit_code == 3
        report = json.loads(answer.stdout)
        assert report["verdict"] == "unproved"
        assert reason in report["unproved"][0]
    plain = run("lipschitz", model, "--json", "--method", "sampling", "--output", "1")
    assert json.loads(plain.stdout)["certificate"] is None


def test_a_result_about_all_outputs_holds_a_proof_for_each(model: str, tmp_path: Path) -> None:
    call = ["--method", "region-enumeration", "--box", "-1", "1", "--p", "inf"]
    document = solved(model, "--all-outputs", *call)
    answer = verified(tmp_path, document, model)
    assert answer.exit_code == 0, answer.output
    assert "each of 3 outputs" in answer.stdout
    parts = document["certificate"]["data"]["outputs"]
    one = solved(model, "--output", str(document["output"]), *call)
    single = {**document, "certificate": one["certificate"]}
    short = copy.deepcopy(parts)
    drop_region({"certificate": short[0]})
    for lie, code, reason in (
        ({**document, "certificate": {"kind": "all-outputs", "data": {"outputs": parts[1:]}}}, 1, "3 outputs"),
        ({**document, "certificate": {"kind": "all-outputs", "data": {"outputs": short}}}, 1, "output 0"),
        ({**document, "output": (document["output"] + 1) % 3}, 1, "gradient of its region"),
        ({**document, "lower": 0.5 * document["lower"], "upper": 0.6 * document["upper"]}, 1, "longer"),
        (single, 3, "not about all"),
        ({**document, "margin": [0, 1]}, 2, "exclude each other"),
    ):
        answer = verified(tmp_path, lie, model)
        assert answer.exit_code == code, answer.output
        assert reason in answer.output


def bad(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {**document, **values}


BAD: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a number": (lambda d: 7, "JSON object"),
    "an empty list": (lambda d: [], "empty list"),
    "no bounds": (lambda d: {"p": 2}, "'lower'"),
    "text for a number": (bad(lower="much"), "`lower`"),
    "a number too large": (bad(upper=10**400), "`upper`"),
    "unknown status": (bad(status="splendid"), "splendid"),
    "p below 1": (bad(p=0.5), "p must lie in"),
    "no domain": (bad(domain={"kind": "ball"}), "'ball'"),
    "a domain of other dimension": (bad(domain={"kind": "global", "dimension": 7}), "dimension 7"),
    "a pattern of letters": (bad(witness={"point": [0, 0], "pattern": ["ab"], "gradient": [0, 0]}), "digits 0 and 1"),
    "half a certificate": (bad(certificate={"kind": "region-list"}), "`data`"),
    "no such output": (bad(output=9), "0..2"),
    "an output that is no index": (bad(output=True), "`output`"),
    "a margin of three": (bad(output=None, margin=[0, 1, 2]), "`margin`"),
    "no gap": (bad(gap="small"), "`gap`"),
    "stats that are none": (bad(stats=[1]), "`stats`"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_result_is_bad_input(name: str, model: str, tmp_path: Path) -> None:
    spoil, said = BAD[name]
    answer = verified(tmp_path, spoil(solved(model, *REGIONS)), model)
    assert answer.exit_code == 2, answer.output
    assert answer.stdout == ""
    assert len(answer.stderr.strip().splitlines()) == 1
    assert said in answer.stderr


def test_files_that_cannot_be_read_are_bad_input(model: str, tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("lower: 3")
    (tmp_path / "nan.json").write_text('{"lower": NaN}')
    (tmp_path / "large.json").write_text('{"lower": 1, "domain": {"kind": "global", "dimension": 1e400}}')
    for path, said in (
        ("absent.json", "cannot be read"),
        ("text.json", "not a JSON"),
        ("nan.json", "NaN"),
        ("large.json", "beyond float64"),
    ):
        answer = run("verify", str(tmp_path / path), "--model", model)
        assert (answer.exit_code, answer.stdout) == (2, "")
        assert said in answer.stderr
    (tmp_path / "result.json").write_text(json.dumps(solved(model, *REGIONS)))
    assert run("verify", str(tmp_path / "result.json"), "--model", str(tmp_path / "absent.npz")).exit_code == 2
