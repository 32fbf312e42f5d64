"""Experiment: the exact Lipschitz constant of a memorizing ReLU network, against its width and maximal bias."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pandas as pd
from pydantic import AfterValidator, Field, field_validator

from solvers.arithmetic.norms import parse_exponent
from solvers.errors import InputError
from solvers.interpolation.fully_connected import FullyConnected
from solvers.networks.relu_classifier import ReluClassifier
from solvers.problems.budget import Budget
from solvers.problems.domains import DOMAINS, Domain, check_kind
from solvers.problems.questions import InterpolationProblem, LipschitzProblem
from solvers.registry import lipschitz_solver_named
from tasks.data_sets import load_problem
from tasks.experiment import AbstractExperiment, Config, Measurement, RunContext, SummaryTable
from tasks.seeding import RandomStreams
from tasks.statistics import bootstrap_mean, censored_mean, censored_share, varying, wilson_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MemorizerRobustness", "RobustnessConfig"]

# Width of the network that `check` asks the method about.
PROBE = 2
# Besides data, width and maximal bias: what makes a constant another one, or found in another way.
VARIANTS = ("p", "domain", "data_seed", "radius", "minus", "method", "relative_gap", "time_limit")


class RobustnessConfig(Config):
    """One network and one question about it.

    Attributes:
        data: a name or file for `tasks.data_sets`, of two classes and few dimensions.
        width: n, first layer.
        max_bias: lambda.
        p: exponent in [1, inf].
        domain: a kind of `solvers.problems.domains`: the whole space, or one around 0 as [-radius, radius]^d.
        radius: the data are scaled to this R = max ||x||_2.
        minus: the covered class, by its place in sorted order.
        method: a name in `solvers.registry`.
        relative_gap, time_limit: when a solve may stop; seconds per trial.
    """

    data: str = "moons:100"
    width: int = Field(ge=1)
    max_bias: float = Field(ge=0, allow_inf_nan=False)
    p: float = 2.0
    domain: Annotated[str, AfterValidator(check_kind)] = "global"
    data_seed: int = Field(default=0, ge=0)
    radius: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    minus: Literal[0, 1] = 1
    method: str = "region-enumeration"
    relative_gap: float = Field(default=1e-6, ge=0, allow_inf_nan=False)
    time_limit: float = Field(default=60.0, gt=0)

    @field_validator("p", mode="before")
    @classmethod
    def _exponent(cls, value: Any) -> float:
        return parse_exponent(value)


class MemorizerRobustness(AbstractExperiment[RobustnessConfig]):
    """Both halves of [FinkeThesis] in one number: how steep is a network that memorizes?

    The network is the construction of [DFG24] with ReLU neurons. Its score is positive on the covered class and
    negative on the other, by at least the margin on every point; so within the margin over the constant of a point,
    in the p-norm, no label changes.
    """

    name = "memorizer-robustness"
    summary = "exact Lipschitz constant of interpolating ReLU networks against width and maximal bias"
    config_type = RobustnessConfig
    not_random = frozenset({"p", "domain", "method", "relative_gap", "time_limit"})
    columns: ClassVar[Mapping[str, str]] = {
        "interpolates": "whether the exported network gives every point its label",
        "misclassified": "points that do not get their label",
        "second_layer_width": "neurons of the second layer",
        "lower": "proved lower bound of Lip_p of the score",
        "upper": "proved upper bound of Lip_p of the score",
        "status": "exact, bounded, budget-spent or numerical-trouble",
        "margin": "least |score| over the points that it gets right",
        "proved_radius": "margin / upper: no label changes within it of a point in the domain, in the p-norm",
        "answered_by": "the method that answered; none for a network without second-layer neurons, a constant",
        "wall_seconds": "seconds of the construction and the solve",
    }

    def check(self, config: RobustnessConfig, context: RunContext) -> None:
        problem = _problem(config, context)
        probe = FullyConnected(PROBE, 1.0, activation="relu")
        solver = lipschitz_solver_named(config.method)
        tiny = InterpolationProblem([[-1.0] * problem.points.shape[1], [1.0] * problem.points.shape[1]], [0, 1])
        for seed in range(64):  # the first one with a neuron
            answer = probe.solve(tiny, rng=RandomStreams.of(["check", seed]).generator("construction"))
            if answer.network.second_layer_width:
                break
        assert isinstance(answer.network, ReluClassifier)
        reason = solver.refuses(LipschitzProblem(answer.network.network(), config.p, _domain(config, problem)))
        if reason is not None:
            raise InputError(f"method {solver.name} cannot take a memorizing network: {reason}")

    def cost_seconds(self, config: RobustnessConfig) -> float:
        # The lines of the first layer cut the plane into about n^2 / 2 cells.
        return 5e-3 + 1.5e-4 * config.width**2

    def batch_group(self, config: RobustnessConfig) -> Hashable:
        return (config.data, config.data_seed, config.radius)

    def run_batch(
        self, configs: Sequence[RobustnessConfig], streams: Sequence[RandomStreams], context: RunContext
    ) -> list[Measurement]:
        return [_measure(config, stream, context) for config, stream in zip(configs, streams, strict=True)]

    def cell_metrics(self, params: Mapping[str, Any], trials: pd.DataFrame) -> dict[str, float]:
        share = wilson_share(int(trials["interpolates"].sum()), len(trials))
        found = {
            "interpolation_probability": share.value,
            "interpolation_probability_low": share.low,
            "interpolation_probability_high": share.high,
            "trials": float(len(trials)),
        }
        fitting = trials[trials["interpolates"].astype(bool)]
        if len(fitting):
            rng = RandomStreams.of([self.name, params]).generator("bootstrap")
            low, high = censored_mean(fitting["lower"], fitting["upper"], rng=rng)
            radius = bootstrap_mean(fitting["proved_radius"], rng=rng)
            found |= {
                "lipschitz_mean_lower": low.value,
                "lipschitz_mean_upper": high.value,
                "lipschitz_mean_ci_low": low.low,
                "lipschitz_mean_ci_high": high.high,
                "censored_share": censored_share(fitting["lower"], fitting["upper"], float(params["relative_gap"])),
                "margin_mean": float(fitting["margin"].mean()),
                "proved_radius_mean": radius.value,
                "proved_radius_mean_low": radius.low,
                "proved_radius_mean_high": radius.high,
            }
        return found

    def summary_tables(self, trials: pd.DataFrame) -> list[SummaryTable]:
        tables = []
        for name, part in _questions(trials):
            rows = []
            for (bias, width), cell in part.groupby(["max_bias", "width"]):
                fitting = cell[cell["interpolates"].astype(bool)]
                low, high = fitting["lower"].mean(), fitting["upper"].mean()
                closed = math.isfinite(high) and high - low <= 1e-3 * high
                constant = f"{low:.3g}" if closed else f"{low:.3g} to {high:.3g}"
                rows.append(
                    (
                        f"{bias:g}",
                        str(width),
                        f"{len(fitting)} of {len(cell)}",
                        constant if len(fitting) else "",
                        f"{fitting['proved_radius'].median():.2g}" if len(fitting) else "",
                    )
                )
            tables.append(
                SummaryTable(
                    f"Memorizing ReLU networks: {name}",
                    ("maximal bias", "width", "interpolate", "mean Lipschitz constant", "median proved radius"),
                    rows,
                    ("constants and radii of the networks that interpolate; an unfinished solve is an interval",),
                )
            )
        return tables

    def figures(self, trials: pd.DataFrame) -> dict[str, Figure]:
        from tasks.figures.robustness import robustness_figures

        return robustness_figures(_questions(trials))

    def data_sources(self, params: Mapping[str, Any]) -> list[str]:
        return [str(params["data"])]


def _questions(trials: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The trials by data set and by every parameter in `VARIANTS` that varies, each part with its name."""
    keys = varying(trials, VARIANTS)
    found = []
    for (data, *values), part in trials.groupby(["data", *keys], dropna=False):
        words = [f"{key} = {value:g}" if isinstance(value, float) else f"{key} = {value}"
                 for key, value in zip(keys, values, strict=True)]  # fmt: skip
        found.append((", ".join([str(data), *words]), part))
    return found


def _problem(config: RobustnessConfig, context: RunContext) -> InterpolationProblem:
    problem = load_problem(config.data, seed=config.data_seed, data_dir=context.data_dir, radius=config.radius)
    if len(problem.classes) != 2:
        raise InputError(f"memorizer-robustness needs two classes, {config.data} has {len(problem.classes)}")
    return problem


def _domain(config: RobustnessConfig, problem: InterpolationProblem) -> Domain:
    return DOMAINS[config.domain].around_origin(problem.points.shape[1], config.radius)


def _measure(config: RobustnessConfig, stream: RandomStreams, context: RunContext) -> Measurement:
    problem = _problem(config, context)
    construction = FullyConnected(
        config.width, config.max_bias, problem.classes[config.minus], context.device, activation="relu"
    )
    answer = construction.solve(problem, rng=stream.generator("construction"))
    classifier = answer.network
    assert isinstance(classifier, ReluClassifier)
    found: Measurement = {
        "interpolates": answer.interpolates,
        "misclassified": len(answer.missed),
        "second_layer_width": classifier.second_layer_width,
        "margin": classifier.margin,
        "lower": 0.0,
        "upper": 0.0,
        "status": "exact",
        "proved_radius": math.inf,
        "answered_by": "none",
        "wall_seconds": answer.stats["wall_seconds"],
    }
    if classifier.second_layer_width:
        bounds = lipschitz_solver_named(config.method).solve(
            LipschitzProblem(classifier.network(), config.p, _domain(config, problem)),
            budget=Budget(seconds=config.time_limit, relative_gap=config.relative_gap),
            rng=stream.generator("search"),
        )
        found |= {
            "lower": bounds.lower,
            "upper": bounds.upper,
            "status": str(bounds.status),
            "proved_radius": classifier.margin / bounds.upper if bounds.upper > 0 else math.inf,
            "answered_by": bounds.method,
            "wall_seconds": answer.stats["wall_seconds"] + float(bounds.stats.get("wall_seconds", 0.0)),
        }
    return found
