"""Programs over slopes at the nodes of a search: no pattern's gradient is longer, no constant changes, fewer nodes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from solvers.lipschitz import branch_and_bound
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.bounds.slopes.grid import code_above, from_code
from solvers.lipschitz.bounds.slopes.kernels import RANK, slopes_bound
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.search.expansion import expand, root_node
from solvers.lipschitz.search.slope_start import start_slopes
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from tests.references.random_networks import FAMILIES
from tests.references.rational_constants import exact_constant, exact_regions
from tests.references.slope_programs import one_multiplier_a_neuron
from tests.strategies import gaussian_network

P_VALUES = (1.1, 1.5, 2.0, 3.0, 8.0, math.inf)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches ask for programs at once, and whatever they give."""
    for name in ("PLAIN", "SHALLOW_PLAIN"):
        monkeypatch.setattr(branch_and_bound, name, 0)
    for name in ("WORTH", "SHALLOW_WORTH"):
        monkeypatch.setattr(branch_and_bound, name, math.inf)


def pattern_gradients(network: ReluNetwork, signs: np.ndarray) -> list[list[Fraction]]:
    """The gradients of all patterns, reachable or not, that agree with the decided signs."""
    weights = [[[Fraction(float(v)) for v in row] for row in w] for w in network.weights]
    places = [(m, i) for m, width in enumerate(network.widths) for i in range(width)]
    found = []
    for choice in itertools.product((0, 1), repeat=len(places)):
        if any(signs[place] and on != (signs[place] > 0) for place, on in zip(places, choice, strict=True)):
            continue
        on = dict(zip(places, choice, strict=True))
        row = weights[-1][0]
        for m in range(network.depth - 1, -1, -1):
            row = [v if on[m, i] else Fraction(0) for i, v in enumerate(row)]
            columns = list(zip(*weights[m], strict=True))
            row = [sum((v * w for v, w in zip(row, column, strict=True)), Fraction(0)) for column in columns]
        found.append(row)
    return found


@pytest.mark.parametrize("sizes", [[3, 5, 1], [2, 4, 3, 1], [5, 2, 3, 2, 1]], ids=str)
def test_no_pattern_of_a_node_has_a_longer_gradient(sizes: list[int]) -> None:
    rng = np.random.default_rng(3)
    for trial in range(6):
        network = gaussian_network(sizes, rng)
        depth, n = network.depth, max(network.widths)
        signs = rng.choice([-1, 0, 0, 1], size=(depth, n)).astype(np.int8)
        gradients = pattern_gradients(network, signs)
        for p in P_VALUES:
            problem = LipschitzProblem(network, p, Box.cube(sizes[0]))
            arrays = PieceArrays.of(bounded_pieces(LipschitzProblem(network, p, Box.cube(sizes[0], 0.5, 1.0)))[0], None)
            begun = start_slopes(arrays)
            assert begun is not None
            slopes, _ = begun
            truth = exact_constant(gradients, p)[0]
            for sweeps in (1, 3, 10, 100):
                vectors, codes = slopes.start.astype(np.float64), np.empty(len(slopes.start), dtype=np.int16)
                bound, _, _ = slopes_bound(
                    slopes, arrays.kernel.widths, signs, 0, problem.dual_p, math.inf, sweeps, vectors, codes
                )
                assert Fraction(float(bound)) >= truth if math.isfinite(bound) else sweeps < 100, (trial, p, sweeps)


@pytest.mark.parametrize("p", [2.0, math.inf])
def test_the_root_is_near_the_optimum_that_a_general_solver_finds(p: float) -> None:
    network = gaussian_network([4, 6, 5, 1], np.random.default_rng(4))
    begun = start_slopes(PieceArrays.of(bounded_pieces(LipschitzProblem(network, p, Box.cube(4, 0.5, 1.0)))[0], None))
    assert begun is not None
    reference = one_multiplier_a_neuron(network, p)
    assert reference * (1 - 1e-6) <= begun[1] <= reference * 1.01


def assert_rational_constants_hold(network: ReluNetwork, p_values: Sequence[float]) -> None:
    d = network.input_dimension
    for domain in (WholeSpace(d), Box.cube(d)):
        box = None if domain.bounds is None else (domain.bounds[0].tolist(), domain.bounds[1].tolist())
        gradients = [region.gradient for region in exact_regions(network.weights, network.biases, box)]
        for p in p_values:
            least, most = exact_constant(gradients, p)
            answer = BranchAndBound().solve(LipschitzProblem(network, p, domain))
            told = f"p = {p}, {[w.tolist() for w in network.weights]}, {domain.describe()}"
            assert Fraction(answer.lower) <= most, told
            assert least <= Fraction(answer.upper), told
            assert answer.status in (Status.EXACT, Status.NUMERICAL_TROUBLE), told


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_searches_with_programs_hold_rational_constants(family: str) -> None:
    rng = np.random.default_rng(5)
    for sizes in ([2, 5, 1], [2, 4, 3, 1], [3, 3, 3, 1], [2, 3, 2, 3, 1]):
        assert_rational_constants_hold(FAMILIES[family](sizes, rng), P_VALUES)


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_many_searches_with_programs_hold_rational_constants(family: str) -> None:
    rng = np.random.default_rng(11)
    for _ in range(15):
        sizes = [int(rng.integers(1, 4)), *rng.integers(2, 6, size=int(rng.integers(1, 4))).tolist(), 1]
        assert_rational_constants_hold(FAMILIES[family](sizes, rng), P_VALUES)


@pytest.mark.parametrize(
    ("sizes", "domain", "share"),
    [([6, 14, 12, 1], Box.cube(6), 0.5), ([4, 7, 7, 7, 1], WholeSpace(4), 0.9)],
    ids=["box", "global"],
)
def test_programs_leave_fewer_nodes_and_the_same_constant(
    sizes: list[int], domain: Domain, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = gaussian_network(sizes, np.random.default_rng(6), 0.3)
    monkeypatch.setattr(branch_and_bound, "PLAIN", 10**9)
    plain = BranchAndBound().solve(LipschitzProblem(network, 2.0, domain))
    assert plain.stats["slope_bounds"] == 0
    monkeypatch.setattr(branch_and_bound, "PLAIN", 100)
    monkeypatch.setattr(branch_and_bound, "WORTH", math.inf)
    answer = BranchAndBound().solve(LipschitzProblem(network, 2.0, domain))
    assert plain.status is answer.status is Status.EXACT
    assert max(plain.lower, answer.lower) <= min(plain.upper, answer.upper)
    assert 0 < answer.stats["slope_drops"] < answer.stats["slope_bounds"]
    assert answer.stats["nodes"] < share * plain.stats["nodes"]


@pytest.mark.usefixtures("eager")
def test_a_search_for_a_certificate_asks_for_programs_too() -> None:
    problem = LipschitzProblem(gaussian_network([3, 6, 5, 1], np.random.default_rng(7), 0.3), 2.0, Box.cube(3))
    plain, answer = BranchAndBound().solve(problem), BranchAndBound(certified=True).solve(problem)
    assert answer.status is Status.EXACT
    assert answer.stats["certified"] == 1
    assert answer.stats["slope_bounds"] > 0
    assert max(plain.lower, answer.lower) <= min(plain.upper, answer.upper)


def test_codes_are_the_least_numbers_of_their_kind_above_a_value() -> None:
    rng = np.random.default_rng(10)
    for value in [1.0, 0.5, 127.0, 127.5, *(10.0 ** rng.uniform(-120, 120, 200)).tolist()]:
        code = code_above(value)
        assert from_code(code - 1) < value <= from_code(code) <= value * (1 + 1 / 64)
        assert Fraction(from_code(code)) == (64 + code % 64) * Fraction(2) ** (code // 64 - 7)


def test_nodes_keep_vectors_and_threads_find_the_same() -> None:
    network = gaussian_network([4, 10, 8, 1], np.random.default_rng(8), 0.3)
    pieces = [PieceArrays.of(piece, None) for piece in bounded_pieces(LipschitzProblem(network, 2.0, Box.cube(4)))]
    begun = start_slopes(pieces[0])
    assert begun is not None
    slopes = [begun[0]]
    nodes = expand(root_node(pieces, 0, 0.0, 0.0).nodes, pieces, 0.0, 0.0, 8, slopes=slopes).nodes
    assert all(node.vectors is not None and node.vectors.shape == (2 * 10 + 4, RANK) for node in nodes)
    assert all(node.bound <= begun[1] for node in nodes)
    one, two = (expand(nodes, pieces, 0.0, 0.0, 8, threads=count, slopes=slopes) for count in (1, 2))
    assert one.bounded == two.bounded > 0
    assert [node.bound for node in one.nodes] == [node.bound for node in two.nodes]


def test_no_programs_for_one_norm_and_for_large_networks() -> None:
    for p, sizes in ((1.0, [4, 6, 1]), (2.0, [4, 300, 300, 1])):
        problem = LipschitzProblem(gaussian_network(sizes, np.random.default_rng(9)), p, Box.cube(4, 0.5, 1.0))
        assert start_slopes(PieceArrays.of(bounded_pieces(problem)[0], None)) is None
