"""Where the policy that deals out a frontier saturates: a discrete-event simulation at 16 to 1024 workers, no Ray.

Workers split nodes at a measured rate; the driver is one server that packs, deals, hears and enters at measured costs.
Below a node of size s (splits that its subtree takes) one side has a uniform share of the rest, so that subtrees are as
uneven as those of a search; a node's bound follows its size, with noise. Reference: all workers busy all the time.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import deque

import numpy as np
import pytest

from cluster.execution.search.dealing import DEPTH, share_of
from cluster.execution.search.wire import packed_nodes, unpacked
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.search.frontier import Frontier, Incumbent
from solvers.lipschitz.search.nodes import Expansion, Node
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from tests.cluster_tests.search.here import gaussian_box_network

pytestmark = pytest.mark.benchmark

# Of one call to an actor of Ray and its answer, on the driver: 2100 a second.
CALL_SECONDS = 1 / 2100
IDEAL_SECONDS = 60.0
WORKERS = (16, 64, 256, 1024)


def splits_a_second() -> float:
    """Of one thread, d = 10, 20 + 20 neurons, p = inf."""
    problem = LipschitzProblem(gaussian_box_network(10, (20, 20), 1), math.inf, Box.cube(10, -1.0, 1.0))
    solver = BranchAndBound(threads=1)
    solver.solve(problem, budget=Budget(nodes=10))
    begun = time.process_time()
    answer = solver.solve(problem, budget=Budget(nodes=5000))
    return answer.stats["nodes"] / (time.process_time() - begun)


def driver_seconds_a_node() -> float:
    """To enter a node, take, pack and unpack it: with 10 000 of them open."""
    problem = LipschitzProblem(gaussian_box_network(10, (20, 20), 1), math.inf, Box.cube(10, -1.0, 1.0))
    shapes, nothing, none = [(2, 20)], np.empty(0), np.empty(0, dtype=np.int32)
    frontier = Frontier(Incumbent(problem), Budget())
    rng = np.random.default_rng(0)
    count = 10_000
    nodes = [
        Node(0, np.zeros((2, 20), dtype=np.int8), nothing, nothing, float(rng.random()), nothing, none, (0, 1, 1))
        for _ in range(count)
    ]
    begun = time.process_time()
    for start in range(0, count, 16):
        frontier.enter(Expansion(nodes=list(unpacked(packed_nodes(nodes[start : start + 16], shapes), shapes))))
        assert not frontier.is_done
    for _ in range(0, count, 16):
        packed_nodes(frontier.take(16), shapes)
        assert frontier.upper > 0
    return (time.process_time() - begun) / count


def searched(sizes: list[int], budget: int, rng: np.random.Generator) -> tuple[int, list[int]]:
    """Depth first below nodes of these sizes: splits made, sizes of what is left open."""
    stack, left = sizes[::-1], budget
    while stack and left > 0:
        size = stack.pop()
        if size <= left:
            left -= size
            continue
        left -= 1
        one = int(rng.random() * size)
        stack += [part for part in (one, size - 1 - one) if part > 0]
    return budget - left, stack


def simulated(workers: int, rate: float, node_seconds: float) -> tuple[float, float]:
    """Share of the workers' time that goes into splits, and of the driver's time that it is busy."""
    rng = np.random.default_rng(workers)
    order = itertools.count()
    work = int(rate * IDEAL_SECONDS * workers)
    open_nodes: list[tuple[float, int, int]] = [(0.0, next(order), work)]
    queues: list[deque[tuple[list[int], float]]] = [deque() for _ in range(workers)]
    load = [0] * workers
    least = [(0, k) for k in range(workers)]
    # (time, order, worker, sizes left open, nodes that had gone out): an answer that reaches the driver.
    answers: list[tuple[float, int, int, list[int], int]] = []
    now = busy = 0.0
    done = 0

    def begin(worker: int, at: float) -> None:
        nonlocal done
        sizes, seconds = queues[worker][0]
        splits, left = searched(sizes, max(16, int(seconds * rate)), rng)
        done += splits
        heapq.heappush(answers, (at + splits / rate, next(order), worker, left, len(sizes)))

    def deal() -> None:
        nonlocal now, busy
        while open_nodes:
            while least and least[0][0] != load[least[0][1]]:
                heapq.heappop(least)
            if not least or least[0][0] >= DEPTH:
                return
            worker = heapq.heappop(least)[1]
            share = share_of(len(open_nodes), workers)
            sizes = [heapq.heappop(open_nodes)[2] for _ in range(min(share.nodes, len(open_nodes)))]
            cost = CALL_SECONDS + node_seconds * len(sizes) / 2
            now, busy = now + cost, busy + cost
            load[worker] += 1
            heapq.heappush(least, (load[worker], worker))
            queues[worker].append((sizes, share.seconds))
            if len(queues[worker]) == 1:
                begin(worker, now)

    deal()
    while answers:
        at, _, worker, left, _ = heapq.heappop(answers)
        queues[worker].popleft()
        if queues[worker]:
            begin(worker, at)
        cost = node_seconds * len(left) / 2
        now = max(now, at) + cost
        busy += cost
        load[worker] -= 1
        heapq.heappush(least, (load[worker], worker))
        for size in left:
            heapq.heappush(open_nodes, (-math.log(size) + rng.normal(), next(order), size))
        deal()
    assert done >= 0.99 * work
    return done / rate / workers / now, busy / now


def test_the_policy_keeps_hundreds_of_workers_busy(record_property) -> None:
    rate, node_seconds = splits_a_second(), driver_seconds_a_node()
    print(
        f"\n{rate:.0f} splits a second, {1e6 * node_seconds:.0f} us of the driver for a node, {IDEAL_SECONDS:g} s ideal"
    )
    found = {}
    for workers in WORKERS:
        found[workers], driver = simulated(workers, rate, node_seconds)
        record_property(f"efficiency_{workers}", found[workers])
        print(f"{workers:5} workers: {found[workers]:.2f} of their time, the driver is busy {driver:.2f} of its own")
    assert found[16] >= 0.9
    assert found[64] >= 0.85
