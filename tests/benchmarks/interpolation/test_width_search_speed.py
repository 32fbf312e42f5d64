"""The search of the least width on the digits ends within five minutes on two cores."""

from __future__ import annotations

import pytest

from cluster.execution.least_width import find_least_width
from solvers.interpolation.width_search import WidthSearch
from tasks.constructions import ConstructionChoice
from tasks.data_sets import load_problem

pytestmark = pytest.mark.benchmark


def test_digits_within_five_minutes(record_property):
    found = find_least_width(load_problem("digits"), ConstructionChoice(), ("digits", 0), WidthSearch(), workers=2)
    record_property("seconds", found.seconds)
    print(f"\nwidth {found.found.width} after {found.restarts} restarts in {found.seconds:.0f} s")
    assert found.finished
    assert found.seconds < 300
