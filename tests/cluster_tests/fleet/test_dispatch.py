"""The dispatcher of studies without Ray: its answers to single events, and whole studies in made-up time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.execution.fleet.dispatch import Dispatch, FleetPolicy
from cluster.execution.fleet.signals import (
    Abandon,
    Capacity,
    Cut,
    EndWorker,
    FleetCommand,
    KeepFailed,
    PieceDone,
    PieceLost,
    PieceRaised,
    Say,
    Send,
    StartWorker,
    WorkerFell,
    WorkerUp,
)
from tests.cluster_tests.fleet.made_up_cluster import MadeUpCluster, batches_of, some_sizes

POLICY = FleetPolicy(depth=2, trial_seconds=100.0, cost_factor=10.0, say_seconds=30.0)


def begun(
    pieces: int, workers: int, size: int = 4, policy: FleetPolicy = POLICY
) -> tuple[Dispatch, list[FleetCommand]]:
    """A dispatcher whose workers are up, and what it then asks for."""
    dispatch = Dispatch(policy)
    dispatch.add([(size, 1.0)] * pieces)
    dispatch.hear(Capacity(workers), 0.0)
    assert dispatch.commands(0.0) == [StartWorker(k) for k in range(1, workers + 1)]
    for worker in range(1, workers + 1):
        dispatch.hear(WorkerUp(worker), 0.0)
    return dispatch, dispatch.commands(0.0)


def test_pieces_are_sent_in_order_to_the_least_busy_and_no_more_than_asked() -> None:
    dispatch, sent = begun(9, 2)
    assert sent == [Send(1, 1), Send(2, 2), Send(3, 1), Send(4, 2)]
    assert dispatch.commands(0.1) == []
    dispatch.hear(PieceDone(2, 2), 1.0)
    assert dispatch.commands(1.0) == [Send(5, 2)]


def test_nothing_waits_behind_much_work() -> None:
    dispatch = Dispatch(POLICY)
    dispatch.add([(1, 50.0), (1, 1.0), (1, 1.0), (1, 1.0)])
    dispatch.hear(Capacity(2), 0.0)
    dispatch.commands(0.0)
    dispatch.hear(WorkerUp(1), 0.0)
    dispatch.hear(WorkerUp(2), 0.0)
    assert dispatch.commands(0.0) == [Send(1, 1), Send(2, 2), Send(3, 2)]


def test_only_the_piece_under_computation_is_suspect_and_its_halves_run_alone() -> None:
    dispatch, _ = begun(4, 2)
    dispatch.hear(WorkerFell(1, "died", blame=True), 1.0)  # 1 under computation, 3 behind it
    assert dispatch.commands(1.0) == [Cut(1, ((5, 0, 2), (6, 2, 4))), StartWorker(3)]
    dispatch.hear(PieceDone(2, 2), 2.0)
    assert dispatch.commands(2.0) == []  # two suspects wait for workers with nothing else
    dispatch.hear(PieceDone(4, 2), 3.0)
    assert dispatch.commands(3.0) == [Send(5, 2)]
    dispatch.hear(WorkerUp(3), 4.0)
    assert dispatch.commands(4.0) == [Send(6, 3)]
    dispatch.hear(PieceDone(5, 2), 5.0)
    assert dispatch.commands(5.0) == [Send(3, 2)]
    dispatch.hear(PieceDone(3, 2), 6.0)
    dispatch.hear(PieceDone(6, 3), 6.0)
    assert dispatch.finished


def test_a_trial_alone_is_given_up_after_the_deaths_allowed_and_not_before() -> None:
    policy = FleetPolicy(most_deaths=3, most_alone=2)
    dispatch, sent = begun(1, 1, size=1, policy=policy)
    for death in (1, 2):
        assert sent == [Send(1, death)]
        dispatch.hear(WorkerFell(death, "died", blame=True), float(death))
        assert dispatch.commands(float(death)) == [StartWorker(death + 1)]
        dispatch.hear(WorkerUp(death + 1), float(death))
        sent = dispatch.commands(float(death))
    dispatch.hear(WorkerFell(3, "died", blame=True), 3.0)
    assert not dispatch.finished
    assert dispatch.commands(3.0) == [KeepFailed(1, "its worker died 3 times with this trial alone: died")]
    assert dispatch.finished


def test_a_lost_node_or_a_lost_answer_counts_against_nobody() -> None:
    dispatch, sent = begun(1, 1, size=1)
    for k in range(1, 50):
        assert sent == [Send(1, k)]
        dispatch.hear(PieceLost(1, k), float(k))
        assert dispatch.commands(float(k)) == [Send(1, k)]
        dispatch.hear(WorkerFell(k, "its node died", blame=False), float(k))
        text = "a worker is gone (its node died); what it had is computed elsewhere"
        assert dispatch.commands(float(k)) == [Say(text), StartWorker(k + 1)]
        dispatch.hear(WorkerUp(k + 1), float(k))
        sent = dispatch.commands(float(k))


def test_a_piece_that_raises_is_cut_and_its_last_trial_fails() -> None:
    dispatch, _ = begun(1, 1, size=2)
    dispatch.hear(PieceRaised(1, 1, "no"), 1.0)
    assert dispatch.commands(1.0) == [Cut(1, ((2, 0, 1), (3, 1, 2))), Send(2, 1)]
    dispatch.hear(PieceRaised(2, 1, "no"), 2.0)
    assert dispatch.commands(2.0) == [KeepFailed(2, "no"), Send(3, 1)]


def test_a_piece_past_its_time_is_named_ended_and_cut_to_trials() -> None:
    dispatch, _ = begun(2, 1, size=3)
    assert dispatch.commands(31.0) == [Say("runs for 31 s, of 100 s at most", 1)]
    ended = dispatch.commands(101.0)
    assert ended[0] == EndWorker(1)
    assert isinstance(ended[1], Say)
    assert ended[2] == Cut(1, ((3, 0, 1), (4, 1, 2), (5, 2, 3)))
    dispatch.hear(WorkerFell(1, "killed", blame=True), 101.0)  # heard late, by our own hand: nobody is blamed
    assert ended[3] == StartWorker(2)
    dispatch.hear(WorkerUp(2), 102.0)
    assert dispatch.commands(102.0) == [Send(3, 2)]
    assert KeepFailed(3, "timed out: it did not end in 100 s") in dispatch.commands(203.0)


def test_expected_work_makes_the_time_longer() -> None:
    assert POLICY.allowed(1.0) == 100.0
    assert POLICY.allowed(50.0) == 500.0


def test_new_cpus_are_used_and_workers_without_one_are_let_go() -> None:
    dispatch = Dispatch(POLICY, most_workers=3)
    dispatch.add([(1, 1.0)] * 20)
    dispatch.hear(Capacity(2), 0.0)
    assert dispatch.commands(0.0) == [StartWorker(1), StartWorker(2)]
    dispatch.hear(Capacity(8), 1.0)
    assert dispatch.commands(1.0) == [StartWorker(3)]
    dispatch.hear(Capacity(1), 2.0)
    assert dispatch.commands(2.0) == [EndWorker(1), EndWorker(2)]


def test_no_more_workers_than_pieces() -> None:
    dispatch = Dispatch(POLICY)
    dispatch.add([(1, 1.0)] * 2)
    dispatch.hear(Capacity(5), 0.0)
    assert dispatch.commands(0.0) == [StartWorker(1), StartWorker(2)]


def test_workers_that_never_come_up_end_the_study() -> None:
    dispatch = Dispatch(FleetPolicy(most_bad_starts=3))
    dispatch.add([(1, 1.0)])
    dispatch.hear(Capacity(1), 0.0)
    for k in (1, 2, 3):
        assert dispatch.commands(0.0) == [StartWorker(k)]
        dispatch.hear(WorkerFell(k, "no library", blame=True), 0.0)
    assert dispatch.commands(0.0)[0] == Abandon("no library")


def test_waiting_is_said_now_and_then() -> None:
    dispatch = Dispatch(POLICY)
    dispatch.add([(1, 1.0)])
    dispatch.hear(Capacity(1), 0.0)
    said = [command for now in range(100) for command in dispatch.commands(float(now)) if isinstance(command, Say)]
    assert len(said) == 3  # after 10, 40 and 70 seconds
    assert said[0].text == "waiting for a free CPU since 10 s; the cluster has 1 CPUs"


def test_an_idle_worker_begins_what_waits_behind_a_long_piece_and_the_first_answer_counts() -> None:
    dispatch, sent = begun(3, 2)
    assert sent == [Send(1, 1), Send(2, 2), Send(3, 1)]
    dispatch.hear(PieceDone(2, 2), 1.0)
    assert dispatch.commands(1.0) == []
    assert dispatch.commands(7.0) == [Send(3, 2)]
    dispatch.hear(PieceDone(3, 2), 8.0)
    dispatch.hear(PieceDone(1, 1), 9.0)
    assert dispatch.finished
    dispatch.hear(PieceDone(3, 1), 9.5)
    assert dispatch.commands(9.5) == []


@pytest.mark.parametrize("seed", range(15))
def test_all_is_answered_once_but_the_guilty(seed: int) -> None:
    batches = batches_of(some_sizes(seed, 60))
    total = sum(map(len, batches))
    kills, hangs, raises = {3, total // 2}, {total // 3}, {total - 1, 11}
    dispatch = Dispatch(FleetPolicy(trial_seconds=60.0))
    cluster = MadeUpCluster(dispatch, batches, {"a": 2, "b": 1}, kills=kills, hangs=hangs, raises=raises)
    cluster.run(until=2000.0)
    guilty = kills | hangs | raises
    assert sorted(cluster.answered) == sorted(set(range(total)) - guilty)
    assert set(cluster.failed) == guilty
    assert all("timed out" in cluster.failed[trial] for trial in hangs)
    assert all("died" in cluster.failed[trial] for trial in kills)


def test_twenty_mates_of_a_trial_that_kills_survive() -> None:
    cluster = MadeUpCluster(Dispatch(FleetPolicy()), batches_of([21]), {"a": 2}, kills={7})
    cluster.run(until=200.0)
    assert len(cluster.answered) == 20
    assert set(cluster.failed) == {7}


@pytest.mark.parametrize("seed", range(10))
def test_nodes_that_come_and_go_lose_nothing_and_blame_nobody(seed: int) -> None:
    batches = batches_of(some_sizes(seed, 80))
    cluster = MadeUpCluster(Dispatch(FleetPolicy()), batches, {"a": 2, "b": 2}, seconds=lambda trial: 0.3)
    for k in range(6):
        cluster.at(4.0 + 12 * k, lambda: cluster.lose_node("b", noticed_after=15.0 * (seed % 2)))
        cluster.at(10.0 + 12 * k, lambda: cluster.add_node("b", 2))
    cluster.run(until=2000.0)
    assert sorted(cluster.answered) == list(range(sum(map(len, batches))))
    assert cluster.failed == {}


def test_all_nodes_lost_and_back_is_waited_for_and_said() -> None:
    cluster = MadeUpCluster(Dispatch(FleetPolicy()), batches_of([20] * 20), {"a": 2})
    cluster.at(4.5, lambda: cluster.lose_node("a"))
    cluster.at(80.0, lambda: cluster.add_node("b", 2))
    cluster.run(until=200.0)
    assert len(cluster.answered) == 400
    assert any("waiting for a free CPU" in text for _, text in cluster.said)


def test_all_workers_killed_four_times_are_survived() -> None:
    batches = batches_of([1] * 6 + [20] * 20)
    cluster = MadeUpCluster(Dispatch(FleetPolicy()), batches, {"a": 2}, seconds=lambda trial: 0.5)

    def kill() -> None:
        for worker in list(cluster.node):
            if cluster.dispatch.workers_up == 2:
                cluster.kill_worker(worker)

    for k in range(4):
        cluster.at(10.0 + 10.0 * k, kill)
    cluster.run(until=1000.0)
    assert sorted(cluster.answered) == list(range(406))
    assert cluster.failed == {}


def test_one_node_lost_and_another_joining_ends_within_a_tenth_of_the_ideal() -> None:
    """Two nodes of four, one lost at half time, a third at 1.25 times that; work is shared out by CPUs there."""
    trials, seconds = 4000, 0.2
    cluster = MadeUpCluster(Dispatch(FleetPolicy()), batches_of([5] * 800), {"a": 4, "b": 4}, lambda trial: seconds)
    cluster.at(50.0, lambda: cluster.lose_node("b", noticed_after=1.0))
    cluster.at(62.5, lambda: cluster.add_node("c", 4))
    took = cluster.run(until=1000.0)
    # trials * seconds = 8 * 50 + 4 * 12.5 + 8 * rest
    ideal = 62.5 + (trials * seconds - 8 * 50.0 - 4 * 12.5) / 8
    assert ideal < took < 1.1 * ideal
    assert sorted(cluster.answered) == list(range(trials))


def test_the_dispatcher_knows_no_ray(root: Path) -> None:
    code = "import sys, cluster.execution.fleet.dispatch; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
