"""Which trials travel together: pure policy, no Ray. Batches depend on the study alone, never on who computes them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.experiment import AbstractExperiment, Trial
from tasks.registry import experiment_named
from tasks.seeding import canonical_json, content_digest
from tasks.sweeps import Study

__all__ = ["BATCH_SECONDS", "Batch", "describe", "plan", "remaining"]

# Work in one batch: enough to drown the cost of a call, little enough to spread and to lose.
BATCH_SECONDS = 1.0
MOST_TRIALS = 5000


@dataclass(frozen=True, slots=True)
class Batch:
    """Trials of one sweep that are computed by one call.

    Attributes:
        cost_seconds: expected work.
    """

    sweep: str
    experiment: str
    trials: tuple[Trial, ...]
    cost_seconds: float

    @property
    def digest(self) -> str:
        """Name of its part: depends on the trials it holds."""
        return content_digest([trial.key for trial in self.trials])[:24]

    @property
    def described(self) -> str:
        """For people: the trial, or how many of which sweep."""
        if len(self.trials) > 1:
            return f"a batch of {len(self.trials)} trials of {self.sweep}, from trial {self.trials[0].key} on,"
        return f"trial {self.trials[0].key} of {self.sweep}"

    def part(self, first: int, stop: int) -> Batch:
        """The trials from one position until before another."""
        share = self.cost_seconds * (stop - first) / len(self.trials)
        return Batch(self.sweep, self.experiment, self.trials[first:stop], share)


def plan(trials: Iterable[Trial], batch_seconds: float = BATCH_SECONDS) -> list[Batch]:
    """Group trials to batches of about a second, the longest first.

    Trials that share their random streams, and so their network or data, stay together.
    """
    groups: dict[Hashable, list[tuple[str, float, Trial]]] = {}
    for trial in trials:
        experiment: AbstractExperiment[Any] = experiment_named(trial.experiment)
        config = experiment.config_type.model_validate(dict(trial.params))
        key = (trial.sweep, trial.experiment, trial.seed, experiment.batch_group(config))
        entry = (experiment.streams(trial).digest, experiment.cost_seconds(config), trial)
        groups.setdefault(key, []).append(entry)
    batches: list[Batch] = []
    for entries in groups.values():
        batches.extend(_cut(_bundles(entries), batch_seconds))
    return sorted(batches, key=lambda batch: -batch.cost_seconds)


def _bundles(entries: list[tuple[str, float, Trial]]) -> list[tuple[float, list[Trial]]]:
    """Trials with equal streams, in order of first appearance by replicate; the draw is paid once."""
    order = sorted(range(len(entries)), key=lambda i: entries[i][2].replicate)
    bundles: dict[str, tuple[float, list[Trial]]] = {}
    for i in order:
        digest, cost, trial = entries[i]
        old_cost, members = bundles.get(digest, (0.0, []))
        bundles[digest] = (max(old_cost, cost), [*members, trial])
    return list(bundles.values())


def _cut(bundles: list[tuple[float, list[Trial]]], batch_seconds: float) -> Iterable[Batch]:
    """Equal shares of about `batch_seconds`."""
    total = sum(cost for cost, _ in bundles)
    count = max(1, round(total / batch_seconds), -(-sum(len(m) for _, m in bundles) // MOST_TRIALS))
    count = min(count, len(bundles))
    for k in range(count):
        share = bundles[k * len(bundles) // count : (k + 1) * len(bundles) // count]
        members = tuple(trial for _, trials in share for trial in trials)
        yield Batch(members[0].sweep, members[0].experiment, members, sum(cost for cost, _ in share))


def remaining(batches: Sequence[Batch], finished: dict[str, set[str]]) -> list[Batch]:
    """The batches without their finished trials; those with nothing left are gone."""
    found = []
    for batch in batches:
        left = tuple(t for t in batch.trials if t.key not in finished.get(batch.sweep, set()))
        if left:
            found.append(Batch(batch.sweep, batch.experiment, left, batch.cost_seconds * len(left) / len(batch.trials)))
    return found


def describe(study: Study, batches: Sequence[Batch], resumed: int) -> list[str]:
    """What `--dry-run` says."""
    trials = sum(len(batch.trials) for batch in batches)
    cost = sum(batch.cost_seconds for batch in batches)
    lines = [f"study {study.name}: {trials} trials in {len(batches)} batches, {resumed} finished before"]
    lines.append(f"expected work: about {cost:.0f} core-seconds")
    for name, sweep in study.sweeps.items():
        lines.append(f"  {name}: {sweep.experiment}, {sweep.replicates} replicates, {canonical_json(list(sweep.grid))}")
    return lines
