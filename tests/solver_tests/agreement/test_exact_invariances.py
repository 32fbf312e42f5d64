"""What must not change a constant, for every exact method: relabelling, rescaling, dead neurons, motions of the input.

Where a transformed network is the same function bit by bit (permutations; factors that are powers of 2; shifts by
eighths of weights in eighths) degenerate networks are drawn as well. Elsewhere rounding may open a sliver between kinks
that met in a point, which is another function with another constant, so those networks are Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain, WholeSpace
from tests.references.exact_methods import EXACT, solved, some_box
from tests.references.traps import P_VALUES
from tests.strategies import DETERMINISTIC, domains, eighths, gaussian_network, relu_networks

methods = pytest.mark.parametrize("solver", EXACT.values(), ids=EXACT)
few = settings(DETERMINISTIC, max_examples=6)
DEGENERATE = relu_networks(most_inputs=3, most_neurons=5, layers=(1, 2))
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def gaussian_networks(draw: st.DrawFn) -> ReluNetwork:
    sizes = [draw(st.integers(1, 3)), *(draw(st.integers(2, 5)) for _ in range(draw(st.integers(1, 2)))), 1]
    return gaussian_network(sizes, np.random.default_rng(draw(SEEDS)), draw(st.sampled_from([0.0, 0.4])))


def assert_same(
    solver: AbstractLipschitzSolver,
    one: tuple[ReluNetwork, Domain],
    other: tuple[ReluNetwork, Domain],
    exponents: Sequence[float] = P_VALUES,
) -> None:
    theirs = solved(solver, *other, exponents=exponents)
    for p, answer in solved(solver, *one, exponents=exponents).items():
        told = (
            f"{solver.name}, p = {p}: [{answer.lower!r}, {answer.upper!r}], [{theirs[p].lower!r}, {theirs[p].upper!r}]"
        )
        assert answer.status is theirs[p].status, told
        assert answer.lower == pytest.approx(theirs[p].lower, rel=1e-7, abs=0), told
        assert max(answer.lower, theirs[p].lower) <= min(answer.upper, theirs[p].upper) * (1 + 1e-12), told


def changed(network: ReluNetwork, layer: int, weights: np.ndarray, bias: np.ndarray, after: np.ndarray) -> ReluNetwork:
    """The network with the weights and biases of a hidden layer replaced, and the weights that follow it."""
    w, b = list(network.weights), list(network.biases)
    w[layer], b[layer], w[layer + 1] = weights, bias, after
    return ReluNetwork(w, b)


@methods
@few
@given(data=st.data())
def test_permuted_neurons(solver: AbstractLipschitzSolver, data: st.DataObject) -> None:
    network = data.draw(DEGENERATE | gaussian_networks())
    domain = data.draw(domains(network.input_dimension))
    other = network
    for m, width in enumerate(network.widths):
        order = data.draw(st.permutations(range(width)))
        other = changed(other, m, other.weights[m][order], other.biases[m][order], other.weights[m + 1][:, order])
    assert_same(solver, (network, domain), (other, domain))


@methods
@few
@given(data=st.data())
def test_scale_moved_through_a_neuron(solver: AbstractLipschitzSolver, data: st.DataObject) -> None:
    exact = data.draw(st.booleans())
    network = data.draw(DEGENERATE if exact else gaussian_networks())
    domain = data.draw(domains(network.input_dimension))
    m = data.draw(st.integers(0, network.depth - 1))
    powers = data.draw(hnp.arrays(np.float64, network.widths[m], elements=st.integers(-12, 12) | st.just(40)))
    factors = 2.0**powers if exact else 1.7**powers
    other = changed(
        network,
        m,
        network.weights[m] * factors[:, None],
        network.biases[m] * factors,
        network.weights[m + 1] / factors,
    )
    assert_same(solver, (network, domain), (other, domain))


@methods
@few
@given(data=st.data())
def test_dead_neurons(solver: AbstractLipschitzSolver, data: st.DataObject) -> None:
    """Never active, never read, or always 0: the constant stays."""
    network = data.draw(DEGENERATE | gaussian_networks())
    domain = data.draw(domains(network.input_dimension))
    m, kind = data.draw(st.integers(0, network.depth - 1)), data.draw(st.sampled_from(["off", "unread", "zero"]))
    w, b, after = network.weights[m], network.biases[m], network.weights[m + 1]
    row = np.full((1, w.shape[1]), 0.5) if kind == "unread" else np.zeros((1, w.shape[1]))
    read = np.zeros((len(after), 1)) if kind == "unread" else np.full((len(after), 1), 3.0)
    bias = np.append(b, -1.0 if kind == "off" else 0.0)
    other = changed(network, m, np.concatenate([w, row]), bias, np.concatenate([after, read], axis=1))
    assert_same(solver, (network, domain), (other, domain))


@methods
@few
@given(data=st.data())
def test_shifted_inputs(solver: AbstractLipschitzSolver, data: st.DataObject) -> None:
    network = data.draw(DEGENERATE)
    d = network.input_dimension
    domain = data.draw(domains(d))
    shift = data.draw(hnp.arrays(np.float64, d, elements=eighths()))
    moved = ReluNetwork(network.weights, [network.biases[0] - network.weights[0] @ shift, *network.biases[1:]])
    where = Box(domain.lower + shift, domain.upper + shift) if isinstance(domain, Box) else domain
    assert_same(solver, (network, domain), (moved, where))


@methods
@few
@given(data=st.data())
def test_permuted_coordinates(solver: AbstractLipschitzSolver, data: st.DataObject) -> None:
    network = data.draw(DEGENERATE | gaussian_networks())
    d = network.input_dimension
    domain = data.draw(domains(d))
    order = data.draw(st.permutations(range(d)))
    flips = np.array(data.draw(st.lists(st.sampled_from([1.0, -1.0]), min_size=d, max_size=d)))
    other = ReluNetwork([network.weights[0][:, order] * flips, *network.weights[1:]], network.biases)
    where: Domain = domain
    if isinstance(domain, Box):
        ends = np.sort([domain.lower[order] * flips, domain.upper[order] * flips], axis=0)
        where = Box(ends[0], ends[1])
    assert_same(solver, (network, domain), (other, where))


@methods
@few
@given(network=gaussian_networks(), seed=SEEDS)
def test_rotated_inputs_in_the_euclidean_norm(solver: AbstractLipschitzSolver, network: ReluNetwork, seed: int) -> None:
    d = network.input_dimension
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]
    turned = ReluNetwork([network.weights[0] @ rotation, *network.weights[1:]], network.biases)
    assert_same(solver, (network, WholeSpace(d)), (turned, WholeSpace(d)), exponents=[2.0])


@methods
@few
@given(network=DEGENERATE | gaussian_networks(), seed=SEEDS)
def test_scaled_inputs_and_outputs(solver: AbstractLipschitzSolver, network: ReluNetwork, seed: int) -> None:
    """f(x / 4) on a domain four times as large has a quarter of the constant; 8 f has eight times."""
    rng = np.random.default_rng(seed)
    d = network.input_dimension
    domain: Domain = WholeSpace(d) if seed % 2 else some_box(d, rng)
    where = Box(4.0 * domain.lower, 4.0 * domain.upper) if isinstance(domain, Box) else domain
    wide = ReluNetwork([network.weights[0] / 4.0, *network.weights[1:-1], 4.0 * network.weights[-1]], network.biases)
    assert_same(solver, (network, domain), (wide, where))


@methods
@few
@given(network=DEGENERATE | gaussian_networks(), seed=SEEDS)
def test_larger_domains_never_lower_the_constant(
    solver: AbstractLipschitzSolver, network: ReluNetwork, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    d = network.input_dimension
    box = some_box(d, rng)
    room = rng.choice([0.0, 0.25, 1.0], size=(2, d))
    larger = Box(box.lower - room[0], box.upper + room[1])
    small, large, all_ = (solved(solver, network, domain) for domain in (box, larger, WholeSpace(d)))
    for p in small:
        assert small[p].lower <= large[p].upper
        assert large[p].lower <= all_[p].upper
        assert small[p].upper <= large[p].upper * (1 + 2e-6) <= all_[p].upper * (1 + 5e-6)
