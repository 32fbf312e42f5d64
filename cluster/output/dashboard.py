"""MLflow's page over a store, as a trimmed server that ends with this process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from cluster.output.terminal import say
from solvers.errors import InputError
from tracking.mlflow_tracker import embedded_uri, quiet_mlflow
from tracking.tracker import without_password

__all__ = ["serve"]

START_SECONDS = 90.0


def serve(out: str, tracking_uri: str | None, port: int) -> None:
    """Serve until interrupted.

    Raises:
        InputError: there is no store, or the port is taken.
    """
    if tracking_uri is not None and tracking_uri.startswith(("http://", "https://")):
        say(f"this store has a page of its own: {without_password(tracking_uri)}")
        return
    if tracking_uri is None:
        if "://" in out or not (Path(out) / "mlflow.db").is_file():
            raise InputError(
                f"there is no MLflow store in {out}: run a study first (interlip run overview), or give --out"
            )
        tracking_uri = embedded_uri(out)
    if not 1 <= port <= 65535:
        raise InputError(f"--port must lie in 1..65535, got {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise InputError(f"port {port} is taken: choose another one with --port") from None
    quiet_mlflow()
    # Without MLflow's job runners and with one web worker it starts in half the time and a quarter of the memory.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        url = f"http://127.0.0.1:{port}"
        say("starting MLflow ...")
        _wait(server, url)
        say(f"MLflow is at {url} (Ctrl-C ends it)")
        server.wait()
    except KeyboardInterrupt:
        say("MLflow stopped")
    finally:
        signal.signal(signal.SIGTERM, previous)
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _wait(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"MLflow's server ended at once with code {server.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.3)
    raise RuntimeError(f"MLflow's server did not answer within {START_SECONDS:.0f} seconds")
