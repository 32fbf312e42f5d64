"""Long certificates, in parts on disk: honest ones pass, and no altered part proves what is not so."""

from __future__ import annotations

import copy
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from solvers.checkers import search_tree
from solvers.checkers.search_tree import TreeParts, check_search_tree
from solvers.errors import InputError
from solvers.lipschitz import branch_and_bound
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.search import kept_proofs
from solvers.lipschitz.search.kept_proofs import LeafFile
from solvers.lipschitz.surveys.vector_outputs import solve_all_outputs
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.verify import Verdict, verify_all_outputs, verify_bounds
from tests.one_sentence import assert_one_sentence
from tests.strategies import gaussian_network

SOLVER = BranchAndBound(threads=1).certifying()


@pytest.fixture(autouse=True)
def _parts_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_proofs, "MOST_LEAVES", 20)
    monkeypatch.setattr(kept_proofs, "MOST_OF_A_PART", 12)
    monkeypatch.setattr(kept_proofs, "FEW", 2)


def network(outputs: int = 1) -> Any:
    return gaussian_network([4, 8, 7, outputs], np.random.default_rng(4), 0.3)


def solved(problem: LipschitzProblem, path: Path, **limits: Any) -> LipschitzBounds:
    with LeafFile(path) as file:
        return SOLVER.keeping_leaves(file).solve(problem, budget=Budget(**limits))


def whole(answer: LipschitzBounds) -> dict[str, Any]:
    """The certificate with its parts in place of the file."""
    assert answer.certificate is not None
    data = json.loads(json.dumps(answer.certificate.data))
    with TreeParts(data["parts"]["file"], data["parts"]["folder"]) as parts:
        return {**data, "parts": list(parts)}


@pytest.mark.parametrize("slopes", [False, True])
@pytest.mark.parametrize("domain", [Box.cube(4), WholeSpace(4)], ids=["box", "global"])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, math.inf])
def test_a_long_certificate_is_proved_part_by_part(
    p: float, domain: Domain, slopes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if slopes:
        monkeypatch.setattr(branch_and_bound, "PLAIN", 0)
        monkeypatch.setattr(branch_and_bound, "WORTH", math.inf)
    problem = LipschitzProblem(network(), p, domain)
    answer = solved(problem, tmp_path / "proofs.zip")
    assert answer.status is Status.EXACT
    assert len(whole(answer)["parts"]) > 2
    verification = verify_bounds(problem, answer)
    assert verification.verdict is Verdict.PROVED, verification
    monkeypatch.setattr(kept_proofs, "MOST_LEAVES", 10**6)
    assert solved(problem, tmp_path / "unused.zip").upper == answer.upper
    assert [file.name for file in tmp_path.iterdir()] == ["proofs.zip"]


def test_the_leaves_are_those_of_a_tree_in_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = LipschitzProblem(network(), 2.0, Box.cube(4))
    cut = whole(solved(problem, tmp_path / "proofs.zip"))
    monkeypatch.setattr(kept_proofs, "MOST_LEAVES", 10**6)
    plain = SOLVER.solve(problem).certificate
    assert plain is not None

    def leaves(trees: list[dict[str, Any]]) -> tuple[int, list[str]]:
        told = [json.dumps(proof[1:]) for tree in trees for proof in tree["proofs"] if proof[1] != "part"]
        return sum(tree["splits"].count(-1) for tree in trees), sorted(told)

    count, told = leaves([*cut["pieces"], *cut["parts"]])
    assert (count - len(cut["parts"]), told) == leaves(list(plain.data["pieces"]))


def test_a_search_that_is_cut_short_is_proved_too(tmp_path: Path) -> None:
    problem = LipschitzProblem(gaussian_network([6, 12, 12, 1], np.random.default_rng(3), 0.3), 2.0, Box.cube(6))
    answer = solved(problem, tmp_path / "proofs.zip", nodes=60)
    assert answer.status is Status.BUDGET_SPENT
    check = check_search_tree(problem, whole(answer), answer.upper)
    assert check.holds, check.reason


def test_a_file_holds_the_certificates_of_all_outputs(tmp_path: Path) -> None:
    three, domain = network(3), Box.cube(4)
    with LeafFile(tmp_path / "proofs.zip") as file:
        answers = solve_all_outputs(SOLVER.keeping_leaves(file), three, [2.0, math.inf], domain)
    for answer in answers:
        assert verify_all_outputs(three, answer.output, answer.bounds).verdict is Verdict.PROVED


def test_too_many_leaves_for_a_file_too_leave_no_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_proofs, "MOST_STORED", 40)
    answer = solved(LipschitzProblem(network(), 2.0, Box.cube(4)), tmp_path / "proofs.zip")
    assert answer.status is Status.EXACT
    assert answer.certificate is None
    assert not list(tmp_path.iterdir())


def _bent(data: dict[str, Any], rng: np.random.Generator) -> None:
    """One change somewhere in the trees."""
    trees = [*data["pieces"], *data["parts"]]
    tree = trees[int(rng.integers(len(trees)))]
    other = trees[int(rng.integers(len(trees)))]
    listed = tree["proofs"]
    match int(rng.integers(9)):
        case 0:
            data["parts"][int(rng.integers(len(data["parts"])))] = copy.deepcopy(other)
        case 1:
            tree["splits"][:] = [-1]
        case 2:
            tree["proofs"] = []
        case 3:
            tree["splits"][int(rng.integers(len(tree["splits"])))] = int(rng.integers(-20, 20))
        case 4 if listed:
            listed[int(rng.integers(len(listed)))][1] = str(rng.choice(["rows", "constant", "slopes", "part"]))
        case 5 if listed:
            listed[int(rng.integers(len(listed)))][2] = [int(rng.integers(len(data["parts"])))]
        case 6 if listed:
            proof = listed[int(rng.integers(len(listed)))]
            proof[3] = [float(rng.exponential()) for _ in proof[2]]
        case 7 if listed:
            del listed[int(rng.integers(len(listed)))]
        case _:
            tree["splits"], tree["proofs"] = copy.deepcopy(other["splits"]), copy.deepcopy(other["proofs"])


def assert_no_altered_one_proves_less(count: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch_and_bound, "PLAIN", 0)
    monkeypatch.setattr(branch_and_bound, "WORTH", math.inf)
    rng = np.random.default_rng(seed)
    honest = []
    for p in (1.5, 2.0, math.inf):
        problem = LipschitzProblem(network(), p, Box.cube(4))
        honest.append((problem, answer := solved(problem, tmp_path / f"{p}.zip"), whole(answer)))
    refused = 0
    for number in range(count):
        problem, answer, data = honest[number % len(honest)]
        lie = copy.deepcopy(data)
        for _ in range(int(rng.integers(1, 4))):
            _bent(lie, rng)
        assert not check_search_tree(problem, lie, answer.lower * (1 - 10.0 ** -rng.uniform(1, 9))).holds
        refused += not check_search_tree(problem, lie, answer.upper).holds
    assert refused > count // 2


def test_no_altered_part_proves_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_no_altered_one_proves_less(30, 0, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_none_of_many_altered_parts_proves_less(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_no_altered_one_proves_less(200, seed, tmp_path, monkeypatch)


def test_parts_that_are_missing_nested_or_odd_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = LipschitzProblem(network(), 2.0, Box.cube(4))
    answer = solved(problem, tmp_path / "proofs.zip")
    data = whole(answer)
    whole_part = {"splits": [-1], "proofs": [[0, "part", [0], []]]}
    for parts in (None, [], data["parts"][:1], [whole_part] * len(data["parts"]), {}, {"file": 3, "folder": 0}, "ab"):
        assert not check_search_tree(problem, {**data, "parts": parts}, answer.upper).holds
    named = dict(answer.certificate.data["parts"]) if answer.certificate else {}
    for other in ({"folder": 7}, {"folder": "0"}, {"file": str(tmp_path)}, {"file": str(tmp_path / "none")}):
        assert not check_search_tree(problem, {**data, "parts": {**named, **other}}, answer.upper).holds
    monkeypatch.setattr(search_tree, "MOST_BYTES", 10)
    assert "longer than" in check_search_tree(problem, {**data, "parts": named}, answer.upper).reason


def test_no_damaged_file_proves_anything(tmp_path: Path) -> None:
    problem, path = LipschitzProblem(network(), 2.0, Box.cube(4)), tmp_path / "proofs.zip"
    answer = solved(problem, path)
    assert answer.certificate is not None
    content, rng = path.read_bytes(), np.random.default_rng(1)
    for place in rng.integers(len(content), size=20).tolist():
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        check = check_search_tree(problem, answer.certificate.data, answer.lower * (1 - 1e-6))
        assert not check.holds
    path.write_bytes(content[: len(content) // 2])
    assert not check_search_tree(problem, answer.certificate.data, answer.upper).holds


def test_the_command_writes_the_file_and_verifies_it(tmp_path: Path) -> None:
    model, kept, result = tmp_path / "net.npz", tmp_path / "proofs.zip", tmp_path / "result.json"
    given = network()
    layers = {f"W{k}": w for k, w in enumerate(given.weights)} | {f"b{k}": b for k, b in enumerate(given.biases)}
    np.savez(model, **layers)
    asked = ["lipschitz", str(model), "--box", "-1", "1", "--method", "branch-and-bound", "--p", "2", "--p", "inf"]
    answer = CliRunner().invoke(app, [*asked, "--certify", "--proofs", str(kept), "--json"])
    assert answer.exit_code == 0, answer.output
    result.write_text(answer.stdout)
    with zipfile.ZipFile(kept) as file:
        assert {name.split("/")[0] for name in file.namelist()} == {"0", "1"}
    checked = ["verify", str(result), "--model", str(model)]
    assert CliRunner().invoke(app, checked).exit_code == 0
    moved = kept.rename(tmp_path / "moved.zip")
    assert_one_sentence(CliRunner().invoke(app, checked), "there is no file")
    assert CliRunner().invoke(app, [*checked, "--proofs", str(moved)]).exit_code == 0
    moved.write_bytes(b"nothing")
    assert_one_sentence(CliRunner().invoke(app, [*checked, "--proofs", str(moved)]), "cannot be read")
    assert_one_sentence(CliRunner().invoke(app, [*asked, "--proofs", str(kept)]), "--proofs is for --certify")
    nowhere = [*asked, "--certify", "--proofs", str(tmp_path / "none" / "a.zip")]
    assert_one_sentence(CliRunner().invoke(app, nowhere), "there is no folder")
    bare = CliRunner().invoke(app, [*asked, "--certify"])
    assert "--proofs FILE" in bare.stderr


def test_a_solve_that_fails_leaves_no_file(tmp_path: Path) -> None:
    leaf_file = LeafFile(tmp_path / "proofs.zip")

    def fail() -> None:
        with leaf_file as file:
            SOLVER.keeping_leaves(file).solve(LipschitzProblem(network(), 2.0, Box.cube(4)))
            raise InputError("as if")

    with pytest.raises(InputError, match="as if"):
        fail()
    assert not list(tmp_path.iterdir())
