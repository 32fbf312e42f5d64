"""Bounds of slope-restricted networks from their formulas, for p = 2 and R^d, in plain float64: peers, no proofs.

From the tightest to the loosest: the semidefinite program with one multiplier a neuron, stated in one piece for a
general solver (LipSDP-Neuron); with one multiplier a layer, by a local search (LipSDP-Layer); the closed form of
ECLipsE-Fast, which is such a choice; the product of spectral norms.
Sources: [FRHMP19, theorem 2]; [XS24, section 4].
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import scipy.optimize

from solvers.arithmetic.norms import FloatArray
from solvers.networks.relu import ReluNetwork


def product_of_spectral_norms(network: ReluNetwork) -> float:
    return float(np.prod([np.linalg.norm(w, 2) for w in network.weights]))


def eclipse_fast(network: ReluNetwork) -> tuple[float, list[float]]:
    """X_0 = I, lambda_l = 2 / |W X^-1 W'|, X_l = lambda I - lambda^2 / 4 W X^-1 W'; v X_L^-1 v'. And the lambdas."""
    inverse: FloatArray = np.eye(network.input_dimension)
    chosen = []
    for w in network.weights[:-1]:
        passed = w @ inverse @ w.T
        size = float(np.linalg.norm(passed, 2))
        chosen.append(2 / size)
        inverse = np.asarray(np.linalg.inv(2 / size * np.eye(len(w)) - passed / size**2), dtype=np.float64)
    v = network.weights[-1][0]
    return math.sqrt(v @ inverse @ v), chosen


def with_one_multiplier_a_layer(network: ReluNetwork, multipliers: list[float]) -> float:
    """As above with any lambdas; inf where some X_l is not positive definite."""
    inverse: FloatArray = np.eye(network.input_dimension)
    for w, value in zip(network.weights[:-1], multipliers, strict=True):
        matrix = value * np.eye(len(w)) - value**2 / 4 * (w @ inverse @ w.T)
        if np.linalg.eigvalsh(matrix)[0] <= 1e-12 * value:
            return math.inf
        inverse = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    v = network.weights[-1][0]
    return math.sqrt(v @ inverse @ v)


def one_multiplier_a_layer(network: ReluNetwork) -> float:
    """The least that a local search finds from the closed form on; no less than the optimum of LipSDP-Layer."""
    fast, start = eclipse_fast(network)

    def value(logarithms: np.ndarray) -> float:
        return min(with_one_multiplier_a_layer(network, np.exp(logarithms).tolist()), 1e300)

    found = scipy.optimize.minimize(value, np.log(start), method="Nelder-Mead", options={"maxiter": 120})
    return min(fast, float(found.fun))


def one_multiplier_a_neuron(network: ReluNetwork, p: float, solver: str = "CLARABEL") -> float:
    """The program in one piece, for p = 2 or inf, by a general solver: its optimum up to the solver's tolerance."""
    cp: Any = importlib.import_module("cvxpy")
    d, widths = network.input_dimension, network.widths
    count = sum(widths)
    a = np.zeros((count, d + count))
    column, row = 0, 0
    for w in network.weights[:-1]:
        a[row : row + len(w), column : column + w.shape[1]] = w
        row, column = row + len(w), column + w.shape[1]
    c = np.zeros(d + count)
    c[column:] = network.weights[-1][0]
    pick = np.hstack([np.zeros((count, d)), np.eye(count)])
    multipliers = cp.Variable(count, nonneg=True)
    t = cp.Variable(d, nonneg=True) if math.isinf(p) else cp.Variable(1, nonneg=True) * np.ones(d)
    coupled = pick.T @ cp.diag(multipliers) @ (pick - a)
    matrix = coupled + coupled.T - np.outer(c, c) + cp.diag(cp.hstack([t, np.zeros(count)]))
    slack = cp.Variable((d + count, d + count), PSD=True)
    total = cp.sum(t) if math.isinf(p) else t[0]
    program = cp.Problem(cp.Minimize(total), [matrix == slack])
    program.solve(solver=solver)
    assert program.status == "optimal", program.status
    return math.sqrt(float(program.value))
