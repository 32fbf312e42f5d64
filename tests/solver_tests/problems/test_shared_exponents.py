"""One network and domain, several p: bounds never fall in p, and each holds what any of them knows."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from interlip import lipschitz
from solvers.lipschitz.sampling import Sampling
from solvers.lipschitz.surveys.vector_outputs import solve_all_outputs
from solvers.lipschitz.vertex_enumeration import VertexEnumeration
from solvers.networks.relu import ReluNetwork
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, LipschitzBounds, Status
from solvers.problems.shared_exponents import share_between_exponents
from solvers.problems.witnesses import witness_bound
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import check_witness
from tests.strategies import gaussian_network

EXPONENTS = [math.inf, 1.0, 3.0, 2.0, 1.5]
IN_ORDER = sorted(EXPONENTS)


def one_affine(gradient: list[float]) -> list[LipschitzProblem]:
    network = ReluNetwork([[gradient]], [[0.0]])
    return [LipschitzProblem(network, p, Box.cube(len(gradient))) for p in IN_ORDER]


def open_answer(problem: LipschitzProblem, upper: float = math.inf) -> LipschitzBounds:
    return LipschitzBounds(0.0, upper, Status.BOUNDED, f"at-{problem.p:g}", problem.p, problem.domain)


def check_order(answers: list[LipschitzBounds]) -> None:
    ordered = sorted(answers, key=lambda answer: answer.p)
    for less, more in itertools.pairwise(ordered):
        assert less.lower <= more.lower
        assert less.upper <= more.upper or less.certificate is not None


@pytest.mark.parametrize("seed", range(40))
def test_lower_bounds_do_not_fall_in_p(seed: int) -> None:
    """Each p draws its own few points, so the best of one is often unknown to the next."""
    rng = np.random.default_rng(seed)
    network = gaussian_network([3, 12, 6, 1] if seed % 2 else [3, 12, 1], rng, 0.5)
    problems = [LipschitzProblem(network, p, Box.cube(3)) for p in EXPONENTS]
    alone, together = (
        solve(problems, rngs=[np.random.default_rng([seed, k]) for k in range(len(problems))])
        for solve in (Sampling(points=20).solve_batch, Sampling(points=20).solve_together)
    )
    check_order(together)
    for problem, before, after in zip(problems, alone, together, strict=True):
        assert after.lower >= before.lower
        found = check_witness(problem, after.witness, after.lower)
        assert found.holds, found.reason


def test_sampling_alone_needs_it() -> None:
    """What the test above is about happens: without sharing, some lower bounds do fall."""
    falls = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        network = gaussian_network([3, 12, 6, 1] if seed % 2 else [3, 12, 1], rng, 0.5)
        problems = [LipschitzProblem(network, p, Box.cube(3)) for p in IN_ORDER]
        rngs = [np.random.default_rng([seed, k]) for k in range(len(problems))]
        lowers = [answer.lower for answer in Sampling(points=20).solve_batch(problems, rngs=rngs)]
        falls += lowers != sorted(lowers)
    assert falls > 0


@pytest.mark.parametrize("method", ["auto", "branch-and-bound", "region-enumeration", "norm-product", "propagation"])
def test_the_bounds_of_every_method_are_in_order_and_hold(method: str) -> None:
    for seed in range(3):
        network = gaussian_network([2, 8, 1], np.random.default_rng(seed), 0.5)
        problems = [LipschitzProblem(network, p, Box.cube(2)) for p in EXPONENTS]
        exact = VertexEnumeration().solve_batch(problems)
        answers = LIPSCHITZ_SOLVERS[method].solve_together(problems, budget=Budget(nodes=5))
        check_order(answers)
        for answer, truth in zip(answers, exact, strict=True):
            assert answer.lower <= truth.upper
            assert answer.upper >= truth.lower


def test_a_witness_of_one_p_counts_for_all() -> None:
    problems = one_affine([3.0, 4.0])
    for known in range(len(problems)):
        answers = [open_answer(problem) for problem in problems]
        lower, witness = witness_bound(problems[known], np.zeros(2))
        answers[known] = replace(answers[known], lower=lower, witness=witness)
        for problem, answer in zip(problems, share_between_exponents(problems, answers, Budget()), strict=True):
            q = problem.dual_p
            length = 4.0 if math.isinf(q) else (3.0**q + 4.0**q) ** (1 / q)
            assert answer.lower == pytest.approx(length, rel=1e-12)
            assert check_witness(problem, answer.witness, answer.lower).holds
            assert answers[known].method in answer.method


def test_an_upper_bound_of_one_p_bounds_all() -> None:
    """d = 2: 1 for p stays 1 below, and is 2^(1/p - 1/q) above."""
    problems = one_affine([0.0, 0.0])
    for known, source in enumerate(problems):
        answers = [open_answer(problem) for problem in problems]
        answers[known] = open_answer(source, 1.0)
        for problem, answer in zip(problems, share_between_exponents(problems, answers, Budget()), strict=True):
            right = 2.0 ** max(0.0, 1 / source.p - 1 / problem.p)
            assert right <= answer.upper <= right * (1 + 1e-12)


def test_an_interval_that_closes_is_exact_and_names_both() -> None:
    problems = one_affine([1.0, 0.0])
    lower, witness = witness_bound(problems[0], np.zeros(2))
    answers = [open_answer(problem) for problem in problems]
    answers[0] = replace(answers[0], lower=lower, witness=witness)
    answers[-1] = replace(answers[-1], upper=1.0, reason="time ended")
    for answer in share_between_exponents(problems, answers, Budget()):
        assert answer.status is Status.EXACT
        assert answer.method == "at-1+at-inf"
        assert answer.reason == ""


def test_a_certificate_stays_with_its_bound() -> None:
    problems = one_affine([0.0, 0.0])
    answers = [open_answer(problem, 1.0 + problem.p) for problem in problems]
    answers[1] = replace(answers[1], upper=50.0, certificate=Certificate("norm-product"))
    shared = share_between_exponents(problems, answers, Budget())
    assert shared[1].upper == 50.0
    assert shared[1].certificate is not None
    assert all(answer.certificate is None for answer in shared if answer is not shared[1])


def test_other_networks_and_domains_are_other_questions() -> None:
    near, far = one_affine([1.0, 0.0]), one_affine([1.0, 0.0])
    wider = [LipschitzProblem(near[0].network, p, Box([-2.0, -2.0], [2.0, 2.0])) for p in IN_ORDER]
    problems = [near[0], far[1], wider[2]]
    answers = [open_answer(problem, upper) for problem, upper in zip(problems, (5.0, 6.0, 7.0), strict=True)]
    assert share_between_exponents(problems, answers, Budget()) == answers


def test_what_a_user_asks_for_several_p_is_in_order() -> None:
    network = gaussian_network([3, 10, 10, 2], np.random.default_rng(3), 0.5)
    check_order(lipschitz(network.select_output(0), p=EXPONENTS, domain=(-1, 1), method="sampling"))
    found = solve_all_outputs(Sampling(points=30), network, EXPONENTS, Box.cube(3))
    check_order([one.bounds for one in found])
