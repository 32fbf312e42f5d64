"""Climbs: never above the truth, equal to it on small networks, the same alone and in company, within any budget."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers.arithmetic.norms import vector_norm
from solvers.errors import InputError, UnsupportedProblemError
from solvers.lipschitz.ascent import Ascent
from solvers.lipschitz.climb.flips import FlipWalks
from solvers.lipschitz.climb.search_network import SearchNetwork
from solvers.lipschitz.climb.softened import towards_longer
from solvers.lipschitz.climb.starts import start_points
from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.lipschitz.sampling import Sampling
from solvers.lipschitz.vertex_enumeration import VertexEnumeration
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.regions import LinearRegion, pattern_at
from solvers.problems.results import Status
from solvers.problems.witnesses import gradients_at
from solvers.verify import check_witness
from tests.references.instances import Instance, instances
from tests.strategies import DETERMINISTIC, P_VALUES, boxes, domains, gaussian_network, relu_networks

ALL = instances()
THREE_P = (1.0, 2.0, math.inf)


def he(sizes: list[int], rng: np.random.Generator, bias: float) -> ReluNetwork:
    """Entries N(0, 2 / n_l) in hidden layers, N(0, 1) in the output, biases N(0, bias^2)."""
    weights = [rng.standard_normal((n, m)) * math.sqrt(2 / n) for m, n in itertools.pairwise(sizes)]
    offsets = [bias * rng.standard_normal(n) for n in sizes[1:]]
    return ReluNetwork([*weights, rng.standard_normal((1, sizes[-1]))], [*offsets, np.zeros(1)])


@pytest.mark.parametrize("instance", ALL, ids=[instance.name for instance in ALL])
def test_it_finds_every_constant_that_is_known_in_closed_form(instance: Instance) -> None:
    for p in P_VALUES:
        problem = LipschitzProblem(instance.network, p, instance.domain)
        answer = Ascent().solve(problem)
        assert answer.lower == pytest.approx(instance.constant(problem.dual_p), rel=1e-9)


@DETERMINISTIC
@given(
    relu_networks(most_inputs=3).flatmap(lambda network: st.tuples(st.just(network), domains(network.input_dimension))),
    st.integers(0, 2**32),
)
def test_it_is_below_the_exact_constant(question: tuple[ReluNetwork, Domain], seed: int) -> None:
    network, domain = question
    problems = [LipschitzProblem(network, p, domain) for p in THREE_P]
    for problem, exact in zip(problems, VertexEnumeration().solve_batch(problems), strict=True):
        answer = Ascent().solve(problem, budget=Budget(nodes=16), rng=np.random.default_rng(seed))
        assert answer.lower <= exact.upper
        assert math.isinf(answer.upper)
        check = check_witness(problem, answer.witness, answer.lower)
        assert check.holds, check.reason


@pytest.mark.parametrize("p", THREE_P)
@pytest.mark.parametrize("bias", [0.0, 0.5])
def test_it_finds_the_constant_of_small_deep_networks(p: float, bias: float) -> None:
    """Four draws (of larger ones 1 to 3 in 100 are missed)."""
    for seed in range(4):
        network = he([3, 7, 6], np.random.default_rng([seed, int(2 * bias)]), bias)
        domain = Box.cube(3) if seed % 2 else WholeSpace(3)
        problem = LipschitzProblem(network, p, domain)
        exact = RegionEnumeration().solve(problem)
        answer = Ascent().solve(problem)
        assert answer.lower <= exact.upper
        assert answer.lower >= 0.999 * exact.lower


@pytest.mark.parametrize(("sizes", "factor"), [([40, 60, 60, 60], 1.3), ([300, 20], 1.0)], ids=str)
def test_it_leaves_random_points_behind(sizes: list[int], factor: float) -> None:
    network = he(sizes, np.random.default_rng(1), 0.1)
    for p, domain in ((2.0, WholeSpace(sizes[0])), (math.inf, Box.cube(sizes[0], 0.0, 1.0))):
        problem = LipschitzProblem(network, p, domain)
        answer = Ascent().solve(problem)
        assert answer.lower > factor * Sampling(points=2000).solve(problem).lower
        check = check_witness(problem, answer.witness, answer.lower)
        assert check.holds, check.reason


def test_every_p_gets_the_answer_it_would_get_alone() -> None:
    network = he([3, 7, 6], np.random.default_rng(2), 0.3)
    problems = [LipschitzProblem(network, p, Box.cube(3)) for p in THREE_P]
    together = Ascent().solve_batch(problems, rngs=[np.random.default_rng(k) for k in range(len(problems))])
    for k, (problem, answer) in enumerate(zip(problems, together, strict=True)):
        alone = Ascent().solve(problem, rng=np.random.default_rng(k))
        assert (alone.lower, alone.stats["points"]) == (answer.lower, answer.stats["points"])
        assert alone.witness is not None
        assert answer.witness is not None
        assert (alone.witness.point == answer.witness.point).all()


def test_together_every_p_takes_the_best_point_of_all() -> None:
    network = he([30, 20, 20], np.random.default_rng(3), 0.2)
    problems = [LipschitzProblem(network, p) for p in P_VALUES]
    answers = Ascent().solve_together(problems, budget=Budget(nodes=100))
    for answer in answers:
        for other in answers:
            assert other.witness is not None
            dual = LipschitzProblem(network, answer.p).dual_p
            assert answer.lower >= float(vector_norm(other.witness.gradient, dual)) * (1 - 1e-9)


@pytest.mark.parametrize("limits", [Budget(seconds=0.0), Budget(nodes=0)], ids=str)
def test_without_a_budget_nothing_is_claimed(limits: Budget) -> None:
    answer = Ascent().solve(LipschitzProblem(he([3, 5], np.random.default_rng(4), 0.0), 2.0), budget=limits)
    assert (answer.lower, answer.witness, answer.status) == (0.0, None, Status.BUDGET_SPENT)


def test_nodes_are_points_that_are_screened_and_the_watch_hears_of_every_gain() -> None:
    told: list[float] = []
    budget = Budget(nodes=150, watch=lambda p, lower, upper: told.append(lower))
    answer = Ascent().solve(LipschitzProblem(he([6, 30, 30], np.random.default_rng(5), 0.1), 2.0), budget=budget)
    assert answer.stats["points"] == 150
    assert answer.status is Status.BUDGET_SPENT
    assert told == sorted(told)
    assert told[-1] == answer.lower


def test_starts_lead_where_no_drawn_point_does() -> None:
    """A bump of slope 1000 on 1e-5 of the line's box, between two kinks: only a start on it can see it."""
    at, wide = 0.7312, 1e-5
    network = ReluNetwork([np.ones((3, 1)), [[1000.0, -2000.0, 1000.0]]], [[-at, -at - wide, -at - 2 * wide], [0.0]])
    problem = LipschitzProblem(network, 2.0, Box([0.0], [1.0]))
    few = Budget(nodes=4)
    started = Ascent(starts=np.array([[0.1], [at + wide / 2]])).solve(problem, budget=few)
    assert started.lower == pytest.approx(1000.0, rel=1e-9)


def test_starts_outside_a_box_are_moved_into_it() -> None:
    network = he([3, 6], np.random.default_rng(6), 0.5)
    problem = LipschitzProblem(network, 2.0, Box.cube(3))
    starts = np.array([[5.0, -7.0, 0.0], [1.0, 1.0, 1.0]])  # outside, and a corner
    answer = Ascent(starts=starts).solve(problem, budget=Budget(nodes=1))
    check = check_witness(problem, answer.witness, answer.lower)
    assert check.holds, check.reason


def test_starts_that_are_no_points_are_refused() -> None:
    for starts in (np.ones(3), np.ones((0, 3)), np.full((2, 3), np.nan)):
        with pytest.raises(InputError, match=r"shape \(k, d\)"):
            Ascent(starts=starts)
    with pytest.raises(UnsupportedProblemError, match="4 coordinates"):
        Ascent(starts=np.ones((2, 4))).solve(LipschitzProblem(he([3, 5], np.random.default_rng(0), 0.0), 2.0))
    with pytest.raises(InputError, match="sampling"):
        Sampling().starting_at(np.ones((2, 3)))


@pytest.mark.parametrize("p", THREE_P)
def test_a_start_on_a_kink_or_a_corner_proves_what_lies_beside_it(p: float) -> None:
    """|x_1| + |x_2| at the origin, where all four kinks meet, and on a box with the origin for a corner."""
    network = ReluNetwork([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], np.ones((1, 4))], [np.zeros(4), [0.0]])
    for domain in (WholeSpace(2), Box([0.0, 0.0], [1.0, 1.0])):
        problem = LipschitzProblem(network, p, domain)
        answer = Ascent(starts=np.zeros((1, 2))).solve(problem)
        assert answer.lower == pytest.approx(2 ** (1 / problem.dual_p), rel=1e-9)


def test_units_of_neurons_and_of_the_domain_do_not_matter() -> None:
    rng = np.random.default_rng(7)
    network = he([4, 9, 7], rng, 0.4)
    (w0, w1, w2), (b0, b1, b2) = network.weights, network.biases
    units = 2.0 ** rng.integers(-20, 20, 9)
    scaled = ReluNetwork([w0 * units[:, None] * 2.0**12, w1 / units, w2], [b0 * units, b1, b2])
    for p in THREE_P:
        plain = Ascent().solve(LipschitzProblem(network, p, Box.cube(4)))
        other = Ascent().solve(LipschitzProblem(scaled, p, Box.cube(4, -(2.0**-12), 2.0**-12)))
        assert other.lower == pytest.approx(2.0**12 * plain.lower, rel=1e-9)


@DETERMINISTIC
@given(boxes(3), st.integers(0, 100))
def test_starts_of_a_box_lie_in_it(box: Box, count: int) -> None:
    points = start_points(
        box, count, gaussian_network([3, 4, 1], np.random.default_rng(0)), np.random.default_rng(count)
    )
    assert points.shape == (count, 3)
    assert ((points >= box.lower) & (points <= box.upper)).all()


@pytest.mark.parametrize(
    "domain", [WholeSpace(5), Box([0.0, -1.0, 2.0, 0.0, 0.0], [1.0, 1.0, 2.5, 4.0, 0.25])], ids=str
)
def test_the_network_of_a_search_is_the_network(domain: Domain) -> None:
    network = he([5, 7, 6], np.random.default_rng(8), 0.3)
    search = SearchNetwork.of(network, domain, "cpu")
    u = np.random.default_rng(9).uniform(-0.9, 0.9, (20, 5))
    points = search.inputs(u)
    assert search.coordinates(points) == pytest.approx(u)
    for mine, theirs in zip(search.pre_activations(u), network.pre_activations(points), strict=True):
        assert ((mine > 0) == (theirs > 0)).all()
        assert mine / theirs == pytest.approx(np.broadcast_to((mine / theirs)[0], mine.shape))
    for q in (1.0, 1.5, 2.0, math.inf):
        ratio = search.values(u, q) / vector_norm(gradients_at(network, points), q)
        assert ratio == pytest.approx(np.full(20, ratio[0]))


def test_the_direction_of_a_climb_is_the_derivative_of_softened_gradients() -> None:
    """Against torch's derivatives of the same softened network, whose forward pass is hard."""
    torch = pytest.importorskip("torch")
    network = he([5, 7, 6], np.random.default_rng(10), 0.3)
    search = SearchNetwork.of(network, Box.cube(5), "cpu")
    u = np.random.default_rng(11).uniform(-0.9, 0.9, (4, 5))
    _, rise = search.rise(u, 0.7, towards_longer(search, 2.0), 2.0)
    pre = search.pre_activations(u)
    heats = [0.7 * (np.abs(z) ** 0.5).mean(axis=1)[:, None] ** 2 for z in pre]
    slopes = [1 / (1 + np.exp(-z / heat)) for z, heat in zip(pre, heats, strict=True)]
    gradients = search.gradients(slopes)
    c = towards_longer(search, 2.0)(gradients)
    for k in range(len(u)):
        # z moves along the softened slopes; the slopes follow z.
        moved = torch.tensor(u[k], requires_grad=True)
        step = moved - torch.tensor(u[k])
        zs = []
        for layer, w in enumerate(search.weights):
            z = torch.tensor(pre[layer][k]) + torch.tensor(w) @ step
            step = torch.tensor(slopes[layer][k]) * (z - torch.tensor(pre[layer][k]))
            zs.append(z)
        row = torch.tensor(search.output) * torch.sigmoid(zs[-1] / torch.tensor(heats[-1][k]))
        for layer in reversed(range(len(zs) - 1)):
            row = (row @ torch.tensor(search.weights[layer + 1])) * torch.sigmoid(
                zs[layer] / torch.tensor(heats[layer][k])
            )
        along = (row @ torch.tensor(search.weights[0])) * torch.tensor(search.per_unit)
        (along @ torch.tensor(c[k])).backward()
        assert rise[k] == pytest.approx(moved.grad.numpy(), rel=1e-9, abs=1e-12)


def test_flips_tell_the_length_of_every_gradient_they_lead_to() -> None:
    """A walk from a point ends where no region within two flips has a longer gradient: seen by enumeration."""
    network = he([3, 5, 4], np.random.default_rng(12), 0.4)
    for p in THREE_P:
        problem = LipschitzProblem(network, p, Box.cube(3))
        points = problem.domain.draw(20_000, np.random.default_rng(13))
        keys = np.concatenate([z > 0 for z in network.pre_activations(points)], axis=1)
        lengths = vector_norm(gradients_at(network, points), problem.dual_p)
        for start in points[:5]:
            end = FlipWalks(problem, 10_000, Budget().start()).walk(start)
            here = pattern_at(network, end)
            reached = float(vector_norm(LinearRegion(network, here).gradient()[0], problem.dual_p))
            near = (keys != np.concatenate(here)).sum(axis=1) <= 2
            assert reached >= lengths[near].max(initial=0.0) * (1 - 1e-9)


@pytest.mark.parametrize("p", THREE_P)
def test_the_search_in_torch_finds_what_numpys_does(p: float) -> None:
    pytest.importorskip("torch")
    network = he([6, 10, 8], np.random.default_rng(14), 0.2)
    problem = LipschitzProblem(network, p, Box.cube(6))
    search = [SearchNetwork.of(network, problem.domain, device) for device in ("cpu", "cpu:0")]
    assert search[0].xp is np
    u = np.random.default_rng(15).uniform(-0.9, 0.9, (30, 6))
    towards = [towards_longer(one, problem.dual_p) for one in search]
    mine, theirs = (one.rise(one.put(u), 0.5, way, problem.dual_p) for one, way in zip(search, towards, strict=True))
    for ours, others in zip(mine, theirs, strict=True):
        assert search[1].fetch(others) == pytest.approx(ours, rel=1e-9, abs=1e-12)
    plain, torched = (Ascent(device=device).solve(problem) for device in ("cpu", "cpu:0"))
    assert torched.lower == pytest.approx(plain.lower, rel=1e-9)


@pytest.mark.gpu
def test_the_search_on_a_gpu_is_sound_and_as_good() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    network = he([100, 256, 256, 256], np.random.default_rng(16), 0.1)
    problem = LipschitzProblem(network, 2.0)
    answer = Ascent(device="cuda").solve(problem)
    check = check_witness(problem, answer.witness, answer.lower)
    assert check.holds, check.reason
    assert answer.lower > 0.95 * Ascent().solve(problem).lower


def test_an_unknown_device_is_a_mistake_of_the_user() -> None:
    with pytest.raises(InputError, match="device"):
        Ascent(device="abacus").solve(LipschitzProblem(he([3, 5], np.random.default_rng(0), 0.0), 2.0))
