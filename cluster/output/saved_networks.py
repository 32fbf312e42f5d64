"""What `interlip interpolate --save DIR` leaves behind: one network in three forms, each read back and checked.

    network.npz   plain arrays, bit for bit the network (`solvers.files.threshold_npz`)
    network.onnx  standard operators (`solvers.files.threshold_onnx`); needs the extra `onnx`
    mlflow        an MLflow model with the flavors pyfunc and pytorch (`tracking.model_store`)

The folder appears whole, after every form has answered every training point with its label, or not at all.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cluster.output.terminal import console, say
from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError, MissingBackendError
from solvers.files.threshold_npz import load_threshold_network, save_threshold_network
from solvers.files.threshold_onnx import evaluate_threshold_onnx, write_threshold_onnx
from solvers.networks.detectors import NO_CLASS, BuiltNetwork

__all__ = ["NotSavedError", "check_save_folder", "save_checked"]

# Numbers that a block of points may bring about in one layer of an MLflow model.
BLOCK_NUMBERS = 2**23


class NotSavedError(RuntimeError):
    """A network was built but not saved; the message says why."""


def check_save_folder(folder: str) -> None:
    """Refuse, before anything is computed, a folder that cannot be made or that holds something.

    Raises:
        InputError: it is a file or not empty, or nothing can be written there.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise InputError(f"--save {folder} is a file: name a folder")
    try:
        if target.is_dir() and any(target.iterdir()):
            raise InputError(f"--save {folder}: the folder is not empty, name a new one")
        home = target.resolve().parent
        while not home.exists():
            home = home.parent
        os.rmdir(tempfile.mkdtemp(prefix=".interlip-", dir=home))
    except OSError as error:
        raise InputError(f"--save {folder}: nothing can be written there ({error.strerror or error})") from None


def save_checked(
    folder: str, network: BuiltNetwork, points: FloatArray, labels: NDArray[np.int64]
) -> dict[str, str | None]:
    """Write all forms and let each answer every point.

    Args:
        points: (N, d), as the network's user has them.
        labels: class indices (N,).
    Returns:
        Paths by form; None for ONNX where it cannot be, and the reason has been said.
    Raises:
        NotSavedError: a form gives another answer than the label, or the folder cannot be written. Nothing is left.
    """
    written: dict[str, str | None] = {}
    with _staging(Path(folder).resolve()) as stage:
        for name, form in (("npz", _npz), ("onnx", _onnx), ("mlflow", _mlflow)):
            try:
                with _told(f"writing the network as {name} and evaluating it on {len(labels)} points"):
                    file, answers = form(stage, network, points)
            except (MissingBackendError, InputError) as error:
                if name != "onnx":
                    raise
                say(f"{folder} holds no ONNX file: {error}")
                written[name] = None
                continue
            missed = int((answers != labels).sum())
            if missed:
                raise NotSavedError(
                    f"not saved: read back from {file}, the network misses {missed} of {len(labels)} points, though "
                    "the one in memory does not; values within rounding of 0 may do that, try another --seed"
                )
            written[name] = str(Path(folder) / file)
    return written


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder beside the target, which becomes the target when all went well and is removed otherwise."""
    stage = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        yield stage
        stage.chmod(0o755)
        stage.replace(target)
    except OSError as error:
        raise NotSavedError(f"not saved: {target} cannot be written ({error.strerror or error})") from None
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _told(text: str) -> Iterator[None]:
    """On a terminal, say what is going on while it lasts."""
    if not sys.stderr.isatty():
        yield
        return
    with console().status(text):
        yield


Answers: TypeAlias = tuple[str, NDArray[np.int64]]


def _npz(stage: Path, network: BuiltNetwork, points: FloatArray) -> Answers:
    save_threshold_network(network, stage / "network.npz")
    return "network.npz", load_threshold_network(stage / "network.npz").predict(points)


def _onnx(stage: Path, network: BuiltNetwork, points: FloatArray) -> Answers:
    write_threshold_onnx(network, stage / "network.onnx")
    return "network.onnx", evaluate_threshold_onnx(stage / "network.onnx", points)


def _mlflow(stage: Path, network: BuiltNetwork, points: FloatArray) -> Answers:
    from solvers.networks.threshold_module import ClassIndex
    from tracking.model_store import load_model, save_model

    described = {"classes": list(network.classes), "class_of_none": NO_CLASS}
    rows = max(1, BLOCK_NUMBERS // network.widest)
    try:
        save_model(ClassIndex(network.to_torch()), str(stage / "mlflow"), points[:2], described)
        return "mlflow", _in_blocks(load_model(str(stage / "mlflow")), points, rows)
    except OSError:
        raise
    except Exception as error:  # MLflow and torch's exporter raise many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NotSavedError(f"not saved: there is no MLflow model of this network ({reason})") from error


def _in_blocks(predict: Callable[[FloatArray], NDArray[np.int64]], points: FloatArray, rows: int) -> NDArray[np.int64]:
    return np.concatenate([predict(points[start : start + rows]) for start in range(0, len(points), rows)])
