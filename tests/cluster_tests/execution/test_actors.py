"""The loop that keeps actors busy, without actors: what it asks for, and a made-up cluster whose workers die."""

from __future__ import annotations

import collections
import math
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from cluster.execution.actors import (
    ActorLoop,
    AskWorker,
    CallDone,
    CallLost,
    Command,
    GiveUp,
    Policy,
    Submit,
    WorkerAway,
    WorkerReady,
)

POLICY = Policy(depth=2, most_deaths=2, restart_seconds=60.0, ask_seconds=0.1)


def loop_of(workers: int, calls: int, policy: Policy = POLICY) -> ActorLoop:
    loop = ActorLoop(workers, policy)
    loop.add(range(calls))
    return loop


def test_calls_are_begun_in_order_at_the_least_busy_and_no_more_than_asked() -> None:
    loop = loop_of(2, 9)
    assert loop.commands(0.0) == [Submit(0, 0), Submit(1, 1), Submit(2, 0), Submit(3, 1)]
    assert loop.commands(0.0) == []
    loop.hear(CallDone(3), 1.0)
    loop.hear(CallDone(1), 1.0)
    assert loop.commands(1.0) == [Submit(4, 1), Submit(5, 1)]
    loop.hear(CallDone(0), 2.0)
    assert loop.commands(2.0) == [Submit(6, 0)]
    assert loop.due == math.inf


def test_it_is_finished_when_the_last_call_is_answered() -> None:
    loop = loop_of(1, 1)
    assert not loop.finished
    loop.commands(0.0)
    assert not loop.finished
    loop.hear(CallDone(0), 1.0)
    assert loop.finished


def test_calls_lost_with_a_worker_run_alone_before_anything_else_is_begun() -> None:
    loop = loop_of(2, 9)
    loop.commands(0.0)  # 0 and 2 at worker 0, 1 and 3 at worker 1
    loop.hear(CallLost(0), 1.0)
    assert loop.commands(1.0) == [AskWorker(0)]
    loop.hear(CallLost(2), 1.0)
    loop.hear(CallDone(1), 1.1)
    assert loop.commands(1.1) == []  # worker 1 still has a call: a suspect would not be alone there
    loop.hear(CallDone(3), 1.2)
    assert loop.commands(1.2) == [Submit(0, 1)]
    loop.hear(WorkerReady(0), 1.3)
    assert loop.commands(1.3) == [Submit(2, 0)]  # and nothing beside either suspect
    loop.hear(CallDone(2), 1.4)
    assert loop.commands(1.4) == [Submit(4, 0), Submit(5, 0)]
    loop.hear(CallDone(0), 1.5)
    assert loop.commands(1.5) == [Submit(6, 1), Submit(7, 1)]


def test_only_deaths_alone_count_and_the_last_one_gives_up() -> None:
    loop = loop_of(1, 3)
    loop.commands(0.0)
    for death, call in enumerate((0, 1)):  # shared: they count against none
        loop.hear(CallLost(call), float(death))
    assert loop.commands(1.0) == [AskWorker(0)]
    loop.hear(WorkerReady(0), 2.0)
    assert loop.commands(2.0) == [Submit(0, 0)]
    loop.hear(CallLost(0), 3.0)
    assert loop.commands(3.0) == [AskWorker(0)]
    loop.hear(WorkerReady(0), 4.0)
    assert loop.commands(4.0) == [Submit(1, 0)]  # the suspect that waits longer
    loop.hear(CallDone(1), 5.0)
    assert loop.commands(5.0) == [Submit(0, 0)]
    loop.hear(CallLost(0), 6.0)
    assert not loop.finished
    assert loop.commands(6.0) == [GiveUp(0), AskWorker(0)]
    loop.hear(WorkerReady(0), 7.0)
    assert loop.commands(7.0) == [Submit(2, 0)]
    loop.hear(CallDone(2), 8.0)
    assert loop.finished


def test_a_worker_that_restarts_is_sent_nothing_and_asked_again() -> None:
    loop = loop_of(1, 1)
    loop.commands(0.0)
    loop.hear(CallLost(0), 10.0)
    assert loop.commands(10.0) == [AskWorker(0)]
    assert loop.due == 70.0
    loop.hear(WorkerAway(0), 11.0)
    assert loop.due == pytest.approx(11.1)
    assert loop.commands(11.05) == []
    assert loop.commands(11.1) == [AskWorker(0)]
    assert loop.commands(11.2) == []  # asked once until it answers
    loop.hear(WorkerReady(0), 12.0)
    assert loop.commands(12.0) == [Submit(0, 0)]
    assert loop.due == math.inf


def test_a_worker_that_never_answers_is_tried_after_the_time_to_restart() -> None:
    loop = loop_of(1, 1)
    now = 0.0
    submitted, given_up = [], []
    while not loop.finished:
        for command in loop.commands(now):
            if isinstance(command, Submit):
                submitted.append(now)
                loop.hear(CallLost(0), now)
            elif isinstance(command, GiveUp):
                given_up.append(now)
        now += 5.0
    assert submitted == [0.0, 60.0, 120.0]  # the first death is no lone one
    assert given_up == [125.0]


def test_while_one_worker_restarts_the_others_go_on() -> None:
    loop = loop_of(2, 6, Policy(depth=1))
    loop.commands(0.0)
    loop.hear(CallLost(0), 1.0)
    loop.hear(CallDone(1), 1.0)
    assert loop.commands(1.0) == [AskWorker(0), Submit(0, 1)]
    loop.hear(CallDone(0), 2.0)
    assert loop.commands(2.0) == [Submit(2, 1)]


def test_a_late_answer_of_a_worker_that_was_given_its_time_changes_nothing() -> None:
    loop = loop_of(1, 1)
    loop.commands(0.0)
    loop.hear(CallLost(0), 0.0)
    assert loop.commands(0.0) == [AskWorker(0)]
    assert loop.commands(60.0) == [Submit(0, 0)]
    loop.hear(WorkerAway(0), 61.0)
    loop.hear(WorkerReady(0), 61.0)
    assert loop.commands(61.0) == []
    assert loop.due == math.inf


def test_calls_on_offer_are_for_idle_workers_and_can_be_withdrawn() -> None:
    loop = loop_of(2, 1)
    assert loop.offer([10, 11, 12]) == []
    assert loop.commands(0.0) == [Submit(0, 0), Submit(10, 1)]
    loop.hear(CallDone(10), 1.0)
    assert loop.commands(1.0) == [Submit(11, 1)]
    loop.add([1, 2, 3])
    assert loop.offer([20]) == [12]
    assert loop.commands(2.0) == [Submit(1, 0), Submit(2, 1)]
    for call in (0, 1, 11, 2):
        loop.hear(CallDone(call), 3.0)
    assert loop.commands(3.0) == [Submit(3, 0), Submit(20, 1)]
    for call in (3, 20):
        loop.hear(CallDone(call), 4.0)
    assert loop.finished


class Cluster:
    """Workers in made-up time: a call takes a second, some kill their worker, a worker may die or restart slowly."""

    def __init__(self, seed: int, workers: int, fatal: Iterable[int], chance: float) -> None:
        self.random = random.Random(seed)
        self.fatal, self.chance = set(fatal), chance
        self.at: list[collections.deque[int]] = [collections.deque() for _ in range(workers)]
        self.back = [0.0] * workers
        self.now = 0.0
        self.most_at_once = 0
        self.begun: list[int] = []

    def obey(self, loop: ActorLoop, commands: list[Command]) -> list[int]:
        """Take the commands; the calls that are given up."""
        for command in commands:
            if isinstance(command, Submit):
                assert self.back[command.worker] <= self.now, "sent to a worker that restarts"
                self.at[command.worker].append(command.call)
                self.begun.append(command.call)
            elif isinstance(command, AskWorker):
                here = self.back[command.worker] <= self.now
                loop.hear((WorkerReady if here else WorkerAway)(command.worker), self.now)
        self.most_at_once = max(self.most_at_once, *map(len, self.at))
        return [command.call for command in commands if isinstance(command, GiveUp)]

    def second(self, loop: ActorLoop) -> list[int]:
        """Let time pass; the calls answered."""
        self.now += 1.0
        done = []
        for worker, calls in enumerate(self.at):
            if not calls:
                continue
            if calls[0] in self.fatal or self.random.random() < self.chance:
                self.back[worker] = self.now + self.random.uniform(0.0, 5.0)
                lost, self.at[worker] = list(calls), collections.deque()
                self.random.shuffle(lost)
                for call in lost:
                    loop.hear(CallLost(call), self.now)
            else:
                done.append(calls.popleft())
                loop.hear(CallDone(done[-1]), self.now)
        return done


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("workers", [1, 3])
def test_every_call_is_answered_once_but_those_that_kill_their_worker(seed: int, workers: int) -> None:
    fatal = {3, 4, 17}
    loop, cluster = loop_of(workers, 40, Policy(depth=3)), Cluster(seed, workers, fatal, chance=0.0)
    answered: list[int] = []
    given_up: list[int] = []
    while not loop.finished:
        given_up += cluster.obey(loop, loop.commands(cluster.now))
        answered += cluster.second(loop)
        assert cluster.now < 1000
    assert sorted(answered) == sorted(set(range(40)) - fatal)
    assert sorted(given_up) == sorted(fatal)
    assert cluster.most_at_once <= 3
    first = list(dict.fromkeys(cluster.begun))
    assert first == list(range(40))
    tries = collections.Counter(cluster.begun)
    assert all(tries[call] >= 3 for call in fatal)
    assert all(tries[call] <= 2 for call in answered)  # at most one death of another's making


@pytest.mark.parametrize("seed", range(20))
def test_workers_that_die_of_themselves_lose_nothing_and_double_nothing(seed: int) -> None:
    loop = loop_of(3, 60, Policy(depth=3, most_deaths=1000))
    cluster = Cluster(seed, 3, (), chance=0.3)
    answered: list[int] = []
    while not loop.finished:
        assert cluster.obey(loop, loop.commands(cluster.now)) == []
        answered += cluster.second(loop)
        assert cluster.now < 2000
    assert sorted(answered) == list(range(60))
    assert len(cluster.begun) > 60


def test_the_loop_knows_no_ray(root: Path) -> None:
    code = "import sys, cluster.execution.actors; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
