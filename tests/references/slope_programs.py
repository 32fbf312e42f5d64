"""Bounds of slope-restricted networks from their formulas, for p = 2 and R^d, in plain float64: peers, no proofs.

From the tightest to the loosest: the semidefinite program with one multiplier a neuron, stated in one piece for a
general solver (LipSDP-Neuron); with one multiplier a layer, by a local search (LipSDP-Layer); the closed form of
ECLipsE-Fast, which is such a choice; the product of spectral norms.
On a box interval arithmetic says which slopes are free, and bounds the Jacobian; ECLipsE has a closed form there too.
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
from solvers.problems.domains import Box


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


def interval_signs(network: ReluNetwork, box: Box) -> list[np.ndarray]:
    """1, -1 or 0 for every hidden neuron: its sign on the box by interval arithmetic, 0 where that says none."""
    low, high, signs = box.lower, box.upper, []
    for w, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
        up, down = np.maximum(w, 0), np.minimum(w, 0)
        low, high = up @ low + down @ high + b, up @ high + down @ low + b
        signs.append((low > 0).astype(int) - (high < 0))
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    return signs


def interval_jacobian(network: ReluNetwork, signs: list[np.ndarray]) -> float:
    """sqrt of the sum of squares of the largest entries that the gradient may have, by interval arithmetic."""
    low = high = network.weights[0]
    for w, sign in zip(network.weights[1:], signs, strict=True):
        off, on = (sign <= 0)[:, None], (sign >= 0)[:, None]
        low, high = np.where(off, np.minimum(low, 0), low) * on, np.where(off, np.maximum(high, 0), high) * on
        up, down = np.maximum(w, 0), np.minimum(w, 0)
        low, high = up @ low + down @ high, up @ high + down @ low
    return float(np.linalg.norm(np.maximum(np.abs(low), np.abs(high))))


def eclipse_local(network: ReluNetwork, signs: list[np.ndarray]) -> float:
    """ECLipsE-Fast with the slopes of neurons of known sign fixed at 1 or 0: the closed form of ECLipsE-Gen-Local.

    With M = X^-1 and K = W M W': an active neuron keeps its row of K, a silent one drops it. Free neurons f beside the
    active ones a have lambda = 2 / |K_ff|, and the inverse of X by blocks is M_ff = (lambda I - lambda^2 / 4 K_ff)^-1,
    M_af = lambda / 2 K_af M_ff, M_aa = K_aa + lambda^2 / 4 K_af M_ff K_fa.
    """
    passed: FloatArray = np.eye(network.input_dimension)
    for w, sign in zip(network.weights[:-1], signs, strict=True):
        kernel = w @ passed @ w.T
        free, active = np.flatnonzero(sign == 0), np.flatnonzero(sign > 0)
        following = np.zeros_like(kernel)
        following[np.ix_(active, active)] = kernel[np.ix_(active, active)]
        if len(free):
            inner = kernel[np.ix_(free, free)]
            size = float(np.linalg.norm(inner, 2))
            inverse = np.linalg.inv(2 / size * np.eye(len(free)) - inner / size**2)
            mixed = kernel[np.ix_(active, free)] / size
            following[np.ix_(free, free)] = inverse
            following[np.ix_(active, free)] = mixed @ inverse
            following[np.ix_(free, active)] = following[np.ix_(active, free)].T
            following[np.ix_(active, active)] += mixed @ inverse @ mixed.T
        passed = following
    v = network.weights[-1][0]
    return math.sqrt(v @ passed @ v)


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
