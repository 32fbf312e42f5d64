"""`interlip methods`: the table of methods as people and programs read it, and true of every method."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.problems.domains import DOMAINS
from solvers.problems.questions import LipschitzProblem
from solvers.registry import LIPSCHITZ_SOLVERS
from tests.strategies import gaussian_network

methods = pytest.mark.parametrize("method", LIPSCHITZ_SOLVERS.values(), ids=LIPSCHITZ_SOLVERS)


def test_every_method_has_its_lines_of_eighty_columns() -> None:
    answer = CliRunner().invoke(app, ["methods"])
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert lines[0].split() == ["method", "gives", "p", "domain", "needs"]
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1::3]] == list(LIPSCHITZ_SOLVERS)
    assert all(line.startswith("  cost: ") for line in lines[3::3])


def test_programs_read_one_document() -> None:
    answer = CliRunner().invoke(app, ["methods", "--json"])
    found = json.loads(answer.stdout)
    assert [one["name"] for one in found] == list(LIPSCHITZ_SOLVERS)
    for one in found:
        assert list(one) == ["name", "gives", "p", "domain", "needs", "cost", "summary"]
        assert one["gives"] in ("lower", "upper", "both", "exact")
        assert set(one["domain"]) <= set(DOMAINS)
    assert "Example: interlip methods" in CliRunner().invoke(app, ["methods", "--help"]).output


@methods
def test_what_is_told_is_what_is_refused(method: AbstractLipschitzSolver) -> None:
    """p: all of [1, inf] or those that are listed. Needs: a small network of one layer is taken where nothing is."""
    assert method.cost
    shallow, deep, wide = (
        gaussian_network(sizes, np.random.default_rng(0)) for sizes in ([2, 3, 1], [2, 3, 3, 1], [30, 3, 1])
    )
    listed = None if method.exponents == "[1, inf]" else {float(p) for p in method.exponents.split(", ")}
    for p in (1.0, 1.5, 2.0, 7.0, math.inf):
        assert (method.refuses(LipschitzProblem(shallow, p)) is None) == (listed is None or p in listed)
    refused = [net for net in (deep, wide) if method.refuses(LipschitzProblem(net, 1.0)) is not None]
    assert bool(refused) == bool(method.needs)
    for kind in DOMAINS.values():
        problem = LipschitzProblem(shallow, 1.0, kind.around_origin(2, 1.0))
        assert (method.refuses(problem) is None) == (kind in method.domains)
