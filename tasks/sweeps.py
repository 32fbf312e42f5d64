"""Study files: TOML, checked by pydantic, expanded to trials.

name = "overview"
seed = 1
trial_timeout = 600                      # seconds; left out, an hour, or 100 times what is expected
[sweeps.lipschitz]
experiment = "lipschitz-monte-carlo"
replicates = 100
[sweeps.lipschitz.grid]
d = [2, 3, 4]                            # a list is an axis of the grid
N = {start = 16, stop = 64, step = 16}   # so is a range; the stop is included
[sweeps.lipschitz.fixed]
bias = "normal"                          # one value for all cells
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator

from solvers.errors import InputError
from tasks.experiment import AbstractExperiment, Config, Trial
from tasks.registry import experiment_named

__all__ = [
    "Range",
    "Study",
    "Sweep",
    "apply_overrides",
    "load_study",
    "parse_study",
    "read_study",
    "shipped_studies",
    "stored_study",
    "study_text",
    "trials_of",
]


LONGEST_NAME = 100
# Beyond this many values an axis is a slip of the keyboard.
MOST_VALUES = 100_000


class Range(BaseModel):
    """An axis given by its ends: `step` for equal steps, or `count` values spaced linearly or by factors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    start: float
    stop: float
    step: float | None = None
    count: int | None = Field(default=None, ge=1)
    spacing: Literal["linear", "log"] = "linear"

    def values(self) -> list[float | int]:
        """The axis, ends included; whole numbers stay integers."""
        if (self.step is None) == (self.count is None):
            raise InputError("a range takes either step or count: {start = 1, stop = 9, step = 2}")
        if not all(math.isfinite(value) for value in (self.start, self.stop, self.step or 0.0)):
            raise InputError("a range needs finite numbers; write an infinite value in a list: [1, 2, inf]")
        if self.step is not None:
            if self.spacing == "log":
                raise InputError("a range with spacing = 'log' takes count, not step")
            if self.step == 0 or (self.stop - self.start) / self.step < 0:
                raise InputError(f"a range from {self.start:g} to {self.stop:g} never ends with step {self.step:g}")
            number = math.floor((self.stop - self.start) / self.step * (1 + 1e-12) + 1e-9) + 1
            _check_number(number)
            found = [self.start + k * self.step for k in range(number)]
            return _tidy(found)
        _check_number(self.count or 1)
        if self.spacing == "log":
            if self.start <= 0 or self.stop <= 0:
                raise InputError("a range with spacing = 'log' needs positive ends")
            found = _spread(math.log(self.start), math.log(self.stop), self.count or 1)
            found = [math.exp(value) for value in found]
        else:
            found = _spread(self.start, self.stop, self.count or 1)
        return _tidy(found)


def _tidy(values: list[float]) -> list[float | int]:
    tidy = [float(f"{value:.12g}") for value in values]
    return [int(v) if v.is_integer() else v for v in tidy]


def _check_number(number: int) -> None:
    if number > MOST_VALUES:
        raise InputError(f"a range of {number} values is more than {MOST_VALUES}: take a larger step")


def _spread(start: float, stop: float, count: int) -> list[float]:
    return [start] if count == 1 else [start + (stop - start) * k / (count - 1) for k in range(count)]


def _kind_of_axis(value: object) -> str:
    return "range" if isinstance(value, (Mapping, Range)) else "list"


Axis: TypeAlias = Annotated[Annotated[list[Any], Tag("list")] | Annotated[Range, Tag("range")],
                            Discriminator(_kind_of_axis)]  # fmt: skip


class Sweep(BaseModel):
    """One experiment over one grid."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    experiment: str
    replicates: int = Field(default=1, ge=1)
    grid: dict[str, Axis] = Field(default_factory=dict)
    fixed: dict[str, Any] = Field(default_factory=dict)

    @field_validator("grid")
    @classmethod
    def _axes_hold_values(cls, grid: dict[str, list[Any] | Range]) -> dict[str, list[Any] | Range]:
        for name, axis in grid.items():
            if isinstance(axis, list) and not axis:
                raise ValueError(f"axis {name} is empty")
        return grid

    @property
    def cells(self) -> int:
        """How many cells the grid has."""
        return math.prod(len(axis if isinstance(axis, list) else axis.values()) for axis in self.grid.values())


def _sweep_name(name: str) -> str:
    """Any words, but no path: it names folders and files."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a sweep's name must have 1 to {LONGEST_NAME} printable signs")
    if name.startswith(("/", "~", "\\")) or {".", ".."} & set(re.split(r"[/\\]", name)):
        raise ValueError("a sweep's name must not be a path")
    return name


class Study(BaseModel):
    """A named set of sweeps with one seed."""

    # An infinite value is written as Infinity: JSON has no other word for it that comes back as a number.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    seed: int = Field(default=0, ge=0)
    # Seconds after which a trial is ended and kept as failed, where it runs in a process of its own (on Ray).
    trial_timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    sweeps: dict[Annotated[str, AfterValidator(_sweep_name)], Sweep] = Field(min_length=1)


def shipped_studies() -> dict[str, str]:
    """Name -> text of every study file that comes with interlip."""
    folder = resources.files("tasks.studies")
    return {
        item.name.removesuffix(".toml"): item.read_text(encoding="utf-8")
        for item in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if item.name.endswith(".toml")
    }


def load_study(source: str, overrides: Iterable[str] = ()) -> Study:
    """Read a study from a file, or a shipped one by name, and check every key and value.

    Args:
        source: path of a .toml file, or a name from `shipped_studies`.
        overrides: `a.b=value` texts applied before checking; values are TOML.
    Raises:
        InputError: one sentence that names the key, and the nearest known one where a key is unknown.
    """
    text, origin = study_text(source)
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{origin} is not valid TOML: {error}") from None
    return parse_study(apply_overrides(raw, overrides), origin)


def study_text(source: str) -> tuple[str, str]:
    """The text of a study file or of a shipped study, and what to call it in messages.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    shipped = shipped_studies()
    if source in shipped:
        return shipped[source], f"study {source}"
    path = Path(source)
    if not path.is_file():
        near = difflib.get_close_matches(source, shipped, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; shipped studies: {', '.join(shipped)}"
        raise InputError(f"there is no study file and no shipped study {source!r}{hint}")
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the study {source}: {error}") from None


def stored_study(raw: Mapping[str, Any], origin: str) -> Study:
    """A study from the `study.json` of its run folder; in older ones null stands for an infinite value."""
    return parse_study(_with_infinities(raw), origin)


def read_study(raw: Mapping[str, Any], origin: str) -> Study:
    """As `stored_study`, but no experiment is asked whether it knows its parameters: one that is gone reads too."""
    try:
        return Study.model_validate(_with_infinities(raw))
    except ValidationError as error:
        raise InputError(f"{origin}: {_explain(error, _known_keys)}") from None


def _with_infinities(raw: Mapping[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = _copy(raw)
    sweeps = described.get("sweeps")
    for sweep in sweeps.values() if isinstance(sweeps, dict) else ():
        if not isinstance(sweep, dict):
            continue  # which the check will say
        for values in (sweep.get("grid", {}), sweep.get("fixed", {})):
            for name, value in values.items():
                values[name] = _without_nulls(value)
    return described


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return math.inf if value is None else value


def apply_overrides(raw: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Set dotted keys: `sweeps.lipschitz.replicates=5`; a value that is not TOML is taken as text."""
    found: dict[str, Any] = _copy(raw)
    for text in overrides:
        path, equals, value_text = text.partition("=")
        keys = [key.strip() for key in path.split(".")]
        if not equals or not all(keys):
            raise InputError(f"--set needs the form a.b=value, got {text!r}")
        try:
            value = tomllib.loads(f"value = {value_text}")["value"]
        except tomllib.TOMLDecodeError:
            value = value_text.strip()
        place: Any = found
        for key in keys[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise InputError(f"--set {text}: {key} is a value, not a table")
        place[keys[-1]] = value
    return found


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def parse_study(raw: Mapping[str, Any], origin: str) -> Study:
    """Check a study's keys, its experiments and every configuration of its grids."""
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"{origin}: {_explain(error, _known_keys)}") from None
    for name, sweep in study.sweeps.items():
        experiment = experiment_named(sweep.experiment)
        seen: set[Config] = set()
        for config in _configs(sweep, experiment, f"{origin}: sweeps.{name}"):
            if config in seen:
                cell = ", ".join(f"{axis} = {getattr(config, axis)}" for axis in sweep.grid)
                raise InputError(f"{origin}: sweeps.{name}.grid holds the cell {cell} twice; for more draws of it"
                                 " raise replicates")  # fmt: skip
            seen.add(config)
    return study


def _known_keys(location: tuple[Any, ...]) -> Iterable[str]:
    if len(location) >= 3 and location[0] == "sweeps":
        return Range.model_fields if len(location) > 4 else Sweep.model_fields
    return Study.model_fields


def _explain(error: ValidationError, known: Any) -> str:
    """The first thing that is wrong, in one sentence."""
    first = error.errors()[0]
    location = first["loc"]
    if len(location) > 4 and location[0] == "sweeps" and location[2] == "grid":
        location = (*location[:4], *location[5:])  # pydantic puts the kind of axis behind its name
    where = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        names = list(known(location))
        near = difflib.get_close_matches(str(location[-1]), names, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown key {where!r}{hint} (known: {', '.join(names)})"
    if first["type"] == "missing":
        return f"the key {where!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message[:1].lower()}{message[1:]}, got {first.get('input')!r}"


def _configs(sweep: Sweep, experiment: AbstractExperiment[Any], origin: str) -> Iterator[Config]:
    """Every grid cell as a checked configuration, the last axis fastest."""
    twice = sorted(set(sweep.grid) & set(sweep.fixed))
    if twice:
        raise InputError(f"{origin}: {twice[0]!r} stands in both grid and fixed")
    axes = {name: _axis_values(axis, f"{origin}.grid.{name}") for name, axis in sweep.grid.items()}
    for values in itertools.product(*axes.values()):
        cell = dict(sweep.fixed) | dict(zip(axes, values, strict=True))
        try:
            yield experiment.config_type.model_validate(cell)
        except ValidationError as error:
            kind = experiment.config_type.model_fields
            raise InputError(f"{origin}: {_explain(error, lambda _, names=kind: names)}") from None


def _axis_values(axis: list[Any] | Range, origin: str) -> list[Any]:
    if not isinstance(axis, Range):
        return axis
    try:
        return axis.values()
    except InputError as error:
        raise InputError(f"{origin}: {error}") from None


def trials_of(study: Study) -> Iterator[Trial]:
    """Every trial of a study, cell by cell; replicates of a cell follow each other."""
    for name, sweep in study.sweeps.items():
        experiment = experiment_named(sweep.experiment)
        for config in _configs(sweep, experiment, f"study {study.name}: sweeps.{name}"):
            params = config.model_dump(mode="python")
            for replicate in range(sweep.replicates):
                yield Trial(name, sweep.experiment, params, replicate, study.seed)
