"""Thousands of results that were tampered with: what the checker lets pass is true, what is honest and true passes.

Truth is decided without the checker and without the solvers, by all linear regions in exact arithmetic.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from solvers.checkers.search_tree import check_search_tree
from solvers.errors import InputError, SoundnessError
from solvers.lipschitz.surveys.vector_outputs import solve_all_outputs
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.facets import bounded_pieces
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import Verdict, Verification, verify_all_outputs, verify_bounds
from tests.references.lies import altered, forged_tree
from tests.references.random_networks import FAMILIES
from tests.references.rational_constants import exact_constant, exact_regions

# Method -> sizes of networks without the outputs; together they make certificates of all kinds.
METHODS = {
    "norm-product": ([1, 3, 2], [2, 4], [3, 3, 3]),
    "branch-and-bound": ([1, 4, 3], [2, 4, 3], [3, 5], [2, 3, 2, 2]),
    "region-enumeration": ([1, 4, 3], [2, 4, 2], [3, 4]),
    "vertex-enumeration": ([1, 5], [2, 5], [3, 4]),
}
KINDS = {"norm-product", "search-tree", "region-list", "shallow-cells", "all-outputs"}
P_VALUES = (1.0, 1.001, 1.3, 2.0, 3.0, math.inf)


@dataclass(frozen=True, eq=False)
class Case:
    """A network with the result that a method gave, as the JSON that `interlip verify` reads."""

    name: str
    network: ReluNetwork
    document: dict[str, Any]


def cases(count: int, seed: int) -> Iterator[Case]:
    """Honest results, over all families, methods, domains and exponents in turn."""
    combinations = itertools.cycle(itertools.product(FAMILIES, METHODS))
    for number in range(count):
        family, method = next(combinations)
        rng = np.random.default_rng([40, seed, number])
        sizes = METHODS[method][rng.integers(len(METHODS[method]))]
        d = sizes[0]
        all_outputs = rng.random() < 0.3
        network = FAMILIES[family]([*sizes, 2 if all_outputs else 1], rng)
        centre = rng.choice([0.0, 0.5]) * rng.standard_normal(d)
        box = Box(centre - rng.uniform(0.1, 1, d), centre + rng.uniform(0.1, 1, d))
        domain: Domain = WholeSpace(d) if rng.random() < 0.3 else box
        p = P_VALUES[rng.integers(len(P_VALUES))]
        solver = LIPSCHITZ_SOLVERS[method].certifying()
        extra: dict[str, Any] = {"gap": 1e-6, "margin": None, "output": None}
        # What a solver says of extreme networks, and whether it warns, is for its own tests.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if all_outputs:
                answer = solve_all_outputs(solver, network, [p], domain)[0]
                bounds, extra = answer.bounds, {**extra, "output": answer.output, "all_outputs": True}
            else:
                bounds = solver.solve(LipschitzProblem(network, p, domain))
        document = {**bounds.to_json(certificate_data=True), **extra}
        yield Case(f"{seed}.{number} {family} {method} p = {p}", network, json.loads(json.dumps(document)))


def judged(network: ReluNetwork, document: Any) -> Verification | None:
    """What the checker says; None if the result is no result, or says itself that it is wrong."""
    try:
        bounds = LipschitzBounds.from_json(document)
        gap, output = document.get("gap"), document.get("output")
        if document.get("all_outputs"):
            return verify_all_outputs(network, output or 0, bounds, claimed_gap=gap)
        one = network if output is None else network.select_output(output)
        return verify_bounds(LipschitzProblem(one, bounds.p, bounds.domain), bounds, claimed_gap=gap)
    except (InputError, SoundnessError):
        return None


class Truth:
    """Exact constants of one network, for whatever output, domain and p a result speaks of."""

    def __init__(self, network: ReluNetwork) -> None:
        self.network = network
        self._gradients = functools.cache(self._all_gradients)

    def _all_gradients(self, output: int, box: tuple[tuple[float, ...], tuple[float, ...]] | None) -> list[Any]:
        weights = [*self.network.weights[:-1], self.network.weights[-1][output : output + 1]]
        biases = [*self.network.biases[:-1], self.network.biases[-1][output : output + 1]]
        return [region.gradient for region in exact_regions(weights, biases, box)]

    def between(self, document: Any) -> tuple[Fraction, Fraction]:
        """Bounds of the constant that a result is about, closer to each other than any two floats."""
        domain, output = LipschitzBounds.from_json(document).domain, document.get("output")
        box = (tuple(domain.lower.tolist()), tuple(domain.upper.tolist())) if isinstance(domain, Box) else None
        outputs = range(self.network.output_dimension) if document.get("all_outputs") else [output or 0]
        return exact_constant(itertools.chain(*(self._gradients(k, box) for k in outputs)), float(document["p"]))

    def against(self, document: Any, found: Verification) -> str | None:
        """Which claim the checker let pass although it is false; None if there is none."""
        low, high = self.between(document)
        for check in found.checks:
            lower, upper = float(document["lower"]), float(document["upper"])
            if check.holds and check.subject == "lower bound" and Fraction(lower) > high:
                return f"lower bound {lower!r} of {float(high)!r}"
            if check.holds and check.subject == "upper bound" and math.isfinite(upper) and Fraction(upper) < low:
                return f"upper bound {upper!r} of {float(low)!r}"
        return None


def fuzz(count: int, changes: int, seed: int) -> Counter[str]:
    """`changes` altered results of each of `count` honest ones; counts what was seen."""
    seen: Counter[str] = Counter()
    shelves: dict[str, list[dict[str, Any]]] = {}
    for case in cases(count, seed):
        truth = Truth(case.network)
        low, high = truth.between(case.document)
        found = judged(case.network, case.document)
        assert found is not None, case.name
        assert truth.against(case.document, found) is None, (case.name, truth.against(case.document, found))
        lower, upper = float(case.document["lower"]), float(case.document["upper"])
        if Fraction(lower) <= high and (math.isinf(upper) or Fraction(upper) >= low):
            assert found.verdict is not Verdict.REFUTED, (case.name, found)
            seen["honest"] += 1
        certificate = case.document["certificate"]
        seen[certificate["kind"] if certificate else "no certificate"] += 1
        others = shelves.setdefault(case.name.split()[2], [])
        others.append(case.document)
        for number in range(changes):
            lie = altered(case.document, others, np.random.default_rng([41, seed, *map(ord, case.name), number]))
            found = judged(case.network, lie)
            seen["altered"] += 1
            if found is None or found.verdict is Verdict.REFUTED:
                seen["refused"] += 1
            if found is not None:
                wrong = truth.against(lie, found)
                assert wrong is None, f"{case.name}, change {number}: {wrong} passes\n{json.dumps(lie)}"
                seen[str(found.verdict)] += 1
                seen["lies"] += _is_lie(truth, lie)
    return seen


def _is_lie(truth: Truth, document: Any) -> bool:
    low, high = truth.between(document)
    return Fraction(float(document["lower"])) > high or (
        document["upper"] != "inf" and Fraction(float(document["upper"])) < low
    )


def test_no_lie_passes_and_nothing_honest_is_refused() -> None:
    seen = fuzz(24, 13, seed=16)
    assert seen["lies"] > 80, seen
    assert seen["proved"] > 20, seen
    assert set(seen) >= KINDS, seen


def forge(count: int, seed: int) -> Counter[str]:
    """Trees made up for networks with parallel and vanishing neurons, each with a claim below the truth."""
    seen: Counter[str] = Counter()
    for number in range(count):
        rng = np.random.default_rng([42, seed, number])
        family = ("coincident", "twins", "vanishing", "vanishing", "extreme")[number % 5]
        sizes = ([1, 2, 3, 1], [2, 3, 3, 1], [2, 4, 1], [2, 2, 2, 2, 1])[rng.integers(4)]
        network = FAMILIES[family](sizes, rng)
        domain = Box.cube(sizes[0], -1, 1.5)
        box = (domain.lower.tolist(), domain.upper.tolist())
        gradients = [r.gradient for r in exact_regions(network.weights, network.biases, box)]
        problem = LipschitzProblem(network, P_VALUES[rng.integers(len(P_VALUES))], domain)
        p = problem.p
        truth = float(exact_constant(gradients, p)[0])
        seen["flat" if truth == 0 else "steep"] += 1
        for _ in range(3):
            upper = truth * float(rng.choice([0.0, 0.5, 0.9, 1 - 1e-6]))

            def asks(tree: dict[str, Any], problem: LipschitzProblem = problem, upper: float = upper) -> str | None:
                check = check_search_tree(problem, {"pieces": [tree] * len(bounded_pieces(problem))}, upper)
                return None if check.holds else check.reason

            data = forged_tree(network.widths, asks, rng)
            against = asks(data)
            assert against is not None or truth == 0, (number, family, sizes, p, upper, truth, json.dumps(data))
            seen["passes" if against is None else "refused"] += 1
    return seen


def test_no_tree_made_up_proves_too_much() -> None:
    seen = forge(40, seed=0)
    assert seen["steep"] > 20, seen


@pytest.mark.slow
def test_no_tree_among_thousands_made_up_proves_too_much() -> None:
    seen = forge(1000, seed=1)
    assert seen["steep"] > 500, seen


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_no_lie_passes_among_thousands(seed: int) -> None:
    seen = fuzz(96, 15, seed=seed)
    assert seen["altered"] == 96 * 15
    assert seen["lies"] > 500, seen
    assert set(seen) >= KINDS, seen
