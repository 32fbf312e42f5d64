"""Data sets: what each entry of the table must look like, files of every kind, and mistakes named in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from solvers.errors import InputError
from tasks.data_sets import DATA_SETS, LabelledPoints, load_data_set, load_problem
from tests.data_folder import DATA_DIR, needs_mnist
from tests.harmful_pickle import Touch
from tests.strategies import DETERMINISTIC, labelled_clouds

# One line per entry of the table: name, points, dimension, samples of each class.
SHAPES: dict[str, tuple[int, int, dict[int, int]]] = {
    "moons": (1000, 2, {0: 500, 1: 500}),
    "moons:101,0.1": (101, 2, {0: 50, 1: 51}),
    "lines": (1000, 2, {0: 500, 1: 500}),
    "lines:7": (7, 2, {0: 4, 1: 3}),
    "blobs": (1000, 5, {0: 500, 1: 500}),
    "blobs:90,0.2,3": (90, 3, {0: 45, 1: 45}),
    "shifts:2,1,5": (20, 5, {0: 10, 1: 10}),
    "digits": (1797, 64, dict(enumerate([178, 182, 177, 183, 181, 182, 181, 179, 174, 180]))),
}


def test_every_entry_of_the_table_is_looked_at_here() -> None:
    assert set(DATA_SETS) == {name.partition(":")[0] for name in SHAPES} | {"mnist"}


@pytest.mark.parametrize("name", SHAPES)
def test_shape_classes_and_repetition(name: str) -> None:
    points, dimension, counts = SHAPES[name]
    data = load_data_set(name)
    assert data.points.shape == (points, dimension)
    assert data.points.dtype == np.float64
    assert np.isfinite(data.points).all()
    assert dict(zip(*(side.tolist() for side in np.unique(data.labels, return_counts=True)), strict=True)) == counts
    assert data.source == name
    np.testing.assert_array_equal(load_data_set(name).points, data.points)
    problem = load_problem(name)
    assert problem.radius == pytest.approx(1.0, rel=1e-12)
    assert len(problem.classes) == len(counts)


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "digits"])
def test_a_made_set_depends_on_its_seed_alone(name: str) -> None:
    state = np.random.get_state()  # noqa: NPY002
    first, second = load_data_set(name, seed=1), load_data_set(name, seed=2)
    assert not np.array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.points, load_data_set(name, seed=1).points)
    assert all(np.array_equal(a, b) for a, b in zip(state, np.random.get_state(), strict=True))  # noqa: NPY002


def test_digits_are_the_images_of_the_archive() -> None:
    """8 x 8 counts of ink from 0 to 16; the first image is a zero, with an empty middle."""
    data = load_data_set("digits")
    assert set(np.unique(data.points)) == set(range(17))
    assert data.labels[0] == 0
    image = data.points[0].reshape(8, 8)
    assert image[3:5, 3:5].sum() == 0 < image[3:5].sum()


def test_moons_are_half_circles() -> None:
    data = load_data_set("moons:400,0")
    upper, lower = data.points[data.labels == 0], data.points[data.labels == 1]
    np.testing.assert_allclose((upper**2).sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(((lower - [1.0, 0.5]) ** 2).sum(axis=1), 1.0, rtol=1e-12)
    assert (upper[:, 1] >= 0).all()
    assert (lower[:, 1] <= 0.5).all()


def test_the_noise_of_moons_has_its_standard_deviation() -> None:
    """20 000 points: the radial deviation is nearly normal; its sample deviation is within 5 % but for a chance below
    1e-7 (5.5 standard errors are 2 %; curvature and overlap add less than 1 %)."""
    data = load_data_set("moons:20000,0.05")
    centres = np.where(data.labels[:, None] == 0, [0.0, 0.0], [1.0, 0.5])
    radii = np.sqrt(((data.points - centres) ** 2).sum(axis=1))
    assert np.std(radii) == pytest.approx(0.05, rel=0.05)
    # The default is the noise of the published experiments.
    np.testing.assert_array_equal(load_data_set("moons:1000").points, load_data_set("moons:1000,0.05").points)


def test_lines_are_two_parallel_segments() -> None:
    data = load_data_set("lines:2000")
    np.testing.assert_array_equal(data.points[:, 1], np.where(data.labels == 1, 0.1, -0.1))
    assert np.abs(data.points[:, 0]).max() <= 1
    # 1000 uniform points on each segment leave no tenth of it empty but with a chance of 20 * 0.9^1000 < 1e-44.
    for label in (0, 1):
        assert np.histogram(data.points[data.labels == label, 0], bins=10, range=(-1, 1))[0].min() > 0
    noisy = load_data_set("lines:20000,0.3")
    heights = noisy.points[:, 1] - np.where(noisy.labels == 1, 0.1, -0.1)
    # 20 000 normal numbers: within 5 % of the deviation but for a chance below 1e-20.
    assert np.std(heights) == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize(("radius", "k"), [(0.1, 5), (0.25, 2), (0.0, 3), (0.5, 1)])
def test_blobs_are_uniform_balls_around_the_vertices(radius: float, k: int) -> None:
    data = load_data_set(f"blobs:12000,{radius},{k}")
    centres = np.concatenate([np.eye(k), -np.eye(k)])
    which = np.arange(12000) % (2 * k)
    lengths = np.sqrt(((data.points - centres[which]) ** 2).sum(axis=1))
    assert lengths.max() <= radius * (1 + 1e-12)
    np.testing.assert_array_equal(data.labels, which % 2)
    if radius > 0:
        # (length / radius)^k is uniform: its mean over 12 000 is within 5.5 standard errors but for a chance of 4e-8.
        assert ((lengths / radius) ** k).mean() == pytest.approx(0.5, abs=5.5 * math.sqrt(1 / 12 / 12000))
        # Directions are symmetric: so is the mean of each coordinate, whose variance is at most radius^2.
        offsets = (data.points - centres[which]).mean(axis=0)
        assert np.abs(offsets).max() < 5.5 * radius / math.sqrt(12000)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("moon:100", "no data set 'moon'.*did you mean 'moons'"),
        ("digit", "did you mean 'digits'"),
        ("zzz", "known: digits, moons"),
        ("", "known: digits"),
        ("moons:", "^$"),
        ("moons:many", "must be like moons:N,noise"),
        ("moons:1", "whole number of points >= 2"),
        ("moons:10.5", "whole number of points >= 2"),
        ("moons:-5", "whole number of points >= 2"),
        ("moons:nan", "whole number of points >= 2"),
        ("moons:inf", "whole number of points >= 2"),
        ("moons:10,-0.1", "noise >= 0"),
        ("moons:10,nan", "noise >= 0"),
        ("moons:10,0.1,3", "at most 2 numbers"),
        ("lines:10,0.1,3", "at most 2 numbers"),
        ("blobs:10,0.1,3,4", "at most 3 numbers"),
        ("blobs:10,0.1,0", "dimension"),
        ("blobs:10,0.1,2.5", "whole number"),
        ("digits:10", "digits takes no numbers, got '10'"),
        ("mnist:10", "not shipped"),
        ("digits:10", "digits takes no numbers"),
    ],
)
def test_a_name_that_is_none_is_explained(name: str, message: str) -> None:
    if message == "^$":  # an empty list of numbers is the defaults
        assert len(load_data_set(name).points) == 1000
        return
    with pytest.raises(InputError, match=message) as caught:
        load_data_set(name)
    assert "\n" not in str(caught.value)


def test_more_than_fits_in_memory_is_refused_at_once() -> None:
    for name in ("moons:1e12", "lines:1e15", "blobs:1e9,0.1,1000"):
        with pytest.raises(InputError, match="more than"):
            load_data_set(name)


@pytest.mark.parametrize(("name", "radius"), [("moons:50", 3.0), ("digits", 0.5), ("lines:10", None)])
def test_scaling_only_multiplies(name: str, radius: float | None) -> None:
    data = load_data_set(name)
    problem = load_problem(name, radius=radius)
    lengths = np.sqrt((data.points**2).sum(axis=1))
    factor = 1.0 if radius is None else radius / lengths.max()
    np.testing.assert_allclose(problem.points, data.points * factor, rtol=1e-15)
    if radius is not None:
        assert problem.radius == pytest.approx(radius, rel=1e-12)


def test_points_that_are_all_zero_stay_so() -> None:
    assert not LabelledPoints(np.zeros((2, 3)), np.array([0, 1]), "x").scaled().points.any()


SAVERS: dict[str, Callable[[Path, np.ndarray, np.ndarray], object]] = {
    ".npz": lambda path, x, y: np.savez(path, X=x, y=y),
    ".csv": lambda path, x, y: frame(x, y).to_csv(path, index=False),
    ".parquet": lambda path, x, y: frame(x, y).to_parquet(path, index=False),
}


def frame(x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(x, columns=[f"x{k}" for k in range(x.shape[1])]).assign(answer=y)


@pytest.mark.parametrize("kind", SAVERS)
@DETERMINISTIC
@given(labelled_clouds())
def test_a_file_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, kind: str, cloud: tuple[np.ndarray, np.ndarray]
) -> None:
    path = tmp_path_factory.getbasetemp() / f"cloud{kind}"
    SAVERS[kind](path, *cloud)
    data = load_data_set(str(path))
    np.testing.assert_array_equal(data.points, cloud[0])
    np.testing.assert_array_equal(data.labels, cloud[1])


@pytest.mark.parametrize("kind", SAVERS)
@pytest.mark.parametrize("labels", [["no", "yes", "no"], [True, False, True], [-1, 7, 7], [0.5, 1.5, 0.5]], ids=str)
def test_labels_may_be_of_any_kind(tmp_path: Path, kind: str, labels: list[Any]) -> None:
    path = tmp_path / f"data{kind}"
    SAVERS[kind](path, np.array([[1.0, 0.5], [0.25, 2.0], [3.0, -1.0]]), np.array(labels))
    problem = load_problem(str(path))
    assert problem.classes == tuple(sorted(set(labels)))
    assert [problem.classes[code] for code in problem.labels] == labels


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_the_label_column_can_be_named(tmp_path: Path, kind: str) -> None:
    table = pd.DataFrame({"a": [1.0, 2.0, 3.0], "kind": ["u", "v", "u"], "flag": [True, False, True], "b": [4, 5, 6]})
    path = tmp_path / f"data{kind}"
    table.to_csv(path, index=False) if kind == ".csv" else table.to_parquet(path)
    data = load_data_set(str(path), label="kind")
    np.testing.assert_array_equal(data.points, [[1, 1, 4], [2, 0, 5], [3, 1, 6]])
    assert list(data.labels) == ["u", "v", "u"]
    with pytest.raises(InputError, match="no column 'knid'; did you mean 'kind'"):
        load_data_set(str(path), label="knid")
    with pytest.raises(InputError, match="column 'kind' holds text"):
        load_data_set(str(path))


def test_images_are_flattened_and_endings_may_be_capitals(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    with (tmp_path / "IMAGES.NPZ").open("wb") as stream:
        np.savez(stream, X=images, y=[0, 1])
    np.testing.assert_array_equal(load_data_set(str(tmp_path / "IMAGES.NPZ")).points, images.reshape(2, 12))


def test_a_label_column_makes_no_sense_elsewhere(tmp_path: Path) -> None:
    SAVERS[".npz"](tmp_path / "d.npz", np.eye(2), np.array([0, 1]))
    for name in ("moons:10", str(tmp_path / "d.npz")):
        with pytest.raises(InputError, match="a label column is for"):
            load_data_set(name, label="y")


def test_no_file_runs_code(tmp_path: Path) -> None:
    harmful = np.array([[Touch(tmp_path / "code ran")]], dtype=object)
    np.savez(tmp_path / "data.npz", X=harmful, y=np.zeros(1))
    with pytest.raises(InputError, match=r"not a readable \.npz file of plain arrays"):
        load_data_set(str(tmp_path / "data.npz"))
    assert not (tmp_path / "code ran").exists()


@pytest.mark.parametrize("kind", SAVERS)
@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe nothing", b"PK\x03\x04 torn"], ids=["empty", "bytes", "torn"])
def test_a_file_that_is_not_what_it_says_is_named(tmp_path: Path, kind: str, content: bytes) -> None:
    (tmp_path / f"data{kind}").write_bytes(content)
    with pytest.raises(InputError, match=r"not a readable|needs rows") as caught:
        load_data_set(str(tmp_path / f"data{kind}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", SAVERS)
def test_a_missing_file_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=f"there is no file .*data{kind}"):
        load_data_set(str(tmp_path / f"data{kind}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "needs rows"),
        ("a\n1\n2\n", "needs rows, a label and at least one more column"),
        ("a,b\n1,x\n2,\n", "label column 'b' has an empty cell in row 1"),
        ("a,b\n1,x\n,y\n", "points holds a NaN or infinite value at row 1, column 0"),
        ("a,b\ninf,x\n1,y\n", "points holds a NaN or infinite value at row 0, column 0"),
        ("a,b\none,x\n1,y\n", "column 'a' holds text"),
        ("a,b\n1,x\n2,x\n", "at least two classes, got one class only: 'x'"),
        ("a,b\n1,x\n1,y\n", "rows 0 and 1 are the same point"),
        ("a,b\n1,2,3\n4,5,6,7\n", "not a readable csv table"),
    ],
)
def test_a_table_that_is_no_question_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_problem(str(tmp_path / "data.csv"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.eye(2)}, "must hold the arrays X and y, it holds X"),
        ({}, "it holds none"),
        ({"X": np.eye(2), "y": np.zeros((2, 1))}, r"labels must have shape .N,. = .2,."),
        ({"X": np.eye(2), "y": np.zeros(3)}, r"labels must have shape .N,. = .2,."),
        ({"X": np.array([["a"], ["b"]]), "y": np.arange(2)}, "real numbers"),
        ({"X": np.eye(2) * 1j, "y": np.arange(2)}, "real numbers"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, "N, d >= 1"),
        ({"X": np.zeros((2, 0)), "y": np.arange(2)}, "N, d >= 1"),
        ({"X": np.arange(3.0), "y": np.arange(3)}, r"points must have shape .N, d."),
        ({"X": np.float64(3), "y": np.arange(3)}, r"points must have shape .N, d."),
        ({"X": np.array([[np.nan], [1.0]]), "y": np.arange(2)}, "NaN or infinite value at row 0"),
        ({"X": np.eye(2), "y": np.array([0.0, np.nan])}, "labels holds a NaN or infinite value at row 1"),
        ({"X": np.eye(2), "y": np.ones(2)}, "at least two classes"),
        ({"X": np.array([[0.0, 1.0], [-0.0, 1.0]]), "y": np.arange(2)}, "rows 0 and 1 are the same point"),
    ],
)
def test_arrays_that_are_no_question_are_explained(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=message) as caught:
        load_problem(str(tmp_path / "data.npz"))
    assert "\n" not in str(caught.value)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, X=np.eye(2), y=[0, 1])
    first = load_problem(str(path))
    np.savez(path, X=np.eye(3), y=[0, 1, 2])
    assert len(load_problem(str(path)).points) == 3
    assert len(first.points) == 2


def test_mnist_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not shipped: give the folder that holds mnist\.npz by --data-dir"):
        load_data_set("mnist")
    with pytest.raises(InputError, match=r"there is no file mnist\.npz in"):
        load_data_set("mnist", data_dir=str(tmp_path))
    (tmp_path / "mnist.npz").write_text("not an archive")
    with pytest.raises(InputError, match=r"not a readable \.npz file"):
        load_data_set("mnist", data_dir=str(tmp_path))


@needs_mnist
def test_mnist_is_the_whole_database() -> None:
    data = load_data_set("mnist", data_dir=str(DATA_DIR))
    assert data.points.shape == (70000, 784)
    assert (data.points.min(), data.points.max()) == (0.0, 255.0)
    # Digits of the 60 000 training and 10 000 test images, as published.
    assert np.bincount(data.labels).tolist() == [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958]
    assert data.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.abs(data.scaled().points).max() < 1


@needs_mnist
def test_subsets_of_mnist_are_drawn_from_it_and_nested() -> None:
    small, large = (load_data_set(f"mnist:{count}", data_dir=str(DATA_DIR)) for count in (50, 2000))
    assert small.points.shape == (50, 784)
    np.testing.assert_array_equal(small.points, large.points[:50])
    np.testing.assert_array_equal(small.labels, large.labels[:50])
    whole = load_data_set("mnist", data_dir=str(DATA_DIR))
    rows = {point.tobytes() + label.tobytes() for point, label in zip(whole.points, whole.labels, strict=True)}
    drawn = [point.tobytes() + label.tobytes() for point, label in zip(large.points, large.labels, strict=True)]
    assert set(drawn) <= rows
    assert len(set(drawn)) == 2000
    # Uniform draws: 200 of each digit, within 6 standard deviations but for a chance of 2e-8.
    assert np.abs(np.bincount(large.labels) / 2000 - np.bincount(whole.labels) / 70000).max() < 6 * 0.3 / 2000**0.5
    assert not np.array_equal(load_data_set("mnist:50", seed=1, data_dir=str(DATA_DIR)).labels, small.labels)
    refused = {"mnist:70001": "70000 points, 70001 are asked", "mnist:1": ">= 2", "mnist:5,5": "at most 1 number"}
    for wrong, message in refused.items():
        with pytest.raises(InputError, match=message):
            load_data_set(wrong, data_dir=str(DATA_DIR))


@pytest.mark.parametrize("shape", [(2**20, 100), (2**40, 1)])
def test_no_memory_is_taken_for_what_a_header_claims(tmp_path: Path, shape: tuple[int, int]) -> None:
    import io
    import tracemalloc
    import zipfile

    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("X.npy", stream.getvalue() + bytes(800))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"array X (claims the shape|of shape .* has .* entries)"):
        load_data_set(str(tmp_path / "data.npz"))
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()
