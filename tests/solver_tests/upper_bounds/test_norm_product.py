"""The product of operator norms: above every exact constant, sharp where theory says so, blind to biases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given

from solvers.arithmetic.norms import dual_exponent
from solvers.arithmetic.operator_norms import OperatorNorms, spectral_bound
from solvers.lipschitz.bounds.norm_products import LayerProducts, norm_product_bound
from solvers.lipschitz.norm_product import NormProduct
from solvers.lipschitz.vertex_enumeration import VertexEnumeration
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.problems.witnesses import gradients_at
from tests.references.instances import Instance, instances
from tests.strategies import DETERMINISTIC, P_VALUES, gaussian_network, relu_networks

each_p = pytest.mark.parametrize("p", P_VALUES)
ALL = instances()


@pytest.mark.parametrize("instance", ALL, ids=[instance.name for instance in ALL])
@each_p
def test_it_is_above_every_closed_form(instance: Instance, p: float) -> None:
    assert norm_product_bound(instance.network, p) >= instance.constant(dual_exponent(p)) * (1 - 1e-15)


@DETERMINISTIC
@given(relu_networks())
def test_it_is_above_the_exact_constant_of_shallow_networks(network: ReluNetwork) -> None:
    exact = VertexEnumeration().solve_batch([LipschitzProblem(network, p) for p in P_VALUES])
    for answer in exact:
        assert norm_product_bound(network, answer.p) >= answer.lower


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_it_is_above_the_exact_constant_of_gaussian_networks(bias: float) -> None:
    rng = np.random.default_rng(int(bias))
    for d, n in itertools.product((1, 2, 3), (1, 5, 12)):
        network = gaussian_network([d, n, 1], rng, bias)
        for answer in VertexEnumeration().solve_batch([LipschitzProblem(network, p) for p in P_VALUES]):
            upper = norm_product_bound(network, answer.p)
            assert answer.upper * (1 - 1e-9) <= upper
            if n == 1:
                # One neuron: f = v relu(<w, x> + b), whose constant |v| ||w||_{p'} the product is.
                assert upper <= answer.upper * (1 + 1e-12)


@DETERMINISTIC
@given(relu_networks(layers=(0, 3), most_inputs=4))
def test_it_is_above_every_gradient_of_deep_networks(network: ReluNetwork) -> None:
    points = np.random.default_rng(0).standard_normal((100, network.input_dimension)) * 3
    slopes = gradients_at(network, points)
    for p in P_VALUES:
        lengths = np.linalg.norm(slopes, dual_exponent(p), axis=1)
        assert norm_product_bound(network, p) >= lengths.max() * (1 - 1e-12)


@each_p
def test_it_is_the_constant_of_non_negative_networks(p: float) -> None:
    """With weights >= 0 all neurons are active far out along (1, ..., 1): the absolute-value bound is attained."""
    rng = np.random.default_rng(3)
    weights = [rng.uniform(0, 1, shape) for shape in ((6, 4), (5, 6), (1, 5))]
    network = ReluNetwork(weights, [rng.standard_normal(6), rng.standard_normal(5), [0.0]])
    truth = float(np.linalg.norm((weights[2] @ weights[1] @ weights[0])[0], dual_exponent(p)))
    assert truth <= norm_product_bound(network, p) <= truth * (1 + 1e-12)


@each_p
def test_no_product_along_a_chain_of_norms_is_smaller(p: float) -> None:
    """Brute force over all chains p -> r_1 -> ... -> |.| with r in {1, 2, inf, p}: the shortest path finds the best."""
    network = gaussian_network([3, 6, 5, 4, 1], np.random.default_rng(4))
    products = []
    for chain in itertools.product({1.0, 2.0, math.inf, p}, repeat=3):
        steps = zip(network.weights, (p, *chain), (*chain, math.inf), strict=True)
        products.append(math.prod(OperatorNorms(w).bound(a, b) for w, a, b in steps))
    assert norm_product_bound(network, p) <= min(products) * (1 + 1e-12)
    if p == 2.0:
        spectral = math.prod(float(np.linalg.svd(w, compute_uv=False)[0]) for w in network.weights)
        assert norm_product_bound(network, p) <= spectral * (1 + 1e-12)


@pytest.mark.parametrize("sizes", [[3, 6, 1], [4, 7, 5, 1], [3, 6, 5, 4, 1]], ids=str)
def test_for_p_2_it_is_the_loop_transformation(sizes: list[int]) -> None:
    """LipLT from its formula: m_k = 2^(1-k) |W_(k,0)| + sum_j 2^(j-k) |W_(k,j)| m_j with spectral norms."""
    network = gaussian_network(sizes, np.random.default_rng(6))
    lengths: list[float] = []
    for k in range(1, len(network.weights) + 1):
        norms = []
        for j in range(k):
            product = np.linalg.multi_dot([np.eye(sizes[k]), *network.weights[j:k][::-1], np.eye(sizes[j])])
            norms.append(float(np.linalg.norm(product, 2)))
        lengths.append(2.0 ** (1 - k) * norms[0] + sum(2.0 ** (j - k) * norms[j] * lengths[j - 1] for j in range(1, k)))
    upper = NormProduct().solve(LipschitzProblem(network, 2.0)).upper
    assert lengths[-1] <= upper <= lengths[-1] * (1 + 1e-11)
    assert upper < norm_product_bound(network, 2.0)


@DETERMINISTIC
@given(relu_networks(layers=(1, 3), most_inputs=4))
def test_products_of_layers_give_no_more_than_layers_alone(network: ReluNetwork) -> None:
    for p in P_VALUES:
        products = LayerProducts.of(network)
        assert products is not None
        spectral = math.prod(spectral_bound(w) for w in network.weights)
        bound, _ = products.transformed(p)
        lengths = np.linalg.norm(
            gradients_at(network, np.random.default_rng(0).standard_normal((60, network.input_dimension)) * 3),
            dual_exponent(p),
            axis=1,
        )
        assert bound >= lengths.max() * (1 - 1e-12)
        assert p != 2 or bound <= spectral * (1 + 1e-11) + 1e-250


def test_products_are_not_begun_where_there_is_no_time_for_them() -> None:
    network = gaussian_network([30, 40, 40, 1], np.random.default_rng(7))
    assert LayerProducts.of(network, 0.0) is None
    answer = NormProduct().solve(LipschitzProblem(network, 2.0), budget=Budget(seconds=0.0))
    assert answer.upper >= NormProduct().solve(LipschitzProblem(network, 2.0)).upper


def test_biases_and_domain_do_not_enter() -> None:
    network = gaussian_network([3, 8, 1], np.random.default_rng(5))
    moved = ReluNetwork(network.weights, [network.biases[0] + 7.0, [3.0]])
    for p in P_VALUES:
        answers = [
            NormProduct().solve(LipschitzProblem(net, p, domain))
            for net, domain in ((network, None), (moved, None), (network, Box.cube(3, 5.0, 6.0)))
        ]
        assert len({answer.upper for answer in answers}) == 1
        assert {answer.status for answer in answers} == {Status.BOUNDED}
        assert {answer.lower for answer in answers} == {0.0}


def test_a_constant_network_is_known_exactly() -> None:
    network = ReluNetwork([np.zeros((3, 2)), [[1.0, -2.0, 3.0]]], [[1.0, 2.0, -1.0], [4.0]])
    answer = NormProduct().solve(LipschitzProblem(network, 1.5))
    assert (answer.lower, answer.upper, answer.status) == (0.0, 0.0, Status.EXACT)


def test_a_certificate_is_made_when_asked_for() -> None:
    problem = LipschitzProblem(gaussian_network([3, 4, 1], np.random.default_rng(5)), 2.0)
    plain, certified = NormProduct().solve(problem), NormProduct().certifying().solve(problem)
    assert plain.certificate is None
    assert certified.certificate is not None
    assert plain.upper == certified.upper
