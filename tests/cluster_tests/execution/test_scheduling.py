"""Scheduling as arithmetic."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.execution.scheduling import plan, remaining
from tasks.registry import experiment_named
from tasks.sweeps import trials_of
from tests.cluster_tests.studies import small_study


def test_every_trial_is_in_exactly_one_batch() -> None:
    trials = list(trials_of(small_study(40)))
    batches = plan(trials, batch_seconds=0.05)
    keys = [trial.key for batch in batches for trial in batch.trials]
    assert sorted(keys) == sorted(trial.key for trial in trials)
    assert len(batches) > 4
    assert len({batch.digest for batch in batches}) == len(batches)


def test_trials_of_one_draw_stay_together() -> None:
    trials = list(trials_of(small_study(40)))
    home: dict[str, str] = {}
    for batch in plan(trials, batch_seconds=0.01):
        for trial in batch.trials:
            digest = experiment_named(trial.experiment).streams(trial).digest
            assert home.setdefault(digest, batch.digest) == batch.digest


def test_another_process_makes_the_same_plan(root: Path) -> None:
    """A resume finds its parts by these names: nothing of a process, such as its hashes of text, may enter them."""
    code = (
        "from cluster.execution.scheduling import plan\n"
        "from tasks.sweeps import trials_of\n"
        "from tests.cluster_tests.studies import small_study\n"
        "print(*(batch.digest for batch in plan(trials_of(small_study(40)), batch_seconds=0.05)))"
    )
    digests = [batch.digest for batch in plan(trials_of(small_study(40)), batch_seconds=0.05)]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code]
        answer = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
        assert answer.stdout.split() == digests


def test_a_draw_that_trials_share_is_paid_once() -> None:
    trials = list(trials_of(small_study(40)))
    costs: dict[tuple[str, str], list[float]] = {}
    for trial in trials:
        experiment = experiment_named(trial.experiment)
        cost = experiment.cost_seconds(experiment.config_type.model_validate(dict(trial.params)))
        costs.setdefault((trial.sweep, experiment.streams(trial).digest), []).append(cost)
    assert max(len(shared) for shared in costs.values()) > 1
    expected = sum(max(shared) for shared in costs.values())
    assert sum(batch.cost_seconds for batch in plan(trials)) == pytest.approx(expected)


def test_long_batches_come_first_and_batches_are_about_as_long_as_asked() -> None:
    batches = plan(list(trials_of(small_study(200))), batch_seconds=0.1)
    costs = [batch.cost_seconds for batch in batches]
    assert costs == sorted(costs, reverse=True)
    assert max(costs) < 0.2


def test_finished_trials_are_left_out() -> None:
    batches = plan(list(trials_of(small_study())))
    first = batches[0]
    done = {first.sweep: {trial.key for trial in first.trials}}
    assert {b.digest for b in remaining(batches, done)} == {b.digest for b in batches[1:]}
    half = {first.sweep: {trial.key for trial in first.trials[1:]}}
    (left,) = remaining([first], half)
    assert [trial.key for trial in left.trials] == [first.trials[0].key]


def test_what_is_left_of_a_batch_costs_its_share() -> None:
    batch = plan(list(trials_of(small_study())))[0]
    count = len(batch.trials)
    assert count > 3
    for finished in (0, 1, count - 1):
        (left,) = remaining([batch], {batch.sweep: {trial.key for trial in batch.trials[:finished]}})
        assert left.cost_seconds == pytest.approx(batch.cost_seconds * (count - finished) / count)
