"""Isolation for all tests: a home folder of their own, nothing phoned home, one Ray runtime for the whole session."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before anything imports Ray or MLflow. Ray keeps its token under HOME, and its sockets want a short path.
_HOME = tempfile.mkdtemp(prefix="il-", dir="/tmp")
os.environ.update(
    HOME=_HOME,
    RAY_TMPDIR=_HOME,
    RAY_USAGE_STATS_ENABLED="0",
    RAY_worker_niceness="0",  # else other tests starve the workers, which Ray runs at nice 15
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="true",
    MPLCONFIGDIR=f"{_HOME}/matplotlib",
)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes that share the cores: threads of one would only wait for those of the other.
    os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
for _name in (
    "RAY_ADDRESS",
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "MLFLOW_TRACKING_URI",
    "INTERLIP_RUNS",
):
    os.environ.pop(_name, None)

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _home_is_removed() -> Iterator[None]:
    import shutil

    yield
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def ray_runtime() -> Iterator[None]:
    """A local Ray runtime of two CPUs, shared by all tests that need one."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own imports
        import ray

        from cluster.execution.ray_runtime import connect, disconnect

        connect(None, 2)
    yield
    disconnect()
    assert not ray.is_initialized()


@pytest.fixture(scope="session", autouse=True)
def _kernels_are_compiled_once() -> None:
    """Two processes compile one half of the kernels each, and find the other half in the cache later."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker not in ("gw0", "gw1"):
        return
    import numpy as np

    from solvers import LIPSCHITZ_SOLVERS, Box, LipschitzProblem, ReluNetwork

    rng = np.random.default_rng(0)
    network = ReluNetwork(
        [rng.standard_normal((4, 2)), rng.standard_normal((4, 4)), rng.standard_normal((1, 4))],
        [rng.standard_normal(4), rng.standard_normal(4), np.zeros(1)],
    )
    method = "branch-and-bound" if worker == "gw0" else "region-enumeration"
    for p in (1.0, 2.0, np.inf):
        LIPSCHITZ_SOLVERS[method].solve(LipschitzProblem(network, p, Box.cube(2, -1.0, 1.0)))
