"""Records in MLflow: the embedded SQLite store by default, any tracking server by URI."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import posixpath
import re
import sqlite3
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tracking.tracker import AbstractTracker, StudyHandle, without_password

__all__ = ["MlflowTracker", "embedded_uri", "quiet_mlflow"]

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A server that is down must not hold a study up: one attempt, then the parts wait for `interlip sync`.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}
KEY_TAG = "interlip.run"
CELL_TAG = "interlip.cell"
PARENT_TAG = "mlflow.parentRunId"
SQLITE = "sqlite:///"
# How long another process may hold an SQLite store before it counts as away.
LOCK_SECONDS = 0.5
PROBE_SECONDS = 3.0
MOST_NAME_CHARACTERS = 250
MOST_PARAM_CHARACTERS = 500


def quiet_mlflow() -> None:
    """Settings for a quiet MLflow that phones nowhere; what the user has set stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def embedded_uri(folder: str) -> str:
    """Tracking URI of the store under a local folder."""
    return f"{SQLITE}{Path(folder).resolve() / 'mlflow.db'}"


class MlflowTracker(AbstractTracker):
    """One parent run, children by tag. After the first failure it stops trying, and remembers why, until forgiven.

    Args:
        uri: tracking URI: `sqlite:////abs/mlflow.db`, `http://host:5000`, ...
        artifact_folder: folder or URI where a new experiment of a database keeps its artifacts; a server knows its own.
    """

    def __init__(self, uri: str, artifact_folder: str | None = None) -> None:
        quiet_mlflow()
        self._uri = uri
        self._artifact_folder = artifact_folder
        self._trouble: str | None = None
        self._client: Any = None
        self._experiment_id = ""
        self._run_id: str | None = None
        self._children: dict[str, str] = {}
        # After a failure the store may hold a child whose answer never came.
        self._children_known = False

    @property
    def uri(self) -> str:
        return without_password(self._uri)

    @property
    def trouble(self) -> str | None:
        return self._trouble

    @property
    def parent_id(self) -> str | None:
        return self._run_id

    def prepare(self) -> None:
        """Import MLflow, and bring a new embedded store's tables into being; a server is asked by `start`."""
        self._attempt(self._load)

    def _load(self) -> None:
        _ignore_notices()
        import mlflow  # noqa: F401

        if self._uri.startswith(SQLITE):
            self._connect()

    def _connect(self) -> None:
        if self._client is not None:
            return
        self._ask()
        _ignore_notices()
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self._uri)
        client.search_experiments(max_results=1)
        self._client = client

    def _ask(self) -> None:
        """Raise at once where MLflow would wait for long: a server that is away, a database that is locked."""
        if self._uri.startswith(("http://", "https://")):
            _probe(self._uri)
        elif self._uri.startswith(SQLITE):
            _open_database(self._uri.removeprefix(SQLITE))

    def forgive(self) -> None:
        if self._trouble is not None:
            self._trouble, self._children_known = None, False

    def answers(self) -> bool:
        try:
            self._ask()
            self._connect()
            self._client.search_experiments(max_results=1)
        except Exception:  # whatever it is, the store is not there
            return False
        return True

    def _attempt(self, action: Callable[[], Any]) -> Any:
        """Run an action unless the tracker is in trouble; any failure puts it there."""
        if self._trouble is not None:
            return None
        try:
            return action()
        except Exception as error:  # a tracker must never stop a study
            self._trouble = without_password(str(error).splitlines()[0]) if str(error) else type(error).__name__
            return None

    def start(self, study: StudyHandle) -> str | None:
        run_id: str | None = self._attempt(lambda: self._start(study))
        return run_id

    def _start(self, study: StudyHandle) -> str:
        self._connect()
        self._experiment_id = self._experiment(study.experiment)
        known = self._client.search_runs([self._experiment_id], f"tags.`{KEY_TAG}` = '{study.key}'", max_results=1)
        if known:
            run_id = known[0].info.run_id
            self._client.update_run(run_id, status="RUNNING")
        else:
            tags = {**study.tags, KEY_TAG: study.key}
            begun = _milliseconds(study.started)
            made = self._client.create_run(self._experiment_id, start_time=begun, run_name=study.key, tags=tags)
            run_id = made.info.run_id
            self._log(run_id, study.params, {}, 0.0)
        self._run_id = run_id
        self._find_children()
        return str(run_id)

    def _find_children(self) -> None:
        """Which cells the store holds already."""
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], f"tags.`{PARENT_TAG}` = '{self._run_id}'", page_token=token
            )
            self._children.update(
                {run.data.tags[CELL_TAG]: run.info.run_id for run in page if CELL_TAG in run.data.tags}
            )
            token = page.token
            if not token:
                break
        self._children_known = True

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = self._artifact_folder
        if location is not None and "://" not in location:
            location = Path(location).resolve().as_uri()
        return str(self._client.create_experiment(name, artifact_location=location))

    def _log(
        self, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float], timestamp: float, step: int = 0
    ) -> None:
        from mlflow.entities import Metric, Param

        when = int(timestamp * 1000)
        self._client.log_batch(
            run_id,
            metrics=[Metric(_name(key), float(value), when, step) for key, value in metrics.items()],
            params=[Param(_name(key), str(value)[:MOST_PARAM_CHARACTERS]) for key, value in params.items()],
        )

    def _parent(self) -> str:
        if self._run_id is None:
            raise RuntimeError("the study's own record could not be opened")
        return self._run_id

    def progress(self, step: int, metrics: Mapping[str, float], timestamp: float) -> None:
        self._attempt(lambda: self._log(self._parent(), {}, metrics, timestamp, step))

    def cell(
        self, key: str, name: str, params: Mapping[str, Any], metrics: Mapping[str, float], timestamp: float
    ) -> None:
        self._attempt(lambda: self._cell(key, name, params, metrics, timestamp))

    def _cell(
        self, key: str, name: str, params: Mapping[str, Any], metrics: Mapping[str, float], timestamp: float
    ) -> None:
        parent = self._parent()
        if not self._children_known:
            self._find_children()
        if key not in self._children:
            tags = {PARENT_TAG: parent, CELL_TAG: key}
            when = _milliseconds(timestamp)
            run = self._client.create_run(self._experiment_id, start_time=when, run_name=name, tags=tags)
            self._children[key] = run.info.run_id
        self._log(self._children[key], params, metrics, timestamp)
        self._client.set_terminated(self._children[key], "FINISHED", _milliseconds(timestamp))

    def metrics(self, metrics: Mapping[str, float], timestamp: float) -> None:
        self.progress(0, metrics, timestamp)

    def artifact(self, path: str, folder: str | None = None) -> None:
        self._attempt(lambda: self._client.log_artifact(self._parent(), path, folder))

    def data_set(self, name: str, points: Any, labels: Any) -> None:
        self._attempt(lambda: self._data_set(name, points, labels))

    def _data_set(self, name: str, points: Any, labels: Any) -> None:
        from mlflow.data.numpy_dataset import from_numpy
        from mlflow.entities import DatasetInput

        data = from_numpy(points, targets=labels, name=name)
        self._client.log_inputs(self._parent(), [DatasetInput(data._to_mlflow_entity())])

    def finish(self, status: str, timestamp: float | None = None) -> None:
        self._attempt(lambda: self._client.set_terminated(self._parent(), status, _milliseconds(timestamp)))


def _ignore_notices() -> None:
    """Warnings and log lines of MLflow hold nothing that a user can act on."""
    warnings.filterwarnings("ignore", module=r"mlflow\..*")
    for name in ("mlflow", "alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _milliseconds(timestamp: float | None) -> int | None:
    return None if timestamp is None else int(timestamp * 1000)


def _name(key: str) -> str:
    """A name that MLflow takes: as it is, or with other signs replaced and a digest of the whole behind.

    Which one depends on the name alone, so that names logged at different times stay apart too.
    """
    allowed = re.fullmatch(r"[A-Za-z0-9_./ :-]{1,250}", key)
    if allowed and posixpath.normpath(key) == key and key.split("/")[0] not in ("", ".", ".."):
        return key
    kept = "/".join(re.sub(r"[^A-Za-z0-9_. :-]", "_", part) for part in key.split("/") if part not in ("", ".", ".."))
    digest = hashlib.sha256(key.encode()).hexdigest()[:10]
    return f"{kept[: MOST_NAME_CHARACTERS - 11].rstrip('/')}-{digest}"


def _open_database(path: str) -> None:
    """Raise unless an SQLite file can be written now: MLflow itself would wait for another process many times over."""
    place = path.partition("?")[0]
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(place, timeout=LOCK_SECONDS, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute("ROLLBACK")


def _probe(uri: str) -> None:
    """A server that is not there should be noticed at once, not after MLflow's retries."""
    try:
        with contextlib.closing(urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=PROBE_SECONDS)):
            return
    except urllib.error.HTTPError as error:
        if error.code < 500:
            return  # some answer: a proxy or another version; the client will find out
        raise ConnectionError(f"the tracking server {uri} answers {error.code}") from None
    except (OSError, ValueError) as error:
        raise ConnectionError(f"the tracking server {uri} does not answer ({error})") from None
