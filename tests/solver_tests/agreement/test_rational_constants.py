"""The exact reference of the tests against closed forms, counts of regions, and linear programs."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from solvers.arithmetic.norms import dual_exponent
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain
from tests.references.instances import Instance, instances, sawtooth
from tests.references.rational_constants import Region, exact_constant, exact_regions, length_between
from tests.references.traps import P_VALUES, traps
from tests.strategies import gaussian_network


def regions(network: ReluNetwork, domain: Domain) -> list[Region]:
    box = (domain.lower.tolist(), domain.upper.tolist()) if isinstance(domain, Box) else None
    return list(exact_regions(network.weights, network.biases, box))


def constant(network: ReluNetwork, domain: Domain, p: float) -> float:
    low, high = exact_constant([region.gradient for region in regions(network, domain)], p)
    assert low <= high <= low * (1 + Fraction(1, 10**58))
    return float(low)


@pytest.mark.parametrize("instance", instances(), ids=lambda instance: instance.name)
def test_closed_forms(instance: Instance) -> None:
    gradients = [region.gradient for region in regions(instance.network, instance.domain)]
    for p in P_VALUES:
        truth = instance.constant(dual_exponent(p))
        assert float(exact_constant(gradients, p)[0]) == pytest.approx(truth, rel=1e-13, abs=0), p


def test_traps_in_closed_form_and_by_linear_programs() -> None:
    for trap in traps():
        gradients = [region.gradient for region in regions(trap.network, trap.domain)]
        by_programs = trap.truth()
        for p in P_VALUES:
            found = float(exact_constant(gradients, p)[0])
            assert found == pytest.approx(by_programs[p], rel=1e-9, abs=1e-12), (trap.name, p)
            if trap.constant is not None:
                # Weights like 0.1 and 0.2 do not add up to 0.3: what the closed form rounds is 1e-16 of them.
                assert found == pytest.approx(trap.constant(dual_exponent(p)), rel=1e-13, abs=1e-13), (trap.name, p)


@pytest.mark.parametrize(("d", "m"), [(1, 9), (2, 8), (3, 6), (4, 4)])
def test_kinks_in_general_position_cut_space_into_as_many_cells_as_the_formula_says(d: int, m: int) -> None:
    network = gaussian_network([d, m, 1], np.random.default_rng([30, d]))
    patterns = {region.pattern for region in regions(network, Box.cube(d, -1e6, 1e6))}
    assert len(patterns) == sum(math.comb(m, k) for k in range(d + 1))


def test_a_point_lies_in_every_region_with_its_pattern_and_gradient() -> None:
    for sizes in ([1, 5, 4, 1], [2, 4, 4, 3, 1], [3, 4, 3, 1]):
        network = gaussian_network(sizes, np.random.default_rng([31, *sizes]), 0.4)
        for region in regions(network, Box.cube(sizes[0])):
            assert all(-1 < x < 1 for x in region.point)
            values, slopes = (
                list(region.point),
                [[Fraction(int(i == k)) for i in range(sizes[0])] for k in range(sizes[0])],
            )
            for m, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
                rows = [[Fraction(v) for v in row] for row in w.tolist()]
                values = [
                    sum((v * x for v, x in zip(row, values, strict=True)), Fraction(c))
                    for row, c in zip(rows, b.tolist(), strict=True)
                ]
                slopes = [
                    [sum((v * s[i] for v, s in zip(row, slopes, strict=True)), Fraction(0)) for i in range(sizes[0])]
                    for row in rows
                ]
                if m < network.depth:
                    assert tuple(int(z > 0) for z in values) == region.pattern[m]
                    assert 0 not in values
                    values = [max(z, Fraction(0)) for z in values]
                    slopes = [s if z > 0 else [Fraction(0)] * sizes[0] for s, z in zip(slopes, values, strict=True)]
            assert tuple(slopes[0]) == region.gradient


def test_breakpoints_of_a_sawtooth() -> None:
    found = regions(sawtooth(6), Box([0.0], [1.0]))
    assert len(found) == 2**6
    assert {region.gradient for region in found} == {(Fraction(64),), (Fraction(-64),)}


def test_slivers_and_scales_that_float64_does_not_see() -> None:
    # In the strip -.3 < x < -.3 + 1e-10 the gradient is (.01, 0) or (.01, .001), outside 0 or (0, .001).
    network = ReluNetwork([[[1, 0], [1, 0], [0, 1]], [[0.01, -0.01, 0.001]]], [[0.3, 0.3 - 1e-10, 0], [0]])
    for p in (1.0, 1 + 1e-6, 1.001, 1.1, 2.0, 50.0, math.inf):
        q = dual_exponent(p)
        truth = 0.01 if math.isinf(q) else 0.01 * (1 + 0.1**q) ** (1 / q)
        assert constant(network, Box.cube(2), p) == pytest.approx(truth, rel=1e-13)
    # f = 1e300 relu(1e-200 relu(1e-200 x)): a product that leaves float64 on the way.
    assert constant(ReluNetwork([[[1e-200]], [[1e-200]], [[1e300]]], [[0], [0], [0]]), Box.cube(1), 2.0) == (
        pytest.approx(1e-100, rel=1e-13)
    )
    # h1 = h2 = relu(x + 2), z = (h1 - h2, h2 - h1, 5 h1), f = sum relu(z_i) = 5 x + 10.
    network = ReluNetwork([[[1], [1]], [[1, -1], [-1, 1], [5, 0]], [[1, 1, 1]]], [[2, 2], [0, 0, 0], [0]])
    assert exact_constant([r.gradient for r in regions(network, Box.cube(1))], 1.5) == pytest.approx((5, 5))


def test_lengths_are_enclosed() -> None:
    rng = np.random.default_rng(32)
    for p in (1.0, 1 + 1e-9, 1.001, 1.5, 2.0, 3.0, 1e6, math.inf):
        for scale in (1.0, 1e-200, 1e200):
            vector = [Fraction(v) for v in (rng.standard_normal(4) * scale).tolist()]
            low, high = length_between(vector, p)
            sizes = [abs(mpmath.mpf(v.numerator) / v.denominator) for v in vector]
            with mpmath.workdps(150):
                q = mpmath.inf if p == 1 else mpmath.mpf(1) if math.isinf(p) else mpmath.mpf(p) / (mpmath.mpf(p) - 1)
                sizes = [abs(mpmath.mpf(v.numerator) / v.denominator) for v in vector]
                truth = max(sizes) if p == 1 else mpmath.fsum(s**q for s in sizes) ** (1 / q)
                assert mpmath.mpf(low.numerator) / low.denominator <= truth * (1 + mpmath.mpf(10) ** -120)
                assert mpmath.mpf(high.numerator) / high.denominator >= truth * (1 - mpmath.mpf(10) ** -120)
            assert 0 <= high - low <= low / 10**58
    assert length_between([Fraction(3), Fraction(-4)], 2.0) == (5, 5)
    assert length_between([Fraction(0), Fraction(0)], 1.5) == (0, 0)
