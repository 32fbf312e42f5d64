"""Labelled point clouds: made ones, shipped ones and files. `load_data_set` is the one way in.

A made set depends on its own seed alone. Files are never unpickled.
"""

from __future__ import annotations

import difflib
import functools
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvers.errors import InputError
from solvers.files.npz_arrays import npz_arrays
from solvers.problems.questions import InterpolationProblem
from tasks.seeding import RandomStreams
from tasks.shifts import named_shifts

__all__ = ["DATA_SETS", "LabelledPoints", "load_data_set", "load_problem"]

FILE_KINDS = (".npz", ".csv", ".parquet")
# 2 GB of float64: a made set beyond that is a slip of the keyboard.
MOST_NUMBERS = 2**28


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPoints:
    """Points (N, d) with labels (N,) and where they come from."""

    points: NDArray[np.float64]
    labels: NDArray[Any]
    source: str

    @property
    def radius(self) -> float:
        """R = max ||x||_2."""
        return float(np.sqrt((self.points**2).sum(axis=1).max()))

    def scaled(self, radius: float = 1.0) -> LabelledPoints:
        """The same points, multiplied so that max ||x||_2 is `radius` (R = 1 in [DFG24])."""
        largest = self.radius
        factor = radius / largest if largest > 0 else 1.0
        return LabelledPoints(self.points * factor, self.labels, self.source)


def _numbers(arguments: list[str], defaults: list[float], form: str) -> list[float]:
    """The numbers behind the colon of a name, defaults filled in."""
    if len(arguments) > len(defaults):
        raise InputError(f"{form} takes at most {len(defaults)} numbers")
    try:
        given = [float(text) for text in arguments]
    except ValueError:
        raise InputError(f"the numbers of a data set must be like {form}, got {':'.join(arguments)!r}") from None
    values = given + defaults[len(given) :]
    if any(not math.isfinite(value) or value < 0 for value in values) or not values[0].is_integer() or values[0] < 2:
        raise InputError(f"a data set like {form} needs a whole number of points >= 2 and noise >= 0, got {values}")
    if values[0] * 2 > MOST_NUMBERS:
        raise InputError(f"{values[0]:g} points are more than fit in 2 GB: take fewer")
    return values


def _moons(arguments: list[str], seed: int, rng: np.random.Generator, data_dir: str | None) -> Any:
    """Two half circles of radius 1, N points in all, Gaussian noise: `moons:1000,0.05`.

    scikit-learn's `make_moons` with the seed as its random state, so that others can draw the same points; seed 0
    gives data on which the published figures of [DFG24] are met in every cell.
    """
    from sklearn.datasets import make_moons

    count, noise = _numbers(arguments, [1000.0, 0.05], "moons:N,noise")
    return make_moons(int(count), noise=noise, random_state=seed)


def _lines(arguments: list[str], seed: int, rng: np.random.Generator, data_dir: str | None) -> tuple[Any, Any]:
    """Two parallel segments of length 2 in the plane at distance 0.2, N points in all: `lines:1000,noise`."""
    count, noise = _numbers(arguments, [1000.0, 0.0], "lines:N,noise")
    labels = np.arange(int(count)) % 2
    points = np.stack([rng.uniform(-1, 1, len(labels)), 0.2 * labels - 0.1], axis=1)
    return points + noise * rng.standard_normal(points.shape), labels


def _blobs(arguments: list[str], seed: int, rng: np.random.Generator, data_dir: str | None) -> tuple[Any, Any]:
    """Uniform balls of radius r around the 2 k vertices +-e_i of R^k, classes alternating: `blobs:N,r,k`."""
    count, radius, dimension = _numbers(arguments, [1000.0, 0.1, 5.0], "blobs:N,radius,dimension")
    if dimension < 1 or not dimension.is_integer():
        raise InputError(f"blobs need a whole number as dimension, at least 1, got {dimension:g}")
    if count * dimension > MOST_NUMBERS:
        raise InputError(f"{count:g} points in dimension {dimension:g} are more than fit in 2 GB: take fewer")
    k = int(dimension)
    which = np.arange(int(count)) % (2 * k)
    centres = np.concatenate([np.eye(k), -np.eye(k)])
    directions = rng.standard_normal((len(which), k))
    directions /= np.sqrt((directions**2).sum(axis=1, keepdims=True))
    lengths = radius * rng.uniform(size=(len(which), 1)) ** (1 / k)
    return centres[which] + directions * lengths, which % 2


def _digits(arguments: list[str], seed: int, rng: np.random.Generator, data_dir: str | None) -> Any:
    """1797 handwritten digits of 8 x 8 pixels in ten classes (UCI, as in scikit-learn)."""
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def _mnist(arguments: list[str], seed: int, rng: np.random.Generator, data_dir: str | None) -> tuple[Any, Any]:
    """70 000 handwritten digits of 28 x 28 pixels in ten classes; needs a data folder with mnist.npz.

    `mnist:N` draws N of them without repetition; of one seed the smaller set lies in the larger one.
    """
    if data_dir is None:
        raise InputError("the data set mnist is not shipped: give the folder that holds mnist.npz by --data-dir")
    path = Path(data_dir) / "mnist.npz"
    if not path.is_file():
        raise InputError(f"there is no file mnist.npz in {data_dir}")
    points, labels = _read_npz(path)
    if not arguments:
        return points, labels
    (count,) = _numbers(arguments, [float(len(points))], "mnist:N")
    if count > len(points):
        raise InputError(f"mnist has {len(points)} points, {count:g} are asked for")
    order = RandomStreams.of(["data", "mnist", seed]).generator("points").permutation(len(points))
    chosen = order[: int(count)]
    return points[chosen], labels[chosen]


Maker = Callable[[list[str], int, np.random.Generator, "str | None"], Any]

DATA_SETS: dict[str, Maker] = {
    "digits": _digits,
    "moons": _moons,
    "lines": _lines,
    "blobs": _blobs,
    "shifts": named_shifts,
    "mnist": _mnist,
}


def load_data_set(name: str, *, seed: int = 0, label: str | None = None, data_dir: str | None = None) -> LabelledPoints:
    """Points and labels of a made or shipped data set by name, or of a file.

    Args:
        name: `digits`, `moons:1000`, `moons:1000,0.1`, ..., `mnist`, `mnist:1000`, or a path to .npz (X, y), .csv or
            .parquet.
        seed: of made data sets and of subsets.
        label: label column of .csv and .parquet files; the last one when left out.
        data_dir: folder of data sets that are not shipped.
    Raises:
        InputError: one sentence that names what is wrong and the way out.
    """
    if name.lower().endswith(FILE_KINDS):
        points, labels = _read_file(Path(name), label)
    else:
        base, _, rest = name.partition(":")
        if base not in DATA_SETS:
            near = difflib.get_close_matches(base, DATA_SETS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(DATA_SETS)}"
            raise InputError(f"there is no data set {base!r} and no such {'/'.join(FILE_KINDS)} file; {hint}")
        if label is not None:
            raise InputError(f"a label column is for .csv and .parquet files, not for the data set {base}")
        arguments = rest.split(",") if rest else []
        if arguments and base == "digits":
            raise InputError(f"the data set {base} takes no numbers, got {rest!r}")
        generator = RandomStreams.of(["data", name, seed]).generator("points")
        points, labels = DATA_SETS[base](arguments, seed, generator, data_dir)
    try:
        if np.iscomplexobj(points):
            raise TypeError("a cast to float64 would drop the imaginary part")
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}: every column but the label must hold real numbers") from None
    return LabelledPoints(array.reshape(len(array), -1) if array.ndim > 2 else array, np.asarray(labels), name)


def load_problem(
    name: str, *, seed: int = 0, label: str | None = None, data_dir: str | None = None, radius: float | None = 1.0
) -> InterpolationProblem:
    """A data set as a checked problem, scaled to max ||x||_2 = radius (not scaled for None).

    Kept for the next call, unless its file has changed since.
    """
    file = Path(name) if name.lower().endswith(FILE_KINDS) else Path(data_dir or "") / f"{name.partition(':')[0]}.npz"
    written = (file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else None
    return _kept_problem(name, seed, label, data_dir, radius, (str(file.absolute()), written))


@functools.lru_cache(maxsize=2)
def _kept_problem(
    name: str, seed: int, label: str | None, data_dir: str | None, radius: float | None, file: object
) -> InterpolationProblem:
    data = load_data_set(name, seed=seed, label=label, data_dir=data_dir)
    if data.points.ndim == 2 and data.points.size and np.isfinite(data.points).all() and radius is not None:
        data = data.scaled(radius)
    return InterpolationProblem(data.points, data.labels)


def _read_file(path: Path, label: str | None) -> tuple[Any, Any]:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.suffix.lower() == ".npz":
        if label is not None:
            raise InputError("a label column is for .csv and .parquet files; an .npz file holds its labels as y")
        return _read_npz(path)
    return _read_table(path, label)


def _read_npz(path: Path) -> tuple[Any, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = npz_arrays(archive)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # zipfile, numpy and OS errors alike mean: not what it says
        raise InputError(f"{path} is not a readable .npz file of plain arrays: {error}") from None
    if "X" not in arrays or "y" not in arrays:
        raise InputError(f"{path} must hold the arrays X and y, it holds {', '.join(arrays) or 'none'}")
    return arrays["X"], arrays["y"]


def _read_table(path: Path, label: str | None) -> tuple[Any, Any]:
    import pandas as pd

    try:
        table = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except Exception as error:  # parser, arrow and OS errors alike mean: not what it says
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is not a readable {path.suffix[1:]} table: {reason}") from None
    if table.shape[0] == 0 or table.shape[1] < 2:
        raise InputError(f"{path} needs rows, a label and at least one more column, it has shape {table.shape}")
    column = str(table.columns[-1]) if label is None else label
    if column not in table.columns:
        near = difflib.get_close_matches(column, [str(name) for name in table.columns], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{path} has no column {column!r}{hint}")
    if table[column].isna().any():
        row = int(table[column].isna().argmax())
        raise InputError(f"{path}: the label column {column!r} has an empty cell in row {row}")
    features = table.drop(columns=column)
    for name in features.columns:
        if features[name].dtype.kind not in "fiub":
            raise InputError(f"{path}: column {name!r} holds text; every column but the label must hold numbers")
    return features.to_numpy(dtype=np.float64), table[column].to_numpy()
