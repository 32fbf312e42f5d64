"""Every law of the random networks, by moments and by distribution functions; each test states its chance of failing.

Seeds are fixed, so a passing test keeps passing; the chances say how surprising a failure would be for a new seed.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from solvers.errors import InputError
from tasks.ensembles import BIAS_LAWS, draw_network
from tasks.seeding import RandomStreams

SCALE = 0.7
# A Kolmogorov-Smirnov test fails by luck with this chance.
CHANCE = 1e-6
LAWS = {
    "normal": stats.norm(scale=SCALE),
    "uniform": stats.uniform(-SCALE, 2 * SCALE),
    "laplace": stats.laplace(scale=SCALE),
    "cauchy": stats.cauchy(scale=SCALE),
}


def biases(law: str, scale: float = SCALE, size: int = 200_000) -> np.ndarray:
    return draw_network(1, [size], law, scale, RandomStreams.of(["biases", law])).biases[0]


def test_the_table_holds_these_laws_and_no_other() -> None:
    assert set(BIAS_LAWS) == {"zero", *LAWS}


@pytest.mark.parametrize("law", LAWS)
def test_biases_follow_their_law(law: str) -> None:
    assert stats.kstest(biases(law), LAWS[law].cdf).pvalue > CHANCE


@pytest.mark.parametrize("law", LAWS)
def test_biases_are_symmetric(law: str) -> None:
    """b and -b have one law: as many of each sign, and the same sizes on both sides. 200 000 signs are even within 5.5
    standard deviations but for a chance of 4e-8."""
    values = biases(law)
    assert abs((values > 0).mean() - 0.5) < 5.5 * 0.5 / math.sqrt(values.size)
    assert stats.ks_2samp(values[values > 0], -values[values < 0]).pvalue > CHANCE


@pytest.mark.parametrize(
    ("law", "variance"), [("normal", SCALE**2), ("uniform", SCALE**2 / 3), ("laplace", 2 * SCALE**2)]
)
def test_biases_have_the_variance_of_their_law(law: str, variance: float) -> None:
    """Within 5.5 standard errors of a sample variance, sqrt((kurtosis - 1) / n) of it (chance 4e-8); kurtosis <= 6."""
    assert biases(law).var() == pytest.approx(variance, rel=5.5 * math.sqrt(5 / 200_000))
    assert LAWS[law].var() == pytest.approx(variance)


@pytest.mark.parametrize("law", LAWS)
def test_the_scale_only_stretches(law: str) -> None:
    np.testing.assert_allclose(biases(law, 3 * SCALE, 1000), 3 * biases(law, SCALE, 1000), rtol=1e-12)
    assert not biases(law, 0.0, 1000).any()


def test_uniform_biases_stay_within_the_half_width() -> None:
    assert np.abs(biases("uniform")).max() <= SCALE
    # The largest of 200 000 falls short of 99.99 % of the half width with a chance of e^-20.
    assert np.abs(biases("uniform")).max() > 0.9999 * SCALE


def test_zero_biases_are_zero() -> None:
    network = draw_network(3, [5, 4], "zero", 9.0, RandomStreams.of("z"))
    assert network.is_homogeneous
    assert not any(b.any() for b in network.biases)


@pytest.mark.parametrize(("d", "widths"), [(3, [400]), (40, [300, 500]), (20, [300, 300, 300])], ids=str)
def test_weights_are_gaussian_with_the_variances_of_the_definition(d: int, widths: list[int]) -> None:
    """[DFGSV25, Definition 1.1]: entries N(0, 2 / n) with n rows in hidden layers, N(0, 1) in the last one."""
    network = draw_network(d, widths, "normal", 1.0, RandomStreams.of(["weights", d, widths]))
    sizes = [d, *widths, 1]
    assert [w.shape for w in network.weights] == [(n, m) for m, n in itertools.pairwise(sizes)]
    for w in network.weights[:-1]:
        deviation = math.sqrt(2 / w.shape[0])
        assert stats.kstest(w.ravel(), stats.norm(scale=deviation).cdf).pvalue > CHANCE
        # A sample variance of n normal numbers is within 5.5 sqrt(2 / n) of it (chance 4e-8 a layer).
        assert w.var() == pytest.approx(deviation**2, rel=5.5 * math.sqrt(2 / w.size))
    assert stats.kstest(network.weights[-1].ravel(), stats.norm.cdf).pvalue > CHANCE
    assert not network.biases[-1].any()


def test_the_last_layer_has_unit_variance_over_many_draws() -> None:
    """1000 networks of 40 neurons: 40 000 numbers."""
    last = np.concatenate([draw_network(2, [40], "zero", 0.0, RandomStreams.of(k)).weights[-1][0] for k in range(1000)])
    assert stats.kstest(last, stats.norm.cdf).pvalue > CHANCE


def test_entries_are_independent_of_each_other() -> None:
    """Columns of a hidden layer, its biases and the last layer: 861 correlations of 4000 pairs, N(0, 1/4000) each; one
    exceeds 6 standard deviations with a chance below 3e-6. Rows: 780 sums of 40 products of Gaussians, one of which
    exceeds 8 standard deviations with a chance below 1e-6 (Chernoff, moment generating function (1 - t^2)^-20)."""
    network = draw_network(40, [4000], "normal", 1.0, RandomStreams.of("independent"))
    table = np.column_stack([network.weights[0] * math.sqrt(2000), network.biases[0], network.weights[1][0]])
    products = np.abs(table.T @ table / 4000)
    np.fill_diagonal(products, 0.0)
    assert products.max() < 6 / math.sqrt(4000)
    rows = network.weights[0][:40] * math.sqrt(2000)
    across = np.abs(rows @ rows.T / 40)
    np.fill_diagonal(across, 0.0)
    assert across.max() < 8 / math.sqrt(40)


def test_the_weights_do_not_depend_on_the_bias_law() -> None:
    networks = [draw_network(3, [6, 5], law, 2.0, RandomStreams.of("same")) for law in BIAS_LAWS]
    for network in networks[1:]:
        for left, right in zip(network.weights, networks[0].weights, strict=True):
            np.testing.assert_array_equal(left, right)


def test_layers_have_biases_of_their_own() -> None:
    network = draw_network(2, [50, 50, 50], "normal", 1.0, RandomStreams.of("layers"))
    assert len({b.tobytes() for b in network.biases}) == 4
    assert len({w.tobytes() for w in network.weights}) == 4


@pytest.mark.parametrize(
    ("d", "widths", "law", "message"),
    [
        (2, [3], "gaussian", "unknown bias law 'gaussian' .known: zero, normal, uniform, laplace, cauchy"),
        (0, [3], "zero", "d >= 1"),
        (2, [], "zero", "widths >= 1"),
        (2, [3, 0], "zero", "widths >= 1"),
    ],
)
def test_what_cannot_be_drawn_is_named(d: int, widths: list[int], law: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw_network(d, widths, law, 1.0, RandomStreams.of("x"))
