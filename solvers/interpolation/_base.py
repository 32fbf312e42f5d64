"""The interface of every construction of interpolating networks."""

from __future__ import annotations

import abc
from typing import ClassVar

import numpy as np

from solvers.errors import InputError, SoundnessError
from solvers.interpolants import Interpolant
from solvers.problems import InterpolationProblem

__all__ = ["AbstractInterpolator", "check_first_layer", "detected_classes"]


def check_first_layer(width: int, max_bias: float) -> None:
    """Raise InputError unless n >= 1 and 0 <= lambda < inf."""
    if width < 1:
        raise InputError(f"the first layer needs a width of at least 1, got {width}")
    if not 0 <= max_bias < np.inf:
        raise InputError(f"the maximal bias must be a finite number >= 0, got {max_bias}")


def detected_classes(problem: InterpolationProblem, minus: object) -> tuple[int, ...]:
    """Indices of the classes that get a second layer: every one of K > 2, one of two.

    Args:
        minus: for two classes, the label of the covered one; the last in sorted order when None.
    Raises:
        InputError: there is no class `minus`, or it is chosen among more than two.
    """
    if minus is not None and minus not in problem.classes:
        raise InputError(f"there is no class {minus!r}; the classes are {list(problem.classes)}")
    if len(problem.classes) > 2:
        if minus is not None:
            raise InputError("a covered class can be chosen for two classes only: with more each one is covered")
        return tuple(range(len(problem.classes)))
    return (1 if minus is None else problem.classes.index(minus),)


class AbstractInterpolator(abc.ABC):
    """A randomized construction. Instances are frozen settings; authors write `_solve`, callers use `solve`."""

    name: ClassVar[str]
    summary: ClassVar[str]

    def solve(self, problem: InterpolationProblem, *, rng: np.random.Generator) -> Interpolant:
        """Construct a network for a labelled point cloud and evaluate it on every point.

        Args:
            problem: the points and labels.
            rng: draws the first layer and the order of candidates.
        Raises:
            InputError: the settings do not fit the problem.
            SoundnessError: the construction contradicts itself: a bug of ours.
        """
        answer = self._solve(problem, rng)
        if answer.points != len(problem.labels):
            raise SoundnessError(f"{self.name} answered for {answer.points} of {len(problem.labels)} points")
        for k, centres in enumerate(answer.centres):
            if len(centres) != answer.network.second_layer_widths[k]:
                raise SoundnessError(f"{self.name}: detector {k} has another number of neurons than of centres")
        return answer

    @abc.abstractmethod
    def _solve(self, problem: InterpolationProblem, rng: np.random.Generator) -> Interpolant: ...
