"""Shallow networks as hyperplane arrangements: f(x) = sum_j v_j relu(w_j x + b_j) + const.

The gradient jumps across each hyperplane {w_j x + b_j = 0}; neurons on the same hyperplane are merged, constant ones
dropped, and the arrangement is written in coordinates of the row space of W, where it has full rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rounding import EPSILON
from solvers.lipschitz.shallow.exact_cells import pivot_columns
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Domain

__all__ = ["ShallowNetwork", "shallow_form"]


@dataclass(frozen=True, slots=True, eq=False)
class ShallowNetwork:
    """A network with at most one hidden layer in the form that enumeration needs.

    Attributes:
        rows, offsets: (M, d), (M,): M distinct hyperplanes rows x + offsets = 0.
        normals: (M, r): the rows in row-space coordinates, r their rank.
        basis: (d, r): row-space coordinates y = basis^T x; the identity when r = d.
        jumps: (M, d): what the gradient gains from the negative to the positive side of a hyperplane.
        base: (d,): the gradient where every sign is negative.
        central: every hyperplane passes through the origin.
        doubtful_rank: rounding hides the rank of the rows; `normals` cannot be trusted.
        slack: (d,): bound on the rounding error of any gradient assembled from `base` and `jumps`.
        owners: (N,): for every neuron the hyperplane it lies on, or -1 where it is constant.
        orientations: (N,): +1 where a neuron is active on the positive side of its hyperplane, else -1.
        cancelled: some neurons form no kink together and were dropped; their own signs are not known from the cell.
    """

    rows: FloatArray
    offsets: FloatArray
    normals: FloatArray
    basis: FloatArray
    jumps: FloatArray
    base: FloatArray
    central: bool
    doubtful_rank: bool
    slack: FloatArray
    owners: NDArray[np.int64]
    orientations: FloatArray
    cancelled: bool

    @property
    def count(self) -> int:
        """M."""
        return len(self.offsets)


def shallow_form(network: ReluNetwork, domain: Domain) -> ShallowNetwork:
    """Merge coincident neurons, drop constant ones, project on the row space.

    Neurons are merged only where their hyperplanes coincide in exact arithmetic. On a box the coordinates stay those
    of x, since its faces are hyperplanes too.
    """
    d = network.input_dimension
    w, b = network.weights[0], network.biases[0]
    v = network.weights[-1][0] if network.depth else np.zeros(0)
    if not network.depth:
        w, b = np.zeros((0, d)), np.zeros(0)
    owners = np.full(len(v), -1, dtype=np.int64)
    orientations = np.ones(len(v))
    first: list[int] = []
    buckets: dict[tuple[float, ...], list[int]] = {}
    for j in np.flatnonzero(w.any(axis=1)):
        pivot = int(np.flatnonzero(w[j])[0])
        with np.errstate(over="ignore", under="ignore"):  # rows that are told apart below all the same
            key = (*(w[j] / w[j, pivot] + 0.0).tolist(), float(b[j] / w[j, pivot] + 0.0))
        bucket = buckets.setdefault(key, [])
        same = next((h for h in bucket if _same_hyperplane(w, b, first[h], int(j), pivot)), None)
        if same is None:
            same = len(first)
            bucket.append(same)
            first.append(int(j))
        owners[j] = same
        orientations[j] = 1.0 if w[j, pivot] * w[first[same], pivot] > 0 else -1.0
    jumps = np.zeros((len(first), d))
    base = np.zeros(d) if network.depth else np.array(network.weights[0][0])
    turned: list[int] = []
    for h, members in _members(owners, len(first)).items():
        jumps[h] = _exact_sum(v, w, members, orientations[members])
        turned += [j for j in members if orientations[j] < 0]
    if turned:
        base = _exact_sum(v, w, turned, np.ones(len(turned)))
    # Where the members of a hyperplane cancel exactly there is no kink: the gradient is the same on both sides.
    kept = np.flatnonzero(jumps.any(axis=1)) if len(first) else np.zeros(0, dtype=np.int64)
    cancelled = len(kept) < len(first)
    place = np.full(len(first) + 1, -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    owners, first, jumps = place[owners], [first[h] for h in kept], jumps[kept]
    rows, offsets = np.array(w[first]).reshape(-1, d), np.array(b[first])
    normals, basis, doubtful = rows, np.eye(d), False
    if first and not domain.is_bounded:
        scaled = rows / np.abs(rows).max(axis=1, keepdims=True)
        _, sizes, right = np.linalg.svd(scaled, full_matrices=False)
        rank = int((sizes > sizes[0] * 1e-12).sum())
        if rank < d:
            doubtful = exact_rank(rows) != rank
            basis = right[:rank].T
            normals = rows @ basis
    # Every jump is rounded once, then M + 1 numbers are added [Hig02, section 4.2].
    slack = (len(first) + 2) * EPSILON * (np.abs(jumps).sum(axis=0) + np.abs(base)) if len(first) else np.zeros(d)
    central = not offsets.any()
    return ShallowNetwork(
        rows, offsets, normals, basis, jumps, base, central, doubtful, slack, owners, orientations, cancelled
    )


def _members(owners: NDArray[np.int64], count: int) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {h: [] for h in range(count)}
    for j in np.flatnonzero(owners >= 0):
        found[int(owners[j])].append(int(j))
    return found


def _exact_sum(v: FloatArray, w: FloatArray, members: list[int], signs: FloatArray) -> FloatArray:
    """sum_j signs_j v_j w_j over the members, each entry rounded once."""
    if len(members) == 1:
        return np.asarray(v[members[0]] * signs[0] * w[members[0]])
    factors = [Fraction(float(v[j])) * int(s) for j, s in zip(members, signs, strict=True)]
    columns = zip(*(w[j].tolist() for j in members), strict=True)
    return np.array(
        [float(sum((f * Fraction(x) for f, x in zip(factors, column, strict=True)), Fraction(0))) for column in columns]
    )


def _same_hyperplane(w: FloatArray, b: FloatArray, i: int, j: int, pivot: int) -> bool:
    """Whether neurons i and j vanish on the same hyperplane, exactly."""
    left, right = (*w[i].tolist(), float(b[i])), (*w[j].tolist(), float(b[j]))
    p, q = Fraction(left[pivot]), Fraction(right[pivot])
    return all(Fraction(a) * q == Fraction(c) * p for a, c in zip(left, right, strict=True))


def exact_rank(rows: FloatArray) -> int:
    """Rank of a float64 matrix in exact arithmetic."""
    return len(pivot_columns([tuple(Fraction(value) for value in row) for row in rows.tolist()]))
