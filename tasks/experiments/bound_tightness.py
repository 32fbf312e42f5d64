"""Experiment: how far every bound of the Lipschitz constant of a random ReLU network is from the constant."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field, field_validator

from solvers.arithmetic.norms import exponent_label, parse_exponent
from solvers.lipschitz._base import Gives
from solvers.lipschitz.stages.choice import choose, size_of
from solvers.problems.budget import Budget
from solvers.problems.domains import DOMAINS, check_kind
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds
from solvers.registry import LIPSCHITZ_SOLVERS
from tasks.ensembles import BIAS_LAWS, draw_network
from tasks.experiment import AbstractExperiment, Config, Measurement, RunContext, SummaryTable
from tasks.seeding import RandomStreams
from tasks.statistics import OPEN_GAP, open_intervals, varying

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LOWER_BOUNDS", "UPPER_BOUNDS", "BoundTightness", "TightnessConfig", "tightness"]

# Every method of the registry that moves one end alone: column name -> name.
UPPER_BOUNDS, LOWER_BOUNDS = (
    {name.replace("-", "_"): name for name, solver in LIPSCHITZ_SOLVERS.items() if solver.gives == side}
    for side in (Gives.UPPER, Gives.LOWER)
)
# Besides d, N, L and p: what makes a constant another one.
VARIANTS = ("bias", "bias_scale", "domain", "radius", "time_limit")


class TightnessConfig(Config):
    """One draw of a network, bounded by every method.

    Attributes:
        d, N, L: input dimension, width of every hidden layer, number of hidden layers.
        p: exponent in [1, inf].
        bias, bias_scale: law of the hidden biases (`tasks.ensembles`).
        domain: a kind of `solvers.problems.domains`: the whole space, or one around 0 as [-radius, radius]^d.
        time_limit: seconds for each bound, and for the constant itself where an exact method takes the size.
    """

    d: int = Field(ge=1)
    N: int = Field(ge=1)
    L: int = Field(default=1, ge=1)
    p: float = 2.0
    bias: str = "zero"
    bias_scale: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    domain: Annotated[str, AfterValidator(check_kind)] = "global"
    radius: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    time_limit: float = Field(default=60.0, gt=0)

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


class BoundTightness(AbstractExperiment[TightnessConfig]):
    """Bounds over the constant; over the best interval, and so an interval, where no exact method ends.

    Trials that differ only in p, domain or limit share their network.
    """

    name = "bound-tightness"
    summary = "every lower and upper bound over the constant, against width, depth and p"
    config_type = TightnessConfig
    not_random = frozenset({"p", "domain", "radius", "time_limit"})
    columns: ClassVar[Mapping[str, str]] = {
        "lower": "best proved lower bound of Lip_p, output units per input unit",
        "upper": "best proved upper bound of Lip_p, output units per input unit",
        "status": "exact where the two agree; else how the last method ended",
        "answered_by": "the methods whose ends these are",
        **{column: f"upper bound by {name}" for column, name in UPPER_BOUNDS.items()},
        **{column: f"lower bound by {name}" for column, name in LOWER_BOUNDS.items()},
        **{f"{column}_seconds": f"seconds of {name}" for column, name in (UPPER_BOUNDS | LOWER_BOUNDS).items()},
        "wall_seconds": "seconds of the trial",
    }

    def cost_seconds(self, config: TightnessConfig) -> float:
        layers = [config.d, *[config.N] * config.L]
        return 2.0 + 1e-9 * sum(n * n * (n + 3 * m) for m, n in itertools.pairwise(layers))

    def run_batch(
        self, configs: Sequence[TightnessConfig], streams: Sequence[RandomStreams], context: RunContext
    ) -> list[Measurement]:
        return [_measure(config, stream) for config, stream in zip(configs, streams, strict=True)]

    def cell_metrics(self, params: Mapping[str, Any], trials: pd.DataFrame) -> dict[str, float]:
        found = {
            "trials": float(len(trials)),
            "open_trials": float(open_intervals(trials["lower"], trials["upper"]).sum()),
        }
        for row in tightness(trials, []).itertuples():
            ends = {f"{row.column}_ratio_least": float(row.low), f"{row.column}_ratio_most": float(row.high)}
            found |= {name: value for name, value in ends.items() if math.isfinite(value)}
            found[f"{row.column}_seconds_mean"] = float(trials[f"{row.column}_seconds"].mean())
        return found

    def summary_tables(self, trials: pd.DataFrame) -> list[SummaryTable]:
        keys = ["d", "N", "L", *varying(trials, VARIANTS), "p"]
        ratios = tightness(trials, keys)
        shown = list(ratios["column"].unique())
        rows = []
        for values, part in trials.groupby(keys):
            chosen = ratios[(ratios[keys] == list(values)).all(axis=1)].set_index("column")
            cells = [_text(float(chosen["low"][column]), float(chosen["high"][column])) for column in shown]
            still_open = int(open_intervals(part["lower"], part["upper"]).sum())
            labels = [*(str(value) for value in values[:-1]), exponent_label(float(values[-1]))]
            rows.append((*labels, *cells, f"{still_open} of {len(part)}"))
        return [
            SummaryTable(
                "Bounds of the Lipschitz constant over the constant (medians)",
                (*keys, *((UPPER_BOUNDS | LOWER_BOUNDS)[column] for column in shown), "open"),
                rows,
                (
                    f"open: the constant is known up to an interval wider than {OPEN_GAP:.1%} alone; '... to ...' is "
                    "the bound over its upper and over its lower end",
                ),
            )
        ]

    def figures(self, trials: pd.DataFrame) -> dict[str, Figure]:
        from tasks.figures.tightness import tightness_figures

        return tightness_figures(trials, tightness, varying(trials, VARIANTS), UPPER_BOUNDS | LOWER_BOUNDS)


def tightness(trials: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Medians of bound over constant, a row per method and per values of the keys.

    Returns:
        The keys; `column`; `low` and `high`, the bound over the upper and over the lower end of what is known of the
        constant; `open`, whether these are further apart than rounding in any trial. A network whose constant is 0 has
        the ratio 1 where the bound is 0 too.
    """
    rows = []
    parts = trials.groupby(list(keys)) if keys else [((), trials)]
    for values, part in parts:
        wide = bool(open_intervals(part["lower"], part["upper"]).any())
        for column in (*UPPER_BOUNDS, *LOWER_BOUNDS):
            if column not in part:
                continue
            low = np.median(_over(part[column], part["upper"]))
            high = np.median(_over(part[column], part["lower"]))
            rows.append((*values, column, float(low), float(high), wide))
    return pd.DataFrame(rows, columns=[*keys, "column", "low", "high", "open"])


def _over(bounds: pd.Series[float], constants: pd.Series[float]) -> np.ndarray:
    """bound / constant; 1 for 0 / 0 and inf / inf, which say that nothing better is known."""
    above, below = bounds.to_numpy(dtype=np.float64), constants.to_numpy(dtype=np.float64)
    same = above == below
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(same, 1.0, above / below)


def _text(low: float, high: float) -> str:
    if high - low <= OPEN_GAP * high:
        return f"{high:.3g}"
    return f"{low:.3g} to {high:.3g}"


def _measure(config: TightnessConfig, stream: RandomStreams) -> Measurement:
    network = draw_network(config.d, [config.N] * config.L, config.bias, config.bias_scale, stream)
    problem = LipschitzProblem(network, config.p, DOMAINS[config.domain].around_origin(config.d, config.radius))
    budget = Budget(seconds=config.time_limit)
    clock = Budget().start()
    found: Measurement = {}
    best: LipschitzBounds | None = None
    for column, name in (UPPER_BOUNDS | LOWER_BOUNDS).items():
        answer = LIPSCHITZ_SOLVERS[name].solve(problem, budget=budget, rng=stream.generator(name))
        found[column] = answer.upper if column in UPPER_BOUNDS else answer.lower
        found[f"{column}_seconds"] = float(answer.stats["wall_seconds"])
        best = answer if best is None else answer.joined(best, budget)
    assert best is not None
    if choose(size_of(problem)).exact and not budget.is_closed(best.lower, best.upper):
        exact = LIPSCHITZ_SOLVERS["auto"]
        best = exact.solve(problem.knowing(best), budget=budget, rng=stream.generator("search"))
    return {
        "lower": best.lower,
        "upper": best.upper,
        "status": str(best.status),
        "answered_by": best.method,
        **found,
        "wall_seconds": clock.elapsed,
    }
