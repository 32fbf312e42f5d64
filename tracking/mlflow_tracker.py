"""Records in MLflow: the embedded SQLite store by default, any tracking server by URI."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import urllib.error
import urllib.request
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
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
MOST_PARAM_CHARACTERS = 500


def quiet_mlflow() -> None:
    """Settings for a quiet MLflow that phones nowhere; what the user has set stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def embedded_uri(folder: str) -> str:
    """Tracking URI of the store under a local folder."""
    return f"sqlite:///{Path(folder).resolve() / 'mlflow.db'}"


class MlflowTracker(AbstractTracker):
    """One parent run, children by tag. After the first failure it stops trying and remembers why.

    Args:
        uri: tracking URI: `sqlite:////abs/mlflow.db`, `http://host:5000`, ...
        artifact_folder: where a new experiment of an embedded store keeps its artifacts.
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
        self._artifacts: set[str] = set()

    @property
    def uri(self) -> str:
        return without_password(self._uri)

    @property
    def trouble(self) -> str | None:
        return self._trouble

    def prepare(self) -> None:
        """Connect, and bring a new store's tables into being before anyone else opens it."""
        self._attempt(self._connect)

    def _connect(self) -> None:
        if self._client is not None:
            return
        if self._uri.startswith(("http://", "https://")):
            _probe(self._uri)
        elif self._uri.startswith("sqlite:///"):
            Path(self._uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        warnings.filterwarnings("ignore", module=r"mlflow\..*")
        for name in ("mlflow", "alembic", "mlflow.store.db.utils"):
            logging.getLogger(name).setLevel(logging.ERROR)
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self._uri)
        client.search_experiments(max_results=1)
        self._client = client

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
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], f"tags.`{PARENT_TAG}` = '{run_id}'", page_token=token
            )
            self._children.update(
                {run.data.tags[CELL_TAG]: run.info.run_id for run in page if CELL_TAG in run.data.tags}
            )
            token = page.token
            if not token:
                return str(run_id)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = None if self._artifact_folder is None else Path(self._artifact_folder).resolve().as_uri()
        return str(self._client.create_experiment(name, artifact_location=location))

    def _log(
        self, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float], timestamp: float, step: int = 0
    ) -> None:
        from mlflow.entities import Metric, Param

        when = int(timestamp * 1000)
        metric_names, param_names = _names(metrics), _names(params)
        self._client.log_batch(
            run_id,
            metrics=[Metric(metric_names[key], float(value), when, step) for key, value in metrics.items()],
            params=[Param(param_names[key], str(value)[:MOST_PARAM_CHARACTERS]) for key, value in params.items()],
        )

    def progress(self, step: int, metrics: Mapping[str, float], timestamp: float) -> None:
        if self._run_id is not None:
            run_id = self._run_id
            self._attempt(lambda: self._log(run_id, {}, metrics, timestamp, step))

    def cell(
        self, key: str, name: str, params: Mapping[str, Any], metrics: Mapping[str, float], timestamp: float
    ) -> None:
        self._attempt(lambda: self._cell(key, name, params, metrics, timestamp))

    def _cell(
        self, key: str, name: str, params: Mapping[str, Any], metrics: Mapping[str, float], timestamp: float
    ) -> None:
        if self._run_id is None:
            return
        if key not in self._children:
            tags = {PARENT_TAG: self._run_id, CELL_TAG: key}
            when = _milliseconds(timestamp)
            run = self._client.create_run(self._experiment_id, start_time=when, run_name=name, tags=tags)
            self._children[key] = run.info.run_id
        self._log(self._children[key], params, metrics, timestamp)
        self._client.set_terminated(self._children[key], "FINISHED", _milliseconds(timestamp))

    def metrics(self, metrics: Mapping[str, float], timestamp: float) -> None:
        self.progress(0, metrics, timestamp)

    def artifact(self, path: str, folder: str | None = None) -> None:
        if self._run_id is not None:
            self._attempt(lambda: self._client.log_artifact(self._run_id, path, folder))

    def data_set(self, name: str, points: Any, labels: Any) -> None:
        self._attempt(lambda: self._data_set(name, points, labels))

    def _data_set(self, name: str, points: Any, labels: Any) -> None:
        from mlflow.data.numpy_dataset import from_numpy
        from mlflow.entities import DatasetInput

        if self._run_id is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # integer columns and source guesses: nothing a user can act on
            data = from_numpy(points, targets=labels, name=name)
            self._client.log_inputs(self._run_id, [DatasetInput(data._to_mlflow_entity())])

    def finish(self, status: str, timestamp: float | None = None) -> None:
        if self._run_id is not None:
            self._attempt(lambda: self._client.set_terminated(self._run_id, status, _milliseconds(timestamp)))


def _milliseconds(timestamp: float | None) -> int | None:
    return None if timestamp is None else int(timestamp * 1000)


def _name(key: str) -> str:
    """MLflow allows letters, digits and a few signs in names."""
    return re.sub(r"[^A-Za-z0-9_./ :-]", "_", key)


def _names(keys: Iterable[str]) -> dict[str, str]:
    """Allowed names for keys that are logged together; of those that would share one, each has a digest of its key."""
    found = {key: _name(key) for key in keys}
    counts = Counter(found.values())
    return {
        key: name if counts[name] == 1 or name == key else f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"
        for key, name in found.items()
    }


def _probe(uri: str) -> None:
    """A server that is not there should be noticed at once, not after MLflow's retries."""
    try:
        with contextlib.closing(urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5)):
            return
    except urllib.error.HTTPError:
        return  # some answer: a proxy or another version; the client will find out
    except (OSError, ValueError) as error:
        raise ConnectionError(f"the tracking server {uri} does not answer ({error})") from None
