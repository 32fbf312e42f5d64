"""Orbits, packed feature maps and exact correlations, each against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from solvers.bits.correlations import (
    RolledMask,
    complement_maps,
    faster_method,
    least_products,
)
from solvers.bits.fourier_correlations import CorrelationTransform, fourier_error_bound
from solvers.bits.maps import PackedMaps, packed_features
from solvers.errors import InputError
from solvers.interpolation.orbit_layer import build_second_layer
from solvers.problems.orbits import canonical_translates, find_orbits, translate
from tests.references import convolution_by_definition as definition

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 2), st.integers(1, 3), st.integers(1, 5))


@settings(max_examples=60, deadline=None)
@given(SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, -0.0, 1.0, -2.5]))))
def test_orbits_are_those_of_trying_every_translation(images):
    orbits = find_orbits(images)
    for i, one in enumerate(images):
        orbit = [moved for _, moved in definition.translations(one)]
        same = [j for j, other in enumerate(images) if any((moved == other).all() for moved in orbit)]
        assert orbits.first[i] == min(same)
        for j in same:
            assert (translate(one, orbits.shift(i, j)) == images[j]).all()
    for shift, moved in definition.translations(images):
        del shift
        assert np.array_equal(canonical_translates(moved), canonical_translates(images))


def test_canonical_translates_are_translates():
    images = np.random.default_rng(0).integers(0, 2, size=(20, 2, 3, 4)).astype(float)
    for image, found in zip(images, canonical_translates(images), strict=True):
        assert any((moved == found).all() for _, moved in definition.translations(image))


def test_equal_digests_are_compared_number_by_number(monkeypatch):
    """Were every digest the same, the orbits would still be right."""

    class Constant:
        def __init__(self, *_, **__):
            pass

        def digest(self):
            return b"same"

    images = np.random.default_rng(1).integers(0, 2, size=(30, 1, 2, 3)).astype(float)
    expected = find_orbits(images).first
    monkeypatch.setattr("solvers.problems.orbits.hashlib.blake2b", Constant)
    assert np.array_equal(find_orbits(images).first, expected)
    assert len(np.unique(expected)) > 5


@pytest.mark.parametrize(
    ("shape", "kernel", "filters"),
    [((1, 1, 9), (1, 9), 3), ((2, 4, 3), (4, 3), 8), ((3, 3, 4), (2, 1), 17), ((1, 5, 5), (1, 1), 70)],
)
def test_packed_features_are_the_first_layer(shape, kernel, filters):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((5, *shape)) * (rng.random((5, *shape)) < 0.7)
    weights = rng.standard_normal((filters, shape[0], *kernel))
    biases = rng.uniform(-1, 1, filters)
    maps = packed_features(images, weights, biases)
    expected = np.stack([definition.first_layer(image, weights, biases) for image in images])
    bits = maps.bits(slice(None)).transpose(0, 3, 1, 2)
    assert np.array_equal(bits, expected)
    masks = complement_maps(maps)
    assert np.array_equal(masks.bits(slice(None)), 1 - maps.bits(slice(None)))
    # Padding bits stay 0, or counts of whole words would be wrong.
    assert int(np.bitwise_count(masks.words).sum()) == (1 - expected).sum()


def random_maps(rng, number, filters, height, width, density=0.5):
    bits = (rng.random((number, height, width, filters)) < density).astype(np.uint8)
    return PackedMaps.packed(np.packbits(bits, axis=-1, bitorder="little"), filters), bits


@pytest.mark.parametrize(("filters", "height", "width"), [(1, 1, 2), (9, 1, 13), (13, 4, 6), (8, 5, 1), (70, 3, 3)])
def test_products_are_those_of_every_translation(filters, height, width):
    rng = np.random.default_rng(filters)
    maps, bits = random_maps(rng, 12, filters, height, width)
    masks, mask_bits = random_maps(rng, 7, filters, height, width, 0.3)
    every = np.array(
        [
            [[int((u * np.roll(z, (a, b), (0, 1))).sum()) for a in range(height) for b in range(width)] for z in bits]
            for u in mask_bits
        ]
    )
    least = every.min(axis=2)
    for method in ("popcount", "fourier", None):
        assert np.array_equal(least_products(masks, maps, method), least)
    # All translations, not only the least: as multisets, since their numbering is a convention.
    found = CorrelationTransform(masks).correlations(maps, slice(None)).transpose(2, 3, 0, 1).reshape(every.shape)
    assert np.array_equal(np.sort(found, axis=2), np.sort(every, axis=2))
    for b in range(len(masks)):
        mask = RolledMask(masks, b)
        assert mask.least(maps.words, np.arange(5, 12)) == least[b, 5:].min()
        limit = int(np.median(least[b])) + 1
        assert np.array_equal(mask.below(maps.words, np.arange(12), limit), least[b] < limit)


def test_tiles_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    maps, _ = random_maps(rng, 150, 20, 4, 4)
    masks, _ = random_maps(rng, 3, 20, 4, 4)
    least = least_products(masks, maps, "fourier")
    rows = np.arange(150)
    for tile_bytes, kept_bytes in ((1, 0), (9 * 8 * maps.words.shape[1], 2**20), (2**20, 0)):
        monkeypatch.setattr("solvers.bits.correlations.TILE_BYTES", tile_bytes)
        monkeypatch.setattr("solvers.bits.correlations.KEPT_BYTES", kept_bytes)
        assert np.array_equal(least_products(masks, maps, "popcount"), least)
        for b in range(3):
            mask = RolledMask(masks, b)
            assert mask.least(maps.words, rows) == least[b].min()
            assert np.array_equal(mask.below(maps.words, rows, 70), least[b] < 70)


@pytest.mark.parametrize(("filters", "height", "width"), [(5, 1, 4), (40, 6, 7), (30, 28, 28), (3, 1, 400)])
def test_the_rounding_error_stays_below_its_bound(filters, height, width):
    rng = np.random.default_rng(0)
    maps, _ = random_maps(rng, 4, filters, height, width, 0.9)
    transform = CorrelationTransform(maps)
    values = transform._tables.back(transform._spectra @ transform._spectra_of(maps, slice(None)))
    bound = fourier_error_bound(filters, height, width)
    assert np.abs(values - np.rint(values)).max() < bound < 0.5
    if filters * height * width < 2000:
        assert np.array_equal(least_products(maps, maps, "popcount"), least_products(maps, maps, "fourier"))


def test_where_rounding_is_not_proved_harmless_bits_are_counted():
    size = (10**5, 128, 128)
    assert fourier_error_bound(*size) > 0.5
    assert faster_method(*size, masks=64) == "popcount"
    assert faster_method(100, 28, 28, masks=64) == "fourier"
    assert faster_method(10, 1, 10**4, masks=64) == "popcount"
    huge = PackedMaps(np.zeros((1, 1), np.uint64), *size)
    with pytest.raises(InputError, match="popcount"):
        least_products(huge, huge, "fourier")


@pytest.mark.parametrize("seed", range(4))
def test_both_ways_build_the_same_layer(seed):
    """Enough candidates for several batches, most of them idle at their turn in some seeds and used in others."""
    rng = np.random.default_rng(seed)
    maps, _ = random_maps(rng, 160, 12, 3, 3, [0.5, 0.3, 0.6, 0.5][seed])
    rows = rng.permutation(160)
    candidates, others = rows[:120], rows[120:] if seed < 3 else rows[120:122]
    one, two = (build_second_layer(maps, candidates, others, method) for method in ("popcount", "fourier"))
    assert one.centres.tolist() == two.centres.tolist()
    assert one.thresholds.tolist() == two.thresholds.tolist()
    assert one.missed.tolist() == two.missed.tolist()
    assert one.drawn == two.drawn
    assert len(one.centres) > 0
