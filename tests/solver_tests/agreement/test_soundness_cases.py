"""Networks and results that once misled a method or the checker, with their right values: every method on every one.

The right values come from exact rational arithmetic; the folder of cases says how each is known.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from solvers.files.models import load_network
from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.lipschitz.sampling import Sampling
from solvers.problems.budget import Budget
from solvers.problems.domains import Box, Domain, WholeSpace
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds, Status
from solvers.problems.witnesses import witness_bound
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.verify import Verdict, verify_bounds
from tests.case_files import CASES_DIR

SOUNDNESS = CASES_DIR / "soundness"
pytestmark = pytest.mark.skipif(
    not SOUNDNESS.is_dir(), reason=f"there is no folder {SOUNDNESS}: set INTERLIP_CASES_DIR to the one that holds it"
)
SKEW = Box([-0.5, -1.25, -1.25], [0.5, 0.25, -0.75])
# File, domain (None for all of R^d), p, and the constant or what it is at least.
TRUTHS = [
    ("near_one", Box.cube(2), 1.001, 0.01, False),
    ("near_one", Box.cube(2), 1.0, 0.01, True),
    ("near_one_propagation", Box.cube(2), 1.01, 4e-4, False),
    ("near_one_propagation", Box.cube(2), 2.0, 5e-4, True),
    ("underflow", None, 2.0, 1e-100, True),
    ("underflow", Box.cube(1), math.inf, 1e-100, True),
    ("overflow", None, 1.0, 1e100, True),
    ("overflow", Box.cube(2), 2.0, math.sqrt(2) * 1e100, True),
    ("overflow", None, math.inf, 2e100, True),
    ("mip_small", Box.cube(2), math.inf, 4.8032e13, True),
    ("mip_badscale", SKEW, math.inf, 2.6281334259e11, True),
]


@pytest.mark.parametrize("method", LIPSCHITZ_SOLVERS.values(), ids=LIPSCHITZ_SOLVERS)
@pytest.mark.parametrize(("name", "domain", "p", "truth", "whole"), TRUTHS, ids=[f"{t[0]}-{t[2]:g}" for t in TRUTHS])
def test_every_method_holds_the_right_value(
    name: str, domain: Domain | None, p: float, truth: float, whole: bool, method: AbstractLipschitzSolver
) -> None:
    network = load_network(SOUNDNESS / f"{name}.npz")
    problem = LipschitzProblem(network, p, domain or WholeSpace(network.input_dimension))
    if method.refuses(problem):
        pytest.skip(f"{method.name} does not take it")
    answer = method.solve(problem, budget=Budget(seconds=60))
    # The values are rounded to the digits that the case gives.
    assert answer.upper >= truth * (1 - 1e-9)
    if whole:
        assert answer.lower <= truth * (1 + 1e-9)
    if method.exact and answer.status is Status.EXACT:
        assert answer.lower >= truth * (1 - 1e-5)


@pytest.mark.parametrize("name", ["lie_family", "lie_nan", "gap"])
def test_lies_are_refuted(name: str) -> None:
    network = load_network(SOUNDNESS / f"{name}.npz")
    document: dict[str, Any] = json.loads((SOUNDNESS / f"{name}.json").read_text())
    bounds = LipschitzBounds.from_json(document)
    found = verify_bounds(LipschitzProblem(network, bounds.p, bounds.domain), bounds, claimed_gap=document.get("gap"))
    assert found.verdict is Verdict.REFUTED


@pytest.mark.parametrize("method", LIPSCHITZ_SOLVERS.values(), ids=LIPSCHITZ_SOLVERS)
def test_honest_results_with_cancelled_gradients_pass(method: AbstractLipschitzSolver) -> None:
    problem = LipschitzProblem(load_network(SOUNDNESS / "honest_refuted.npz"), 2.0, Box.cube(2))
    if method.refuses(problem):
        pytest.skip(f"{method.name} does not take it")
    answer = method.certifying().solve(problem, budget=Budget(seconds=60))
    assert verify_bounds(problem, answer).verdict is not Verdict.REFUTED


def test_a_deep_network_has_its_witness() -> None:
    network = load_network(SOUNDNESS / "deep_n64_l18.npz")
    problem = LipschitzProblem(network, 2.0, Box.cube(network.input_dimension))
    lower, witness = witness_bound(problem, np.load(SOUNDNESS / "deep_n64_l18_x.npy"))
    assert witness is not None
    assert lower == pytest.approx(2.21, rel=0.01)
    assert Sampling(points=50).solve(problem).lower >= 5.0
