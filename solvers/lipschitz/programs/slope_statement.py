"""The semidefinite program for multipliers of slopes, stated in one piece for a solver behind cvxpy.

Over inputs x and free neurons z, with a = A (x, z) their pre-activations and f = c (x, z),

    minimise ||t||_{p / (p - 2)} over t, lambda >= 0 with  diag(t) + 2 sum lambda_i z_i (z_i - a_i) - f^2 >= 0.

A reference for small networks: seconds for two layers of 20 neurons, minutes and gigabytes for three of 64, where
`bounds.slopes.vectors` takes hundredths of a second. What a solver calls its optimum proves nothing: SCS has been seen
below the true one. So its multipliers are taken alone, made positive, and proved as any others.

Sources: [FRHMP19, theorem 2] for the program; [WPJ22] for other norms.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError, MissingBackendError
from solvers.lipschitz.bounds.slopes.layers import SlopeLayers
from solvers.lipschitz.bounds.slopes.vectors import Multipliers

__all__ = ["SEMIDEFINITE_BACKENDS", "Stated", "check_semidefinite_backend", "solve_statement", "too_large_to_state"]

# Of the largest multiplier of a layer, what every other has at least.
LEAST_SHARE = 1e-9
# Inputs and free neurons up to which a program is written down: it fills the memory beyond.
MOST_SIDES = 250


@dataclass(frozen=True, slots=True)
class _Backend:
    """One solver: its package, the extra that brings it, its options for so many seconds."""

    package: str
    extra: str
    options: Callable[[float], dict[str, Any]]


def _clarabel_options(seconds: float) -> dict[str, Any]:
    return {"time_limit": min(seconds, 1e9), "max_threads": 1}


def _scs_options(seconds: float) -> dict[str, Any]:
    return {"time_limit_secs": 0.0 if math.isinf(seconds) else max(seconds, 1e-3), "eps": 1e-6, "max_iters": 20_000}


def _mosek_options(seconds: float) -> dict[str, Any]:
    limit = {} if math.isinf(seconds) else {"MSK_DPAR_OPTIMIZER_MAX_TIME": seconds}
    return {"mosek_params": {"MSK_IPAR_NUM_THREADS": 1, **limit}}


SEMIDEFINITE_BACKENDS: dict[str, _Backend] = {
    "CLARABEL": _Backend("clarabel", "", _clarabel_options),
    "SCS": _Backend("scs", "", _scs_options),
    "MOSEK": _Backend("mosek", "mosek", _mosek_options),
}


def check_semidefinite_backend(name: str) -> None:
    """Whether a solver is there, without importing it.

    Raises:
        InputError: unknown.
        MissingBackendError: not installed.
    """
    if name not in SEMIDEFINITE_BACKENDS:
        known = ", ".join(SEMIDEFINITE_BACKENDS)
        raise InputError(f"unknown solver of semidefinite programs {name!r} (known: {known})")
    backend = SEMIDEFINITE_BACKENDS[name]
    if importlib.util.find_spec(backend.package) is None:
        raise MissingBackendError(f"the solver {name} of semidefinite programs", backend.package, backend.extra)


@dataclass(frozen=True, slots=True)
class Stated:
    """What a solver says.

    Attributes:
        status: its own word, as cvxpy passes it on.
        value: the bound that it claims, in the units of the scaled network: proves nothing; NaN without one.
        multipliers: repaired; None without any.
    """

    status: str
    value: float
    multipliers: Multipliers | None


def too_large_to_state(layers: SlopeLayers) -> str:
    """Why no program is written down; empty where one is."""
    sides = layers.inputs + sum(layers.free)
    if sides <= MOST_SIDES:
        return ""
    return f"a program over {sides} inputs and neurons is too large to be stated in one piece (at most {MOST_SIDES})"


def solve_statement(layers: SlopeLayers, p: float, name: str, seconds: float) -> Stated:
    """State the program for p >= 2, have it solved, and repair the multipliers.

    Args:
        layers: the slopes, neither constant nor too large.
        name: one of SEMIDEFINITE_BACKENDS.
        seconds: a limit, as far as the solver keeps it.
    """
    cp: Any = importlib.import_module("cvxpy")
    pre, output = _linear_forms(layers)
    d, count = layers.inputs, sum(layers.free)
    # The solver's tolerances are for numbers around 1: the bound is measured by a length that is near it.
    unit = _unit(layers)
    t, multiplier = cp.Variable(d, nonneg=True), cp.Variable(count, nonneg=True)
    pick = np.hstack([np.zeros((count, d)), np.eye(count)])
    coupled = pick.T @ cp.diag(multiplier) @ (pick - pre)
    matrix = coupled + coupled.T - np.outer(output, output) / unit**2 + cp.diag(cp.hstack([t, np.zeros(count)]))
    slack = cp.Variable((d + count, d + count), PSD=True)
    size = cp.max(t) if p == 2 else cp.sum(t) if math.isinf(p) else cp.pnorm(t, p / (p - 2))
    program = cp.Problem(cp.Minimize(size), [matrix == slack])
    with contextlib.suppress(cp.error.SolverError, ValueError), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "solution may be inaccurate": the status says so
        options = SEMIDEFINITE_BACKENDS[name].options(seconds)
        program.solve(solver=name, warm_start=False, **options)
    status = str(program.status) if program.status is not None else "failed"
    if multiplier.value is None or t.value is None or not np.isfinite(multiplier.value).all():
        return Stated(status, math.nan, None)
    value = math.nan if program.value is None else unit * math.sqrt(max(float(program.value), 0.0))
    repaired = []
    for part in np.split(multiplier.value, np.cumsum(layers.free)[:-1]):
        repaired.append(_positive(part * unit**2))
    return Stated(status, value, Multipliers(tuple(repaired), _positive(t.value)))


def _linear_forms(layers: SlopeLayers) -> tuple[FloatArray, FloatArray]:
    """Pre-activations of all free neurons, and the output, as functions of inputs and free neurons."""
    d, count = layers.inputs, sum(layers.free)
    rows: FloatArray = np.eye(d, d + count)
    found, start = [], d
    for w, free in zip(layers.weights, layers.free, strict=True):
        rows = w @ rows
        found.append(rows[:free].copy())
        rows[:free] = 0.0
        rows[np.arange(free), start + np.arange(free)] = 1.0
        start += free
    return np.concatenate(found), layers.output @ rows


def _unit(layers: SlopeLayers) -> float:
    """A power of two near the longest gradient that slopes of one half give."""
    product = layers.output
    for w, free in zip(reversed(layers.weights), reversed(layers.free), strict=True):
        product = np.where(np.arange(len(w)) < free, 0.5, 1.0) * product @ w
    length = float(np.linalg.norm(product))
    return math.ldexp(1.0, math.frexp(length)[1]) if 0 < length < math.inf else 1.0


def _positive(values: FloatArray) -> FloatArray:
    largest = float(np.max(values, initial=0.0))
    return np.maximum(values, LEAST_SHARE * largest) if largest > 0 else np.ones_like(values)
