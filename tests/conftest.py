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
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    MLFLOW_DISABLE_TELEMETRY="true",
    DO_NOT_TRACK="true",
    MPLCONFIGDIR=f"{_HOME}/matplotlib",
)
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

        from cluster.ray_runtime import connect, disconnect

        connect(None, 2)
    yield
    disconnect()
    assert not ray.is_initialized()
