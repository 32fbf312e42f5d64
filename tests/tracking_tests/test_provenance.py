"""Whose commit a run reports: its own sources' or none."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster.execution.jobs import _stage
from tracking.provenance import OURS, STAMP, provenance, source_of


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    answer = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return answer.stdout.strip()


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The packages as an installation would hold them, inside a repository of somebody else."""
    home = tmp_path / "theirs"
    place = home / "lib" / "site-packages"
    for package in OURS:
        shutil.copytree(root / package, place / package, ignore=shutil.ignore_patterns("__pycache__", "*.nb?"))
    git(home, "init", "-q")
    git(home, "commit", "-q", "--allow-empty", "-m", "theirs")
    return place


def test_an_installed_package_has_a_digest_and_no_commit(copy: Path, root: Path) -> None:
    found = source_of(copy)
    assert "commit" not in found
    assert found["sources.sha256"] == source_of(root)["sources.sha256"]
    with (copy / "solvers" / "verify.py").open("a") as stream:
        stream.write("# changed\n")
    assert source_of(copy)["sources.sha256"] != found["sources.sha256"]


def test_an_installed_package_has_the_version_of_its_installation(copy: Path) -> None:
    assert "version.interlip" not in source_of(copy)
    information = copy / "interlip-7.8.9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: interlip\nVersion: 7.8.9\n")
    importlib.invalidate_caches()
    assert source_of(copy)["version.interlip"] == "7.8.9"


def test_a_checkout_has_the_commit_of_its_root(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = git(copy, "rev-parse", "HEAD")
    git(copy, "init", "-q")
    git(copy, "add", ".")
    git(copy, "commit", "-q", "-m", "ours")
    ours = git(copy, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(copy.parents[1] / ".git"))  # as inside a hook of the other repository
    found = source_of(copy)
    assert found["commit"] == ours != theirs
    assert found["commit.clean"] == "yes"
    (copy / "notes").write_text("not committed")
    assert source_of(copy)["commit.clean"] == "no"


def test_a_job_carries_its_commit_along(copy: Path, root: Path, tmp_path: Path) -> None:
    staged = tmp_path / "job"
    staged.mkdir()
    _stage(staged, "overview")
    assert source_of(staged) == source_of(root)
    assert json.loads((staged / STAMP).read_text()) == source_of(root)
    # The note counts only for the sources that it was written for.
    note = {"sources.sha256": source_of(copy)["sources.sha256"], "commit": "c0ffee", "commit.clean": "yes"}
    (copy / STAMP).write_text(json.dumps(note))
    assert source_of(copy) == note
    (copy / "solvers" / "more.py").write_text("")
    assert "commit" not in source_of(copy)


def test_a_study_says_with_what_it_ran() -> None:
    found = provenance()
    assert len(found["sources.sha256"]) == 64
    assert {"python", "host", "version.interlip", "version.numpy"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())
