"""Studies as Ray jobs: the project's packages travel as the job's working directory."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Any

from cluster.execution.ray_runtime import follow_server_authentication, quiet_environment
from cluster.output.terminal import EXIT_ERROR, emit_json, say
from solvers.errors import InputError
from tracking.provenance import STAMP, source_of

__all__ = ["submit_study"]

PACKAGES = ("cluster", "tasks", "solvers", "tracking")
AGENT_SECONDS = 30.0
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


def submit_study(
    study: str,
    address: str,
    overrides: list[str],
    *,
    follow: bool,
    workers: int | None,
    out: str | None,
    tracking_uri: str | None,
    resume: bool,
    data_dir: str | None,
    as_json: bool,
) -> int:
    """Submit `interlip run STUDY ...` as a job.

    Returns:
        0 when the job was submitted (with `follow`: succeeded), else 1.
    Raises:
        InputError: no cluster at the address, or no place for the results that both sides can see.
    """
    quiet_environment()
    follow_server_authentication(address)
    if out is None:
        if not _is_local(address):
            raise InputError(
                "the cluster is on another machine: give --out a folder or URI that its workers can write, e.g. s3://..."
            )
        out = str(Path("runs").resolve())
    elif "://" not in out:
        out = str(Path(out).resolve())
    from ray.job_submission import JobSubmissionClient

    with tempfile.TemporaryDirectory(prefix="interlip-job-") as folder:
        name = _stage(Path(folder), study)
        arguments = ["run", name, "--out", out]
        for key, value in (("--workers", workers), ("--tracking-uri", tracking_uri), ("--data-dir", data_dir)):
            arguments += [key, str(value)] if value is not None else []
        for override in overrides:
            arguments += ["--set", override]
        arguments += ["--resume"] if resume else []
        client = _client(JobSubmissionClient, address)
        # On this machine the interpreter is known; elsewhere it is the first one on the cluster's PATH.
        python = sys.executable if _is_local(address) else "python"
        entrypoint = shlex.join([python, "-m", "cluster.cli", *arguments])
        job = _submitted(client, entrypoint, folder, study)
    say(f"job {job} submitted to {address}; results go to {out}")
    status = asyncio.run(_follow(client, job)) if follow else None
    if as_json:
        emit_json({"job_id": job, "address": address, "out": out, "status": status})
    if status is not None:
        say(f"job {job} {status.lower()}")
    elif not as_json:
        say(f"its log: ray job logs --address {address} --follow {job}")
    return 0 if status in (None, "SUCCEEDED") else EXIT_ERROR


def _client(kind: Any, address: str) -> Any:
    """A client of the job server; a missing token becomes one sentence."""
    from ray.exceptions import AuthenticationError

    try:
        return kind(address)
    except AuthenticationError:
        raise InputError(
            f"{address} is asked with RAY_AUTH_MODE=token, but its token is not here: put it into ~/.ray/auth_token "
            "(ray get-auth-token prints it on the head node) or set RAY_AUTH_TOKEN_PATH"
        ) from None


def _submitted(client: Any, entrypoint: str, folder: str, study: str) -> str:
    """Submit the job; a head node that has just started has no agent for some seconds, so that is waited for."""
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return str(
                client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": folder}, metadata={"study": study})
            )
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.5)


def _is_local(address: str) -> bool:
    return urllib.parse.urlsplit(address).hostname in ("127.0.0.1", "localhost", "::1")


def _stage(folder: Path, study: str) -> str:
    """Copy the packages (and a study file) to a folder; returns how the job names the study."""
    root = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        shutil.copytree(root / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "*.nb?"))
    # The copy is no checkout: its commit travels along.
    (folder / STAMP).write_text(json.dumps(source_of(root)), encoding="utf-8")
    if Path(study).suffix == ".toml" and Path(study).is_file():
        shutil.copy(study, folder / "study.toml")
        return "study.toml"
    return study


async def _follow(client: Any, job: str) -> str:
    """Show the log until the job ends; its last status."""
    async for lines in client.tail_job_logs(job):
        for line in lines.rstrip("\n").split("\n"):
            say(line)
    for _ in range(100):
        status = str(client.get_job_status(job).value)
        if status in ENDED:
            return status
        time.sleep(0.1)
    return status
