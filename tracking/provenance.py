"""Where and with what a study ran."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import tomllib
from collections.abc import Collection, Iterable
from pathlib import Path

__all__ = ["KERNELS", "STAMP", "kernels_digest", "provenance", "source_of"]

PACKAGES = ("ray", "mlflow", "numpy", "scipy", "torch", "numba", "cvxpy", "highspy", "pyarrow", "pandas")
OURS = ("cluster", "solvers", "tasks", "tracking")
# Beside the sources of a job: what they were copied from.
STAMP = "tracking/source.json"
# The entry of a run's provenance that tells whether its rows and ours may stand side by side.
KERNELS = "kernels.sha256"


def provenance() -> dict[str, str]:
    """Source, versions and host, as short texts; what cannot be found out is left out."""
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": platform.node(),
        "processors": str(os.cpu_count()),
    }
    for package in PACKAGES:
        try:
            found[f"version.{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | source_of(Path(__file__).resolve().parents[1]) | {KERNELS: kernels_digest()}


def kernels_digest() -> str:
    """SHA-256 of the sources that decide what a trial gives: methods and experiments, nothing of how it is run."""
    return _digest(Path(__file__).resolve().parents[1], ("solvers", "tasks"), (".py",))


def source_of(root: Path) -> dict[str, str]:
    """Version, digest and commit of our own packages below a folder.

    The commit is that of a checkout whose root the folder is; an installed package lies in surroundings that may belong
    to any repository, and has none. Copies of a checkout carry theirs along in `STAMP`, which counts only while the
    sources still have the digest noted there.
    """
    digest = _digest(root)
    found = {"sources.sha256": digest}
    version = _version(root)
    if version:
        found["version.interlip"] = version
    if _git(root, "rev-parse", "--show-toplevel") == str(root):
        commit = _git(root, "rev-parse", "HEAD")
        if commit:
            found["commit"] = commit
            found["commit.clean"] = "no" if _git(root, "status", "--porcelain") else "yes"
        return found
    try:
        stamped = json.loads((root / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return found
    if isinstance(stamped, dict) and stamped.get("sources.sha256") == digest:
        return {str(key): str(value) for key, value in stamped.items()}
    return found


def _digest(root: Path, packages: Iterable[str] = OURS, endings: Collection[str] = (".py", ".toml")) -> str:
    """SHA-256 over names and contents of our modules and study files."""
    total = hashlib.sha256()
    for package in packages:
        files = [path for path in (root / package).rglob("*") if path.suffix in endings]
        for path in sorted(files, key=lambda path: path.relative_to(root).as_posix()):
            content = path.read_bytes()
            total.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
            total.update(content)
    return total.hexdigest()


def _version(root: Path) -> str:
    """The version that the sources give themselves; of an installed package that of the installation."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if project["name"] == "interlip":
            return str(project["version"])
    except (OSError, ValueError, KeyError):
        pass
    for distribution in importlib.metadata.distributions(path=[str(root)]):
        if distribution.metadata["Name"] == "interlip":
            return distribution.version
    return ""


def _git(root: Path, *arguments: str) -> str:
    """Output of git in a folder; empty where there is no git or no repository."""
    # Variables such as GIT_DIR, set inside a hook, would lead to another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        answer = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
