"""Solvers of mixed-integer programs behind cvxpy: options, and what they prove.

A solver that says "optimal" means its own gap and tolerances, so both are set; at a time limit HiGHS says
"user_limit", SCIP "optimal_inaccurate". The proved bound is asked for by itself, whatever the status.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from solvers.errors import InputError, MissingBackendError

if TYPE_CHECKING:
    import cvxpy

__all__ = ["MIP_BACKENDS", "MipAnswer", "check_backend", "run_program"]

TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class MipAnswer:
    """How one program ended.

    Attributes:
        bound: no feasible point has a larger objective, up to the solver's tolerances; -inf where it found the
            program infeasible, inf where it proved nothing.
        found: whether the variables hold a feasible point.
        finished: the gap is closed, or there is no point.
        nodes: of the solver's tree.
    """

    bound: float
    found: bool
    finished: bool
    nodes: float


@dataclass(frozen=True, slots=True)
class _Backend:
    """One solver: its package, the extra that brings it, its options for (seconds, nodes, gap), its bound and nodes."""

    package: str
    extra: str
    options: Callable[[float, int | None, float], dict[str, Any]]
    bound: Callable[[Any], float]
    nodes: Callable[[Any], float]


def _highs_options(seconds: float, nodes: int | None, gap: float) -> dict[str, Any]:
    return {
        "output_flag": False,
        "threads": 1,
        "random_seed": 0,
        "time_limit": seconds,
        "mip_max_nodes": nodes if nodes is not None else 2**31 - 1,
        "mip_rel_gap": gap,
        "mip_abs_gap": gap,
        "mip_feasibility_tolerance": TOLERANCE,
        "primal_feasibility_tolerance": TOLERANCE,
        "dual_feasibility_tolerance": TOLERANCE,
        "small_matrix_value": 1e-12,
    }


def _scip_options(seconds: float, nodes: int | None, gap: float) -> dict[str, Any]:
    return {
        "scip_params": {
            "limits/time": min(seconds, 1e20),
            "limits/nodes": nodes if nodes is not None else -1,
            "limits/gap": gap,
            "limits/absgap": gap,
            "numerics/feastol": TOLERANCE,
            "numerics/dualfeastol": TOLERANCE,
            "parallel/maxnthreads": 1,
        }
    }


def _gurobi_options(seconds: float, nodes: int | None, gap: float) -> dict[str, Any]:
    return {
        "TimeLimit": seconds,
        "NodeLimit": nodes if nodes is not None else math.inf,
        "MIPGap": gap,
        "MIPGapAbs": gap,
        "FeasibilityTol": TOLERANCE,
        "OptimalityTol": TOLERANCE,
        "IntFeasTol": TOLERANCE,
        "Threads": 1,
        "OutputFlag": 0,
    }


# cvxpy hands a maximisation on as the minimisation of its negative.
MIP_BACKENDS: dict[str, _Backend] = {
    "HIGHS": _Backend(
        "highspy", "", _highs_options, lambda stats: -stats.mip_dual_bound, lambda stats: float(stats.mip_node_count)
    ),
    "SCIP": _Backend(
        "pyscipopt",
        "scip",
        _scip_options,
        lambda stats: -stats["model"].getDualbound(),
        lambda stats: float(stats["model"].getNTotalNodes()),
    ),
    "GUROBI": _Backend(
        "gurobipy", "gurobi", _gurobi_options, lambda stats: -stats.ObjBound, lambda stats: float(stats.NodeCount)
    ),
}


def check_backend(name: str) -> None:
    """Whether a solver is there, without importing it.

    Raises:
        InputError: unknown.
        MissingBackendError: not installed; names the extra.
    """
    if name not in MIP_BACKENDS:
        raise InputError(f"unknown mixed-integer solver {name!r} (known: {', '.join(MIP_BACKENDS)})")
    backend = MIP_BACKENDS[name]
    if importlib.util.find_spec(backend.package) is None:
        raise MissingBackendError(f"the mixed-integer solver {name}", backend.package, backend.extra)


@functools.cache
def _greet_highs() -> None:
    """Have HiGHS print its banner, which it does once in a process and to standard output, where nobody reads it.

    The command line keeps standard output for its JSON, so the file descriptor itself is turned away for a moment.
    """
    import highspy

    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        highspy.Highs()  # type: ignore[no-untyped-call]
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def run_program(problem: cvxpy.Problem, name: str, seconds: float, nodes: int | None, gap: float) -> MipAnswer:
    """Solve a maximisation whose objective is one variable, without a constant.

    Args:
        name: one of MIP_BACKENDS.
        seconds, nodes: limits.
        gap: relative and absolute gap at which the solver may stop.
    """
    import cvxpy as cp

    backend = MIP_BACKENDS[name]
    if name == "HIGHS":
        _greet_highs()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "solution may be inaccurate" at a limit: the status says so
            problem.solve(  # type: ignore[no-untyped-call]
                solver=name, warm_start=False, **backend.options(seconds, nodes, gap)
            )
    except (cp.error.SolverError, ValueError):
        # Refused by the solver; or SCIP ran out of nodes, or of time before it had a point: cvxpy then drops its bound.
        return MipAnswer(math.inf, False, False, 0.0)
    stats = problem.solver_stats.extra_stats
    nodes_used = backend.nodes(stats)
    if problem.status in (cp.INFEASIBLE, cp.settings.INFEASIBLE_OR_UNBOUNDED):
        return MipAnswer(-math.inf, False, True, nodes_used)  # every variable has bounds
    with_point = problem.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE, cp.USER_LIMIT)
    found = with_point and problem.value is not None and math.isfinite(problem.value)
    bound = backend.bound(stats)
    return MipAnswer(math.inf if math.isnan(bound) else bound, found, problem.status == cp.OPTIMAL, nodes_used)
