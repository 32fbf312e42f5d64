"""Experiment: does the construction interpolate, and how wide does it come out?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field, field_validator, model_validator

from solvers.errors import InputError
from solvers.interpolation._base import AbstractInterpolator
from solvers.interpolation.class_cover import Centres, Masks, check_centres
from solvers.interpolation.fully_connected import Activation, FullyConnected
from solvers.registry import construction_named
from tasks.constructions import ConstructionChoice, known_shape
from tasks.data_sets import load_problem
from tasks.experiment import AbstractExperiment, Config, Measurement, RunContext, SummaryTable
from tasks.seeding import RandomStreams
from tasks.statistics import bootstrap_mean, varying, wilson_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Interpolation", "InterpolationConfig"]


class InterpolationConfig(Config):
    """One construction.

    Attributes:
        data: a name or file for `tasks.data_sets`; a made set is fixed over replicates by `data_seed`.
        width: n, first layer.
        max_bias: lambda.
        construction: a name in `solvers.registry.INTERPOLATORS`; one that needs the shape of a point is given that of
            the data where it is known.
        radius: the data are scaled to this R = max ||x||_2.
        minus: for two classes the covered one, by its place in sorted order.
        activation: of both hidden layers, for constructions that have a choice; the random draws are the same for all.
        centres: of the second layer: random as in the theorem, greedy or minimal; the draws are the same for all.
        masks: of greedy and minimal centres: point or cluster.
    """

    data: str
    width: int = Field(ge=1)
    max_bias: float = Field(ge=0, allow_inf_nan=False)
    construction: str = FullyConnected.name
    data_seed: int = Field(default=0, ge=0)
    label: str | None = None
    radius: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    minus: Literal[0, 1] = 1
    activation: Activation = "threshold"
    centres: Centres = "random"
    masks: Masks = "point"

    @field_validator("construction")
    @classmethod
    def _is_known(cls, name: str) -> str:
        construction_named(name)
        return name

    @model_validator(mode="after")
    def _has_known_centres(self) -> InterpolationConfig:
        check_centres(self.centres, self.masks)
        return self


# What asks another question of the same random draws.
THEOREM = {"centres": "random", "masks": "point"}
OF_THE_SAME_DRAW = ("activation", "centres", "masks")


class Interpolation(AbstractExperiment[InterpolationConfig]):
    """Success and second-layer width of the construction of [DFG24] over data, width and maximal bias."""

    name = "interpolation"
    summary = "success and second-layer width of the interpolation algorithm over width and maximal bias"
    config_type = InterpolationConfig
    not_random = frozenset(OF_THE_SAME_DRAW)
    columns: ClassVar[Mapping[str, str]] = {
        "interpolates": "whether the exported network gives every point its label",
        "second_layer_width": "neurons of all second layers together",
        "misclassified": "points that do not get their label",
        "accuracy": "share of points that get their label",
        "parameters": "weights and biases of the network",
        "points": "N, samples of the data set",
        "status": "interpolates or misses-points",
        "wall_seconds": "seconds of the construction with its evaluation",
    }

    def check(self, config: InterpolationConfig, context: RunContext) -> None:
        problem = _problem(config, context)
        _interpolator(config, problem.classes, context.device).check(problem)

    def warm_up(self) -> None:
        problem = load_problem("moons:20")
        FullyConnected(70, 1.0).solve(problem, rng=RandomStreams.of("warm-up").generator("construction"))

    def cost_seconds(self, config: InterpolationConfig) -> float:
        base, _, numbers = config.data.partition(":")
        size = numbers.partition(",")[0]
        points = int(float(size)) if size.replace(".", "").isdigit() else KNOWN_SIZES.get(base, 1000)
        # Images: products and many neurons; points in a few dimensions: sums in registers and hardly a neuron.
        return 2e-3 + points * config.width * (1e-7 if base in KNOWN_SIZES else 5e-9)

    def batch_group(self, config: InterpolationConfig) -> tuple[Any, ...]:
        return (config.data, config.data_seed, config.label, config.radius)

    def run_batch(
        self, configs: Sequence[InterpolationConfig], streams: Sequence[RandomStreams], context: RunContext
    ) -> list[Measurement]:
        found: list[Measurement] = []
        for config, stream in zip(configs, streams, strict=True):
            problem = _problem(config, context)
            solver = _interpolator(config, problem.classes, context.device)
            answer = solver.solve(problem, rng=stream.generator("construction"))
            found.append(
                {
                    "interpolates": answer.interpolates,
                    "second_layer_width": answer.network.second_layer_width,
                    "misclassified": len(answer.missed),
                    "accuracy": 1.0 - len(answer.missed) / answer.points,
                    "parameters": answer.network.parameters,
                    "points": answer.points,
                    "status": str(answer.status),
                    "wall_seconds": answer.stats["wall_seconds"],
                }
            )
        return found

    def cell_metrics(self, params: Mapping[str, Any], trials: pd.DataFrame) -> dict[str, float]:
        share = wilson_share(int(trials["interpolates"].sum()), len(trials))
        # Centres in random order have the intervals that they had before there were others.
        content = {name: value for name, value in params.items() if THEOREM.get(name) != value}
        rng = RandomStreams.of(["interpolation", content]).generator("bootstrap")
        width = bootstrap_mean(trials["second_layer_width"], rng=rng)
        return {
            "interpolation_probability": share.value,
            "interpolation_probability_low": share.low,
            "interpolation_probability_high": share.high,
            "second_layer_width_mean": width.value,
            **width.ends("second_layer_width_mean_low", "second_layer_width_mean_high"),
            "accuracy_mean": float(trials["accuracy"].mean()),
            "parameters_mean": float(trials["parameters"].mean()),
            "trials": float(len(trials)),
        }

    def study_metrics(self, trials: pd.DataFrame) -> dict[str, float]:
        found = {}
        for data, part in _questions(trials):
            always = part.groupby(["width", "max_bias"])["interpolates"].mean()
            sure = always[always == 1.0]
            if len(sure):
                key = re.sub(r"[^A-Za-z0-9.-]+", "_", data)
                found[f"smallest_sure_width_{key}"] = float(sure.reset_index()["width"].min())
        return found

    def summary_tables(self, trials: pd.DataFrame) -> list[SummaryTable]:
        tables = []
        for data, part in _questions(trials):
            rows = []
            for width, group in part.groupby("width"):
                by_bias = group.groupby("max_bias").agg(
                    share=("interpolates", "mean"), neurons=("second_layer_width", "mean")
                )
                best = by_bias.sort_values(["share", "neurons"], ascending=[False, True]).iloc[0]
                rows.append((str(width), f"{best.name:g}", f"{best['share']:.0%}", f"{best['neurons']:.1f}"))
            tables.append(
                SummaryTable(
                    f"Interpolation of {data} ({int(part['points'].iloc[0])} points)",
                    ("first-layer width", "best maximal bias", "interpolates", "second-layer neurons"),
                    rows,
                )
            )
        return tables

    def figures(self, trials: pd.DataFrame) -> dict[str, Figure]:
        from tasks.figures.interpolation import heat_maps, size_curves

        return {**heat_maps(_questions(trials)), **size_curves(trials, VARIANTS)}

    def data_sources(self, params: Mapping[str, Any]) -> list[str]:
        return [str(params["data"])]


KNOWN_SIZES = {"mnist": 70000, "digits": 1797}
# Besides data, width and maximal bias: what makes an interpolation another one.
VARIANTS = ("construction", "data_seed", "label", "radius", "minus", *OF_THE_SAME_DRAW)


def _questions(trials: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The trials by data set, and by every parameter in `VARIANTS` that varies, each part with its name."""
    keys = varying(trials, VARIANTS)
    found = []
    for (data, *values), part in trials.groupby(["data", *keys], dropna=False):
        name = ", ".join([str(data), *(f"{key} = {value}" for key, value in zip(keys, values, strict=True))])
        found.append((name, part))
    return found


def _problem(config: InterpolationConfig, context: RunContext) -> Any:
    return load_problem(
        config.data, seed=config.data_seed, label=config.label, data_dir=context.data_dir, radius=config.radius
    )


def _interpolator(config: InterpolationConfig, classes: tuple[object, ...], device: str) -> AbstractInterpolator:
    """The construction with those of the configuration's settings that it takes.

    Raises:
        InputError: it has no choice of activation, or needs what the configuration does not say.
    """
    taken = construction_named(config.construction).options
    options: dict[str, object] = {}
    if "activation" in taken:
        options["activation"] = config.activation
    elif config.activation != "threshold":
        raise InputError(f"the {config.construction} construction has no choice of activation: leave it out")
    for name, usual in THEOREM.items():
        value = getattr(config, name)
        if name in taken:
            options[name] = value
        elif value != usual:
            raise InputError(f"the {config.construction} construction has no choice of {name}: leave it out")
    if "shape" in taken:
        shape = known_shape(config.data)
        if shape is None:
            raise InputError(f"the {config.construction} construction needs the shape of a point of {config.data}")
        options["shape"] = shape
    minus = classes[config.minus] if len(classes) == 2 else None
    return ConstructionChoice(config.construction, options, minus).interpolator(config.width, config.max_bias, device)
