"""`auto` never hangs: no search is started on a network that is too wide for one."""

from __future__ import annotations

import numpy as np
import pytest

from solvers.domains import Box, Domain, WholeSpace
from solvers.problems import LipschitzProblem
from solvers.registry import LIPSCHITZ_SOLVERS
from solvers.results import Status
from tests.strategies import gaussian_network


@pytest.mark.timeout(90)
@pytest.mark.parametrize("domain", [WholeSpace(6), Box.cube(6)], ids=["global", "box"])
def test_a_wide_deep_network_in_few_dimensions_gets_bounds(domain: Domain) -> None:
    network = gaussian_network([6, 300, 300, 1], np.random.default_rng(0), 0.3)
    exact = {name for name, solver in LIPSCHITZ_SOLVERS.items() if solver.exact}
    answer = LIPSCHITZ_SOLVERS["auto"].solve(LipschitzProblem(network, 2.0, domain))
    assert answer.status is Status.BOUNDED
    assert not exact & set(answer.method.split("+"))
    assert 0 < answer.lower < answer.upper < np.inf
