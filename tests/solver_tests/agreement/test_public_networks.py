"""Trained networks that others have published, on boxes of their own: searches that end are exact, witnesses are found.

The networks stand beside the repository, in ../shared/nets, or in $INTERLIP_NETS_DIR; they are not shipped.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from solvers.files.models import load_network
from solvers.lipschitz.sampling import Sampling
from solvers.problems.budget import Budget
from solvers.problems.domains import Box
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Status
from solvers.registry import LIPSCHITZ_SOLVERS

NETS_DIR = Path(os.environ.get("INTERLIP_NETS_DIR") or Path(__file__).resolve().parents[4] / "shared" / "nets")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (NETS_DIR / "nets.json").is_file(),
        reason=f"there is no nets.json in {NETS_DIR}: set INTERLIP_NETS_DIR to the folder that holds it",
    ),
]


def asked(name: str, box: str, p: float) -> LipschitzProblem:
    """Output 0 of a network on one of its boxes."""
    network = load_network(NETS_DIR / f"{name}.npz").select_output(0)
    corners = json.loads((NETS_DIR / "nets.json").read_text())[name]["boxes"][box]
    d = network.input_dimension
    lower, upper = (np.broadcast_to(np.asarray(corners[side], dtype=float), d) for side in ("lower", "upper"))
    return LipschitzProblem(network, p, Box(lower, upper))


@pytest.mark.parametrize(
    ("name", "box"),
    [("acas_2_9", "prop3"), ("acas_1_1", "ball05"), ("acas_1_1", "prop3"), ("vcas_1", "nat"), ("unicycle", "nat")],
)
def test_a_search_that_ends_is_exact(name: str, box: str) -> None:
    """Rounding bounds that run over all neurons are a million times the answer on some of these."""
    answer = LIPSCHITZ_SOLVERS["auto"].solve(asked(name, box, math.inf), budget=Budget(seconds=120))
    assert answer.status is Status.EXACT, answer.reason


@pytest.mark.parametrize("name", ["tll_16", "tll_24"])
def test_witnesses_are_found_where_a_quarter_of_the_neurons_is_exactly_zero(name: str) -> None:
    assert Sampling(points=100).solve(asked(name, "nat", 2.0)).lower > 0
