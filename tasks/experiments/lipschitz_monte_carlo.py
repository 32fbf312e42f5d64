"""Experiment: the law of the exact l_p-Lipschitz constant over random ReLU networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field, field_validator

from solvers.arithmetic.norms import dual_exponent, exponent_label, parse_exponent, scalar_norm
from solvers.errors import InputError
from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.lipschitz.vertex_enumeration import VertexEnumeration
from solvers.problems.budget import Budget
from solvers.problems.domains import DOMAINS, Domain, check_kind
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import LinearRegion, pattern_at
from solvers.registry import lipschitz_solver_named
from tasks.ensembles import BIAS_LAWS, draw_network
from tasks.experiment import AbstractExperiment, Config, Measurement, RunContext, SummaryTable
from tasks.seeding import RandomStreams
from tasks.statistics import (
    INTERVAL,
    OPEN_GAP,
    Estimate,
    censored_mean,
    censored_quantile,
    censored_share,
    exponent_fit,
    exponent_range,
    open_intervals,
    relative_gaps,
    varying,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "LipschitzConfig",
    "LipschitzMonteCarlo",
    "constant_table",
    "exponent_table",
    "exponents",
    "pointwise_exponent",
    "theory_exponent",
]


class LipschitzConfig(Config):
    """One draw of a network and one question about it.

    Attributes:
        d, N, L: input dimension, width of every hidden layer, number of hidden layers.
        p: exponent in [1, inf].
        bias, bias_scale: law of the hidden biases (`tasks.ensembles`).
        domain: a kind of `solvers.problems.domains`: the whole space, or one around 0 as [-radius, radius]^d.
        method: a name in `solvers.registry`; auto is the exact one for the size, bounds never searches and gives
            intervals at d = 512, N = 4096, L = 10.
        relative_gap, time_limit: when a solve may stop; seconds per trial.
    """

    d: int = Field(ge=1)
    N: int = Field(ge=1)
    L: int = Field(default=1, ge=1)
    p: float
    bias: str = "zero"
    bias_scale: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    domain: Annotated[str, AfterValidator(check_kind)] = "global"
    radius: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    method: str = "auto"
    relative_gap: float = Field(default=1e-6, ge=0, allow_inf_nan=False)
    time_limit: float = Field(default=math.inf, ge=0)

    @field_validator("p", mode="before")
    @classmethod
    def _exponent(cls, value: Any) -> float:
        return parse_exponent(value)

    @field_validator("bias")
    @classmethod
    def _law(cls, value: str) -> str:
        if value not in BIAS_LAWS:
            raise ValueError(f"unknown bias law (known: {', '.join(BIAS_LAWS)})")
        return value


def theory_exponent(p: float) -> float:
    """The power of d in Lip_p of a random network: 1/2 for p < 2, 1 - 1/p from there on [DFGSV25, Theorem 1.1]."""
    return 0.5 if p < 2 else 1.0 - (0.0 if math.isinf(p) else 1 / p)


def pointwise_exponent(p: float) -> float:
    """The power of d in ||g||_{p'} for Gaussian g: 1 - 1/p for every p."""
    return 1.0 - (0.0 if math.isinf(p) else 1 / p)


class LipschitzMonteCarlo(AbstractExperiment[LipschitzConfig]):
    """Exact constants of random networks, the gradient at a random point beside them.

    Trials that differ only in p, method or limits share their network; all their p come from one pass.
    """

    name = "lipschitz-monte-carlo"
    summary = "exact Lipschitz constants of random ReLU networks against dimension, width and p"
    config_type = LipschitzConfig
    not_random = frozenset({"p", "method", "relative_gap", "time_limit", "domain", "radius"})
    columns: ClassVar[Mapping[str, str]] = {
        "lower": "proved lower bound of Lip_p, output units per input unit",
        "upper": "proved upper bound of Lip_p, output units per input unit",
        "ratio": "upper / lower: 1 for a known constant, infinite without a lower bound",
        "status": "exact, bounded, budget-spent or numerical-trouble",
        "gradient_norm": "||grad f(x)||_{p'} at one point x drawn uniformly from the unit sphere (the gradient's law"
        " there stands for any fixed point)",
        "answered_by": "the method that answered",
        "wall_seconds": "seconds of the solve; of a pass that answers several trials, an equal share",
    }

    def check(self, config: LipschitzConfig, context: RunContext) -> None:
        solver = _solver(config, context)
        network = draw_network(config.d, [config.N] * config.L, "zero", 0.0, RandomStreams.of("check"))
        reason = solver.refuses(LipschitzProblem(network, config.p, _domain(config)))
        if reason is not None:
            size = f"d = {config.d}, N = {config.N}, L = {config.L}"
            raise InputError(f"method {solver.name} cannot take {size}: {reason}")

    def cost_seconds(self, config: LipschitzConfig) -> float:
        if config.method == "bounds":
            layers = [config.d, *[config.N] * config.L]
            return 1.0 + 1e-9 * sum(n * n * (n + 3 * m) for m, n in itertools.pairwise(layers))
        # About a microsecond for every vertex of the arrangement, and a little for every network.
        if _domain(config).is_bounded:
            faces = [math.comb(config.d, k) * 2 ** (config.d - k) * math.comb(config.N, k) for k in range(config.d + 1)]
            vertices: int = sum(faces)
        else:
            vertices = math.comb(config.N, config.d - (config.bias == "zero"))
        return 1e-3 + 1.3e-6 * vertices * config.L

    def batch_group(self, config: LipschitzConfig) -> Hashable:
        varying = {"p"}
        return tuple(value for name, value in config.model_dump().items() if name not in varying)

    def run_batch(
        self, configs: Sequence[LipschitzConfig], streams: Sequence[RandomStreams], context: RunContext
    ) -> list[Measurement]:
        networks = {}
        for config, stream in zip(configs, streams, strict=True):
            if stream.digest not in networks:
                networks[stream.digest] = draw_network(
                    config.d, [config.N] * config.L, config.bias, config.bias_scale, stream
                )
        problems = [
            LipschitzProblem(networks[stream.digest], config.p, _domain(config))
            for config, stream in zip(configs, streams, strict=True)
        ]
        first = configs[0]
        budget = Budget(seconds=first.time_limit * len(configs), relative_gap=first.relative_gap)
        answers = _solver(first, context).solve_batch(
            problems, budget=budget, rngs=[stream.generator("search") for stream in streams]
        )
        found: list[Measurement] = []
        for problem, stream, answer in zip(problems, streams, answers, strict=True):
            found.append(
                {
                    "lower": answer.lower,
                    "upper": answer.upper,
                    "ratio": 1.0 if answer.upper == answer.lower else _ratio(answer.upper, answer.lower),
                    "status": str(answer.status),
                    "gradient_norm": _gradient_norm(problem, stream),
                    "answered_by": answer.method,
                    "wall_seconds": float(answer.stats["wall_seconds"]),
                }
            )
        return found

    def cell_metrics(self, params: Mapping[str, Any], trials: pd.DataFrame) -> dict[str, float]:
        rng = RandomStreams.of(["lipschitz", params]).generator("bootstrap")
        low, high = censored_mean(trials["lower"], trials["upper"], rng=rng)
        point, _ = censored_mean(trials["gradient_norm"], trials["gradient_norm"], rng=rng)
        found = {
            "lipschitz_mean_lower": low.value,
            "lipschitz_mean_upper": high.value,
            **Estimate(low.value, low.low, high.high).ends("lipschitz_mean_ci_low", "lipschitz_mean_ci_high"),
            "gradient_norm_mean": point.value,
            **point.ends("gradient_norm_mean_ci_low", "gradient_norm_mean_ci_high"),
            "censored_share": censored_share(trials["lower"], trials["upper"], float(params["relative_gap"])),
            "open_trials": float(open_intervals(trials["lower"], trials["upper"]).sum()),
            "trials": float(len(trials)),
        }
        middle = float(trials["ratio"].median()) if "ratio" in trials else math.inf
        if math.isfinite(middle):
            found["ratio_median"] = middle
        if point.value > 0:
            found["global_over_pointwise_lower"] = low.value / point.value
            found["global_over_pointwise_upper"] = high.value / point.value
        for share in (0.05, 0.5, 0.95):
            ends = censored_quantile(trials["lower"], trials["upper"], share)
            found[f"lipschitz_q{round(100 * share):02d}_lower"], found[f"lipschitz_q{round(100 * share):02d}_upper"] = (
                ends
            )
        for status, count in trials["status"].value_counts().items():
            found[f"status_{status}"] = float(count)
        return found

    def study_metrics(self, trials: pd.DataFrame) -> dict[str, float]:
        found: dict[str, float] = {}
        for row in exponents(trials).itertuples():
            key = f"N{row.N}_L{row.L}_{row.bias}_p{exponent_label(float(row.p))}"
            key += "".join(f"_{name}_{getattr(row, name)}" for name in varying(trials, VARIANTS))
            columns = {"exponent": row.value, "exponent_low": row.low, "exponent_high": row.high}
            if row.open:
                columns = {"exponent_least": row.least, "exponent_most": row.most, "open_trials": row.open}
            found |= {f"{name}_{key}": float(value) for name, value in columns.items() if math.isfinite(float(value))}
        found["largest_relative_gap"] = float(relative_gaps(trials["lower"], trials["upper"]).max())
        found["open_trials"] = float(open_intervals(trials["lower"], trials["upper"]).sum())
        return found

    def summary_tables(self, trials: pd.DataFrame) -> list[SummaryTable]:
        return [exponent_table(trials)] if trials["d"].nunique() > 1 else [constant_table(trials)]

    def figures(self, trials: pd.DataFrame) -> dict[str, Figure]:
        from tasks.figures.lipschitz import lipschitz_figures

        return lipschitz_figures(trials, exponents(trials), varying(trials, VARIANTS))


# Besides N, L, bias, d and p: what makes a constant another one, or found in another way.
VARIANTS = ("bias_scale", "domain", "radius", "method", "relative_gap", "time_limit")


def exponents(trials: pd.DataFrame) -> pd.DataFrame:
    """Fitted exponents of d, of the constant's mean and of the pointwise gradient's, a row per (N, L, bias, p).

    Parameters in `VARIANTS` that vary over the trials get rows and a column of their own.

    Returns:
        `value` with its interval `low`, `high` where no interval of the row is open (`OPEN_GAP`; lower ends stand for
        the constants), and `point` likewise for the gradient; NaN where there is no such exponent (open intervals, one
        dimension alone, a mean of 0) or where there are too few draws for an interval. Whatever the constants within
        their intervals, the exponent of their mean lies between `least` and `most`, which may be infinite. `open`
        counts open intervals among `trials`.
    """
    rows = []
    keys = ["N", "L", "bias", *varying(trials, VARIANTS), "p"]
    unknown = Estimate(math.nan, math.nan, math.nan)
    for values, part in trials.groupby(keys):
        groups = dict(iter(part.groupby("d")))
        still_open = int(open_intervals(part["lower"], part["upper"]).sum())
        rng = RandomStreams.of(["exponent", values]).generator("bootstrap")
        sizes = list(groups)
        several = len(groups) > 1
        whole = point = unknown
        if several and not still_open and min(g["lower"].mean() for g in groups.values()) > 0:
            whole = exponent_fit(sizes, [g["lower"] for g in groups.values()], rng=rng)
        if several and min(g["gradient_norm"].mean() for g in groups.values()) > 0:
            point = exponent_fit(sizes, [g["gradient_norm"] for g in groups.values()], rng=rng)
        ends = [(g["lower"].mean(), g["upper"].mean()) for g in groups.values()]
        least, most = exponent_range(sizes, *zip(*ends, strict=True)) if several else (-math.inf, math.inf)
        rows.append((*values, whole.value, whole.low, whole.high, point.value, point.low, point.high, least, most,
                     still_open, len(part)))  # fmt: skip
    columns = ["value", "low", "high", "point", "point_low", "point_high", "least", "most", "open", "trials"]
    return pd.DataFrame(rows, columns=[*keys, *columns])


def exponent_table(trials: pd.DataFrame) -> SummaryTable:
    """A row per (N, L, bias, p): exponents beside theory; from open intervals the range that they leave."""
    table, variants = exponents(trials), varying(trials, VARIANTS)
    rows = []
    for row in table.itertuples():
        whole = Estimate(float(row.value), float(row.low), float(row.high))
        point = Estimate(float(row.point), float(row.point_low), float(row.point_high))
        rows.append(
            (
                str(row.N), str(row.L), str(row.bias), *(str(getattr(row, name)) for name in variants),
                exponent_label(float(row.p)),
                _range_text(float(row.least), float(row.most)) if math.isnan(whole.value) else whole.text(),
                f"{theory_exponent(float(row.p)):.3g}",
                "none: mean 0" if math.isnan(point.value) else point.text(),
                f"{pointwise_exponent(float(row.p)):.3g}",
                f"{row.open} of {row.trials}",
            )
        )  # fmt: skip
    span = f"d = {', '.join(str(d) for d in sorted(trials['d'].unique()))}"
    notes = []
    if table["open"].any():
        notes.append(
            f"{int((table['open'] > 0).sum())} of {len(table)} rows hold intervals wider than {OPEN_GAP:.1%}: "
            "'from ... to' is what they leave open, without the error of sampling"
        )
    return SummaryTable(
        f"Exponent of d in the mean Lipschitz constant ({span}; {INTERVAL}s)",
        ("N", "L", "bias", *variants, "p", "Lipschitz: fitted", "theory", "pointwise: fitted", "theory", "open"),
        rows,
        notes,
    )


def constant_table(trials: pd.DataFrame) -> SummaryTable:
    """A row per cell: mean constant and mean gradient, where there is one dimension and so no exponent."""
    keys = ["d", "N", "L", "bias", *varying(trials, VARIANTS), "p"]
    rows = []
    for values, part in trials.groupby(keys):
        rng = RandomStreams.of(["constants", values]).generator("bootstrap")
        low, high = censored_mean(part["lower"], part["upper"], rng=rng)
        point, _ = censored_mean(part["gradient_norm"], part["gradient_norm"], rng=rng)
        still_open = int(open_intervals(part["lower"], part["upper"]).sum())
        constant = f"from {low.value:.3g} to {high.value:.3g}" if still_open else low.text()
        rows.append((*(str(value) for value in values[:-1]), exponent_label(float(values[-1])), constant, point.text(),
                     f"{still_open} of {len(part)}"))  # fmt: skip
    return SummaryTable(
        f"Mean Lipschitz constant ({INTERVAL}s)",
        (*keys, "Lipschitz", "gradient at a point", "open"),
        rows,
        (f"open: intervals wider than {OPEN_GAP:.1%}; 'from ... to' are the means of their ends",),
    )


def _range_text(least: float, most: float) -> str:
    if least == -math.inf and most == math.inf:
        return "not known"
    if most == math.inf:
        return f"from {least:.3g}"
    return f"up to {most:.3g}" if least == -math.inf else f"from {least:.3g} to {most:.3g}"


def _ratio(upper: float, lower: float) -> float:
    return upper / lower if lower > 0 else math.inf


def _domain(config: LipschitzConfig) -> Domain:
    return DOMAINS[config.domain].around_origin(config.d, config.radius)


def _solver(config: LipschitzConfig, context: RunContext) -> AbstractLipschitzSolver:
    # On the CPU a registered method; its settings do not change results, only where they are computed.
    solver = lipschitz_solver_named(config.method)
    if context.device != "cpu" and isinstance(solver, VertexEnumeration):
        return VertexEnumeration(device=context.device)
    return solver


def _gradient_norm(problem: LipschitzProblem, stream: RandomStreams) -> float:
    """||grad f(x)||_{p'} at a uniform point of the unit sphere."""
    point = stream.generator("point").standard_normal(problem.network.input_dimension)
    point /= np.sqrt((point**2).sum())
    region = LinearRegion(problem.network, pattern_at(problem.network, point))
    return scalar_norm(region.gradient()[0].tolist(), dual_exponent(problem.p))
