"""Studies as Ray jobs: the project's packages travel as the job's working directory."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.execution.ray_runtime import follow_server_authentication, quiet_ray
from solvers.errors import InputError

__all__ = ["JobRequest", "SubmittedJob", "follow_job", "submit_study"]

PACKAGES = ("cluster", "tasks", "solvers", "tracking")
AGENT_SECONDS = 30.0
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True, slots=True)
class JobRequest:
    """`interlip run STUDY ...` as a job of a standing cluster.

    Attributes:
        study: a study file or the name of a shipped study.
        address: of the cluster's dashboard, http://HOST:PORT.
        overrides: `A.B=V`, keys of the study to set.
        workers, tracking_uri, data_dir: as for `run`; None leaves the choice to it.
        out: folder or URI of the run folders; None for ./runs of this machine, where the cluster is on it.
        resume: whether to go on with the newest run of this study.
    """

    study: str
    address: str
    overrides: tuple[str, ...] = ()
    workers: int | None = None
    out: str | None = None
    tracking_uri: str | None = None
    resume: bool = False
    data_dir: str | None = None

    @property
    def place(self) -> str:
        """Where the results go, as both sides can name it.

        Raises:
            InputError: the cluster is elsewhere, and no place was given.
        """
        if self.out is not None:
            return self.out if "://" in self.out else str(Path(self.out).resolve())
        if not _is_local(self.address):
            raise InputError(
                "the cluster is on another machine: give --out a folder or URI that its workers can write, e.g. s3://..."
            )
        return str(Path("runs").resolve())

    def arguments(self, study: str) -> list[str]:
        """What `interlip` is called with, the study being named `study` in the job's folder."""
        arguments = ["run", study, "--out", self.place]
        for key, value in (
            ("--workers", self.workers),
            ("--tracking-uri", self.tracking_uri),
            ("--data-dir", self.data_dir),
        ):
            arguments += [key, str(value)] if value is not None else []
        for override in self.overrides:
            arguments += ["--set", override]
        return [*arguments, "--resume"] if self.resume else arguments


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job that a cluster has taken.

    Attributes:
        out: folder or URI where its results go.
    """

    job_id: str
    address: str
    out: str


def submit_study(request: JobRequest) -> SubmittedJob:
    """Submit a study as a job.

    Raises:
        InputError: no cluster at the address, or no place for the results that both sides can see.
    """
    quiet_ray()
    follow_server_authentication(request.address)
    place = request.place
    with tempfile.TemporaryDirectory(prefix="interlip-job-") as folder:
        arguments = request.arguments(_stage(Path(folder), request.study))
        client = _client(request.address)
        # On this machine the interpreter is known; elsewhere it is the first one on the cluster's PATH.
        python = sys.executable if _is_local(request.address) else "python"
        entrypoint = shlex.join([python, "-m", "cluster.cli", *arguments])
        job = _submitted(client, entrypoint, folder, request.study)
    return SubmittedJob(job, request.address, place)


def follow_job(job: SubmittedJob, report: Callable[[str], None]) -> str:
    """Wait until a job ends.

    Args:
        report: hears every line of its log.
    Returns:
        Its last status: SUCCEEDED, FAILED or STOPPED.
    """
    return asyncio.run(_follow(_client(job.address), job.job_id, report))


def _client(address: str) -> Any:
    """A client of the job server; a missing token becomes one sentence."""
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
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
    if Path(study).suffix == ".toml" and Path(study).is_file():
        shutil.copy(study, folder / "study.toml")
        return "study.toml"
    return study


async def _follow(client: Any, job: str, report: Callable[[str], None]) -> str:
    async for lines in client.tail_job_logs(job):
        for line in lines.rstrip("\n").split("\n"):
            report(line)
    for _ in range(100):
        status = str(client.get_job_status(job).value)
        if status in ENDED:
            return status
        time.sleep(0.1)
    return status
