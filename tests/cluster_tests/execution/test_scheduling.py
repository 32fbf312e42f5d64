"""Scheduling as arithmetic."""

from __future__ import annotations

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


def test_the_plan_depends_on_the_trials_alone() -> None:
    trials = list(trials_of(small_study()))
    assert [b.digest for b in plan(trials)] == [b.digest for b in plan(list(trials))]


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
    assert [t.key for t in remaining([first], half)[0].trials] == [first.trials[0].key]
