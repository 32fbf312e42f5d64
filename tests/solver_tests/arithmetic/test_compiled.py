"""Compiled kernels are found again in the cache, but not after a change of what they call."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from solvers.arithmetic.compiled import SOURCES
from solvers.lipschitz.search.subtree import search_subtree

INNER = """
from solvers.arithmetic.compiled import compiled
@compiled
def inner(x):
    return x + {number}
"""
OUTER = """
from solvers.arithmetic.compiled import compiled
from solvers.inner import inner
@compiled
def outer(x):
    return 2.0 * inner(x)
"""
RUN = "from solvers.outer import outer; print(outer(1.0), sum(outer.stats.cache_hits.values()))"


def test_a_kernel_does_not_outlive_what_it_calls(tmp_path: Path, root: Path) -> None:
    package = tmp_path / "solvers"
    (package / "arithmetic").mkdir(parents=True)
    shutil.copy(root / "solvers" / "arithmetic" / "compiled.py", package / "arithmetic")
    (package / "outer.py").write_text(OUTER)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    said = []
    for number in (1.0, 1.0, 2.0):
        (package / "inner.py").write_text(INNER.format(number=number))
        command = [sys.executable, "-c", RUN]
        said.append(subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True))
    assert [answer.stdout.split() for answer in said] == [["4.0", "0"], ["4.0", "1"], ["6.0", "0"]]


def test_this_numba_lets_its_cache_be_keyed() -> None:
    assert search_subtree._cache._cache_file._source_stamp[1] == SOURCES
