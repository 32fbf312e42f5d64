"""The interface of every construction of interpolating networks."""

from __future__ import annotations

import abc
from typing import ClassVar

import numpy as np

from solvers.errors import SoundnessError
from solvers.interpolants import Interpolant
from solvers.problems import InterpolationProblem

__all__ = ["AbstractInterpolator"]


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
