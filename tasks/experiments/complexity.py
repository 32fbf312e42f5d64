"""Experiment: the mutual complexity of a data set against its number of samples, beside the widths really needed."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from solvers.complexity.measure import measure_complexity
from solvers.errors import InputError
from solvers.interpolation.width_search import width_grid
from solvers.problems.interpolants import Interpolant
from solvers.problems.questions import InterpolationProblem
from tasks.constructions import ConstructionChoice, known_shape
from tasks.data_sets import load_problem
from tasks.experiment import AbstractExperiment, Config, Measurement, RunContext, SummaryTable
from tasks.seeding import RandomStreams
from tasks.statistics import bootstrap_mean, exponent_fit, varying

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ComplexityConfig", "ComplexityExperiment", "nested_sample", "questions"]

# Steps of the widths that are tried, and the widest of them.
WIDTH_RATIO, LARGEST_WIDTH = 1.2, 8192


class ComplexityConfig(Config):
    """One sample of a data set, covered with one constant.

    Attributes:
        data: a name or file for `tasks.data_sets`; it is scaled as a whole to max ||x||_2 = 1.
        samples: so many different rows of it, drawn at random with every class inhabited; all when left out.
        constant: C of the condition on radii.
        draws: Gaussian vectors for the mean widths.
        conv: distances between orbits under translation, and the convolutional construction.
        shape: (C, H, W) of a point with `conv`; a named data set may know its own.
        restarts: constructions that must all interpolate for a width to count as enough; 0 looks for no width.
        max_bias: lambda of these constructions.
    """

    data: str
    samples: int | None = Field(default=None, ge=2)
    constant: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    draws: int = Field(default=200, ge=2)
    conv: bool = False
    shape: tuple[int, int, int] | None = None
    restarts: int = Field(default=0, ge=0)
    max_bias: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    data_seed: int = Field(default=0, ge=0)
    label: str | None = None

    @property
    def point_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) with `conv`, else None."""
        return (self.shape or known_shape(self.data)) if self.conv else None


class ComplexityExperiment(AbstractExperiment[ComplexityConfig]):
    """Balls of a mutual covering against samples: flat where the structure of the classes is simple."""

    name = "complexity"
    summary = "mutual coverings, separation and mean widths against sample size, beside the widths really needed"
    config_type = ComplexityConfig
    # They ask another question of the same order of rows, so samples of growing size are nested.
    not_random = frozenset({"samples", "constant", "draws", "conv", "shape", "restarts", "max_bias"})
    columns: ClassVar[Mapping[str, str]] = {
        "balls": "balls that cover every class against the others, of all classes together",
        "separation": "smallest distance between points of different classes, where max ||x|| = 1 in the whole data",
        "centre_separation": "smallest distance between centres of opposite classes",
        "omega": "largest squared mean width of a component over its distance cubed, times R",
        "omega_error": "standard error of omega",
        "first_layer": "what the theorem promises for the first layer, up to a constant",
        "second_layer": "what it promises for the second layers together",
        "order_of_parameters": "what it promises for weights and biases, up to a constant",
        "points": "N, different points (orbits with conv)",
        "needed_first_layer": "least width on a grid at which every restart interpolates; nan when not looked for",
        "needed_second_layer": "mean second-layer width of these constructions; nan when not looked for",
        "needed_parameters": "mean weights and biases of these constructions; nan when not looked for",
        "worst_case_neurons": "N, Huang and Huang 1991",
        "worst_case_parameters": "N (d + 2) + 1, Huang and Huang 1991",
        "wall_seconds": "seconds of the trial",
    }

    def check(self, config: ComplexityConfig, context: RunContext) -> None:
        problem = _whole(config, context)
        if config.conv and config.point_shape is None:
            raise InputError(f"conv needs the shape (C, H, W) of a point of {config.data}")
        if not config.conv and config.shape is not None:
            raise InputError("a shape is for conv: set conv = true or leave it out")
        if config.samples is not None:
            _check_samples(problem, config.samples)
        ConstructionChoice.for_shape(config.point_shape).check(problem)

    def warm_up(self) -> None:
        for data in ("lines:20", "blobs:20,0.1,10"):
            measure_complexity(load_problem(data), constants=(0.5,), draws=2, rng=np.random.default_rng(0))

    def cost_seconds(self, config: ComplexityConfig) -> float:
        known = {"mnist": 70_000, "digits": 1797}.get(config.data)
        size = config.data.partition(":")[2].partition(",")[0]
        points = float(config.samples or known or (size if size.replace(".", "").isdigit() else 1000))
        measured = 2e-5 * points + (1e-7 * points**2 if known else 0.0)
        return 1e-2 + measured + 2e-5 * points * config.restarts

    def batch_group(self, config: ComplexityConfig) -> tuple[Any, ...]:
        return (config.data, config.data_seed, config.label)

    def run_batch(
        self, configs: Sequence[ComplexityConfig], streams: Sequence[RandomStreams], context: RunContext
    ) -> list[Measurement]:
        return [_measure(config, stream, context) for config, stream in zip(configs, streams, strict=True)]

    def cell_metrics(self, params: Mapping[str, Any], trials: pd.DataFrame) -> dict[str, float]:
        rng = RandomStreams.of([self.name, params]).generator("bootstrap")
        found = {"trials": float(len(trials))}
        for name in ("balls", "needed_first_layer", "needed_second_layer"):
            values = trials[name].dropna()
            if len(values):
                mean = bootstrap_mean(values, rng=rng)
                found |= {f"{name}_mean": mean.value, f"{name}_mean_low": mean.low, f"{name}_mean_high": mean.high}
        for name in ("separation", "omega", "first_layer", "second_layer", "order_of_parameters"):
            found[f"{name}_mean"] = float(trials[name].mean())
        return found

    def study_metrics(self, trials: pd.DataFrame) -> dict[str, float]:
        """Per question the e in balls ~ N^e: near 0 where the structure is simple, 1 where balls count points."""
        found = {}
        for name, part in questions(trials):
            sizes = sorted(part["points"].unique())
            if len(sizes) > 1:
                rng = RandomStreams.of([self.name, name]).generator("bootstrap")
                balls = [part.loc[part["points"] == size, "balls"] for size in sizes]
                key = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_")
                found[f"growth_exponent_{key}"] = exponent_fit(sizes, balls, rng=rng).value
        return found

    def summary_tables(self, trials: pd.DataFrame) -> list[SummaryTable]:
        rows = []
        for name, part in questions(trials):
            for points, group in part.groupby("points"):
                rows.append(
                    (
                        name,
                        f"{points}",
                        *(f"{group[column].mean():.{digits}f}" for column, digits in SHOWN),
                        *(_known(group[column]) for column in ("needed_first_layer", "needed_second_layer")),
                    )
                )
        return [
            SummaryTable(
                "Mutual complexity against sample size",
                ("data", "points", "balls", "separation", "R omega", "layer 1", "layer 2", "needed 1", "needed 2"),
                rows,
                ("layer 1 and 2: orders from the theorem, constants open; needed: where every restart interpolates",),
            )
        ]

    def figures(self, trials: pd.DataFrame) -> dict[str, Figure]:
        from tasks.figures.complexity import size_figures

        return size_figures(questions(trials))

    def data_sources(self, params: Mapping[str, Any]) -> list[str]:
        return [str(params["data"])]


# Columns of the table with their decimals.
SHOWN = (("balls", 1), ("separation", 3), ("omega", 2), ("first_layer", 1), ("second_layer", 1))
# Besides the number of samples: what makes a covering another one.
VARIANTS = ("constant", "conv", "shape", "data_seed", "label", "max_bias", "restarts", "draws")


def questions(trials: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The trials by data set, and by every parameter in `VARIANTS` that varies, each part with its name.

    Samples alone differ within a part.
    """
    found = []
    for data, same in trials.groupby("data"):
        # A list is a shape from a study file; it cannot be grouped by.
        table = same.assign(shape=same["shape"].map(str)) if "shape" in same else same
        keys = varying(table, VARIANTS)
        parts: Iterator[Any] = iter(table.groupby(keys, dropna=False)) if keys else iter([((), table)])
        for values, part in parts:
            named = (f"{key} = {value}" for key, value in zip(keys, values, strict=True))
            found.append((", ".join([str(data), *named]), part))
    return found


def nested_sample(problem: InterpolationProblem, samples: int, rng: np.random.Generator) -> InterpolationProblem:
    """The first rows of a random order that begins with one row of every class: samples of growing size are nested.

    Raises:
        InputError: more samples than rows, or fewer than classes.
    """
    _check_samples(problem, samples)
    order = rng.permutation(len(problem.labels))
    _, first = np.unique(problem.labels[order], return_index=True)
    order = np.concatenate([order[first], np.delete(order, first)])[:samples]
    return InterpolationProblem(problem.points[order], np.array(problem.classes)[problem.labels[order]])


def _check_samples(problem: InterpolationProblem, samples: int) -> None:
    rows, classes = len(problem.labels), len(problem.classes)
    if not classes <= samples <= rows:
        raise InputError(f"samples must lie between {classes} classes and {rows} rows, got {samples}")


def _whole(config: ComplexityConfig, context: RunContext) -> InterpolationProblem:
    return load_problem(config.data, seed=config.data_seed, label=config.label, data_dir=context.data_dir)


def _measure(config: ComplexityConfig, stream: RandomStreams, context: RunContext) -> Measurement:
    started = time.perf_counter()
    problem = _whole(config, context)
    if config.samples is not None:
        problem = nested_sample(problem, config.samples, stream.generator("order of rows"))
    shape = config.point_shape
    found = measure_complexity(
        problem,
        constants=(config.constant,),
        draws=config.draws,
        rng=stream.generator("mean widths"),
        shape=shape,
    )
    pairs, network = found.pairs[0], found.network(0)
    omega = max((pair.omega for pair in pairs), key=lambda omega: omega.value)
    both = sum(len(pair.covering.plus.centres) for pair in pairs) if len(pairs) == 1 else 0
    needed = _needed(problem, ConstructionChoice.for_shape(shape), config, stream)
    return {
        "balls": sum(len(pair.covering.minus.centres) for pair in pairs) + both,
        "separation": found.separation,
        "centre_separation": min(pair.covering.separation for pair in pairs),
        "omega": found.radius * omega.value,
        "omega_error": found.radius * omega.error,
        "first_layer": network.first_layer,
        "second_layer": network.second_layer,
        "order_of_parameters": network.parameters,
        "points": len(found.rows),
        "needed_first_layer": math.nan if needed is None else float(needed[0]),
        "needed_second_layer": _mean(needed, lambda answer: answer.network.second_layer_width),
        "needed_parameters": _mean(needed, lambda answer: answer.network.parameters),
        "worst_case_neurons": found.worst_case[0].neurons,
        "worst_case_parameters": found.worst_case[0].parameters,
        "wall_seconds": time.perf_counter() - started,
    }


def _mean(needed: tuple[int, list[Interpolant]] | None, size: Any) -> float:
    return math.nan if needed is None else float(np.mean([size(answer) for answer in needed[1]]))


def _needed(
    problem: InterpolationProblem, choice: ConstructionChoice, config: ComplexityConfig, stream: RandomStreams
) -> tuple[int, list[Interpolant]] | None:
    """The least width of a grid at which every restart interpolates, by doubling and bisection, and its networks."""
    if config.restarts == 0:
        return None

    def built(width: int) -> list[Interpolant]:
        answers: list[Interpolant] = []
        for k in range(config.restarts):
            rng = stream.generator(f"construction {k} of width {width}")
            answers.append(choice.interpolator(width, config.max_bias).solve(problem, rng=rng))
            if not answers[-1].interpolates:
                return []
        return answers

    grid = width_grid(LARGEST_WIDTH, WIDTH_RATIO)
    low, high, step = -1, 0, 1
    while not (answers := built(grid[high])):
        if high == len(grid) - 1:
            return None
        low, high, step = high, min(high + step, len(grid) - 1), 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        narrower = built(grid[middle])
        if narrower:
            high, answers = middle, narrower
        else:
            low = middle
    return grid[high], answers


def _known(values: pd.Series) -> str:
    """The mean, or nothing when it was not looked for."""
    return "" if values.isna().all() else f"{values.mean():.1f}"
