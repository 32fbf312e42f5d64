"""The choice of `auto` as arithmetic: no network is solved here."""

from __future__ import annotations

import math

import numpy as np
import pytest

from solvers.lipschitz.stages.choice import MOST_SEARCHED, Size, choose, propagation_work, size_of, vertex_signs
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.strategies import gaussian_network

VERTICES, REGIONS, SEARCH = "vertex-enumeration", "region-enumeration", "branch-and-bound"


def on_box(d: int, *widths: int) -> Size:
    return Size(d, widths, 1, sum(widths))


def everywhere(d: int, *widths: int) -> Size:
    return Size(d, widths, 2 * d + 1, sum(widths))


@pytest.mark.parametrize(
    ("size", "exact"),
    [
        # The affine map; shallow networks with few vertices, and with more than can be looked at.
        (on_box(5), (VERTICES,)),
        (on_box(2, 50), (VERTICES, SEARCH)),
        (everywhere(4, 20), (VERTICES, SEARCH)),
        (on_box(5, 24), (SEARCH, VERTICES)),
        # Few neurons, but a box of so many faces that each of them costs more than a search.
        (on_box(4, 3), (VERTICES, SEARCH)),
        (on_box(8, 2), (SEARCH, VERTICES)),
        (on_box(784, 10), (SEARCH,)),
        (on_box(10, 80), (SEARCH,)),
        (on_box(40, 40), (SEARCH,)),
        # Wide in few dimensions: a small part of so many regions is looked at.
        (on_box(4, 500), (SEARCH,)),
        (on_box(5, 1000), (SEARCH,)),
        # Wide but in so few dimensions that all vertices can be looked at.
        (everywhere(1, 900), (VERTICES,)),
        (on_box(2, 900), (VERTICES,)),
        # Deep: regions for one or two inputs, and for three or four on small networks.
        (on_box(1, 100, 100), (REGIONS, SEARCH)),
        (everywhere(2, 64, 64, 64), (REGIONS, SEARCH)),
        (on_box(2, 256, 256), (REGIONS,)),
        (on_box(3, 16, 16), (REGIONS, SEARCH)),
        (on_box(3, 64, 64), (SEARCH,)),
        (on_box(4, 8, 8), (REGIONS, SEARCH)),
        (on_box(4, 16, 16), (SEARCH,)),
        (everywhere(5, 8, 8), (SEARCH,)),
        (on_box(64, 16, 16), (SEARCH,)),
        (on_box(8, 200, 200), (SEARCH,)),
    ],
    ids=str,
)
def test_exact_methods_in_their_order(size: Size, exact: tuple[str, ...]) -> None:
    choice = choose(size)
    assert choice.exact == exact
    assert choice.reason == ""
    # The first method is asked alone, bounds after it; a search may ask for them while it runs.
    assert choice.stages[0].method == exact[0]
    assert (choice.stages[0].helped is not None) == (exact[0] == SEARCH)
    assert choice.bounds[-1] == "semidefinite"
    assert all(LIPSCHITZ_SOLVERS[name].exact for name in exact)


def test_where_a_proof_is_asked_for_methods_that_list_regions_come_last() -> None:
    assert choose(everywhere(3, 6), certified=True).exact == (VERTICES, SEARCH)
    assert choose(on_box(3, 6), certified=True).exact == (SEARCH, VERTICES)
    assert choose(on_box(2, 16, 16), certified=True).exact == (SEARCH, REGIONS)
    assert choose(everywhere(2, 16, 16), certified=True).exact == (SEARCH, REGIONS)
    assert choose(on_box(2, 256, 256), certified=True).exact == (REGIONS,)
    assert choose(on_box(8, 300, 300), certified=True) == choose(on_box(8, 300, 300))


def test_what_is_too_large_gets_bounds_and_a_reason() -> None:
    for size, propagated in (
        (on_box(8, 201, 200), True),
        (on_box(784, 256, 256), True),
        (everywhere(784, 256, 256), False),
        (everywhere(1000, 10_000), False),
        (on_box(3, 3000), True),
        (on_box(6, 500), True),
        (on_box(2, 600, 600), True),
    ):
        choice = choose(size)
        assert choice.exact == ()
        assert ("propagation" in choice.bounds) == propagated
        assert choice.bounds[0] == "norm-product"
        assert choice.bounds[-2:] == ("ascent", "semidefinite")  # the one that takes its time comes last
        assert [stage.method for stage in choice.stages if stage.if_close] == [SEARCH] * propagated
        assert choice.stages[-1].to_spare
        assert f"{sum(size.widths)} hidden neurons" in choice.reason
        assert (f"above {MOST_SEARCHED} a search" if propagated else f"than the {MOST_SEARCHED} that") in choice.reason


def test_bounds_come_before_a_search_whose_nodes_are_costly() -> None:
    methods = [stage.method for stage in choose(Size(784, (256, 256), 1, 100)).stages]
    assert methods[-1] == SEARCH
    assert methods[-2] == "semidefinite"
    assert methods.count(SEARCH) == 1


def test_neurons_that_are_decided_do_not_count() -> None:
    assert choose(Size(784, (256, 256), 1, MOST_SEARCHED)).exact == (SEARCH,)
    assert choose(Size(784, (256, 256), 1, MOST_SEARCHED + 1)).exact == ()


@pytest.mark.parametrize("bias", [0.0, 1.0])
@pytest.mark.parametrize(
    "domain", [WholeSpace(3), Box.cube(3), Box.cube(3, 1.0, 2.0)], ids=["all", "around 0", "off 0"]
)
def test_the_size_knows_the_pieces(domain: Domain, bias: float) -> None:
    problem = LipschitzProblem(gaussian_network([3, 5, 4, 1], np.random.default_rng(0), bias), 2.0, domain)
    assert size_of(problem) == Size(3, (5, 4), len(bounded_pieces(problem)), 9)


def test_vertices_are_counted_as_the_method_counts_them() -> None:
    for sizes, domain in (([2, 6, 1], Box.cube(2)), ([3, 7, 1], Box.cube(3)), ([3, 7, 1], WholeSpace(3))):
        problem = LipschitzProblem(gaussian_network(sizes, np.random.default_rng(1)), 2.0, domain)
        subsets = LIPSCHITZ_SOLVERS[VERTICES].solve(problem).stats["subsets"]
        assert vertex_signs(size_of(problem)) == sizes[1] * subsets


def test_work_of_a_propagation() -> None:
    assert propagation_work(on_box(10, 20, 30)) == 10 * (10 * 20 + 20 * 30)
    assert propagation_work(everywhere(10, 20)) == 21 * 10 * 200
    assert math.isclose(propagation_work(on_box(784, 256, 256)), 784 * (784 * 256 + 256 * 256))
