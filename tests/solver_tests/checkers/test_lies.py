"""Lies that passed once and honest results that were refused once, each as a kind; right values in closed form."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from solvers.arithmetic.rationals import exact_dual, norm_at_least, norm_at_most
from solvers.checkers.balanced import FLOOR, balanced, bound_below, product_rounding, unit_box
from solvers.checkers.norm_product import spectral_norm_at_most
from solvers.checkers.outward_ranges import PieceNetwork, gradients_are_short, tighten_ranges
from solvers.checkers.zonotopes import largest_eigenvalues
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.norm_product import NormProduct
from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.lipschitz.vertex_enumeration import VertexEnumeration
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, LipschitzBounds, Status, Witness
from solvers.problems.witnesses import witness_bound
from solvers.verify import CERTIFICATE_CHECKERS, Verdict, check_witness, network_digest, verify_bounds
from tests.references.traps import relu_layers
from tests.strategies import gaussian_network

INTERVAL = Box([-1.0], [1.0])
# h1 = h2 = relu(x + 2), z = (h1 - h2, h2 - h1, 5 h1), f = sum relu(z_i) = 5 x + 10 on the interval.
FIVE = relu_layers([[1], [1]], [[1, -1], [-1, 1], [5, 0]], [[1, 1, 1]], biases=[[2, 2], [0, 0, 0]])


def tree(splits: list[int], *proofs: list[Any]) -> Certificate:
    return Certificate("search-tree", {"pieces": [{"splits": splits, "proofs": list(proofs)}]})


def claimed(problem: LipschitzProblem, upper: float, certificate: Certificate) -> LipschitzBounds:
    return LipschitzBounds(0.0, upper, Status.BOUNDED, "forged", problem.p, problem.domain, certificate=certificate)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, math.inf])
def test_a_constant_proof_needs_both_sides_of_its_split(p: float) -> None:
    problem = LipschitzProblem(FIVE, p, INTERVAL)
    lies = [
        # Neuron 4 is the opposite of 3: on either side of a split on 3 it is decided, and one side is looked at only.
        tree([3, 4, -1, -1, -1], [1, "constant", [4], [1]], [2, "constant", [3], [1]]),
        tree([4, 3, -1, -1, -1], [1, "constant", [3], [1]], [2, "constant", [4], [1]]),
        # The neuron of the proof was split, but further up.
        tree([3, -1, 5, -1, -1], [0, "constant", [3], [1]], [1, "constant", [3], [1]], [2, "constant", [3], [1]]),
        # Both sides of one split, each standing for the other.
        tree([3, -1, -1], [0, "constant", [3], [1]], [1, "constant", [3], [1]]),
    ]
    for lie in lies:
        for upper in (0.0, 4.999):
            assert verify_bounds(problem, claimed(problem, upper, lie)).verdict is Verdict.REFUTED
    honest = BranchAndBound().certifying().solve(problem)
    assert honest.upper == pytest.approx(5.0)
    assert verify_bounds(problem, honest).verdict is Verdict.PROVED
    # The active side of a split on what is 0 all over may be left to the inactive one.
    for splits in ([3, -1, -1], [4, -1, -1]):
        proved = claimed(problem, 5.0 + 1e-9, tree(splits, [1, "constant", [splits[0]], [1]]))
        assert verify_bounds(problem, proved).verdict is Verdict.PROVED


def test_sums_beyond_float64_prove_nothing() -> None:
    # z = relu(1e160 x + 3e160) 1e160 - relu(2e160 x + 3e160) 1e160: inf - inf in float64. f' = 1e-300 (1e320 - 2e320).
    network = relu_layers([[1e160], [2e160]], [[1e160, -1e160]], [[1e-300]], biases=[[3e160, 3e160], [0]])
    problem = LipschitzProblem(network, 2.0, Box([-1.0], [-0.1]))
    for upper in (0.0, 1e19, 9.99e19):
        assert verify_bounds(problem, claimed(problem, upper, tree([-1]))).verdict is Verdict.REFUTED
    assert verify_bounds(problem, claimed(problem, 3.01e20, tree([-1]))).verdict is Verdict.PROVED


def test_products_below_float64_are_not_zero() -> None:
    # Every one is c |x| or c x with a c that no product of its weights in float64 comes near.
    for weights, truth in (
        (([[1e-200]], [[1e-200]], [[1e300]]), 1e-100),
        (([[1e-300]], [[1e-300]], [[1e300]], [[1e300]]), 1.0),
        (([[1e300]], [[1e300]], [[1e-300]], [[1e-300]]), 1.0),
        (([[1e-170], [-1e-170]], [[1e-170, 1e-170]]), 0.0),  # below float64: every bound above 0 holds
    ):
        for p in (1.0, 1.5, 2.0, math.inf):
            problem = LipschitzProblem(relu_layers(*weights), p, Box([0.5], [1.0]))
            for nudge in (0.0, 0.5, 1 - 1e-9):
                if truth or not nudge:
                    found = verify_bounds(problem, claimed(problem, truth * nudge, tree([-1])))
                    assert found.verdict is Verdict.REFUTED, (weights, p, nudge)
            bold = truth * (1 + 1e-9) or 5e-324
            assert verify_bounds(problem, claimed(problem, bold, tree([-1]))).verdict is Verdict.PROVED, (weights, p)


def test_squares_below_float64_are_not_zero() -> None:
    # The gradient is 1e-200 (3, 4) where the neuron is on: its squares are 0 in float64.
    for scale in (1e-200, 1e-160, 1e200):
        network = ReluNetwork([[[3.0, 4.0]], [[scale]]], [[0.5], [0.0]])
        for p, length in (
            (1.0, 4.0),
            (1.5, 91 ** (1 / 3)),
            (2.0, 5.0),
            (3.0, (3**1.5 + 8) ** (2 / 3)),
            (math.inf, 7.0),
        ):
            problem = LipschitzProblem(network, p, Box.cube(2))
            for certificate in (tree([-1]), tree([0, -1, -1])):
                for lie in (0.0, 0.9 * length * scale, (1 - 1e-9) * length * scale):
                    assert verify_bounds(problem, claimed(problem, lie, certificate)).verdict is Verdict.REFUTED
                found = verify_bounds(problem, claimed(problem, (1 + 1e-9) * length * scale, certificate))
                assert found.verdict is Verdict.PROVED, (scale, p, found)


@pytest.mark.parametrize("p", [1.0, 1.3, 2.0, 3.0, math.inf])
def test_trees_pass_and_fail_alike_in_all_units(p: float) -> None:
    network = gaussian_network([3, 6, 5, 1], np.random.default_rng(50), 0.4)
    problem = LipschitzProblem(network, p, Box.cube(3))
    answer = BranchAndBound().certifying().solve(problem)
    assert answer.certificate is not None
    assert answer.certificate.kind == "search-tree"
    check = CERTIFICATE_CHECKERS["search-tree"]
    rng = np.random.default_rng(51)
    for out in (-600, -300, 0, 300, 600):
        # Neurons in units of their own, the box too; multipliers of signed pre-activations in inverse units.
        units = [rng.integers(-300, 300, 3), *(rng.integers(-200, 200, n) for n in network.widths), np.array([out])]
        weights = [np.ldexp(w, units[k + 1][:, None] - units[k][None, :]) for k, w in enumerate(network.weights)]
        biases = [np.ldexp(b, units[k + 1]) for k, b in enumerate(network.biases)]
        data = {"pieces": [dict(piece) for piece in answer.certificate.data["pieces"]]}
        for piece in data["pieces"]:
            piece["proofs"] = [
                [
                    leaf,
                    kind,
                    rows,
                    [
                        str(Fraction(y) / Fraction(2) ** int(units[1 + row // 6][row % 6]))
                        for row, y in zip(rows, multipliers, strict=True)
                    ],
                ]
                for leaf, kind, rows, multipliers in piece["proofs"]
            ]
        # x = 2^-unit u: only where all inputs share a unit does the length of gradients scale with it.
        weights[0] = np.ldexp(weights[0], units[0][None, :] - units[0][0])
        side = math.ldexp(1.0, int(units[0][0]))
        scaled = LipschitzProblem(ReluNetwork(weights, biases), p, Box.cube(3, -side, side))
        upper = math.ldexp(answer.upper, int(out - units[0][0]))
        if 0 < upper < math.inf:
            found = check(scaled, data, upper)
            assert found.holds, (out, found.reason)
            assert not check(scaled, data, upper * (1 - 1e-5)).holds


def test_bounds_that_are_no_numbers_prove_nothing() -> None:
    problem = LipschitzProblem(gaussian_network([2, 4, 1], np.random.default_rng(52), 0.4), 2.0, Box.cube(2))
    whole = LipschitzProblem(problem.network, 2.0)
    for asked, solver in (
        (problem, NormProduct().certifying()),
        (problem, BranchAndBound().certifying()),
        (problem, RegionEnumeration().certifying()),
        (whole, VertexEnumeration().certifying()),
    ):
        certificate = solver.solve(asked).certificate
        assert certificate is not None
        check = CERTIFICATE_CHECKERS[certificate.kind]
        assert check(asked, certificate.data, math.inf).holds
        for upper in (math.nan, -math.inf, -1.0):
            assert not check(asked, certificate.data, upper).holds, (certificate.kind, upper)
    vector = [Fraction(0)]
    assert not norm_at_most(vector, 2.0, math.nan)
    assert not norm_at_most(vector, 2.0, -math.inf)
    assert not norm_at_least(vector, 2.0, math.nan)
    assert not norm_at_least(vector, 2.0, math.inf)
    assert bound_below(math.nan, 0) < 0
    assert np.isnan(largest_eigenvalues(np.full((1, 2, 2), np.nan))).all()
    assert not spectral_norm_at_most(np.array([[3.0, 4.0]]), Fraction(49, 10))
    # No direction of gradients is left out, and no node is short, against a bound that is no number.
    for p in (1.0, 1.5, 2.0, math.inf):
        piece = bounded_pieces(LipschitzProblem(problem.network, p, Box.cube(2)))[0]
        arrays = PieceNetwork(piece, math.nan)
        nodes = arrays.root()
        assert not tighten_ranges(arrays, nodes).any()
        count = 0 if arrays.directions is None else arrays.directions.shape[1]
        short, left = gradients_are_short(arrays, nodes, np.ones((1, count), dtype=bool), math.nan)
        assert not short.any()
        assert left.all()


def test_lower_bounds_that_are_no_numbers_prove_nothing() -> None:
    problem = LipschitzProblem(gaussian_network([2, 4, 1], np.random.default_rng(53), 0.4), 2.0, Box.cube(2))
    lower, witness = witness_bound(problem, np.array([0.3, 0.2]))
    assert witness is not None
    assert check_witness(problem, witness, lower).holds
    for claim in (math.nan, math.inf, -1.0):
        assert not check_witness(problem, witness, claim).holds
    for gradient in (np.full(2, np.nan), np.full(2, np.inf), witness.gradient[:1], np.zeros((2, 2))):
        assert not check_witness(problem, Witness(witness.point, witness.pattern, gradient), lower).holds


def test_a_gradient_of_cancelled_terms_is_judged_by_its_terms() -> None:
    # f = relu(.3 s + .6 t + 1) - relu(.3 s + .600000001 t + 1): of terms around 1 an entry of 1e-9 is left.
    network = relu_layers(
        [[1 / 3, 0.7], [0.1, 0.9]], [[0.3, 0.6], [0.3, 0.600000001]], [[1, -1]], biases=[[5, 5], [1, 1]]
    )
    problem = LipschitzProblem(network, 2.0, Box.cube(2))
    truth = 1e-9 * math.hypot(0.1, 0.9)
    for solver in (RegionEnumeration().certifying(), BranchAndBound().certifying()):
        answer = solver.solve(problem)
        assert answer.lower == pytest.approx(truth, rel=1e-4)
        assert verify_bounds(problem, answer).verdict is Verdict.PROVED
        assert answer.witness is not None
        wrong = Witness(answer.witness.point, answer.witness.pattern, answer.witness.gradient + 1e-6)
        assert not check_witness(problem, wrong, answer.lower).holds


@pytest.mark.parametrize("scale", [1e160, 1e300])
@pytest.mark.parametrize("sizes", [[2, 5, 1], [2, 4, 3, 1]], ids=str)
def test_honest_results_pass_at_large_scales(sizes: list[int], scale: float) -> None:
    plain = gaussian_network(sizes, np.random.default_rng(54), 0.4)
    network = ReluNetwork([*plain.weights[:-1], plain.weights[-1] * scale], plain.biases)
    for p in (1.0, 1.3, 2.0, math.inf):
        problem = LipschitzProblem(network, p, Box.cube(2))
        for solver in (NormProduct().certifying(), BranchAndBound().certifying(), RegionEnumeration().certifying()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # whether a solver warns is for its own tests
                answer = solver.solve(problem)
            found = verify_bounds(problem, answer)
            assert found.verdict is Verdict.PROVED, (solver.name, p, found)


def test_the_gap_is_the_readers() -> None:
    problem = LipschitzProblem(FIVE, 2.0, INTERVAL)
    wide = LipschitzBounds(
        0.0, 1000.0, Status.EXACT, "forged", 2.0, INTERVAL, certificate=Certificate("norm-product", {"chain": None})
    )
    for claimed_gap in (None, 5.0, 1.0, math.inf, math.nan):
        assert verify_bounds(problem, wide, claimed_gap=claimed_gap).verdict is Verdict.REFUTED
    assert verify_bounds(problem, wide, 5.0).verdict is Verdict.PROVED
    # Solved to one in ten, and it says so: no lie, and not exact to one in a million.
    lower, witness = witness_bound(problem, np.array([0.5]))
    loose = LipschitzBounds(lower, 5.25, Status.EXACT, "honest", 2.0, INTERVAL, witness, tree([-1]))
    assert verify_bounds(problem, loose, 0.1).verdict is Verdict.PROVED
    found = verify_bounds(problem, loose, claimed_gap=0.1)
    assert found.verdict is Verdict.UNPROVED
    assert "--gap 0.1" in found.unproved[0]
    assert verify_bounds(problem, loose).verdict is Verdict.REFUTED


def test_digests_tell_networks_apart() -> None:
    network = gaussian_network([2, 4, 3, 1], np.random.default_rng(55), 0.4)
    same = ReluNetwork([w.copy() for w in network.weights], [b * -1.0 * -1.0 for b in network.biases])
    assert network_digest(network) == network_digest(same)
    assert len(network_digest(network)) == 64
    others = {network_digest(network)}
    for k in range(3):
        weights = [w.copy() for w in network.weights]
        weights[k][0, 0] = np.nextafter(weights[k][0, 0], np.inf)
        others.add(network_digest(ReluNetwork(weights, network.biases)))
    wide = ReluNetwork([np.ones((1, 4))], [[0.0]]), ReluNetwork([np.ones((4, 1))], [[0.0] * 4])
    assert len(others | {network_digest(one) for one in wide}) == 6


def test_layers_are_scaled_without_rounding() -> None:
    rng = np.random.default_rng(56)
    low, high, exponents = unit_box(np.array([-3e-200, 0.0, 1e300]), np.array([1e-200, 7.0, 1.5e300]))
    assert ((np.maximum(abs(low), abs(high)) >= 0.5) & (np.maximum(abs(low), abs(high)) < 1)).all()
    np.testing.assert_array_equal(np.ldexp(high, exponents.astype(np.int32)), [1e-200, 7.0, 1.5e300])
    # A side that is too close to 0 for the units of the other moves away from the middle.
    low, high, _ = unit_box(np.array([-1e-300, 1e-300]), np.array([1.0, 1.0]))
    assert low.tolist() == [-FLOOR, 0.0]
    matrices = [rng.standard_normal(shape) * 10.0 ** rng.uniform(-80, 80, shape) for shape in ((4, 3), (5, 4), (1, 5))]
    matrices[1][2] = 0.0
    biases = [rng.standard_normal(4), np.zeros(5), np.zeros(1)]
    layers = balanced(matrices, biases, np.zeros(3, dtype=np.int64), np.full(3, 0.5))
    before = np.zeros(3, dtype=np.int64)
    for w, b, layer in zip(matrices, biases, layers, strict=True):
        scaled, alive = layer.plus + layer.minus, layer.sizes > 0
        assert ((layer.sizes[alive] >= 0.5) & (layer.sizes[alive] < 1)).all()
        for i, j in zip(*np.nonzero(scaled), strict=True):
            if abs(scaled[i, j]) > 1e-290:
                power = int(layer.exponents[i] - before[j])
                assert Fraction(scaled[i, j]) * Fraction(2) ** power == Fraction(w[i, j])
        assert (layer.large[alive][:, before != -1] >= abs(scaled[alive][:, before != -1])).all()
        np.testing.assert_array_equal(np.ldexp(layer.biases, layer.exponents.astype(np.int32))[alive], b[alive])
        before = layer.exponents
    assert layers[1].sizes.tolist()[2] == 0
    assert product_rounding(layers, 2.0) > 0
    silent = [np.zeros((2, len(layer.biases)), dtype=bool) for layer in layers[:-1]]
    silent[0][1], silent[-1][1] = True, True
    found = product_rounding(layers, 2.0, silent)
    assert found[0] == 0
    zero = balanced([matrices[0], np.zeros((1, 4))], None, np.zeros(3, dtype=np.int64), np.full(3, 0.5))
    assert product_rounding(zero, 2.0) == 0


def test_paths_that_underflow_are_not_silent() -> None:
    """A path of three weights of 2^-400 beside one of ones: its product is 0 in float64, and counts."""
    tiny = [np.diag([1.0, 2.0**-400]) for _ in range(3)]
    layers = balanced([*tiny, np.ones((1, 2))], None, np.zeros(2, dtype=np.int64), np.full(2, 0.5))
    live = [np.array([[False, True], [False, False]]) for _ in range(3)]
    found = product_rounding(layers, 1.0, live)
    assert found[0] > 0
    assert found[1] == 0


def test_exponents_dual_to_a_float_are_exact() -> None:
    for p in (1.0, 1 + 2.0**-52, 1.3, 2.0, 3.0, 1e6, math.inf):
        q = exact_dual(p)
        if math.isinf(p) or p == 1:
            assert {p, float(q)} == {1.0, math.inf}
        else:
            assert 1 / Fraction(p) + 1 / Fraction(q) == 1
