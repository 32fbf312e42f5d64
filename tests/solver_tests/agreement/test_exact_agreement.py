"""Exact methods against each other, on networks of every make; no method is wrong under any budget."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers.arithmetic.norms import dual_exponent
from solvers.lipschitz._base import AbstractLipschitzSolver, Gives
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.results import Status
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.references.exact_methods import ALL_EXACT, EXACT, assert_agreement, assert_interval_holds, solved, some_box
from tests.references.instances import Instance, instances
from tests.references.lp_enumeration import lipschitz_by_lp
from tests.references.traps import P_VALUES, Trap, deep_zero_bias, traps, whole_numbers
from tests.strategies import DETERMINISTIC, domains, gaussian_network, relu_networks

INSTANCES = instances()
QUICK = {name: solver for name, solver in LIPSCHITZ_SOLVERS.items() if name != "mixed-integer"}
BUDGETS = [
    *(Budget(seconds=seconds) for seconds in (0.0, 0.01, 0.05)),
    *(Budget(nodes=nodes) for nodes in (0, 1, 4, 20)),
    *(Budget(relative_gap=gap) for gap in (0.0, 1e-9, 0.1, 1.0)),
    Budget(seconds=0.02, nodes=10, relative_gap=0.3),
]


@st.composite
def gaussian_problems(draw: st.DrawFn, most_inputs: int, most_neurons: int) -> tuple[ReluNetwork, Domain]:
    """d, N, L, biases or none, all of space or a box; what is continuous comes from a seed."""
    d, depth = draw(st.integers(1, most_inputs)), draw(st.integers(1, 3))
    widths = [draw(st.integers(1, most_neurons)) for _ in range(depth)]
    bias = draw(st.sampled_from([0.0, 0.3, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    network = gaussian_network([d, *widths, 1], rng, bias)
    return network, WholeSpace(d) if draw(st.booleans()) else some_box(d, rng)


@st.composite
def degenerate_problems(draw: st.DrawFn, most_inputs: int, most_neurons: int) -> tuple[ReluNetwork, Domain]:
    """Weights in eighths or whole numbers: collinear, parallel, repeated, opposite, dead and vanishing neurons."""
    if draw(st.booleans()):
        network = draw(relu_networks(most_inputs=most_inputs, most_neurons=most_neurons, layers=(1, 3)))
    else:
        d, depth = draw(st.integers(1, most_inputs)), draw(st.integers(1, 3))
        sizes = [d, *(draw(st.integers(1, most_neurons)) for _ in range(depth)), 1]
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        network = whole_numbers(sizes, draw(st.sampled_from([0.0, 0.5])), rng)
    return network, draw(domains(network.input_dimension))


@settings(DETERMINISTIC, max_examples=25)
@given(gaussian_problems(3, 6))
def test_gaussian_networks(problem: tuple[ReluNetwork, Domain]) -> None:
    assert_agreement(*problem)


@settings(DETERMINISTIC, max_examples=25)
@given(degenerate_problems(3, 5))
def test_degenerate_networks(problem: tuple[ReluNetwork, Domain]) -> None:
    assert_agreement(*problem)


@pytest.mark.slow
@settings(DETERMINISTIC, max_examples=400)
@given(gaussian_problems(4, 10))
def test_hundreds_of_gaussian_networks(problem: tuple[ReluNetwork, Domain]) -> None:
    assert_agreement(*problem)


@pytest.mark.slow
@settings(DETERMINISTIC, max_examples=200)
@given(gaussian_problems(3, 6) | degenerate_problems(3, 5))
def test_hundreds_of_networks_with_mixed_integer_programs(problem: tuple[ReluNetwork, Domain]) -> None:
    assert_agreement(*problem, methods=ALL_EXACT)


@pytest.mark.slow
@settings(DETERMINISTIC, max_examples=300)
@given(degenerate_problems(4, 7))
def test_hundreds_of_degenerate_networks(problem: tuple[ReluNetwork, Domain]) -> None:
    assert_agreement(*problem)


@pytest.mark.parametrize("instance", INSTANCES, ids=[instance.name for instance in INSTANCES])
def test_closed_forms(instance: Instance) -> None:
    truth = {p: instance.constant(dual_exponent(p)) for p in P_VALUES}
    assert_agreement(instance.network, instance.domain, truth)


@functools.cache
def trained(data: str, hidden: tuple[int, ...], features: int | None) -> tuple[ReluNetwork, np.ndarray]:
    """A classifier trained on a data set that comes with scikit-learn, standardised; and the inputs it saw.

    Args:
        features: principal components that are kept; all where None.
    """
    from sklearn import datasets, decomposition, neural_network, preprocessing

    if data == "moons":
        points, labels = datasets.make_moons(200, noise=0.15, random_state=0)
    else:
        points, labels = getattr(datasets, f"load_{data}")(return_X_y=True)
    points = preprocessing.scale(points) if data != "digits" else points / 16.0
    if features is not None:
        points = decomposition.PCA(features, svd_solver="full").fit_transform(points)
    model = neural_network.MLPClassifier(hidden, solver="lbfgs", max_iter=150, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: any trained network will do
        model.fit(points, labels)
    assert model.score(points, labels) > 0.7
    network = ReluNetwork([w.T for w in model.coefs_], model.intercepts_)
    return (network if network.output_dimension == 1 else network.margin(1, 2)), points


@pytest.mark.parametrize("hidden", [(8,), (6, 5)], ids=str)
@pytest.mark.parametrize(("data", "features"), [("moons", None), ("iris", 3), ("digits", 3)])
def test_trained_networks(data: str, features: int | None, hidden: tuple[int, ...]) -> None:
    network, points = trained(data, hidden, features)
    everywhere = assert_agreement(network, WholeSpace(network.input_dimension))
    around = assert_agreement(network, Box(points.min(axis=0), points.max(axis=0)))
    near = assert_agreement(network, Box.ball(points[0], 0.2))
    for p in P_VALUES:
        assert near[p] <= around[p] * (1 + 1e-9) <= everywhere[p] * (1 + 2e-9)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [(10,), (8, 8), (6, 6, 6)], ids=str)
@pytest.mark.parametrize(("data", "features"), [("moons", None), ("iris", None), ("digits", 4)])
def test_larger_trained_networks(data: str, features: int | None, hidden: tuple[int, ...]) -> None:
    test_trained_networks(data, features, hidden)


@pytest.mark.parametrize("sample", [0, 7])
def test_a_trained_network_of_64_inputs_near_a_sample(sample: int) -> None:
    network, points = trained("digits", (12, 8), None)
    box = Box.ball(points[sample], 0.03)
    truth = lipschitz_by_lp(network, box, [dual_exponent(p) for p in P_VALUES])
    assert_agreement(network, box, {p: truth[dual_exponent(p)] for p in P_VALUES})


@functools.cache
def judged() -> list[Trap]:
    """Problems for short budgets, small ones whose constants linear programs tell, and every fourth trap."""
    found = traps()[::4]
    for k, (d, depth, bias) in enumerate(itertools.product((1, 3), (1, 2, 3), (0.0, 0.5))):
        rng = np.random.default_rng([30, k])
        network = gaussian_network([d, *[4] * depth, 1], rng, bias)
        domain: Domain = WholeSpace(d) if k % 2 else some_box(d, rng)
        found.append(Trap(f"Gaussian {d}, {depth}, {bias}, {k % 2}", network, domain))
    return found


def asked_under_budgets() -> list[Any]:
    """Methods with budgets; limits of nodes are the same to those that split none, so all but one of them are slow."""
    return [
        pytest.param(
            solver,
            budget,
            id=f"{name}-{budget}",
            marks=[pytest.mark.slow] if budget.nodes and not (solver.exact or name == "auto") else [],
        )
        for name, solver in QUICK.items()
        for budget in BUDGETS
    ]


@pytest.mark.parametrize(("solver", "budget"), asked_under_budgets())
def test_never_wrong_under_any_budget(solver: AbstractLipschitzSolver, budget: Budget) -> None:
    for trap in judged():
        for p, answer in solved(
            solver, trap.network, trap.domain, budget=budget, exponents=(1.0, 1.3, math.inf)
        ).items():
            assert_interval_holds(f"{solver.name}, {trap.name}, p = {p}", answer, trap.truth()[p])
            assert math.isfinite(answer.upper) or Gives.UPPER not in solver.gives
            if answer.status is Status.EXACT:
                assert answer.upper - answer.lower <= budget.relative_gap * answer.upper


@pytest.mark.slow
@pytest.mark.parametrize("solver", LIPSCHITZ_SOLVERS.values(), ids=LIPSCHITZ_SOLVERS)
@settings(DETERMINISTIC, max_examples=60)
@given(
    problem=gaussian_problems(4, 10) | degenerate_problems(4, 8),
    budget=st.builds(
        Budget,
        seconds=st.sampled_from([0.0, 0.003, 0.01, 0.03, 0.1, 0.3]),
        nodes=st.none() | st.integers(0, 50),
        relative_gap=st.sampled_from([0.0, 1e-9, 1e-6, 0.01, 0.2]),
    ),
)
def test_never_wrong_under_hundreds_of_budgets(
    solver: AbstractLipschitzSolver, problem: tuple[ReluNetwork, Domain], budget: Budget
) -> None:
    truth = assert_agreement(*problem)
    for p, answer in solved(solver, *problem, budget=budget).items():
        assert_interval_holds(f"{solver.name}, p = {p}", answer, truth[p])


@pytest.mark.parametrize("solver", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize(("d", "widths"), [(1, (6,)), (2, (7,)), (2, (5, 4)), (3, (5, 4))], ids=str)
def test_larger_domains_never_lower_the_constant(
    solver: AbstractLipschitzSolver, d: int, widths: tuple[int, ...]
) -> None:
    network = gaussian_network([d, *widths, 1], np.random.default_rng([31, d, len(widths)]), 0.4)
    nested: list[Domain] = [Box.cube(d, -0.5 * r, r) for r in (0.1, 0.3, 1.0, 4.0)]
    steps = [solved(solver, network, domain) for domain in [*nested, WholeSpace(d)]]
    for small, large in itertools.pairwise(steps):
        for p in small:
            assert small[p].lower <= large[p].upper
            assert small[p].upper <= large[p].upper * (1 + 2e-6)


@pytest.mark.parametrize("solver", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize(("d", "depth"), [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_without_biases_every_box_around_the_origin_is_all_of_space(
    solver: AbstractLipschitzSolver, d: int, depth: int
) -> None:
    network = deep_zero_bias(d, depth, 4, seed=2)
    everywhere = solved(solver, network, WholeSpace(d))
    for box in (Box.cube(d, -0.01, 3.0), Box.cube(d)):
        for p, answer in solved(solver, network, box).items():
            assert answer.lower == pytest.approx(everywhere[p].lower, rel=1e-7)
            assert answer.status is everywhere[p].status is Status.EXACT
