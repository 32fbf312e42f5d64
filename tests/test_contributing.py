"""CONTRIBUTING names files, tables and targets that exist."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROWS = re.findall(
    r"^\| (an? [^|]+?) \| `([^`]+)`[^|]* \| ([^|]+?) \| `([^`]+)` \|$",
    (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(),
    flags=re.MULTILINE,
)


def test_every_kind_of_thing_has_a_row() -> None:
    kinds = "a Lipschitz method, a certificate, a construction, a file format, a domain, an experiment, a data set"
    assert [row[0] for row in ROWS] == kinds.split(", ")


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_table_stands_where_it_is_said_to(row: tuple[str, str, str, str], root: Path) -> None:
    _, place, tables, file = row
    assert (root / place).exists()
    assigned = {
        target.id
        for node in ast.parse((root / file).read_text()).body
        for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
        if isinstance(target, ast.Name)
    }
    named = re.findall(r"`([A-Z_]+)`", tables)
    assert named
    assert set(named) <= assigned


def test_its_paths_and_targets_exist(root: Path) -> None:
    text = (root / "CONTRIBUTING.md").read_text()
    for path in re.findall(r"`((?:[a-z_]+/)+[a-z_.]*)`", text):
        assert (root / path).exists(), path
    targets = re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), flags=re.MULTILINE)
    for target in re.findall(r"^make ([a-z-]+)", text, flags=re.MULTILINE):
        assert target in targets


def test_the_citation_is_of_this_version(root: Path) -> None:
    cited = (root / "CITATION.cff").read_text()
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert f"\nversion: {project['version']}\n" in cited
    assert f"\nlicense: {project['license']}\n" in cited
    assert project["urls"]["Paper"] in cited
