"""Products of norms as certificates: honest ones pass for every p and rule, every lie is named."""

from __future__ import annotations

import copy
import itertools
import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given

from solvers.arithmetic.norms import vector_norm
from solvers.arithmetic.operator_norms import OperatorNorms, spectral_bound
from solvers.arithmetic.rationals import norm_above, norm_at_most, power_above
from solvers.checkers.norm_product import _norm_is_at_most, check_norm_product, spectral_norm_at_most
from solvers.lipschitz.bounds.norm_products import norm_product_bound, norm_product_certificate
from solvers.lipschitz.norm_product import NormProduct
from solvers.networks.relu import ReluNetwork
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds
from solvers.problems.witnesses import gradients_at
from tests.strategies import DETERMINISTIC, P_VALUES, exponents, gaussian_network, matrices, relu_networks


def certified(network: ReluNetwork, p: float) -> tuple[LipschitzProblem, LipschitzBounds, dict[str, Any]]:
    problem = LipschitzProblem(network, p)
    answer = NormProduct().certifying().solve(problem)
    assert answer.certificate is not None
    return problem, answer, copy.deepcopy(dict(answer.certificate.data))


@DETERMINISTIC
@given(relu_networks(layers=(0, 3), most_inputs=4), exponents())
def test_honest_products_pass(network: ReluNetwork, p: float) -> None:
    problem, answer, data = certified(network, p)
    check = check_norm_product(problem, data, answer.upper)
    assert check.holds, check.reason


@pytest.mark.parametrize("p", [*P_VALUES, 1.0000001, 1.3, 3.0, 1e6])
@pytest.mark.parametrize("sizes", [[3, 1], [20, 30, 1], [12, 40, 25, 1]], ids=str)
def test_honest_products_of_gaussian_networks_pass(sizes: list[int], p: float) -> None:
    problem, answer, data = certified(gaussian_network(sizes, np.random.default_rng(1)), p)
    check = check_norm_product(problem, data, answer.upper)
    assert check.holds, check.reason


@DETERMINISTIC
@given(matrices(), exponents(), exponents())
def test_every_rule_proves_its_own_bound_and_hardly_less(w: np.ndarray, a: float, b: float) -> None:
    for source, target in ((a, b), (a, a)):
        for rule, norm in OperatorNorms(w).rules(source, target).items():
            assert _norm_is_at_most(w, source, target, rule, Fraction(norm))
            if norm:
                assert not _norm_is_at_most(w, source, target, rule, Fraction(norm * (1 - 1e-9)))


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (30, 30), (16, 64), (10, 200)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e150])
def test_the_largest_singular_value_is_bounded_sharply(shape: tuple[int, int], scale: float) -> None:
    w = np.random.default_rng(2).standard_normal(shape) * scale
    largest = float(np.linalg.svd(w, compute_uv=False)[0])
    assert spectral_norm_at_most(w, Fraction(spectral_bound(w)))
    assert spectral_bound(w) <= largest * (1 + 1e-11)
    assert not spectral_norm_at_most(w, Fraction(largest * (1 - 1e-15)))
    assert not spectral_norm_at_most(w, Fraction(0))


def test_lies_are_named() -> None:
    """Of a chain of norms."""
    problem = LipschitzProblem(gaussian_network([6, 9, 7, 1], np.random.default_rng(3)), 2.0)
    upper = norm_product_bound(problem.network, 2.0)
    data: dict[str, Any] = copy.deepcopy(dict(norm_product_certificate(problem.network, 2.0).data))
    assert data["chain"] is not None
    assert check_norm_product(problem, data, upper).holds
    lies: list[tuple[str, Any]] = []

    def lie(reason: str, layer: int, **changes: Any) -> None:
        chain = copy.deepcopy(data["chain"])
        chain[layer].update(changes)
        lies.append((reason, {"chain": chain}))

    lie("norm of layer 1 from", 1, norm=data["chain"][1]["norm"] * (1 - 1e-9))
    lie("multiply to", 0, norm=data["chain"][0]["norm"] * (1 + 1e-9))
    lie("is measured from l_1, but", 0, source=1.0)
    lie("is measured from l_2, but", 1, target=math.inf)
    lie("cannot be replayed", 0, rule="magic")
    lie("cannot be replayed", 0, rule="one-one")
    lie("finite number", 0, norm=math.inf)
    lie("finite number", 0, norm=-1.0)
    for reason, changed in [
        *lies,
        ("3 layers", {"chain": data["chain"][1:]}),
        ("absolute values", {"chain": None}),
        ("cannot be replayed", {"chain": 7}),
        ("cannot be replayed", {}),
    ]:
        check = check_norm_product(problem, changed, upper)
        assert not check.holds
        assert reason in check.reason
    assert not check_norm_product(problem, data, upper * (1 - 1e-9)).holds


@pytest.mark.parametrize("p", P_VALUES)
def test_lies_about_products_of_layers_are_named(p: float) -> None:
    """Of LipLT: every norm, its measures and its place count, and so does the sum."""
    network = gaussian_network([6, 9, 7, 8, 1], np.random.default_rng(3))
    problem, answer, data = certified(network, p)
    assert data["transformed"] is not None
    places = [(k, j) for k in range(4) for j in range(k + 1)]
    lies: list[tuple[str, list[list[dict[str, Any]]]]] = []

    def lie(reason: str, k: int, j: int, **changes: Any) -> None:
        changed = copy.deepcopy(data["transformed"])
        changed[k][j].update(changes)
        lies.append((reason, changed))

    for k, j in places:
        norm = data["transformed"][k][j]["norm"]
        lie("is not shown to be at most", k, j, norm=norm * (1 - 1e-9))
        lie("add up to more", k, j, norm=norm * (1 + 1e-9))
        lie("finite number", k, j, norm=math.nan)
        lie("finite number", k, j, norm=-norm)
        lie("other norms" if j else "measured", k, j, source=7.0)
        lie("cannot be replayed", k, j, rule="magic" if k < 3 else None, source="x")
    lie("measured", 1, 1, target=7.0)
    swapped = copy.deepcopy(data["transformed"])
    swapped[2][1], swapped[2][2] = swapped[2][2], swapped[2][1]
    lies += [("layers", data["transformed"][:-1]), ("products", [row[:-1] for row in data["transformed"]])]
    lies += [("", swapped)] if swapped != data["transformed"] else []
    for reason, changed in lies:
        check = check_norm_product(problem, {**data, "transformed": changed}, answer.upper)
        assert not check.holds
        assert reason in check.reason
    assert not check_norm_product(problem, data, answer.upper * (1 - 1e-9)).holds
    assert not check_norm_product(problem, {"chain": None, "transformed": 7}, answer.upper).holds


@pytest.mark.slow
def test_no_numbers_prove_less_than_the_layers_allow() -> None:
    """2 000 made-up lists of norms for less than an attained gradient: some norm is always too small."""
    rng = np.random.default_rng(12)
    for _ in range(2000):
        sizes = [int(n) for n in rng.integers(1, 6, int(rng.integers(2, 5)))]
        network = gaussian_network([*sizes, 1], rng)
        p = float(rng.choice([1.0, 1.5, 2.0, 3.0, math.inf]))
        problem, _, data = certified(network, p)
        truth = float(vector_norm(gradients_at(network, 3 * rng.standard_normal((50, sizes[0]))), problem.dual_p).max())
        claim = truth * (1 - 10.0 ** rng.uniform(-9, -1))
        if data.get("transformed") is None or truth == 0:
            continue
        shrunk = claim / NormProduct().solve(problem).upper
        for row in data["transformed"]:
            for term in row:
                term["norm"] *= shrunk * rng.uniform(0.5, 2) if rng.random() < 0.5 else 1.0
        assert not check_norm_product(problem, data, claim).holds


@pytest.mark.parametrize("p", P_VALUES)
def test_the_norms_of_another_network_are_refused(p: float) -> None:
    _, answer, data = certified(gaussian_network([6, 9, 7, 1], np.random.default_rng(3)), p)
    other = gaussian_network([6, 9, 7, 1], np.random.default_rng(4))
    smaller = NormProduct().solve(LipschitzProblem(other, p)).upper > answer.upper
    scaled = ReluNetwork([2 * w for w in other.weights], other.biases)
    assert not check_norm_product(LipschitzProblem(scaled, p), data, answer.upper).holds
    assert not smaller or not check_norm_product(LipschitzProblem(other, p), data, answer.upper).holds


@pytest.mark.parametrize("q", [1.0, 1.1, 2.0, 7.5, 1e5, math.inf])
def test_norms_and_powers_are_above_by_next_to_nothing(q: float) -> None:
    vector = [Fraction(v) for v in np.random.default_rng(5).standard_normal(5).tolist()]
    with mpmath.workdps(70):
        exact = [mpmath.mpf(v.numerator) / v.denominator for v in map(abs, vector)]
        truth = max(exact) if math.isinf(q) else sum(v ** mpmath.mpf(q) for v in exact) ** (1 / mpmath.mpf(q))
        above = norm_above(vector, q)
        assert truth * (1 - mpmath.mpf(10) ** -65) <= mpmath.mpf(above.numerator) / above.denominator
        assert mpmath.mpf(above.numerator) / above.denominator <= truth * (1 + mpmath.mpf(10) ** -50)
    assert norm_at_most(vector, q, float(above) * (1 + 1e-15))
    for base, exponent in itertools.product((Fraction(1, 3), Fraction(7)), (Fraction(0), Fraction(2, 5), Fraction(1))):
        with mpmath.workdps(70):
            power = (mpmath.mpf(base.numerator) / base.denominator) ** (
                mpmath.mpf(exponent.numerator) / exponent.denominator
            )
            got = power_above(base, exponent)
            ratio = mpmath.mpf(got.numerator) / got.denominator / power
        assert 1 - 1e-15 <= ratio <= 1 + 1e-15
