"""Where and with what a study ran."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

__all__ = ["provenance"]

PACKAGES = ("interlip", "ray", "mlflow", "numpy", "scipy", "torch", "numba", "cvxpy", "highspy", "pyarrow", "pandas")


def provenance() -> dict[str, str]:
    """Commit, versions and host, as short texts; what cannot be found out is left out."""
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
    commit = _git("rev-parse", "HEAD")
    if commit:
        found["commit"] = commit
        found["commit.clean"] = "no" if _git("status", "--porcelain") else "yes"
    return found


def _git(*arguments: str) -> str:
    """Output of git in the source tree; empty where there is no git or no repository."""
    try:
        answer = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).resolve().parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
