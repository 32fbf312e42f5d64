"""The interface of an experiment: a pure function from configurations and random streams to measurements.

An experiment knows no Ray, no MLflow and no file of results. The runner in `cluster/` decides where its batches run,
`tracking/` where their rows are kept; both see only what is declared here.
"""

from __future__ import annotations

import abc
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

import pandas as pd
from pydantic import BaseModel, ConfigDict

from tasks.seeding import RandomStreams, content_digest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["AbstractExperiment", "Config", "Measurement", "RunContext", "SummaryTable", "Trial"]

Measurement: TypeAlias = dict[str, float | int | bool | str]


class Config(BaseModel):
    """Parameters of one trial: what a grid cell of a study holds. Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)


ConfigT = TypeVar("ConfigT", bound=Config)


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a worker lends to a batch. Nothing here may change a result, so nothing here enters a trial's key.

    Attributes:
        data_dir: folder with data sets that are not shipped (`mnist.npz`); None when not given.
        device: torch device for batched linear algebra.
    """

    data_dir: str | None = None
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Trial:
    """One configuration and replicate: the unit that is computed, kept and never computed again.

    Attributes:
        sweep: name of the sweep inside its study that asked for it; not part of the key.
        experiment: name in `tasks.registry`.
        params: the whole configuration in plain JSON types, defaults filled in.
        replicate: 0, 1, ...
        seed: the study's seed.
    """

    sweep: str
    experiment: str
    params: Mapping[str, Any]
    replicate: int
    seed: int

    @property
    def key(self) -> str:
        """Content hash of everything that decides the result: 32 hexadecimal digits."""
        return content_digest([self.experiment, self.params, self.replicate, self.seed])[:32]

    @property
    def cell(self) -> str:
        """Content hash of the grid cell: the key without the replicate."""
        return content_digest([self.experiment, self.params, self.seed])[:16]


@dataclass(frozen=True, slots=True)
class SummaryTable:
    """A small table for the terminal and for MLflow: a title, column headings and rows of ready text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)


class AbstractExperiment(abc.ABC, Generic[ConfigT]):
    """One kind of trial. Instances hold nothing; all state is in the arguments.

    Adding one takes a file here, a line in `tasks/registry.py` and a study file; the command line, the runner and the
    tracker need no change.

    Class attributes:
        name: as in study files, with hyphens.
        summary: one line for people.
        config_type: pydantic model of one trial's parameters, with defaults.
        not_random: parameters that ask another question of the same random draw (p, the method, ...): trials that
            differ only there share their streams, and so their network or data.
        columns: what `run_batch` measures: column name -> what it is, with its unit.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    config_type: ClassVar[type[Config]]
    not_random: ClassVar[frozenset[str]] = frozenset()
    columns: ClassVar[Mapping[str, str]]

    def streams(self, trial: Trial) -> RandomStreams:
        """The random streams of a trial, derived from its content without the `not_random` parameters."""
        content = {name: value for name, value in trial.params.items() if name not in self.not_random}
        return RandomStreams.of([self.name, content, trial.replicate, trial.seed])

    def check(self, config: ConfigT, context: RunContext) -> None:
        """Raise `solvers.errors.InputError` in one clear sentence when a trial of this kind could never run.

        Called once per grid cell before anything starts: a missing data file, a size beyond the method.
        """
        return

    def warm_up(self) -> None:
        """Compile or load what the first batch would otherwise wait for; called once in every worker."""
        return

    def batch_group(self, config: ConfigT) -> Hashable:
        """Trials with equal groups may stand in one batch, next to the trials of the same replicate."""
        return None

    @abc.abstractmethod
    def cost_seconds(self, config: ConfigT) -> float:
        """Rough seconds of one trial on one core; batches are sized to about a second of work by it."""

    @abc.abstractmethod
    def run_batch(
        self, configs: Sequence[ConfigT], streams: Sequence[RandomStreams], context: RunContext
    ) -> list[Measurement]:
        """Compute trials of one group; one measurement each, in order.

        The measurement of a trial does not depend on the others in the batch, bit for bit. Every measurement has
        the keys of `columns`.
        """

    def cell_metrics(self, params: Mapping[str, Any], trials: pd.DataFrame) -> dict[str, float]:
        """Aggregates of one grid cell for MLflow: means with intervals, shares, counts by status.

        Args:
            params: the cell's parameters.
            trials: the cell's finished rows, one per trial: the parameters and `columns`, plus `replicate`.
        """
        return {}

    def study_metrics(self, trials: pd.DataFrame) -> dict[str, float]:
        """Aggregates over all cells of a sweep, logged on the parent run: fitted exponents, worst gap."""
        return {}

    def summary_tables(self, trials: pd.DataFrame) -> list[SummaryTable]:
        """What the terminal shows at the end."""
        return []

    def figures(self, trials: pd.DataFrame) -> dict[str, Figure]:
        """Figures from measurements alone: file stem -> figure."""
        return {}

    def data_sources(self, params: Mapping[str, Any]) -> list[str]:
        """Names of the data sets that a cell uses (`tasks.data_sets`), for MLflow's `log_input`."""
        return []
