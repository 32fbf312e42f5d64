"""Progress of a width search: what a line says, and how often."""

from __future__ import annotations

import pytest

from cluster.execution.least_width import SearchProgress
from cluster.output import search_progress
from cluster.output.search_progress import SearchDisplay, search_line
from tests.one_sentence import without_progress

LINES = {
    "looking for: width 64 (any), 80 restarts, 8 a second, 10 s": SearchProgress("screen", 64, 0, None, 80, 10.0),
    "showing wide enough: width 96 (above 64, 128 looks wide enough), 0 restarts, 0 a second, 0 s": SearchProgress(
        "certify", 96, 64, 128, 0, 0.0
    ),
    "showing too narrow: width 48 (above 40), 7 restarts, 4 a second, 2 s": SearchProgress(
        "refute", 48, 40, None, 7, 1.9
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_lines(line: str) -> None:
    assert search_line(LINES[line]) == line
    assert without_progress(line) == []


def test_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = [0.0], list[str]()
    monkeypatch.setattr("cluster.output.search_progress.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(search_progress, "say", said.append)
    display = SearchDisplay()
    for second in range(26):
        clock[0] = float(second)
        display.show(SearchProgress("screen", second, 0, None, 0, 0.0))
    assert [line.split()[3] for line in said] == ["11", "22"]
