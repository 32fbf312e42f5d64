"""The README's example runs, its commands exist, its links point somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cluster.cli import app


@pytest.fixture
def readme(root: Path) -> str:
    return (root / "README.md").read_text()


def test_the_example_gives_the_constant(readme: str, capsys: pytest.CaptureFixture[str]) -> None:
    example, _ = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    space: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), space)
    lower, upper, status, *_ = capsys.readouterr().out.split()
    # f = relu(x + 2y) - 2 relu(x - y + 1/2): gradients (1, 2), (-2, 2), (-1, 4), 0; all four cells exist.
    assert float(lower) == pytest.approx(np.sqrt(17), rel=1e-9)
    assert float(upper) == pytest.approx(np.sqrt(17), rel=1e-9)
    assert status == "exact"


def test_the_estimator_fits_every_point(readme: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, example = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "1.0\n"


def test_its_commands_and_options_exist(readme: str) -> None:
    calls = re.findall(r"^(?:\.venv/bin/)?interlip ([^#\n]*)", readme, flags=re.MULTILINE)
    assert len(calls) >= 8
    for call in calls:
        words = call.split()
        text = CliRunner().invoke(app, [words[0], "--help"], env={"COLUMNS": "200"}).output
        assert "Usage" in text, call
        for option in (word for word in words if word.startswith("--")):
            assert option in text, (call, option)


def test_its_targets_and_links_exist(readme: str, root: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), flags=re.MULTILINE)
    for target in re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", readme, flags=re.MULTILINE):
        assert "".join(target) in targets
    for link in re.findall(r"\]\((?!http)([^)]+)\)", readme):
        assert (root / link).is_file(), link
