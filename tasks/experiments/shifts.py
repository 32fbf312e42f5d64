"""Experiment: patterns in all their translations, fully connected against translation-invariant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from solvers.interpolation._base import AbstractInterpolator
from solvers.interpolation.convolutional import Convolutional
from solvers.interpolation.fully_connected import FullyConnected
from solvers.problems.questions import InterpolationProblem
from tasks.data_sets import LabelledPoints
from tasks.experiment import AbstractExperiment, Config, Measurement, RunContext, SummaryTable
from tasks.seeding import RandomStreams
from tasks.shifts import check_sizes, shifted_patterns
from tasks.statistics import bootstrap_mean, wilson_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Shifts", "ShiftsConfig", "with_rows"]

DATA_AXES = ("patterns", "height", "width", "channels", "noise")


class ShiftsConfig(Config):
    """One construction on one draw of patterns.

    Attributes:
        patterns: K, patterns of each of the two classes.
        width: W of a pattern.
        height: H; the same as the width when left out, 1 for 1-D signals.
        channels: C.
        noise: standard deviation of the noise on every number, where a pattern's own is 1.
        first_layer_width: n of the fully connected construction.
        filters: n of the convolutional construction.
        kernel: side of its kernels; the full size when left out.
        max_bias: lambda, the data being scaled to max ||x||_2 = 1.
        minus: the covered class.
    """

    patterns: int = Field(default=8, ge=1)
    width: int = Field(default=16, ge=2)
    height: int | None = Field(default=None, ge=1)
    channels: int = Field(default=1, ge=1)
    noise: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    construction: Literal["fully-connected", "convolutional"] = "convolutional"
    first_layer_width: int = Field(default=1000, ge=1)
    filters: int = Field(default=10, ge=1)
    kernel: int | None = Field(default=None, ge=1)
    max_bias: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    minus: Literal[0, 1] = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.width if self.height is None else self.height, self.width

    @property
    def points(self) -> int:
        """2 K H W, samples of both classes."""
        return 2 * self.patterns * self.shape[1] * self.shape[2]

    def interpolator(self) -> AbstractInterpolator:
        """The construction with its settings."""
        if self.construction == "fully-connected":
            return FullyConnected(self.first_layer_width, self.max_bias, self.minus)
        return Convolutional(self.filters, self.max_bias, self.shape, self.kernel, self.minus)


class Shifts(AbstractExperiment[ShiftsConfig]):
    """Second-layer widths on shifted patterns: pattern x shift fully connected, pattern alone convolutional."""

    name = "shifts"
    summary = "shifted patterns: second-layer width, fully connected against translation-invariant"
    config_type = ShiftsConfig
    # The settings of a construction ask another question of the same patterns.
    not_random = frozenset({"construction", "first_layer_width", "filters", "kernel", "max_bias", "minus"})
    columns: ClassVar[Mapping[str, str]] = {
        "interpolates": "whether the exported network gives every point its label",
        "second_layer_width": "neurons of the second layer, which covers one of the two classes",
        "neurons_per_pattern": "second-layer neurons over K",
        "parameters": "weights and biases of the network",
        "misclassified": "points that do not get their label",
        "points": "2 K H W, samples of both classes",
        "status": "interpolates or misses-points",
        "wall_seconds": "seconds of the construction with its evaluation",
    }

    def check(self, config: ShiftsConfig, context: RunContext) -> None:
        channels, height, width = config.shape
        check_sizes(config.patterns, height, width, channels, config.noise)
        config.interpolator()

    def cost_seconds(self, config: ShiftsConfig) -> float:
        points, positions = config.points, config.shape[1] * config.shape[2]
        if config.construction == "fully-connected":
            return 1e-2 + points * config.first_layer_width * (2e-8 + 1e-12 * points)
        return 1e-2 + points * config.filters * positions**2 * (4e-10 + 2e-11 * config.patterns)

    def batch_group(self, config: ShiftsConfig) -> tuple[Any, ...]:
        return tuple(getattr(config, name) for name in DATA_AXES)

    def run_batch(
        self, configs: Sequence[ShiftsConfig], streams: Sequence[RandomStreams], context: RunContext
    ) -> list[Measurement]:
        found: list[Measurement] = []
        for config, stream in zip(configs, streams, strict=True):
            channels, height, width = config.shape
            points, labels = shifted_patterns(
                stream.generator("data"),
                patterns=config.patterns,
                height=height,
                width=width,
                channels=channels,
                noise=config.noise,
            )
            scaled = LabelledPoints(points, labels, "shifts").scaled()
            problem = InterpolationProblem(scaled.points, labels)
            answer = config.interpolator().solve(problem, rng=stream.generator("construction"))
            found.append(
                {
                    "interpolates": answer.interpolates,
                    "second_layer_width": answer.network.second_layer_width,
                    "neurons_per_pattern": answer.network.second_layer_width / config.patterns,
                    "parameters": answer.network.parameters,
                    "misclassified": len(answer.missed),
                    "points": answer.points,
                    "status": str(answer.status),
                    "wall_seconds": answer.stats["wall_seconds"],
                }
            )
        return found

    def cell_metrics(self, params: Mapping[str, Any], trials: pd.DataFrame) -> dict[str, float]:
        share = wilson_share(int(trials["interpolates"].sum()), len(trials))
        rng = RandomStreams.of([self.name, params]).generator("bootstrap")
        width = bootstrap_mean(trials["second_layer_width"], rng=rng)
        return {
            "interpolation_probability": share.value,
            "interpolation_probability_low": share.low,
            "interpolation_probability_high": share.high,
            "second_layer_width_mean": width.value,
            "second_layer_width_mean_low": width.low,
            "second_layer_width_mean_high": width.high,
            "neurons_per_pattern_mean": float(trials["neurons_per_pattern"].mean()),
            "parameters_mean": float(trials["parameters"].mean()),
            "trials": float(len(trials)),
        }

    def study_metrics(self, trials: pd.DataFrame) -> dict[str, float]:
        """The least ratio fully connected / convolutional over the data, and the most neurons a pattern took."""
        ratios = _by_data(trials)["ratio"].dropna()
        convolutional = trials[trials["construction"] == "convolutional"]
        found = {}
        if len(ratios):
            found["least_width_ratio"] = float(ratios.min())
        if len(convolutional):
            found["most_convolutional_neurons_per_pattern"] = float(convolutional["neurons_per_pattern"].max())
        return found

    def summary_tables(self, trials: pd.DataFrame) -> list[SummaryTable]:
        rows = []
        for row in _by_data(trials).itertuples():
            rows.append(
                (
                    f"{row.patterns}",
                    " x ".join(str(size) for size in (row.channels, row.rows, row.width)),
                    f"{row.noise:g}",
                    f"{row.points:.0f}",
                    _cell(row.fully_connected, row.fully_connected_sure),
                    _cell(row.convolutional, row.convolutional_sure),
                    "" if pd.isna(row.ratio) else f"{row.ratio:.0f}",
                )
            )
        return [
            SummaryTable(
                "Shifted patterns: mean second-layer width for one class",
                ("K", "C x H x W", "noise", "points", "fully connected", "convolutional", "ratio"),
                rows,
                ("in brackets: share of trials that interpolate, where not all do",),
            )
        ]

    def figures(self, trials: pd.DataFrame) -> dict[str, Figure]:
        from tasks.figures.shifts import width_figures

        return width_figures(with_rows(trials))


def with_rows(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials with `rows`, the height H with its default filled in."""
    height = pd.to_numeric(trials["height"])
    return trials.assign(rows=height.fillna(trials["width"]).astype(int))


def _by_data(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per kind of data: mean widths of both constructions, shares that interpolate, and the ratio."""
    axes = ["patterns", "channels", "rows", "width", "noise", "points"]
    wide = with_rows(trials).pivot_table(
        index=axes, columns="construction", values=["second_layer_width", "interpolates"], aggfunc="mean"
    )
    table = wide.index.to_frame(index=False)
    for construction, name in (("fully-connected", "fully_connected"), ("convolutional", "convolutional")):
        for value, suffix in (("second_layer_width", ""), ("interpolates", "_sure")):
            column = (value, construction)
            table[name + suffix] = wide[column].to_numpy(float) if column in wide.columns else float("nan")
    # A trial without any second-layer neuron has no ratio.
    table["ratio"] = table["fully_connected"] / table["convolutional"].where(table["convolutional"] > 0)
    return table


def _cell(width: float, share: float) -> str:
    if pd.isna(width):
        return ""
    return f"{width:.1f}" if share == 1 else f"{width:.1f} ({share:.0%})"
