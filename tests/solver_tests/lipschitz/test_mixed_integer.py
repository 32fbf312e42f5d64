"""Mixed-integer programs against linear programs and other methods; patterns without an interior; limits; backends."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from solvers.arithmetic.norms import dual_exponent, vector_norm
from solvers.arithmetic.program_backends import MIP_BACKENDS, check_backend, run_program
from solvers.errors import InputError, MissingBackendError, UnsupportedProblemError
from solvers.files.models import save_network
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.mixed_integer import MixedInteger
from solvers.lipschitz.programs.big_m_model import GradientModel, Objective
from solvers.lipschitz.programs.strict_interior import Conflict, Judgement, judge_pattern
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import LinearRegion
from solvers.problems.results import Status
from solvers.problems.witnesses import gradients_at
from solvers.registry import lipschitz_solver_named
from tests.references.exact_methods import assert_interval_holds, solved, some_box
from tests.references.lp_enumeration import lipschitz_by_lp
from tests.references.traps import Trap, deep_zero_bias, traps, whole_numbers
from tests.strategies import gaussian_network

P_VALUES = (1.0, math.inf)
SOLVER = MixedInteger()
slow = pytest.mark.slow
NEEDS_SCIP = pytest.mark.skipif(importlib.util.find_spec("pyscipopt") is None, reason="needs interlip[scip]")


def assert_exact(
    network: ReluNetwork, domain: Domain, truth: dict[float, float], solver: MixedInteger = SOLVER
) -> None:
    """Exact to 1e-7 of the truth for p = 1 and p = inf, by dual exponent."""
    for p, answer in solved(solver, network, domain).items():
        value = truth[dual_exponent(p)]
        told = f"p = {p}: [{answer.lower!r}, {answer.upper!r}], truth {value!r}, {dict(answer.stats)}"
        assert answer.status is Status.EXACT, told
        assert_interval_holds(told, answer, value)
        assert answer.lower == pytest.approx(value, rel=1e-9, abs=0), told
        assert answer.upper == pytest.approx(value, rel=1.01e-7, abs=0), told


def assert_exact_by_lp(network: ReluNetwork, domain: Domain, solver: MixedInteger = SOLVER) -> None:
    assert_exact(network, domain, lipschitz_by_lp(network, domain, [1.0, math.inf]), solver)


@pytest.mark.parametrize("whole", [True, False], ids=["global", "box"])
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=slow) for seed in range(2, 20))])
def test_gaussian_networks(seed: int, whole: bool) -> None:
    rng = np.random.default_rng([40, seed, whole])
    d, depth = 1 + seed % 3, 1 + seed % 3
    network = gaussian_network([d, *rng.integers(2, 5, depth).tolist(), 1], rng, 0.5 * (seed % 2))
    assert_exact_by_lp(network, WholeSpace(d) if whole else some_box(d, rng))


@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(seed, marks=slow) for seed in range(3, 30))])
def test_networks_of_small_whole_numbers(seed: int) -> None:
    # Parallel, opposite, repeated, vanishing neurons in every layer, many kinks through one point.
    rng = np.random.default_rng([41, seed])
    d, depth = 2 + seed % 2, 1 + seed % 3
    network = whole_numbers([d, *[4, 3, 2][:depth], 1], 0.5 * (seed % 2), rng)
    assert_exact_by_lp(network, WholeSpace(d) if seed % 2 else Box.cube(d))


@pytest.mark.parametrize(
    "trap", [pytest.param(trap, marks=() if k % 9 == 4 else slow, id=trap.name) for k, trap in enumerate(traps())]
)
def test_traps(trap: Trap) -> None:
    assert_exact(trap.network, trap.domain, {dual_exponent(p): value for p, value in trap.truth().items()})


@pytest.mark.parametrize("corner", ["inside", "at the corner", "outside"])
@pytest.mark.parametrize(
    ("d", "depth", "width"),
    [
        (2, 2, 3),
        *(
            pytest.param(d, depth, 3 if d < 8 else 2, marks=slow)
            for d in (2, 3, 4, 8)
            for depth in (1, 2, 3, 4)
        ),
    ],
)  # fmt: skip
def test_deep_networks_without_biases(d: int, depth: int, width: int, corner: str) -> None:
    network = deep_zero_bias(d, depth, width)
    low, high = {"inside": (-0.1, 0.3), "at the corner": (0.0, 1.0), "outside": (0.25, 0.5)}[corner]
    assert_exact_by_lp(network, Box.cube(d, low, high))


def judged(network: ReluNetwork, pattern: list[list[int]], domain: Domain) -> Judgement:
    piece = bounded_pieces(LipschitzProblem(network, 1.0, domain))[0]
    return judge_pattern(piece, [np.array(layer, dtype=bool) for layer in pattern])


def test_three_kinks_that_meet_are_a_conflict_found_in_exact_arithmetic() -> None:
    # Normals and biases add up to 0: no two of the three signs are decided alone, all three together are.
    w = np.array([[0.75, 0.125], [-0.25, 0.375], [-0.5, -0.5]])
    network = ReluNetwork([w, [[1.0, 1.0, 1.0]]], [np.array([0.25, -0.125, -0.125]), [0.0]])
    verdict = judged(network, [[1, 1, 1]], Box.cube(2))
    assert verdict.point is None
    (conflict,) = verdict.conflicts
    assert set(conflict.literals) == {(0, 0, True), (0, 1, True), (0, 2, True)}
    assert conflict.everywhere
    inside = judged(network, [[1, 1, 0]], Box.cube(2))
    assert inside.point is not None
    assert LinearRegion(network, (np.array([True, True, False]),)).strictly_contains(inside.point)


def test_a_dead_layer_leaves_the_next_one_undetermined() -> None:
    # First layer off: the second layer's pre-activations are identically 0, so either sign will do.
    network = ReluNetwork([[[1.0]], [[1.0], [-1.0]], [[1.0, -1.0]]], [[0.0], [0.0, 0.0], [0.0]])
    box = Box.cube(1)
    piece = bounded_pieces(LipschitzProblem(network, 1.0, Box([-2.0], [-1.0])))[0]
    for above in ([0, 0], [1, 1], [0, 1]):
        assert judge_pattern(piece, [np.array([False]), np.array(above, dtype=bool)]).point is not None
    # First layer on: relu(x) > 0, so the second row is on and the third off; both are conflicts of their own.
    piece = bounded_pieces(LipschitzProblem(network, 1.0, Box([0.0], [1.0])))[0]
    verdict = judge_pattern(piece, [np.array([True]), np.array([False, True])])
    assert {conflict.literals[-1] for conflict in verdict.conflicts} == {(1, 0, False), (1, 1, True)}
    assert_exact(network, box, {1.0: 1.0, math.inf: 1.0})


def test_ranges_hold_every_gradient_and_a_cut_decides_a_family() -> None:
    # The first two neurons are opposite, so they share a variable.
    w = np.array([[1.0, 0.5], [-2.0, -1.0], [0.25, 1.0]])
    network = ReluNetwork([w, [[1.0, 1.0, -1.0], [0.5, -1.0, 1.0]], [[1.0, -2.0]]], [[0.1, -0.2, 0.3], [0.0, 0.1], [0]])
    model = GradientModel(bounded_pieces(LipschitzProblem(network, math.inf, Box.cube(2)))[0])
    assert model.binaries == 4
    points = np.random.default_rng(42).uniform(-1, 1, (500, 2))
    gradients = gradients_at(network, points)
    assert (model.low <= gradients).all()
    assert (gradients <= model.high).all()
    assert vector_norm(gradients, 1.0).max() <= model.bound(Objective())
    assert model.cut(Conflict(((0, 1, True),)))  # never active: then the first is never inactive
    assert not model.cut(Conflict(((0, 1, True),)))
    assert model.signs[0].tolist() == [1, -1, 0]
    assert model.binaries == 3
    left = gradients[(points @ w.T + network.biases[0])[:, 0] > 0]
    assert (model.low <= left).all()
    assert (left <= model.high).all()


@pytest.mark.parametrize(
    "budget", [*(Budget(seconds=s) for s in (0, 0.05, 0.5)), Budget(nodes=0), Budget(nodes=3)], ids=str
)
def test_limits_end_in_a_valid_interval(budget: Budget) -> None:
    rng = np.random.default_rng(43)
    for domain in (Box.cube(4), WholeSpace(4)):
        network = gaussian_network([4, 8, 8, 1], rng, 0.3)
        for p in P_VALUES:
            problem = LipschitzProblem(network, p, domain)
            truth = BranchAndBound().solve(problem)
            answer = SOLVER.solve(problem, budget=budget)
            assert answer.lower <= truth.upper * (1 + 1e-12)
            assert answer.upper >= truth.lower * (1 - 1e-12)
            assert answer.status in (Status.EXACT, Status.BUDGET_SPENT)
            assert answer.stats["wall_seconds"] < 10


@pytest.mark.parametrize("backend", ["HIGHS", pytest.param("SCIP", marks=[NEEDS_SCIP, pytest.mark.backend])])
def test_the_dual_bound_is_kept_when_a_limit_ends_the_solve(backend: str) -> None:
    # Two knapsacks at once are far from solved at the root.
    import cvxpy as cp

    rng = np.random.default_rng(44)
    weights, profits = rng.integers(20, 100, (2, 40)).astype(float), rng.integers(20, 100, 40).astype(float)
    half = np.floor(weights.sum(axis=1) / 2)

    x, top = cp.Variable(40, boolean=True), cp.Variable()
    problem = cp.Problem(cp.Maximize(top), [top <= profits @ x, top >= 0, weights @ x <= half])
    stopped = run_program(problem, "HIGHS", 60, 3, 1e-9)
    assert not stopped.finished
    ended = run_program(problem, backend, 60, None, 1e-9)
    assert ended.finished
    assert ended.found
    best = round(float(profits @ np.round(np.asarray(x.value))))
    assert best <= ended.bound <= best * (1 + 1e-6)
    assert best <= stopped.bound < profits.sum()
    impossible = cp.Problem(problem.objective, [*problem.constraints, top >= best + 1])
    answer = run_program(impossible, backend, 60, None, 1e-9)
    assert (answer.bound, answer.found, answer.finished) == (-math.inf, False, True)


def test_a_wide_gap_ends_early() -> None:
    network = gaussian_network([3, 8, 6, 1], np.random.default_rng(45), 0.3)
    problem = LipschitzProblem(network, math.inf, Box.cube(3))
    exact, near, wide = (SOLVER.solve(problem, budget=Budget(relative_gap=gap)) for gap in (1e-6, 2e-6, 0.5))
    assert wide.status is near.status is exact.status is Status.EXACT
    assert wide.stats["nodes"] <= exact.stats["nodes"]
    assert wide.lower <= exact.upper
    assert wide.upper >= exact.lower


def test_ranges_far_from_the_origin_and_of_odd_scales() -> None:
    # A small box far away, neurons of very different sizes: what absolute tolerances of a solver would drown.
    rng = np.random.default_rng(46)
    base = gaussian_network([2, 5, 4, 1], rng, 0.3)
    c = np.array([1e-6, 1.0, 1e5, 1e-3, 10.0])
    w0, w1 = base.weights[0] * c[:, None], base.weights[1] / c
    centre = np.array([1e3, -2e3])
    shifted = ReluNetwork([w0, w1, base.weights[2]], [base.biases[0] * c - w0 @ centre, *base.biases[1:]])
    assert_exact_by_lp(base, Box.cube(2))
    for p in P_VALUES:
        near = SOLVER.solve(LipschitzProblem(base, p, Box.cube(2)))
        far = SOLVER.solve(LipschitzProblem(shifted, p, Box.ball(centre, 1.0)))
        assert far.status is Status.EXACT
        assert far.upper == pytest.approx(near.upper, rel=1e-7)


def test_other_exponents_are_refused() -> None:
    network = gaussian_network([2, 3, 1], np.random.default_rng(0))
    with pytest.raises(UnsupportedProblemError, match="p = 1 and p = inf"):
        SOLVER.solve(LipschitzProblem(network, 2.0))


def test_backends_are_looked_up_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    network = gaussian_network([2, 3, 1], np.random.default_rng(0))
    with pytest.raises(InputError, match="HIGHS, SCIP, GUROBI"):
        MixedInteger("CPLEX").solve(LipschitzProblem(network, 1.0))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name, package in (("SCIP", "pyscipopt"), ("GUROBI", "gurobipy")):
        with pytest.raises(MissingBackendError, match=rf"{package}.*interlip\[{name.lower()}\]"):
            MixedInteger(name).solve(LipschitzProblem(network, 1.0))
        with pytest.raises(MissingBackendError, match=package):
            lipschitz_solver_named(f"mixed-integer:{name.lower()}")
    monkeypatch.undo()
    assert lipschitz_solver_named("mixed-integer:highs") == MixedInteger("HIGHS")
    with pytest.raises(InputError, match="takes no solver"):
        lipschitz_solver_named("sampling:scip")
    check_backend("HIGHS")
    assert set(MIP_BACKENDS) == {"HIGHS", "SCIP", "GUROBI"}


@pytest.mark.backend
@NEEDS_SCIP
def test_scip_agrees() -> None:
    scip = MixedInteger("SCIP")
    rng = np.random.default_rng(47)
    network = gaussian_network([2, 5, 4, 1], rng, 0.3)
    for domain in (Box.cube(2), WholeSpace(2)):
        assert_exact_by_lp(network, domain, scip)
    assert_exact_by_lp(deep_zero_bias(2, 2, 3), Box.cube(2, 0.0, 1.0), scip)
    hard = LipschitzProblem(gaussian_network([6, 16, 12, 1], rng, 0.3), math.inf, Box.cube(6))
    answer, truth = scip.solve(hard, budget=Budget(seconds=1.0)), BranchAndBound().solve(hard)
    assert answer.lower <= truth.upper
    assert answer.upper >= truth.lower


def test_standard_output_stays_clean(tmp_path: Path) -> None:
    # HiGHS prints a banner to the file descriptor itself, once in a process.
    network = gaussian_network([2, 4, 3, 1], np.random.default_rng(48), 0.5)
    save_network(network, tmp_path / "net.npz")
    call = ["lipschitz", str(tmp_path / "net.npz"), "--method", "mixed-integer", "--p", "inf", "--box", "-1", "1"]
    answer = subprocess.run(
        [sys.executable, "-m", "cluster.cli", *call, "--json"], capture_output=True, text=True, timeout=300, check=False
    )
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert document["status"] == "exact"
    assert document["stats"]["programs"] >= 1
