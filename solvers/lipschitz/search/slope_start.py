"""Where the programs of a search begin: scaled weights of a piece, and vectors near the optimum of its root."""

from __future__ import annotations

import itertools
import math

import numpy as np

from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.slopes.kernels import RANK, SlopeArrays, slopes_bound
from solvers.lipschitz.bounds.slopes.layers import in_units, scaled_weights

__all__ = ["no_slopes", "start_slopes"]

# Sweeps at the root of a piece, and at a node, whose vectors begin near the optimum.
ROOT_SWEEPS, SWEEPS = 100, 10
# Multiplications of one proof: with more, a node takes a tenth of a second.
MOST_WORK = 3 * 10**7
# The share of multipliers and of t that a certificate leaves to the rounding of its checker.
SPARED = 1e-8
# Powers of two between the scaled network and the given one: beyond, nothing is multiplied by them.
MOST_EXPONENT = 900


def no_slopes() -> SlopeArrays:
    """A search without programs."""
    return SlopeArrays(np.zeros((0, 0, 0)), np.zeros(0), 1.0, np.zeros((0, RANK), dtype=np.float32), 0, 0.0)


def start_slopes(p: PieceArrays, recorded: bool = False) -> tuple[SlopeArrays, float] | None:
    """Programs of a piece, and a proved bound on all its gradients (inf without one).

    Args:
        recorded: whether a checker is to prove the bounds of nodes again.

    Returns:
        None where there is no program: for p = 1, whose derivatives are bounded one by one; for weights that no scaling
        brings close to each other; and for large networks.
    """
    k = p.kernel
    (depth, n), d = k.biases.shape, k.inputs.shape[1]
    work = sum(after * before * (after + before) for before, after in itertools.pairwise([d, *k.widths.tolist()]))
    if math.isinf(k.q) or work > MOST_WORK:
        return None
    scaled, shifts, representable = scaled_weights([k.inputs, *p.network.weights[1:]])
    exponent = int(shifts[-1][0])
    if not representable or abs(exponent) > MOST_EXPONENT:
        return None
    weights, output = np.zeros((depth, n, max(n, d))), np.zeros(n)
    for m, w in enumerate(scaled[:-1]):
        weights[m, : w.shape[0], : w.shape[1]] = w
    output[: k.widths[-1]] = scaled[-1][0]
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((depth * n + d, RANK))
    vectors /= np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    vectors[depth * n :] /= math.sqrt(d)
    spared = SPARED if recorded else 0.0
    start = SlopeArrays(weights, output, in_units(1.0, exponent), vectors.astype(np.float32), SWEEPS, spared)
    signs = np.zeros((depth, n), dtype=np.int8)
    codes = np.empty(len(vectors), dtype=np.int16)
    bound, _, _ = slopes_bound(start, k.widths, signs, 0, k.q, math.inf, ROOT_SWEEPS, vectors, codes)
    return start._replace(start=vectors.astype(np.float32)), float(bound)
