"""Which MLflow store a command uses: --tracking-uri, else MLFLOW_TRACKING_URI, else the embedded one of the place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from solvers.errors import InputError
from tracking.tracker import without_password

__all__ = ["VARIABLE", "chosen_store", "default_out", "sync_tracker", "tracker_for"]

VARIABLE = "MLFLOW_TRACKING_URI"
SERVERS = ("http://", "https://", "databricks")
DATABASES = ("postgresql", "mysql", "mssql")
SQLITE = "sqlite:///"


def default_out() -> str:
    """./runs; inside a Ray job the home folder's, since the job's own folder is a copy that Ray deletes."""
    from cluster.execution.ray_runtime import inside_job

    chosen = os.environ.get("INTERLIP_RUNS")
    if chosen:
        return chosen
    return str(Path.home() / "interlip-runs") if inside_job() else "runs"


def chosen_store(tracking_uri: str | None) -> str | None:
    """The tracking URI asked for by option or environment; None for neither. An SQLite file's path becomes absolute.

    Raises:
        InputError: MLflow has no store of that kind, or it could not be found again from elsewhere.
    """
    origin = "--tracking-uri"
    if tracking_uri is None:
        origin, tracking_uri = VARIABLE, os.environ.get(VARIABLE) or None
    if tracking_uri is None:
        return None
    if not tracking_uri.startswith((*SERVERS, *DATABASES, SQLITE)):
        raise InputError(
            "a tracking URI looks like http://HOST:5000 or sqlite:////folder/mlflow.db, "
            f"got {without_password(tracking_uri)!r}" + (f" from {VARIABLE}" if origin == VARIABLE else "")
        )
    if not tracking_uri.startswith(SQLITE):
        return tracking_uri
    path, question, options = tracking_uri.removeprefix(SQLITE).partition("?")
    if not path or path == ":memory:":
        raise InputError(f"{origin}: a store in memory ends with the command; name a file: sqlite:////folder/mlflow.db")
    return f"{SQLITE}{Path(path).resolve()}{question}{options}"


def tracker_for(out: str, tracking_uri: str | None) -> Any:
    """The MLflow tracker of a run, on a thread of its own.

    Raises:
        InputError: as `chosen_store`, or the place cannot hold an embedded store.
    """
    from tracking.background_tracker import BackgroundTracker

    return BackgroundTracker(sync_tracker(out, tracking_uri))


def sync_tracker(out: str, tracking_uri: str | None) -> Any:
    """The MLflow tracker of a run whose calls return once they are done."""
    from tracking.mlflow_tracker import MlflowTracker, embedded_uri

    store = out if "://" not in out else default_out()
    uri = chosen_store(tracking_uri)
    if uri is None:
        folder = str(Path(store).resolve())
        # Addresses of databases have options behind a ?, and read %41 as A.
        if "?" in folder or unquote(folder) != folder:
            raise InputError(
                f"the address of an MLflow store in {folder} would be read as another one because of its ? or %: "
                "choose another --out, or give --tracking-uri"
            )
        return MlflowTracker(embedded_uri(store), str(Path(store) / "artifacts"))
    # A database has no place for files of its own: they lie beside the run folders.
    beside = store if uri.startswith(SQLITE) else out
    return MlflowTracker(uri, None if uri.startswith(SERVERS) else f"{beside.rstrip('/')}/artifacts")
