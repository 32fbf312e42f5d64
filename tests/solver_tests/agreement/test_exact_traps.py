"""Every trap of `tests.references.traps`, for every exact method, every p it takes, on all of space and on boxes."""

from __future__ import annotations

import numpy as np
import pytest

from solvers.arithmetic.norms import dual_exponent
from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from tests.references.exact_methods import EXACT, assert_interval_holds, solved
from tests.references.traps import P_VALUES, Trap, deep_zero_bias, traps

TRAPS = traps()
methods = pytest.mark.parametrize("solver", EXACT.values(), ids=EXACT)


def assert_not_fooled(solver: AbstractLipschitzSolver, trap: Trap) -> None:
    """Exact, attained in rational arithmetic, and the truth of linear programs, for every p that the method takes."""
    for p, answer in solved(solver, trap.network, trap.domain).items():
        truth = trap.truth()[p]
        told = f"{solver.name}, {trap.name}, p = {p}"
        assert_interval_holds(told, answer, truth)
        assert answer.status is Status.EXACT, told
        assert answer.lower == pytest.approx(truth, rel=1e-7, abs=0), told
        assert answer.upper == pytest.approx(truth, rel=1.1e-6, abs=0), told


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_linear_programs_agree_with_the_closed_form(trap: Trap) -> None:
    if trap.constant is None:
        assert max(trap.truth().values()) > 0  # the interesting ones are no zero functions
        return
    for p, value in trap.truth().items():
        assert value == pytest.approx(trap.constant(dual_exponent(p)), rel=1e-12, abs=1e-15)


@methods
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_no_method_is_fooled(solver: AbstractLipschitzSolver, trap: Trap) -> None:
    assert_not_fooled(solver, trap)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_two_methods_judge_every_trap(trap: Trap) -> None:
    for p in P_VALUES:
        problem = LipschitzProblem(trap.network, p, trap.domain)
        assert sum(solver.refuses(problem) is None for solver in EXACT.values()) >= 2


def assert_not_fooled_by_cones(solver: AbstractLipschitzSolver, d: int, depth: int, width: int) -> None:
    network = deep_zero_bias(d, depth, width)
    domains: list[Domain] = [WholeSpace(d), Box.cube(d, -0.1, 0.3)]
    if d <= 5:  # the origin in a corner, or outside; vertex enumeration goes through 3^d faces there
        domains += [Box.cube(d, 0.0, 1.0), Box.cube(d, 0.25, 0.5)]
    for domain in domains:
        assert_not_fooled(solver, Trap(f"zero bias d = {d}, L = {depth}, {domain}", network, domain))


@methods
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("d", [2, 3, 4, 8])
def test_deep_networks_without_biases(solver: AbstractLipschitzSolver, d: int, depth: int) -> None:
    assert_not_fooled_by_cones(solver, d, depth, {2: 4, 3: 3, 4: 3, 8: 2}[d])


@pytest.mark.slow
@methods
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("d", [2, 3, 4, 5, 6, 7, 8])
def test_wider_deep_networks_without_biases(solver: AbstractLipschitzSolver, d: int, depth: int) -> None:
    assert_not_fooled_by_cones(solver, d, depth, {2: 8, 3: 6, 4: 5, 5: 4, 6: 4, 7: 3, 8: 3}[d])


@methods
def test_a_dead_first_layer_kills_no_bound_above(solver: AbstractLipschitzSolver) -> None:
    # Zero biases, depth 3: on the cone where the first layer is off all of f is 0, so a box inside it has constant 0.
    network = deep_zero_bias(2, 3, 2, seed=1)
    inside = np.linalg.solve(network.weights[0], [-1.0, -1.0])
    box = Box.ball(inside, 0.05 * float(np.abs(inside).max()))
    trap = Trap("inside the dead cone", network, box, lambda q: 0.0)
    assert max(trap.truth().values()) == 0.0
    assert_not_fooled(solver, trap)
