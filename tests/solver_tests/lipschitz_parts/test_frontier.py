"""The frontier of a search holds a proved interval at any moment, whoever expands its nodes and in whatever order."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from solvers.lipschitz.search.frontier import Frontier, Incumbent
from solvers.lipschitz.search.nodes import Expansion, Node
from solvers.lipschitz.search.proofs import BOUNDED, Leaf
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Witness

LEVELS = 5


class LeafPiece:
    """Stands in for a piece: the gradient at the point i has the length of leaf i, or no witness can be made."""

    def __init__(self, lengths: np.ndarray, provable: bool = True) -> None:
        self.lengths, self.provable = lengths, provable

    def lower_bound(self, point: np.ndarray) -> tuple[float, Witness | None]:
        if not self.provable:
            return 0.0, None
        length = float(self.lengths[int(point[0])])
        return length, Witness(point, (), np.array([length]))


class Tree:
    """A complete binary tree of splits over given gradient lengths; bounds of nodes are true and shrink downward."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.lengths = rng.uniform(1.0, 2.0, 2**LEVELS)
        self.room = rng.uniform(0.0, 1.0, LEVELS + 1)

    @property
    def truth(self) -> float:
        return float(self.lengths.max())

    def node(self, path: tuple[int, ...]) -> Node:
        width = 2 ** (LEVELS - len(path))
        first = sum((side & 1) * 2 ** (LEVELS - 1 - level) for level, side in enumerate(path))
        below = self.lengths[first : first + width]
        leaf = len(path) == LEVELS
        bound = float(below.max()) + (0.0 if leaf else float(self.room[len(path) :].sum()))
        empty: Any = np.empty(0)
        split = (1 if leaf else 0, -1 if leaf else len(path), 1)
        return Node(0, empty, empty, empty, bound, np.array([float(first)]), empty, split, path)

    def expand(self, nodes: list[Node], floor: float) -> Expansion:
        found = Expansion(expanded=len(nodes))
        for node in nodes:
            for side in (0, 1):
                child = self.node((*node.path, 2 * len(node.path) + side))
                if child.bound <= floor:
                    found.discarded = max(found.discarded, child.bound)
                    found.proofs.append((0, Leaf(child.path, BOUNDED)))
                else:
                    found.nodes.append(child)
        return found


def frontier_of(tree: Tree, provable: bool = True, certified: bool = False, budget: Budget | None = None) -> Frontier:
    network = ReluNetwork([np.ones((1, 1)), np.zeros((1, 1))], [np.zeros(1), np.zeros(1)])
    problem = LipschitzProblem(network, 2.0, Box.cube(1))
    frontier = Frontier(Incumbent(problem), budget or Budget(), certified)
    piece: Any = LeafPiece(tree.lengths, provable)
    assert frontier.add(piece) == 0
    frontier.enter(Expansion(nodes=[tree.node(())]))
    return frontier


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_the_interval_holds_while_batches_are_away_and_come_back_in_any_order(seed: int, workers: int) -> None:
    tree, rng = Tree(seed), np.random.default_rng(seed)
    frontier = frontier_of(tree, certified=True)
    away: list[tuple[list[Node], float]] = []
    rounds = 0
    while not frontier.is_done:
        rounds += 1
        while len(away) < workers and (nodes := frontier.take(2)):
            away.append((nodes, frontier.floor))
        assert frontier.incumbent.lower <= tree.truth <= frontier.upper
        nodes, floor = away.pop(int(rng.integers(len(away))))
        frontier.enter(tree.expand(nodes, floor), nodes)
        assert frontier.incumbent.lower <= tree.truth <= frontier.upper
    assert rounds > 1
    assert frontier.incumbent.lower == tree.truth
    upper, certificate = frontier.conclude()
    assert tree.truth <= upper <= tree.truth * (1 + 1e-10)
    assert frontier.stats()["nodes"] < 2**LEVELS
    assert certificate is not None
    assert_complete(certificate.data["pieces"][0]["splits"])


def assert_complete(splits: list[int]) -> None:
    """A binary tree in preorder: one more leaf than splits, and never before the end."""
    open_ends = list(itertools.accumulate((1 if code != -1 else -1 for code in splits), initial=1))
    assert open_ends[-1] == 0
    assert min(open_ends[:-1]) > 0


def test_the_largest_bounds_are_taken_first_and_count_while_they_are_away() -> None:
    tree = Tree(7)
    frontier = frontier_of(tree)
    (root,) = frontier.take(5)
    assert frontier.upper == root.bound
    assert not frontier.is_done
    assert frontier.take(5) == []
    children = [replace(tree.node((side,)), bound=bound) for side, bound in ((0, 5.0), (1, 4.0))]
    frontier.enter(Expansion(nodes=children[::-1]), [root])
    assert frontier.take(1) == children[:1]
    assert frontier.upper == 5.0
    frontier.enter(Expansion(discarded=3.0), children[:1])
    assert frontier.upper == 4.0
    with pytest.raises(KeyError):
        frontier.enter(Expansion(), children[:1])


def test_a_search_that_is_cut_short_is_certified_with_its_open_nodes_and_those_away() -> None:
    tree = Tree(3)
    frontier = frontier_of(tree, certified=True)
    nodes = frontier.take(1)
    frontier.enter(tree.expand(nodes, 0.0), nodes)
    highest = max(tree.node((side,)).bound for side in (0, 1))
    (away,) = frontier.take(1)
    assert away.bound == highest
    upper, certificate = frontier.conclude()
    assert highest <= upper <= highest * (1 + 1e-10)
    assert certificate is not None
    assert certificate.data["pieces"][0]["splits"] == [0, -1, -1]


def test_a_leaf_without_a_witness_stays_in_the_upper_bound_and_ends_the_search() -> None:
    tree = Tree(4)
    frontier = frontier_of(tree, provable=False)
    nodes = frontier.take(1)
    best = int(np.argmax(tree.lengths))
    path = tuple(2 * level + (best >> (LEVELS - 1 - level) & 1) for level in range(LEVELS))
    frontier.enter(Expansion(nodes=[tree.node(path), replace(tree.node((0,)), bound=1.0)]), nodes)
    assert frontier.is_done  # what is open lies below a leaf that no search lowers
    assert frontier.incumbent.lower == 0.0
    assert frontier.upper == tree.truth
    assert frontier.stats()["unsettled_leaves"] == 1
    assert not math.isinf(frontier.conclude()[0])


def test_a_wide_gap_ends_the_search_earlier() -> None:
    tree = Tree(5)
    nodes_split = []
    for gap in (1e-6, 0.9):
        frontier = frontier_of(tree, budget=Budget(relative_gap=gap))
        while not frontier.is_done:
            nodes = frontier.take(1)
            found = tree.expand(nodes, frontier.floor)
            found.candidates = [(0, node.point) for node in nodes]
            frontier.enter(found, nodes)
        assert frontier.upper - frontier.incumbent.lower <= gap * frontier.upper
        nodes_split.append(frontier.stats()["nodes"])
    assert nodes_split[1] < nodes_split[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_bound_proved_elsewhere_caps_what_is_open_and_ends_a_search_that_reaches_it(seed: int) -> None:
    tree = Tree(seed)
    frontier = frontier_of(tree)
    root = frontier.upper
    frontier.ceiling = 0.5 * (root + tree.truth)
    assert frontier.upper == frontier.ceiling < root
    assert not frontier.is_done
    frontier.ceiling = tree.truth
    while not frontier.is_done:
        nodes = frontier.take(1)
        frontier.enter(tree.expand(nodes, frontier.floor), nodes)
    assert frontier.incumbent.lower == tree.truth == frontier.upper
