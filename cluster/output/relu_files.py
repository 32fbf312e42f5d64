"""A memorizing ReLU network as a model file: written, read back, and kept if it gives every point its label."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solvers.errors import InputError

if TYPE_CHECKING:
    from solvers.problems.interpolants import Interpolant
    from solvers.problems.questions import InterpolationProblem
    from tasks.data_sets import LabelledPoints

__all__ = ["check_relu_file", "write_relu_file"]


def check_relu_file(path: str) -> None:
    """Raise InputError unless the file ends in .npz and its folder can be written to."""
    file = Path(path)
    if file.suffix.lower() != ".npz":
        raise InputError(f"--relu-file must name a .npz file, got {path!r}")
    if file.is_dir() or not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
        raise InputError(f"--relu-file {path}: its folder must exist and be writable")


def write_relu_file(
    path: str, answer: Interpolant, data: LabelledPoints, problem: InterpolationProblem
) -> tuple[str | None, str | None]:
    """The path, and why there is none.

    Args:
        answer: of the construction with ReLU neurons, on scaled points.
        data: the points as they are, which the network in the file takes.
    """
    from solvers.files.models import load_network, save_network
    from solvers.networks.relu_classifier import ReluClassifier, score_network

    if not answer.interpolates:
        missed = f"the network misses {len(answer.missed)} of {answer.points} points"
        return None, f"not saved: {missed}; {answer.status.advice}"
    assert isinstance(answer.network, ReluClassifier)
    classifier = answer.network.rescaled(data.radius or 1.0)
    try:
        save_network(classifier.network(), path)
    except OSError as error:
        return None, f"not saved: {path} cannot be written: {error.strerror or error}"
    answers = classifier.answers(score_network(load_network(path), data.points))
    wrong = int(np.count_nonzero(answers != problem.labels))
    if wrong:
        Path(path).unlink()
        return None, f"not saved: read back, the network gives {wrong} points another label"
    return path, None
