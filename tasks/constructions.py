"""Which construction is asked for, apart from width and maximal bias; one restart of it as a pure function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from solvers.interpolation._base import AbstractInterpolator
from solvers.interpolation.convolutional import Convolutional
from solvers.interpolation.fully_connected import FullyConnected
from solvers.interpolation.width_search import Restart
from solvers.problems.interpolants import Interpolant
from solvers.problems.questions import InterpolationProblem
from solvers.registry import interpolator_named
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
    """A construction of `solvers.registry.INTERPOLATORS` with all its settings but width and maximal bias.

    Attributes:
        name: in the table.
        options: the settings of its own, by name.
        minus: for two classes, the label of the covered one; the last in sorted order when None.
    """

    name: str = FullyConnected.name
    options: Mapping[str, object] = field(default_factory=dict)
    minus: object = None

    @classmethod
    def for_shape(cls, shape: tuple[int, int, int] | None) -> ConstructionChoice:
        """The fully connected construction, or with (C, H, W) of a point its translation-invariant sibling."""
        return cls() if shape is None else cls(Convolutional.name, {"shape": shape})

    def interpolator(self, width: int, max_bias: float, device: str = "cpu") -> AbstractInterpolator:
        """The construction with its settings.

        Raises:
            InputError: they fit no construction.
        """
        return interpolator_named(self.name, width, max_bias, minus=self.minus, device=device, **self.options)

    def searching(self) -> ConstructionChoice:
        """What a search tries: greedy centres for minimal ones, which cover the same points of the same draw."""
        if self.options.get("centres") != "minimal":
            return self
        return replace(self, options={**self.options, "centres": "greedy"})

    def check(self, problem: InterpolationProblem) -> None:
        """Raise InputError when no restart could ever succeed: shape, covered class, classes equal but for a shift."""
        self.interpolator(1, 0.0).check(problem)


@dataclass(frozen=True, slots=True)
class RestartOutcome:
    """What one restart came to.

    Attributes:
        neurons: of its second layer. parameters: weights and biases of its network.
        seconds: of the construction with its evaluation.
    """

    interpolates: bool
    neurons: int
    parameters: int
    seconds: float


def restart_interpolant(
    problem: InterpolationProblem, choice: ConstructionChoice, restart: Restart, source: tuple[str, int]
) -> Interpolant:
    """The network of one restart; the same one on every call, machine and worker.

    Args:
        source: name and seed of the data; with the choice and the restart itself they decide the random streams.
    """
    interpolator = choice.interpolator(restart.width, restart.max_bias)
    content = [
        "least-width",
        *source,
        *interpolator.drawn_for,
        str(choice.minus),
        restart.width,
        restart.max_bias,
        restart.stage,
        restart.number,
    ]
    rng = RandomStreams.of(content).generator("construction")
    return interpolator.solve(problem, rng=rng)


def compute_restart(
    problem: InterpolationProblem, choice: ConstructionChoice, restart: Restart, source: tuple[str, int]
) -> RestartOutcome:
    """One restart without its network."""
    found = restart_interpolant(problem, choice.searching(), restart, source)
    network = found.network
    return RestartOutcome(
        found.interpolates, network.second_layer_width, network.parameters, found.stats["wall_seconds"]
    )
