"""An independent exact method, written only for the tests: every feasible activation pattern, by linear programs.

Neuron by neuron, layer by layer, a partial pattern is kept if some point satisfies all its signs with a positive
margin. No vertices, no arrangement theory, nothing shared with the solvers but the definition of the network.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.optimize import linprog

from solvers.domains import Box, Domain
from solvers.networks import ReluNetwork

MARGIN = 1e-8


def largest_margin(rows: np.ndarray, offsets: np.ndarray, domain: Domain) -> float:
    """max eps <= 1 with rows x + offsets >= eps |row| and x at least eps inside the box."""
    d = domain.dimension
    lengths = np.sqrt((rows**2).sum(axis=1))
    constraints = [np.hstack([-rows, lengths[:, None]])]
    right = [offsets]
    if isinstance(domain, Box):
        one = np.ones((d, 1))
        constraints += [np.hstack([-np.eye(d), one]), np.hstack([np.eye(d), one])]
        right += [-domain.lower, domain.upper]
    answer = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.vstack(constraints),
        b_ub=np.concatenate(right),
        bounds=[(None, None)] * d + [(None, 1.0)],
        method="highs-ds",
    )
    assert answer.status == 0, answer.message
    return -float(answer.fun)


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
            yield tuple(np.array(p) for p in pattern), (network.weights[-1] @ slope)[0]
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
                if on == (c > 0):
                    yield from extend(layer, neuron + 1, rows, offsets, slope, shift, following)
                continue
            sign = 1.0 if on else -1.0
            new_rows, new_offsets = np.vstack([rows, sign * a]), np.append(offsets, sign * c)
            if largest_margin(new_rows, new_offsets, domain) > MARGIN:
                yield from extend(layer, neuron + 1, new_rows, new_offsets, slope, shift, following)

    yield from extend(0, 0, np.zeros((0, d)), np.zeros(0), np.eye(d), np.zeros(d), [[]])


def lipschitz_by_lp(network: ReluNetwork, domain: Domain, dual_exponents: list[float]) -> dict[float, float]:
    """max ||gradient||_q over all regions, for several q at once."""
    best = dict.fromkeys(dual_exponents, 0.0)
    for _, gradient in regions(network, domain):
        for q in dual_exponents:
            best[q] = max(best[q], float(np.linalg.norm(gradient, q)))
    return best
