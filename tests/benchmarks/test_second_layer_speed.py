"""The second layer for one digit of MNIST against the rest, against the textbook loop, in one run.

Reference: one dense float32 matrix-vector product per candidate, as a scientist would write [DFG24], Algorithm 2. The
network must come out the same for the same drawn order.
One core; what bounds ours: AND and bit counts on words in the first-level cache.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

from solvers.interpolation.bit_features import unpack_words
from solvers.interpolation.fully_connected import FullyConnected
from tasks.data_sets import load_problem
from tests.data_folder import DATA_DIR, needs_mnist

pytestmark = pytest.mark.benchmark



@needs_mnist
def test_one_digit_against_the_rest(record_property):
    problem = load_problem("mnist", data_dir=str(DATA_DIR))
    digit = 3
    two = type(problem)(problem.points, problem.labels == digit)
    solver = FullyConnected(1000, 1.0, minus=True)
    solver.solve(two, rng=np.random.default_rng(0))  # compiled code is loaded
    answer = solver.solve(two, rng=np.random.default_rng(0))
    ours = answer.stats["cover_seconds"]
    network = answer.network

    rng = np.random.default_rng(0)
    weights, biases = rng.standard_normal((1000, 784)), rng.uniform(-1.0, 1.0, 1000)
    assert np.array_equal(weights, network.weights)
    features = (two.points @ weights.T + biases > 0).astype(np.float32)
    minus, plus = features[two.labels == 1], features[two.labels == 0]
    order = rng.permutation(len(minus))
    alive = np.ones(len(minus), dtype=bool)
    masks, thresholds, looked = [], [], 0
    start = time.perf_counter()
    for star in order:
        if not alive[star]:
            continue
        alive[star] = False
        looked += 1
        u = 1 - minus[star]
        m = (plus @ u).min()
        if m > 0:
            masks.append(u)
            thresholds.append(m)
            alive[alive] = minus[alive] @ u >= m
    theirs = time.perf_counter() - start
    np.testing.assert_array_equal(network.thresholds[0], np.array(thresholds))
    np.testing.assert_array_equal(unpack_words(network.masks[0], 1000), np.array(masks) > 0)
    ratio = theirs / ours
    record_property("ratio", ratio)
    print(f"\n{looked} candidates, {len(masks)} neurons: textbook {theirs:.1f} s, ours {ours:.2f} s, {ratio:.0f} times")
    assert ratio >= 40
