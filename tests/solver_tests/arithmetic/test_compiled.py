"""Compiled kernels are found again in the cache, but not after a change of what they call."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from solvers.arithmetic.compiled import SOURCES
from solvers.lipschitz.search.subtree import search_subtree

# A kernel of one folder that calls a kernel of another one, at a point where f = 2 relu(x) rises.
RUN = """
import numpy as np
from solvers.lipschitz.search.node_kernels import gradient_at
one = np.ones(1)
widths = np.array([1])
gradient = gradient_at(np.ones((1, 1, 1)), np.zeros((1, 1)), widths, 2.0 * one, np.ones((1, 1)), one)
print(gradient[0], sum(gradient_at.stats.cache_hits.values()))
"""
CALLED = Path("lipschitz", "bounds", "gradients.py")
CONSTANTS = Path("arithmetic", "rounding.py")


def answers_of(folder: Path) -> list[str]:
    """The gradient, and how many kernels were found in the cache, in a process of its own."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", RUN]
    return subprocess.run(
        command, env=environment, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.split()


def test_no_kernel_outlives_what_it_calls_in_any_folder_of_the_tree(tmp_path: Path, root: Path) -> None:
    solvers = tmp_path / "solvers"
    shutil.copytree(root / "solvers", solvers, ignore=shutil.ignore_patterns("__pycache__"))
    assert answers_of(tmp_path) == ["2.0", "0"]
    assert answers_of(tmp_path) == ["2.0", "1"]
    called = (solvers / CALLED).read_text()
    changed = called.replace("row = output.copy()", "row = 3.0 * output")
    assert changed != called
    (solvers / CALLED).write_text(changed)
    assert answers_of(tmp_path) == ["6.0", "0"]
    # Numbers that kernels hold as constants count too.
    constants = (solvers / CONSTANTS).read_text()
    changed = constants.replace("2.0**-52", "2.0**-51")
    assert changed != constants
    (solvers / CONSTANTS).write_text(changed)
    assert answers_of(tmp_path) == ["6.0", "0"]


def test_this_numba_lets_its_cache_be_keyed() -> None:
    assert search_subtree._cache._cache_file._source_stamp[1] == SOURCES
