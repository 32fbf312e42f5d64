"""All patterns of a layer against directions: shown short exactly where every pattern is, on the last two layers."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest

from solvers.lipschitz.bounds.pattern_tree import all_patterns_short
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from tests.strategies import gaussian_network

ENOUGH = 10_000_000


def longest(network: ReluNetwork, signs: np.ndarray, directions: np.ndarray) -> float:
    """The largest |<g, c>| over all patterns, reachable or not, that agree with the decided signs."""
    choices = [[max(s, 0)] if s else [0, 1] for m, w in enumerate(network.widths) for s in signs[m, :w].tolist()]
    best = 0.0
    for choice in itertools.product(*choices):
        row, end = network.weights[-1][0], len(choice)
        for m in range(network.depth - 1, -1, -1):
            start = end - network.widths[m]
            row = (row * choice[start:end]) @ network.weights[m]
            end = start
        best = max(best, float(np.abs(row @ directions).max()))
    return best


@pytest.mark.parametrize(("sizes", "first"), [([3, 5, 4, 1], 0), ([2, 4, 4, 3, 1], 1), ([3, 4, 3, 3, 1], 0)], ids=str)
@pytest.mark.parametrize("p", [np.inf, 1.0])
def test_it_ends_exactly_where_patterns_end(sizes: list[int], first: int, p: float) -> None:
    rng = np.random.default_rng(5)
    shown = 0
    for trial in range(30):
        network = gaussian_network(sizes, rng)
        depth, n, d = network.depth, max(network.widths), sizes[0]
        signs = rng.choice([-1, 0, 0, 1], size=(depth, n)).astype(np.int8)
        signs[:first] = rng.choice([-1, 1], size=(first, n))
        signs[first, 0] = 0
        columns = np.eye(d) if p == 1 else np.array(list(itertools.product([1.0, -1.0], repeat=d))).T
        k = PieceArrays.of(bounded_pieces(LipschitzProblem(network, p, Box.cube(d)))[0], columns.T).kernel
        chosen = rng.permutation(columns.shape[1])[: 1 + trial % columns.shape[1]]
        truth = longest(network, signs, columns[:, chosen])

        arguments = (k.weights, k.widths, k.output, k.inputs, first, signs, k.directions)
        short = functools.partial(is_short, arguments, chosen)
        assert truth <= 1e-12 or not short(truth * (1 - 1e-9)), trial
        assert not short(2 * truth + 1, 1), trial
        if first == depth - 2:
            assert short(truth * (1 + 1e-9) + 1e-12), trial
        shown += short(1.2 * truth + 1e-12)
    assert shown
