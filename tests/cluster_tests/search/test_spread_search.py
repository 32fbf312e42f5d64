"""A spread search comes to the interval of one process, whatever travels, dies, is lost or is stopped on the way."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.execution.search import spread
from cluster.execution.search.checkpoint import Checkpoint
from cluster.execution.search.spread import Standing
from cluster.execution.search.wire import packed_nodes, unpacked
from cluster.output.solve_progress import progress_line
from cluster.output.terminal import only_documents
from solvers.errors import InputError
from solvers.lipschitz import branch_and_bound
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.search.nodes import Node
from solvers.lipschitz.surveys.vector_outputs import solve_all_outputs
from solvers.lipschitz.two_sided import TwoSided
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.registry import lipschitz_solver_named
from solvers.verify import Verdict, verify_all_outputs, verify_bounds
from tests.cluster_tests.search.here import PoolHere, gaussian_box_network, tiny_shares
from tests.one_sentence import assert_one_sentence, without_progress

GAP = 1e-6


@pytest.fixture(autouse=True)
def _tasks_are_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "share_of", tiny_shares)


def small(p: float = 2.0, whole: bool = False) -> LipschitzProblem:
    d = 4 if whole else 5
    network = gaussian_box_network(d, (9, 8), 1)
    return LipschitzProblem(network, p, WholeSpace(d) if whole else Box.cube(d, -1.0, 1.0))


def alike(one: LipschitzBounds, other: LipschitzBounds) -> bool:
    """Both exact, and of one constant."""
    closed = one.status is other.status is Status.EXACT
    return closed and max(one.lower, other.lower) <= min(one.upper, other.upper) * (1 + GAP)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, math.inf])
def test_the_interval_is_that_of_one_process(p: float, whole: bool) -> None:
    problem = small(p, whole)
    pool = PoolHere()
    there = pool.solver().solve(problem)
    assert alike(BranchAndBound(threads=1).solve(problem), there)
    assert there.stats["tasks"] == pool.turns > 1
    assert there.stats["pieces"] == (9 if whole else 1)


def test_a_known_constant_is_found() -> None:
    """|x_1| + ... + |x_6|, twice: slope 2 sqrt(6) for p = 2, wherever all signs are met."""
    eye = np.eye(6)
    network = ReluNetwork(
        [np.concatenate([eye, -eye]), np.tile(np.concatenate([eye, eye], axis=1), (2, 1)), np.ones((1, 12))],
        [np.zeros(12), np.zeros(12), np.zeros(1)],
    )
    answer = PoolHere().solver().solve(LipschitzProblem(network, 2.0, Box.cube(6, -1.0, 2.0)))
    assert answer.status is Status.EXACT
    assert answer.lower <= 2 * math.sqrt(6) * (1 + 1e-15)
    assert answer.upper >= 2 * math.sqrt(6) * (1 - 1e-15)


@pytest.mark.parametrize("whole", [False, True])
def test_the_certificate_is_joined_from_the_leaves_of_workers(whole: bool) -> None:
    problem = small(2.0, whole)
    answer = PoolHere().solver(certified=True).solve(problem)
    assert answer.stats["tasks"] > 5
    assert answer.certificate is not None
    assert verify_bounds(problem, answer).verdict is Verdict.PROVED


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches ask for programs over slopes soon, and whatever they give."""
    monkeypatch.setattr(branch_and_bound, "PLAIN", 20)
    monkeypatch.setattr(branch_and_bound, "WORTH", math.inf)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("p", [1.5, 2.0, math.inf])
def test_workers_bound_nodes_by_programs_over_slopes(eager: None, p: float, whole: bool) -> None:
    problem = small(p, whole)
    there = PoolHere().solver(certified=True).solve(problem)
    assert there.stats["slope_bounds"] > 0
    assert alike(BranchAndBound(threads=1).solve(problem), there)
    assert verify_bounds(problem, there).verdict is Verdict.PROVED


def test_a_resumed_search_keeps_its_programs_and_its_ceiling(eager: None, tmp_path: Path) -> None:
    problem, path = small(), tmp_path / "search"
    first = PoolHere(stop_after=12).solver(path=path).solve(problem)
    assert first.stats["slope_bounds"] > 0
    kept = Checkpoint(path, "c")
    kept.resume(path)
    (state,) = kept._states.values()
    assert state.slopes
    assert first.upper <= state.ceiling < math.inf
    assert (state.facts.bounded, state.facts.dropped) == (first.stats["slope_bounds"], first.stats["slope_drops"])
    second = PoolHere(stop_after=2).solver(path=path, resume=path).solve(problem)
    assert second.upper <= first.upper
    assert second.stats["slope_bounds"] > first.stats["slope_bounds"]


def test_a_search_that_was_kept_by_an_older_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "search"
    PoolHere(stop_after=2).solver(path=path).solve(small())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"interlip search 2", b"interlip search 1", 1))
    with pytest.raises(InputError, match="of another version"):
        PoolHere().solver(resume=path)


@pytest.mark.parametrize("certified", [False, True])
def test_auto_bounds_before_it_searches(certified: bool, tmp_path: Path) -> None:
    """What is known enters the search, and a resumed one asks for nothing again."""
    path, asked = tmp_path / "search", []
    first = lipschitz_solver_named("bounds")
    problem = LipschitzProblem(gaussian_box_network(6, (12, 12), 1), 2.0, Box.cube(6, -1.0, 1.0))

    class Asked(TwoSided):
        def _solve_batch(self, *given: Any) -> list[LipschitzBounds]:
            asked.append(len(given[0]))
            return super()._solve_batch(*given)

    assert isinstance(first, TwoSided)
    counted = Asked(first.members).certifying() if certified else Asked(first.members)
    stopped = replace(PoolHere(stop_after=1).solver(certified, path), first=counted).solve(problem)
    assert asked == [1]
    assert 0 < stopped.lower <= stopped.upper < norm_product(problem)
    answer = replace(PoolHere().solver(certified, resume=path), first=counted).solve(problem)
    assert asked == [1, 0]
    assert alike(BranchAndBound(threads=1).solve(problem), answer)
    if certified:
        assert verify_bounds(problem, answer).verdict is Verdict.PROVED


def norm_product(problem: LipschitzProblem) -> float:
    return lipschitz_solver_named("norm-product").solve(problem).upper


def test_bounds_that_agree_leave_nothing_to_search() -> None:
    """Weights >= 0: the constant is the product, and no task goes out."""
    rng = np.random.default_rng(0)
    weights = [np.abs(rng.standard_normal(shape)) for shape in ((4, 3), (4, 4), (1, 4))]
    network = ReluNetwork(weights, [np.ones(4), np.ones(4), np.zeros(1)])
    problem = LipschitzProblem(network, math.inf, Box.cube(3))
    pool = PoolHere()
    answer = replace(pool.solver(), first=lipschitz_solver_named("bounds")).solve(problem)
    assert answer.status is Status.EXACT
    assert answer.upper == pytest.approx(float(np.linalg.multi_dot([weights[2], weights[1], weights[0]]).sum()))
    assert pool.turns == 0


def test_all_outputs_are_spread_too() -> None:
    network = gaussian_box_network(4, (8, 8), 2, outputs=3)
    domain = Box.cube(4, -1.0, 1.0)
    (here,) = solve_all_outputs(BranchAndBound(threads=1), network, [2.0], domain)
    (there,) = solve_all_outputs(PoolHere().solver(certified=True), network, [2.0], domain)
    assert alike(here.bounds, there.bounds)
    assert verify_all_outputs(network, there.output, there.bounds).verdict is Verdict.PROVED


def test_answers_that_never_come_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "OVERDUE_SECONDS", 0.01)
    problem = small()
    there = PoolHere(silent=0.3).solver(certified=True).solve(problem)
    assert alike(BranchAndBound(threads=1).solve(problem), there)
    assert verify_bounds(problem, there).verdict is Verdict.PROVED


def test_workers_that_die_now_and_then_lose_nothing() -> None:
    problem = small()
    there = PoolHere(deadly=0.2).solver().solve(problem)
    assert there.stats["workers_died"] > 0
    assert there.stats["lost_nodes"] > 0 or there.status is Status.EXACT
    here = BranchAndBound(threads=1).solve(problem)
    assert there.lower <= here.upper
    assert there.upper >= here.lower


def test_nodes_that_end_every_worker_leave_an_interval_that_holds() -> None:
    problem = small()
    there = PoolHere(deadly=1.0).solver(certified=True).solve(problem)
    assert there.status is Status.BUDGET_SPENT
    assert "ended every worker" in there.reason
    assert there.stats["lost_nodes"] == 1
    assert there.lower <= BranchAndBound(threads=1).solve(problem).upper <= there.upper


@pytest.mark.parametrize("certified", [False, True])
def test_a_search_that_is_stopped_again_and_again_goes_on(tmp_path: Path, certified: bool) -> None:
    problem, path = small(), tmp_path / "search.npz"
    here = BranchAndBound(threads=1).solve(problem)
    answer, stops = PoolHere(stop_after=3).solver(certified, path).solve(problem), 1
    while answer.status is not Status.EXACT:
        assert answer.status is Status.BUDGET_SPENT
        assert answer.lower <= here.upper <= answer.upper * (1 + GAP)
        assert stops < 100
        answer, stops = PoolHere(stop_after=3 * stops).solver(certified, path, resume=path).solve(problem), stops + 1
    assert stops > 2
    assert alike(here, answer)
    again = PoolHere()
    assert again.solver(certified, resume=path).solve(problem).upper == answer.upper
    assert again.turns == 0
    if certified:
        assert verify_bounds(problem, answer).verdict is Verdict.PROVED
        # Nodes are entered once: what the stopped searches did is not done again.
        assert answer.stats["nodes"] <= 3 * here.stats["nodes"]


def test_a_search_without_proofs_is_resumed_without_a_certificate(tmp_path: Path) -> None:
    problem, path = small(), tmp_path / "search.npz"
    PoolHere(stop_after=3).solver(False, path).solve(problem)
    answer = PoolHere().solver(True, resume=path).solve(problem)
    assert answer.status is Status.EXACT
    assert answer.certificate is None


def test_no_flipped_bit_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "search.npz"
    PoolHere(stop_after=4).solver(False, path).solve(small())
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    PoolHere().solver(resume=path)
    for place in [*range(90), *rng.integers(len(whole), size=100).tolist()]:
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(broken))
        with pytest.raises(InputError, match=r"damaged|no checkpoint"):
            PoolHere().solver(resume=path)
    path.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="damaged"):
        PoolHere().solver(resume=path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "there is no checkpoint"),
        (lambda path: path.write_bytes(b""), "is no checkpoint"),
        (lambda path: path.write_bytes(b"PK\x03\x04nothing"), "is no checkpoint"),
        (lambda path: np.savez(path, W0=np.eye(2)), "is no checkpoint"),
        (lambda path: PoolHere(stop_after=2).solver(False, path, command="other").solve(small()), "another network"),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, make: object, sentence: str) -> None:
    path = tmp_path / "search.npz"
    make(path)  # type: ignore[operator]
    with pytest.raises(InputError, match=sentence):
        PoolHere().solver(resume=path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--workers", "2"], "are for --executor ray"),
        (["--checkpoint", "x"], "are for --executor ray"),
        (["--resume", "x"], "are for --executor ray"),
        (["--address", "auto"], "--address is for --executor ray"),
        (["--executor", "slurm"], "--executor must be ray or local"),
        (["--executor", "ray", "--workers", "0"], "--workers must be at least 1"),
        (["--executor", "ray", "--method", "sampling"], "only branch-and-bound is spread"),
        (["--executor", "ray", "--address", "127.0.0.1:1"], "no Ray cluster answers"),
        (["--executor", "ray", "--resume", "nowhere.search"], "there is no checkpoint nowhere.search"),
        (["--executor", "ray", "--checkpoint", "nowhere/a"], "there is no folder nowhere"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(tmp_path: Path, options: list[str], sentence: str) -> None:
    np.savez(tmp_path / "net.npz", W0=np.eye(2), b0=np.zeros(2), W1=np.ones((1, 2)), b1=np.zeros(1))
    answer = CliRunner().invoke(app, ["lipschitz", str(tmp_path / "net.npz"), *options])
    assert_one_sentence(answer, sentence)


def test_a_standing_is_part_of_the_line_of_progress() -> None:
    line = progress_line(12.0, math.inf, (2.0, 3.0, 4.0), standing=Standing(310, 8))
    assert line == "solving for 12 s; p = 2: 3 <= L <= 4, gap 25.00%; 310 open nodes, 8 workers"
    assert without_progress(line) == []


def test_nothing_but_documents_reaches_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with only_documents():
        print("of Python")
        os.write(1, b"of another process\n")
    print("the document", flush=True)
    told = capfd.readouterr()
    assert told.out == "the document\n"
    assert sorted(told.err.splitlines()) == ["of Python", "of another process"]


def test_time_limits_and_node_limits_leave_an_interval() -> None:
    problem = LipschitzProblem(gaussian_box_network(8, (16, 16), 0), 2.0, Box.cube(8, -1.0, 1.0))
    exact = PoolHere().solver().solve(problem, budget=Budget(seconds=0.3))
    few = PoolHere().solver().solve(problem, budget=Budget(nodes=50))
    for answer in (exact, few):
        assert answer.status is Status.BUDGET_SPENT
        assert 0 < answer.lower < answer.upper < math.inf
    assert max(exact.lower, few.lower) <= min(exact.upper, few.upper)


def test_nodes_travel_as_decisions() -> None:
    rng = np.random.default_rng(0)
    shapes = [(2, 7), (2, 8), (2, 7)]
    nothing, none = np.empty(0), np.empty(0, dtype=np.int32)
    nodes = [
        Node(
            k % 3,
            rng.integers(-1, 2, size=shapes[k % 3]).astype(np.int8),
            nothing,
            nothing,
            math.inf if k == 0 else float(rng.random()),
            nothing,
            none,
            (k % 3 - 1, k - 1, 1 - 2 * (k % 2)),
            tuple(rng.integers(0, 30, size=k).tolist()),
            codes=None if k == 2 else rng.integers(-9, 9, size=k % 4).astype(np.int16),
        )
        for k in range(7)
    ]
    back = list(unpacked(packed_nodes(nodes, shapes), shapes))
    for node, other in zip(nodes, back, strict=True):
        assert (node.piece, node.bound, node.split, node.path) == (other.piece, other.bound, other.split, other.path)
        np.testing.assert_array_equal(node.signs, other.signs)
        told = [[] if one.codes is None else one.codes.tolist() for one in (node, other)]
        assert told[0] == told[1]
    assert list(unpacked(packed_nodes([], shapes), shapes)) == []


def test_a_task_is_small() -> None:
    """120 neurons in two bits each, not their ranges and directions."""
    pool = PoolHere()
    problem = LipschitzProblem(gaussian_box_network(6, (60, 60), 0), 2.0, Box.cube(6, -0.3, 0.3))
    pool.solver().solve(problem, budget=Budget(nodes=200))
    assert 0 < pool.most_bytes < 4096
