"""The interface of every construction of interpolating networks."""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from solvers.errors import InputError, SoundnessError
from solvers.interpolation.class_cover import Deal
from solvers.networks.detectors import BuiltNetwork
from solvers.problems.interpolants import Interpolant
from solvers.problems.questions import InterpolationProblem

__all__ = ["AbstractInterpolator", "Construction", "check_first_layer", "detected_classes"]


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


@dataclass(frozen=True, slots=True, eq=False)
class Construction:
    """A network as a method built it, not yet evaluated.

    Attributes:
        network: with one detector per covered class.
        centres: per detector the rows x* its neurons were made from, in order of acceptance.
        stats: seconds of the parts, candidates looked at.
        at_least: how many neurons any choice among the candidates has, where that is known.
    """

    network: BuiltNetwork
    centres: tuple[NDArray[np.int64], ...]
    stats: Mapping[str, float]
    at_least: int | None = None


class AbstractInterpolator(abc.ABC):
    """A randomized construction. Instances are frozen settings; authors write `_solve`, callers use `solve`.

    A concrete class is a dataclass whose fields are `width`, `max_bias`, `minus`, `device` and its `options`, and
    maybe others that no command offers. One line in `solvers.registry.INTERPOLATORS` makes it known everywhere.

    Class attributes:
        name: as people type it, with hyphens.
        summary: one line for people.
        options: fields that a user may set besides width, maximal bias and covered class; `activation` and `shape`
            are offered by every command and experiment that has them.

    Attributes:
        width: n, of the first layer.
        max_bias: lambda; first-layer biases are uniform on [-lambda, lambda].
        minus: for two classes, the label of the covered one; the last in sorted order when None.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    width: int
    max_bias: float
    minus: object = None
    device: str
    # Of the construction and the evaluation; None for as many as torch may use.
    threads: int | None = None

    @property
    def drawn_for(self) -> tuple[object, ...]:
        """What random streams derive from besides data, width, maximal bias and covered class."""
        return (self.name, *(getattr(self, option) for option in self.options))

    def check(self, problem: InterpolationProblem) -> None:
        """Raise InputError when no draw could ever succeed: a covered class that is none."""
        detected_classes(problem, self.minus)

    def dealt(self, deal: Deal) -> AbstractInterpolator:
        """The same construction with its classes covered elsewhere.

        Raises:
            InputError: this one cannot hand its classes out.
        """
        raise InputError(f"the {self.name} construction covers its classes itself: use the fully connected one")

    def solve(self, problem: InterpolationProblem, *, rng: np.random.Generator) -> Interpolant:
        """Construct a network for a labelled point cloud and evaluate it on every point.

        The points missed are those that the exported torch module gives another answer than their label; what the
        construction believes does not enter.

        Args:
            problem: the points and labels.
            rng: draws the first layer and the order of candidates.
        Raises:
            InputError: the settings do not fit the problem.
            SoundnessError: the construction contradicts itself: a bug of ours.
        """
        started = time.perf_counter()
        built = self._solve(problem, rng)
        network = built.network
        for width, centres, k in zip(network.second_layer_widths, built.centres, network.detector_classes, strict=True):
            if len(centres) != width or (problem.labels[centres] != k).any():
                raise SoundnessError(f"{self.name}: the neurons of class {k} do not come from points of their own")
        constructed = time.perf_counter()
        missed = np.flatnonzero(network.predict(problem.points, self.device, self.threads) != problem.labels)
        finished = time.perf_counter()
        seconds = {"evaluation_seconds": finished - constructed, "wall_seconds": finished - started}
        stats = {**built.stats, **seconds}
        return Interpolant(network, missed, built.centres, len(problem.labels), stats, built.at_least)

    @abc.abstractmethod
    def _solve(self, problem: InterpolationProblem, rng: np.random.Generator) -> Construction: ...
