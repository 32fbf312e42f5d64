"""Joining or starting Ray, quietly and with its token authentication as the user or the cluster has it."""

from __future__ import annotations

import json
import logging
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path

from solvers.errors import InputError

__all__ = [
    "check_reachable",
    "cluster_workers",
    "connect",
    "disconnect",
    "follow_server_authentication",
    "inside_job",
    "job_submission_id",
    "quiet_ray",
]

OBJECT_STORE_BYTES = 256 * 2**20
CONNECT_SECONDS = 3.0
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
}


def quiet_ray() -> None:
    """No usage reports, no warnings a user can do nothing about; what the user has set stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def inside_job() -> bool:
    """Whether this process is the driver of a Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def job_submission_id() -> str | None:
    """The id of the Ray job that this process drives, or None."""
    try:
        config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        found = config["metadata"]["job_submission_id"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(found)


def _token_exists() -> bool:
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token"
    return Path(path).is_file()


def follow_server_authentication(address: str) -> None:
    """Switch this process to token mode when the dashboard at `address` asks for a token.

    A `RAY_AUTH_MODE` that the user has set is left alone.

    Raises:
        InputError: the address is wrong, nothing answers there, or a token is wanted and there is none.
    """
    if not address.startswith(("http://", "https://")):
        raise InputError(f"a job server's address looks like http://HOST:8265, got {address!r}")
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/version", timeout=CONNECT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        if error.code != 401:
            raise InputError(f"{address} answers, but not as a Ray dashboard (HTTP {error.code})") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"no Ray cluster answers at {address} ({reason})") from None
    if "RAY_AUTH_MODE" in os.environ:
        return
    if not _token_exists():
        raise InputError(
            f"the cluster at {address} wants a token: put its token into ~/.ray/auth_token "
            "(ray get-auth-token prints it on the head node) or set RAY_AUTH_TOKEN_PATH"
        )
    os.environ["RAY_AUTH_MODE"] = "token"


def connect(address: str | None, workers: int | None, shared_bytes: int = 0) -> bool:
    """Join a cluster or start a local one.

    Args:
        shared_bytes: of data that a local cluster's object store must hold besides results.
    Returns:
        Whether `disconnect` should be called at the end: False when Ray was already initialised by the caller.

    Raises:
        InputError: no cluster answers at the address.
    """
    quiet_ray()
    where = address or (("auto" if inside_job() else None) or os.environ.get("RAY_ADDRESS"))
    if where and where != "auto":
        check_reachable(where)
    if where and "RAY_AUTH_MODE" not in os.environ and _token_exists():
        # Clients do not follow the server by themselves; a server without authentication ignores the token.
        os.environ["RAY_AUTH_MODE"] = "token"
    import ray

    if ray.is_initialized():
        return False
    if where is None:
        ray.init(
            num_cpus=workers or os.cpu_count(),
            include_dashboard=False,
            logging_level=logging.ERROR,
            log_to_driver=False,
            object_store_memory=OBJECT_STORE_BYTES + 2 * shared_bytes,
            configure_logging=True,
        )
        return True
    runtime = None
    if not inside_job():
        root = Path(__file__).resolve().parents[2]
        runtime = {"py_modules": [str(root / name) for name in ("solvers", "tasks", "tracking", "cluster")]}
    try:
        ray.init(address=where, logging_level=logging.ERROR, log_to_driver=False, runtime_env=runtime)
    except ConnectionError as error:
        raise InputError(f"no Ray cluster answers at {where}: {str(error).splitlines()[0]}") from None
    return True


def cluster_workers(wanted: int | None) -> int:
    """How many workers to start on the cluster that this process has joined: as many as wanted, else one for each CPU.

    Raises:
        InputError: more are wanted than the cluster has CPUs.
    """
    import ray

    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    available = int(resources.get("CPU", 1))
    workers = wanted or max(1, available)
    if workers > available:
        raise InputError(f"--workers {workers} is more than the {available} CPUs of the Ray cluster")
    return workers


def check_reachable(address: str) -> None:
    """Ray itself may wait minutes for an address where nothing listens; a TCP connection tells at once.

    Raises:
        InputError: not an address, or nothing listens there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--address must be auto or HOST:PORT, got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise InputError(f"no Ray cluster answers at {address} ({error.strerror or error})") from None


def disconnect() -> None:
    """Leave a cluster; ends a local one that `connect` started."""
    import ray

    ray.shutdown()
