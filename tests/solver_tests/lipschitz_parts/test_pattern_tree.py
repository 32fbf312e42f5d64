"""All patterns of a layer against directions: shown short exactly where every pattern is, on the last two layers.

Searches that use it, and programs for single directions, keep to constants in rationals.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from solvers.lipschitz.bounds.pattern_tree import patterns_left
from solvers.lipschitz.bounds.piece_arrays import KernelArrays, PieceArrays
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, WholeSpace
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from tests.references.random_networks import FAMILIES
from tests.references.rational_constants import exact_constant, exact_regions
from tests.strategies import gaussian_network

Case = tuple[KernelArrays, int, np.ndarray, np.ndarray]

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


def is_short(k: KernelArrays, first: int, signs: np.ndarray, chosen: np.ndarray, floor: float, work: int) -> bool:
    """Whether it is shown; directions that leave the list are short."""
    arguments = (k.weights, k.widths, k.output, k.inputs, first, signs, k.directions)
    return bool(patterns_left(*arguments, chosen.copy(), len(chosen), floor, work)[0] == 0)


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

        def short(floor: float, work: int = ENOUGH, case: Case = (k, first, signs, chosen)) -> bool:
            return is_short(*case, floor, work)

        assert truth <= 1e-12 or not short(truth * (1 - 1e-9)), trial
        assert not short(2 * truth + 1, 1), trial
        if first == depth - 2:
            assert short(truth * (1 + 1e-9) + 1e-12), trial
        shown += short(1.2 * truth + 1e-12)
    assert shown


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_searches_hold_rational_constants(family: str) -> None:
    rng = np.random.default_rng(12)
    for sizes in ([2, 5, 1], [2, 5, 4, 1], [3, 4, 4, 1], [2, 3, 3, 3, 1]):
        network = FAMILIES[family](sizes, rng)
        for domain in (WholeSpace(sizes[0]), Box.cube(sizes[0])):
            box = None if domain.bounds is None else (domain.bounds[0].tolist(), domain.bounds[1].tolist())
            gradients = [region.gradient for region in exact_regions(network.weights, network.biases, box)]
            for p in (1.0, math.inf):
                least, most = exact_constant(gradients, p)
                answer = BranchAndBound().solve(LipschitzProblem(network, p, domain))
                assert Fraction(answer.lower) <= most, (p, domain, sizes)
                assert least <= Fraction(answer.upper), (p, domain, sizes)
                assert answer.status in (Status.EXACT, Status.NUMERICAL_TROUBLE), (p, domain, sizes)


@pytest.mark.parametrize("p", [1.0, math.inf])
@pytest.mark.parametrize("sizes", [[4, 9, 8, 1], [5, 8, 8, 1], [3, 6, 6, 6, 1]], ids=str)
def test_the_same_constant_as_a_search_without_it(sizes: list[int], p: float) -> None:
    for seed in range(4):
        network = gaussian_network(sizes, np.random.default_rng(seed), 0.3)
        problem = LipschitzProblem(network, p, Box.cube(sizes[0]))
        # A search for a certificate has neither.
        answer, plain = BranchAndBound().solve(problem), BranchAndBound(certified=True).solve(problem)
        assert plain.status is answer.status is Status.EXACT
        assert max(plain.lower, answer.lower) <= min(plain.upper, answer.upper)
