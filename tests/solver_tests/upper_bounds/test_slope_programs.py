"""The parts of `semidefinite`: proofs hold in rationals, sweeps agree in numpy and torch."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from solvers.lipschitz.bounds.slopes.arrays import NUMPY, ArrayLibrary, on_device
from solvers.lipschitz.bounds.slopes.layers import SlopeLayers
from solvers.lipschitz.bounds.slopes.proof import proved_columns, proved_diagonal
from solvers.lipschitz.bounds.slopes.vectors import VectorNetwork
from tests.references.slope_inequality import inequality, is_positive_definite, with_inputs
from tests.strategies import gaussian_network

RNG = np.random.default_rng


def some_layers(rng: np.random.Generator, most_inputs: int = 5) -> SlopeLayers:
    """Free, active and silent neurons in one to four layers."""
    depth = int(rng.integers(1, 5))
    sizes = [int(rng.integers(1, most_inputs + 1)), *rng.integers(2, 6, size=depth).tolist(), 1]
    signs = [rng.choice([0, 0, 1, -1], size=n).astype(np.int8) for n in sizes[1:-1]]
    for sign in signs:
        sign[0] = 0
    return SlopeLayers.of(gaussian_network(sizes, rng), None if rng.random() < 0.4 else signs)


@pytest.mark.parametrize("p", [2.0, 3.0, math.inf])
def test_what_is_proved_holds_in_rationals_and_little_less_does_not(p: float) -> None:
    rng = np.random.default_rng(int(p) if math.isfinite(p) else 9)
    proved = 0
    for _ in range(40):
        layers = some_layers(rng)
        multipliers = VectorNetwork(layers, p, 8, rng).run(60).raised(float(rng.choice([1e-9, 1e-6, 1e-2])))
        t = proved_diagonal(layers, multipliers.layers, multipliers.inputs)
        if t is None:
            continue
        proved += 1
        matrix = inequality(layers.weights, layers.free, layers.output, multipliers.layers)
        assert is_positive_definite(with_inputs(matrix, t))
        assert not is_positive_definite(with_inputs(matrix, t * (1 - 1e-5)))
    assert proved > 20


def test_every_column_that_is_proved_holds_in_rationals_and_little_less_does_not() -> None:
    rng = np.random.default_rng(4)
    proved = 0
    for _ in range(30):
        layers = some_layers(rng)
        multipliers = VectorNetwork(layers, 2.0, 8, rng).run(60).raised(1e-3)
        columns = proved_columns(layers, multipliers.layers)
        if columns is None:
            continue
        proved += 1
        for k, bound in enumerate(columns.tolist()):
            alone = layers.column(k)
            matrix = inequality(alone.weights, alone.free, alone.output, multipliers.layers)
            # Not a positive number where the input reaches nothing: then any t will do.
            assert is_positive_definite(with_inputs(matrix, np.array([max(bound, 1e-9) ** 2 * (1 + 1e-12)])))
            assert bound < 1e-9 or not is_positive_definite(with_inputs(matrix, np.array([bound**2 * (1 - 1e-5)])))
    assert proved > 15


def test_multipliers_that_are_too_small_are_not_proved() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        layers = some_layers(rng)
        found = VectorNetwork(layers, 2.0, 8, rng).run(60)
        top = 0.49 * np.maximum(layers.output[: layers.free[-1]] ** 2, 1e-30)
        # 2 lambda_i < v_i^2: the last layer's diagonal is negative.
        assert proved_diagonal(layers, (*found.layers[:-1], top), found.inputs) is None


@pytest.mark.parametrize("p", [2.0, 3.0, math.inf])
def test_torch_finds_the_multipliers_that_numpy_finds(p: float) -> None:
    rng = np.random.default_rng(6)
    for _ in range(6):
        layers = some_layers(rng)
        here, there = (VectorNetwork(layers, p, 6, np.random.default_rng(1), a) for a in (NUMPY, on_device("cpu")))
        first, second = here.run(12), there.run(12)
        assert there.reached == pytest.approx(here.reached, rel=1e-12)
        for a, b in zip((*first.layers, first.inputs), (*second.layers, second.inputs), strict=True):
            # Sums in another order, along twelve sweeps.
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9 * float(a.max()))


@pytest.mark.parametrize("arrays", [NUMPY, on_device("cpu")], ids=["numpy", "torch"])
def test_sweeps_in_float32_end_at_the_same_optimum_and_report_it_in_float64(arrays: ArrayLibrary) -> None:
    layers = SlopeLayers.of(gaussian_network([20, 40, 40, 1], np.random.default_rng(7)))
    double = VectorNetwork(layers, 2.0, 12, np.random.default_rng(0))
    double.run(600)
    single = VectorNetwork(layers, 2.0, 12, np.random.default_rng(0), arrays, single=True)
    assert single.single
    multipliers = single.run(300)
    assert single.reached <= double.reached * (1 + 1e-12)
    assert single.reached == pytest.approx(double.reached, rel=1e-5)
    t = proved_diagonal(layers, multipliers.raised(1e-3).layers, multipliers.inputs)
    assert t is not None
    assert math.sqrt(t.max()) >= double.reached


def test_a_layer_without_active_neurons_follows_the_order_of_the_one_before() -> None:
    network = gaussian_network([2, 3, 2, 1], RNG(0))
    layers = SlopeLayers.of(network, [np.array([1, 0, 0], dtype=np.int8), np.zeros(2, dtype=np.int8)])
    assert layers.kept[0].tolist() == [1, 2, 0]
    for k in range(2):
        # Scales of neurons are powers of two.
        moved = network.weights[1][k][[1, 2, 0]]
        shares = layers.weights[1][k] / moved
        assert (np.frexp(shares)[0] == 0.5).all()


def test_inputs_of_a_shape_are_inputs_that_are_scaled() -> None:
    layers = SlopeLayers.of(gaussian_network([6, 12, 12, 1], np.random.default_rng(3)))
    shape = 10.0 ** np.random.default_rng(4).uniform(-2, 2, 6)
    scaled = replace(layers, weights=(layers.weights[0] / np.sqrt(shape), *layers.weights[1:]))
    of_shape, plain = VectorNetwork(layers, 2.0, 8, RNG(0), shape=shape), VectorNetwork(scaled, 2.0, 8, RNG(0))
    first, second = of_shape.run(500), plain.run(500)
    assert of_shape.reached == pytest.approx(plain.reached, rel=1e-9)
    t, ones = (proved_diagonal(a, m.raised(1e-6).layers, m.inputs) for a, m in ((layers, first), (scaled, second)))
    assert t is not None
    assert ones is not None
    np.testing.assert_allclose(t / shape, ones, rtol=1e-4)


def test_lengths_beyond_float32_are_swept_in_float64() -> None:
    layers = SlopeLayers.of(gaussian_network([30, *[200] * 12, 1], np.random.default_rng(8)))
    assert not VectorNetwork(layers, 2.0, 4, np.random.default_rng(0), single=True).single
