"""Every source that a docstring or comment names is in REFERENCES.md, and nothing else is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# [DFG24], [DFG24, Algorithm 2], [FinkeThesis]
KEY = re.compile(r"\[([A-Z][A-Za-z]*(?:[0-9]{2}|Thesis))(?:,[^\]]*)?\]")
LISTED = re.compile(r"^- \*\*\[(\w+)\]\*\* .+$", re.MULTILINE)
# A source by its author and year: "Higham 2002", "Zhang et al. (2018)", "Booth, 1980".
AUTHOR_AND_YEAR = re.compile(r"\b[A-Z][A-Za-z'-]+(?: et al\.)?,? \(?(?:18|19|20)[0-9]{2}\b")
# "design, section 2.3", "the thesis' construction", "../shared/x.md": not in the repository.
OUTSIDE = re.compile(r"\bdesign\b|\bthe thesis|(?<![\w`])(?:\.\./)?shared/[\w/]*\.(?:md|txt)|\bibid\b", re.IGNORECASE)
# Files that docstrings name.
FILE = re.compile(r"(?<![\w/.{*<-])([A-Z]{2,}[A-Z_]*\.md)\b")


def sources(*folders: str) -> list[Path]:
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if path.name != Path(__file__).name
    )


def docstrings(path: Path) -> str:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds))
    return "\n\n".join(text for node in nodes if (text := ast.get_docstring(node)))


def listed() -> list[str]:
    return LISTED.findall((ROOT / "REFERENCES.md").read_text(encoding="utf-8"))


def cited(path: Path) -> set[str]:
    # Comments too: a bound in a kernel has its source beside it.
    comments = re.findall(r"#.*", path.read_text(encoding="utf-8"))
    return set(KEY.findall("\n".join([docstrings(path), *comments])))


PROGRAM = sources("solvers", "tasks", "tracking", "cluster")
ALL = [*PROGRAM, *sources("tests")]


def test_keys_are_listed_once() -> None:
    keys = listed()
    assert len(keys) == len(set(keys)) > 30
    # As many entries as keys: none is written in a form that this test does not see.
    assert (ROOT / "REFERENCES.md").read_text(encoding="utf-8").count("\n- ") == len(keys)


def test_every_key_that_is_cited_is_listed_and_every_listed_key_is_cited() -> None:
    used = {key: path for path in ALL for key in cited(path)}
    unknown = {key: str(path.relative_to(ROOT)) for key, path in used.items() if key not in listed()}
    assert not unknown
    assert set(listed()) <= set(used)


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_name_sources_by_key_and_none_outside_the_repository(path: Path) -> None:
    text = docstrings(path)
    assert not AUTHOR_AND_YEAR.findall(text), "name it by a key of REFERENCES.md"
    assert not OUTSIDE.findall(text), "say it here, or cite a file of the repository or a key of REFERENCES.md"
    for name in FILE.findall(text):
        assert (ROOT / name).exists(), f"{name} is not in the repository"


@pytest.mark.parametrize(
    "text",
    ["Source: Higham 2002, section 3.1", "LipBaB 2021", "(Booth, 1980)", "Zhang et al. 2018", "Genzel (2024)"],
)
def test_author_and_year_are_seen(text: str) -> None:
    assert AUTHOR_AND_YEAR.search(text)


@pytest.mark.parametrize("text", ["Source: design, section 2.3.", "the thesis' variant", "see ../shared/design.md"])
def test_places_outside_are_seen(text: str) -> None:
    assert OUTSIDE.search(text)


def test_the_theorem_of_facets_is_stated_with_its_proof_where_others_point() -> None:
    text = docstrings(ROOT / "solvers/problems/facets.py")
    assert "Theorem." in text
    assert "Proof sketch." in text
    pointing = [path for path in PROGRAM if "problems.facets`" in docstrings(path)]
    assert len(pointing) >= 5
