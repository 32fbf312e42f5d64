"""Which construction is asked for, apart from width and maximal bias; one restart of it as a pure function."""

from __future__ import annotations

from dataclasses import dataclass

from solvers.errors import InputError
from solvers.interpolation._base import AbstractInterpolator, detected_classes
from solvers.interpolation.convolutional import Convolutional
from solvers.interpolation.fully_connected import Activation, FullyConnected
from solvers.interpolation.width_search import Restart
from solvers.problems.interpolants import Interpolant
from solvers.problems.questions import InterpolationProblem
from tasks.seeding import RandomStreams
from tasks.shifts import named_shape

__all__ = ["ConstructionChoice", "RestartOutcome", "compute_restart", "known_shape", "restart_interpolant"]


def known_shape(data: str) -> tuple[int, int, int] | None:
    """(C, H, W) of the points of a data set with that name, None where it is not known."""
    base, _, rest = data.partition(":")
    if base == "shifts":
        return named_shape(rest.split(",") if rest else [])
    return {"digits": (1, 8, 8), "mnist": (1, 28, 28)}.get(base)


@dataclass(frozen=True, slots=True)
class ConstructionChoice:
    """The fully connected construction, or with a shape its translation-invariant sibling.

    Attributes:
        shape: (C, H, W) of a point for the convolutional construction, else None.
        kernel: side k or sides (kh, kw) of its kernels; the full size when None.
        minus: for two classes, the label of the covered one; the last in sorted order when None.
        activation: of the fully connected construction.
    """

    shape: tuple[int, int, int] | None = None
    kernel: int | tuple[int, int] | None = None
    minus: object = None
    activation: Activation = "threshold"

    def interpolator(self, width: int, max_bias: float) -> AbstractInterpolator:
        """The construction with its settings.

        Raises:
            InputError: they fit no construction.
        """
        if self.shape is None:
            if self.kernel is not None:
                raise InputError("a kernel is for the convolutional construction: give the shape of a point too")
            return FullyConnected(width, max_bias, self.minus, activation=self.activation)
        if self.activation != "threshold":
            raise InputError("the convolutional construction has threshold neurons only")
        return Convolutional(width, max_bias, self.shape, self.kernel, self.minus)

    def check(self, problem: InterpolationProblem) -> None:
        """Raise InputError when no restart could ever succeed: shape, covered class, classes equal but for a shift."""
        detected_classes(problem, self.minus)
        self.interpolator(1, 0.0)
        if self.shape is not None:
            from solvers.bits.images import as_images
            from solvers.problems.orbits import find_orbits, refuse_translated_classes

            orbits = find_orbits(as_images(problem.points, self.shape))
            refuse_translated_classes(orbits, problem.labels, problem.classes)


@dataclass(frozen=True, slots=True)
class RestartOutcome:
    """What one restart came to.

    Attributes:
        parameters: weights and biases of its network.
        seconds: of the construction with its evaluation.
    """

    interpolates: bool
    parameters: int
    seconds: float


def restart_interpolant(
    problem: InterpolationProblem, choice: ConstructionChoice, restart: Restart, source: tuple[str, int]
) -> Interpolant:
    """The network of one restart; the same one on every call, machine and worker.

    Args:
        source: name and seed of the data; with the choice and the restart itself they decide the random streams.
    """
    content = [
        "least-width",
        *source,
        choice.shape,
        choice.kernel,
        str(choice.minus),
        restart.width,
        restart.max_bias,
        restart.stage,
        restart.number,
    ]
    rng = RandomStreams.of(content).generator("construction")
    return choice.interpolator(restart.width, restart.max_bias).solve(problem, rng=rng)


def compute_restart(
    problem: InterpolationProblem, choice: ConstructionChoice, restart: Restart, source: tuple[str, int]
) -> RestartOutcome:
    """One restart without its network."""
    found = restart_interpolant(problem, choice, restart, source)
    return RestartOutcome(found.interpolates, found.network.parameters, found.stats["wall_seconds"])
