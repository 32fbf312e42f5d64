"""An independent exact method, written only for the tests: every feasible activation pattern, by linear programs.

Neuron by neuron, layer by layer, a partial pattern is kept if some point satisfies all its signs with a positive
margin. No vertices, no arrangement theory, nothing shared with the solvers but the definition of the network.
"""

from __future__ import annotations

from collections.abc import Iterator

import highspy
import numpy as np

from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain

MARGIN = 1e-8
# One model after the other: making an instance takes as long as a small program.
_HIGHS = highspy.Highs()
_HIGHS.setOptionValue("output_flag", False)
_HIGHS.setOptionValue("threads", 1)


def largest_margin(rows: np.ndarray, offsets: np.ndarray, domain: Domain) -> tuple[float, np.ndarray]:
    """max eps <= 1 with rows x + offsets >= eps |row| and x at least eps inside the box; a point (d,) with that eps."""
    d = domain.dimension
    matrix, right = np.column_stack([rows, -np.sqrt((rows**2).sum(axis=1))]), -offsets
    if isinstance(domain, Box):
        one = np.ones((d, 1))
        matrix = np.vstack([matrix, np.hstack([np.eye(d), -one]), np.hstack([-np.eye(d), -one])])
        right = np.concatenate([right, domain.lower, -domain.upper])
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = d + 1, len(matrix)
    program.col_cost_ = np.append(np.zeros(d), -1.0)
    program.col_lower_ = np.full(d + 1, -highspy.kHighsInf)
    program.col_upper_ = np.append(np.full(d, highspy.kHighsInf), 1.0)
    program.row_lower_, program.row_upper_ = right, np.full(len(right), highspy.kHighsInf)
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    program.a_matrix_.start_ = np.arange(len(matrix) + 1) * (d + 1)
    program.a_matrix_.index_ = np.tile(np.arange(d + 1), len(matrix))
    program.a_matrix_.value_ = matrix.ravel()
    _HIGHS.passModel(program)
    _HIGHS.run()
    assert _HIGHS.getModelStatus() == highspy.HighsModelStatus.kOptimal, _HIGHS.getModelStatus()
    solution = np.array(_HIGHS.getSolution().col_value)
    return float(solution[-1]), solution[:-1]


def regions(network: ReluNetwork, domain: Domain) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray]]:
    """Patterns of all full-dimensional regions in the domain, and their gradients (d,).

    A neuron that vanishes identically on a region is listed as inactive; it adds no gradient either way.
    """
    d = network.input_dimension

    def extend(
        layer: int, neuron: int, rows: np.ndarray, offsets: np.ndarray, slope: np.ndarray, shift: np.ndarray,
        pattern: list[list[bool]],
    ) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray]]:  # fmt: skip
        if layer == network.depth:
            yield tuple(np.array(p) for p in pattern[: network.depth]), (network.weights[-1] @ slope)[0]
            return
        if neuron == network.widths[layer]:
            active = np.array(pattern[layer])
            a = (network.weights[layer] @ slope) * active[:, None]
            c = (network.weights[layer] @ shift + network.biases[layer]) * active
            yield from extend(layer + 1, 0, rows, offsets, a, c, [*pattern, []])
            return
        a = network.weights[layer][neuron] @ slope
        c = float(network.weights[layer][neuron] @ shift + network.biases[layer][neuron])
        for on in (False, True):
            following = [*pattern[:layer], [*pattern[layer], on]]
            if np.abs(a).max() < 1e-13:
                if on == (c > 1e-13):
                    yield from extend(layer, neuron + 1, rows, offsets, slope, shift, following)
                continue
            sign = 1.0 if on else -1.0
            new_rows, new_offsets = np.vstack([rows, sign * a]), np.append(offsets, sign * c)
            if largest_margin(new_rows, new_offsets, domain)[0] > MARGIN:
                yield from extend(layer, neuron + 1, new_rows, new_offsets, slope, shift, following)

    yield from extend(0, 0, np.zeros((0, d)), np.zeros(0), np.eye(d), np.zeros(d), [[]])


def lipschitz_by_lp(network: ReluNetwork, domain: Domain, dual_exponents: list[float]) -> dict[float, float]:
    """max ||gradient||_q over all regions, for several q at once."""
    best = dict.fromkeys(dual_exponents, 0.0)
    for _, gradient in regions(network, domain):
        for q in dual_exponents:
            best[q] = max(best[q], float(np.linalg.norm(gradient, q)))
    return best
