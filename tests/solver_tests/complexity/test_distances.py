"""Distances from a centre, by trees, blocks and orbits: each against the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from scipy.spatial import cKDTree

from solvers.complexity.distances import (
    AbstractDistances,
    BlockDistances,
    OrbitDistances,
    TreeDistances,
    distances_between,
)
from solvers.complexity.far_neighbours import far_neighbours
from solvers.problems.orbits import find_orbits, translate
from tests.strategies import DETERMINISTIC, labelled_clouds

WAYS = {
    "tree": lambda points: TreeDistances(points),
    "float64 blocks": lambda points: BlockDistances(points, single=False),
    "float32 blocks": lambda points: BlockDistances(points, single=True),
}


@pytest.mark.parametrize("way", WAYS)
@DETERMINISTIC
@given(cloud=labelled_clouds())
def test_distances_are_those_of_the_definition(way: str, cloud: tuple[np.ndarray, np.ndarray]) -> None:
    points, labels = cloud
    distances = WAYS[way](points)
    targets = np.flatnonzero(labels == 0)
    table = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    near = np.where(np.arange(len(points))[:, None] == targets, np.inf, table[:, targets])
    found, leads = distances.nearest(np.arange(len(points)), targets)
    np.testing.assert_allclose(found, near.min(axis=1), rtol=1e-15)
    for row, lead in enumerate(leads):
        assert (lead == -1) == (targets.tolist() == [row])
        assert lead == -1 or table[row, lead] == pytest.approx(found[row], rel=1e-15)
    classes = int(labels.max()) + 1
    tables = distances.nearest_by_class(labels, classes)
    for k in range(classes):
        of_class = distances.nearest(np.arange(len(points)), np.flatnonzero(labels == k))
        assert np.array_equal(tables[0][:, k], of_class[0])
        assert way == "tree" or np.array_equal(tables[1][:, k], of_class[1])
    # Radii at which points lie exactly on the rim: whole multiples of 1/8.
    for radius in (0.0, 0.125, 1.0, 5.0):
        balls = distances.balls(np.arange(len(points)), np.full(len(points), radius), targets)
        for row, ball in enumerate(balls):
            assert sorted(ball.tolist()) == targets[table[row, targets] <= radius].tolist()


@pytest.mark.parametrize("single", [False, True])
def test_blocks_change_nothing(single: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(12)
    points, labels = rng.integers(0, 3, (300, 9)) / 4 + rng.integers(0, 2, (300, 9)), rng.integers(0, 3, 300)
    rows, radii = np.arange(300), np.full(300, 1.5)

    def asked(distances: AbstractDistances) -> list[np.ndarray]:
        return [
            *distances.nearest_by_class(labels, 3),
            *distances.nearest(rows, rows),
            *distances.balls(rows, radii, rows),
        ]

    before = asked(BlockDistances(points, single))
    monkeypatch.setattr("solvers.complexity.distances.BLOCK_ROWS", 7)
    monkeypatch.setattr("solvers.complexity.distances.BLOCK_NUMBERS", 7 * 70)
    after = asked(BlockDistances(points, single))
    assert all(map(np.array_equal, before, after))
    table = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2)) + np.diag(np.full(300, np.inf))
    for k in range(3):
        np.testing.assert_allclose(before[0][:, k], table[:, labels == k].min(axis=1), rtol=1e-15)


def test_a_screen_in_float32_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    # Far from the origin and close together: float32 alone would see nothing.
    points = 100.0 + rng.standard_normal((400, 30)) * 1e-3
    rows, radii = np.arange(400), np.full(400, 6.5e-3)
    coarse, fine = BlockDistances(points, single=True), BlockDistances(points, single=False)
    table = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2)) + np.diag(np.full(400, np.inf))
    for way in (coarse, fine):
        np.testing.assert_allclose(way.nearest(rows, rows)[0], table.min(axis=1), rtol=1e-12)
    assert all(map(np.array_equal, coarse.balls(rows, radii, rows), fine.balls(rows, radii, rows)))
    assert np.array_equal(coarse.nearest(rows, rows)[1], fine.nearest(rows, rows)[1])


@pytest.mark.parametrize("apart", [0.0, 0.5, 4.0], ids=["mixed", "near", "far"])
@pytest.mark.parametrize("dimension", [1, 3, 5])
def test_far_neighbours_are_those_of_a_tree(dimension: int, apart: float) -> None:
    rng = np.random.default_rng([dimension, int(2 * apart)])
    points = rng.standard_normal((3000, dimension))
    points[1500:, 0] += apart
    points[:20] = points[0]  # a group without extent
    rows, targets = np.arange(1500), np.arange(1500, 3000)
    answered, leads = far_neighbours(points, rows, targets, 1)
    assert len(answered) == 1500  # fewer targets than candidates are allowed
    lengths = np.linalg.norm(points[answered] - points[leads], axis=1)
    np.testing.assert_allclose(lengths, cKDTree(points[targets]).query(points[answered])[0], rtol=1e-12)


def test_near_neighbours_are_left_to_the_tree() -> None:
    rng = np.random.default_rng(7)
    points = np.concatenate([rng.standard_normal((30_000, 5)), rng.standard_normal((30_000, 5))])
    distances = TreeDistances(points)
    rows, targets = np.arange(30_000), np.arange(30_000, 60_000)
    answered, _ = far_neighbours(points, rows, targets, 1)
    assert len(answered) < len(rows)
    near, leads = distances.nearest(rows, targets)
    sample = rng.choice(30_000, 50, replace=False)
    table = np.linalg.norm(points[sample, None] - points[None, targets], axis=2)
    np.testing.assert_allclose(near[sample], table.min(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(leads[sample], targets[table.argmin(axis=1)])


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 6), (2, 3, 4)])
def test_orbit_distances_are_those_of_the_definition(shape: tuple[int, int, int], single: bool) -> None:
    rng = np.random.default_rng(8)
    images = rng.integers(-4, 5, (30, *shape)) / 8
    points = images[find_orbits(images).representatives].reshape(-1, int(np.prod(shape)))
    number = len(points)
    images = points.reshape(number, *shape)
    shifts = list(itertools.product(range(shape[1]), range(shape[2])))
    moved = np.stack([translate(images, shift) for shift in shifts]).reshape(len(shifts), number, -1)
    table = np.sqrt(((points[None, :, None] - moved[:, None]) ** 2).sum(axis=3).min(axis=0))
    distances = OrbitDistances(points, shape, single)
    rows = np.arange(number)
    found, leads = distances.nearest(rows, rows)
    others = table + np.diag(np.full(number, np.inf))
    np.testing.assert_allclose(found, others.min(axis=1))
    np.testing.assert_allclose(others[rows, leads], found)
    radius = float(np.median(table))
    for row, ball in enumerate(distances.balls(rows, np.full(number, radius), rows[::2])):
        assert ball.tolist() == rows[::2][table[row, ::2] <= radius].tolist()
        np.testing.assert_allclose(np.linalg.norm(distances.differences(row, ball), axis=1), table[row, ball])


def test_the_way_is_chosen_by_dimension() -> None:
    def way(dimension: int, shape: tuple[int, int, int] | None = None) -> type[AbstractDistances]:
        return type(distances_between(np.ones((3, dimension)), shape))

    assert (way(2), way(30), way(30, (1, 5, 6))) == (TreeDistances, BlockDistances, OrbitDistances)
