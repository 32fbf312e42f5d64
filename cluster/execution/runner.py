"""A study from file to figures: skip what is finished, compute the rest, keep it, tell the tracker."""

from __future__ import annotations

import io
import math
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from cluster.execution.executor import AbstractExecutor, Notice
from cluster.execution.ray_runtime import job_submission_id
from cluster.execution.scheduling import Batch, plan, remaining
from solvers.errors import InputError
from tasks.data_sets import load_problem
from tasks.experiment import AbstractExperiment, RunContext, SummaryTable, Trial
from tasks.registry import experiment_named
from tasks.seeding import canonical_json, content_digest
from tasks.sweeps import Study, trials_of
from tracking.parts import RunFolder, StorageError, plain_name
from tracking.provenance import provenance
from tracking.tracker import AbstractTracker, StudyHandle

__all__ = ["Progress", "RunResult", "StudyRun", "describe", "open_run", "result_from_parts", "study_digest"]

PROGRESS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is: trials done of all, and the share of the expected work.

    Attributes:
        note: something to tell besides; empty for nothing.
    """

    done: int
    total: int
    failed: int
    share: float
    elapsed_seconds: float
    note: str = ""

    @property
    def seconds_left(self) -> float:
        """By the share of expected work that is done; infinite before anything is."""
        return self.elapsed_seconds * (1 - self.share) / self.share if self.share > 0 else math.inf


@dataclass(slots=True)
class RunResult:
    """What a study came to.

    Attributes:
        start_up_seconds: until the workers were ready.
        work_seconds: from the first batch's start to the last one's end, on the workers' clocks.
        seconds: all in all.
        resumed: trials that were finished before.
    """

    folder: RunFolder
    parent_run_id: str | None
    trials: int
    failed: int
    seconds: float
    start_up_seconds: float
    work_seconds: float
    resumed: int
    tables: list[SummaryTable] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    first_error: str | None = None
    first_failed: str | None = None


def study_digest(study: Study) -> str:
    """Content hash of a study: the same file with the same overrides, whatever time its trials are given."""
    return content_digest(study.model_dump(mode="python", exclude={"trial_timeout"}))[:8]


def open_run(study: Study, out: str, resume: bool) -> tuple[RunFolder, bool]:
    """A new run folder under `out`, or the newest one of the same study.

    Returns:
        The folder, created and proved writable, and whether it is an old one.
    Raises:
        InputError: the folder cannot be written.
    """
    digest = study_digest(study)
    base = out.rstrip("/") if "://" in out else os.path.abspath(out)
    prefix = f"{study.name}-"
    if resume:
        old = _newest(base, prefix, digest)
        if old is not None:
            return RunFolder(old), True
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = RunFolder(f"{base}/{prefix}{stamp}-{uuid.uuid4().hex[:4]}-{digest}")
    try:
        folder.create()
    except StorageError as error:
        raise InputError(str(error)) from None
    return folder, False


def _newest(base: str, prefix: str, digest: str) -> str | None:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(base)
    if not filesystem.exists(path):
        return None
    names = [str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in filesystem.ls(path, detail=False)]
    found = sorted(name for name in names if name.startswith(prefix) and name.endswith(f"-{digest}"))
    return f"{base}/{found[-1]}" if found else None


class StudyRun:
    """One study in one run folder. `check` and `batches` plan, `execute` computes, `conclude` draws and logs.

    Args:
        text: the study file as it was written, where there is one.
    """

    def __init__(
        self,
        study: Study,
        folder: RunFolder,
        tracker: AbstractTracker,
        context: RunContext,
        text: str | None = None,
    ) -> None:
        self.text = text
        self.study, self.folder, self.tracker, self.context = study, folder, tracker, context
        self.experiments: dict[str, AbstractExperiment[Any]] = {
            sweep.experiment: experiment_named(sweep.experiment) for sweep in study.sweeps.values()
        }
        self.trials: list[Trial] = list(trials_of(study))
        self.parent_run_id: str | None = None
        self.begun = time.time()

    def check(self) -> None:
        """Refuse a study that could never run, before anything starts.

        Raises:
            InputError: one sentence.
        """
        seen: set[str] = set()
        for trial in self.trials:
            if trial.cell not in seen:
                seen.add(trial.cell)
                experiment = self.experiments[trial.experiment]
                experiment.check(experiment.config_type.model_validate(dict(trial.params)), self.context)

    def batches(self) -> tuple[list[Batch], int]:
        """The batches still to do, and how many trials are finished already."""
        finished = {name: self.folder.finished_keys(name) for name in self.study.sweeps}
        left = remaining(plan(self.trials), finished)
        return left, len(self.trials) - sum(len(batch.trials) for batch in left)

    def open_tracker(self) -> None:
        """Open the parent run; told again, with what its run folder says of where and when it ran."""
        tags = self.folder.read_json("provenance.json") or {}
        times = self.folder.read_json("times.json") or {}
        tags["run_dir"] = self.folder.uri
        if self.study.title:
            tags["mlflow.note.content"] = self.study.title
        params: dict[str, Any] = {"seed": self.study.seed, "trials": len(self.trials)}
        for name, sweep in self.study.sweeps.items():
            prefix = plain_name(name)
            params[f"{prefix}.experiment"] = sweep.experiment
            params[f"{prefix}.replicates"] = sweep.replicates
            for axis, values in sweep.grid.items():
                params[f"{prefix}.{axis}"] = str(values if isinstance(values, list) else values.values())
        key = self.folder.uri.rsplit("/", 1)[-1]
        handle = StudyHandle(key, self.study.name, params, tags, times.get("started_at", self.begun))
        self.parent_run_id = self.tracker.start(handle)

    def execute(self, executor: AbstractExecutor, report: Callable[[Progress], None]) -> RunResult:
        """Compute everything that is missing.

        Args:
            report: hears of progress after every batch.
        """
        begun = time.time()
        # A resumed run began when it was first started.
        times = self.folder.read_json("times.json") or {}
        self.begun = times.get("started_at", begun)
        self.folder.write_json("times.json", {**times, "started_at": self.begun})
        self.folder.write_json("study.json", self.study.model_dump(mode="json"))
        if self.text is not None:
            self.folder.write("study.toml", self.text.encode())
        self.folder.write_json("provenance.json", _provenance())
        left, resumed = self.batches()
        opening = threading.Thread(target=self.open_tracker, name="open-tracker")
        opening.start()
        if left:
            used = sorted({batch.experiment for batch in left})
            executor.start([self.experiments[name] for name in used])
        opening.join()
        start_up = time.time() - begun
        first, last, error, guilty = math.inf, 0.0, None, None
        total_cost = sum(batch.cost_seconds for batch in left) or 1.0
        done, failed, cost, told = resumed, 0, 0.0, time.time()
        started = time.time()
        report(Progress(done, len(self.trials), 0, 0.0, 0.0))
        for summary in executor.run(left, self.experiments, self.folder, self.context) if left else ():
            if isinstance(summary, Notice):
                now = time.time() - started
                report(Progress(done, len(self.trials), failed, cost / total_cost, now, summary.text))
                continue
            first, last = min(first, summary.started), max(last, summary.finished)
            done, failed, cost = done + summary.trials, failed + summary.failed, cost + summary.cost_seconds
            error, guilty = error or summary.first_error, guilty or summary.first_failed
            now = time.time()
            report(Progress(done, len(self.trials), failed, cost / total_cost, now - started))
            if now - told > PROGRESS_SECONDS:
                told = now
                self._tell_progress(done, failed, now - started, done - resumed)
        self._tell_progress(done, failed, time.time() - started, done - resumed)
        return RunResult(
            folder=self.folder,
            parent_run_id=self.parent_run_id,
            trials=done,
            failed=failed,
            seconds=time.time() - begun,
            start_up_seconds=start_up,
            work_seconds=max(0.0, last - first),
            resumed=resumed,
            first_error=error,
            first_failed=guilty,
        )

    def _tell_progress(self, done: int, failed: int, elapsed: float, fresh: int) -> None:
        rate = fresh / elapsed if elapsed > 0 else 0.0
        metrics = {"progress.trials_done": float(done), "progress.trials_failed": float(failed)}
        self.tracker.progress(done, {**metrics, "progress.trials_per_second": rate}, time.time())

    def conclude(self, result: RunResult) -> None:
        """Merge the parts, draw the figures, log cells, summaries and times."""
        begun = time.time()
        self._publish(result, self.folder)
        now = time.time()
        result.seconds += now - begun
        times = {
            "started_at": self.begun,
            "finished_at": now,
            "seconds": result.seconds,
            "work_seconds": result.work_seconds,
            "start_up_seconds": result.start_up_seconds,
        }
        self.folder.write_json("times.json", times)
        self._log_end(result, times, now)

    def log_again(self) -> RunResult:
        """Tell the tracker what it missed, from the run folder alone, which may be one that can only be read.

        Times are those that were measured; telling it twice adds nothing.
        """
        self.open_tracker()
        result = result_from_parts(self)
        times = self.folder.read_json("times.json") or {}
        with tempfile.TemporaryDirectory(prefix="interlip-sync-") as place:
            last = self._publish(result, RunFolder(place))
        self._log_end(result, times, times.get("finished_at", last))
        return result

    def _log_end(self, result: RunResult, times: Mapping[str, float], when: float) -> None:
        measured = {name: value for name, value in times.items() if name.endswith("seconds")}
        self.tracker.metrics({**measured, "trials": result.trials, "failed": result.failed}, when)
        self.tracker.finish("FINISHED", when)

    def _publish(self, result: RunResult, products: RunFolder) -> float:
        """Log everything that follows from the parts; tables and figures go to a folder.

        Returns:
            When the last trial was finished.
        """
        last = self.begun
        files = [(self.folder, name) for name in ("study.json", "study.toml", "provenance.json")]
        for name, sweep in self.study.sweeps.items():
            experiment = self.experiments[sweep.experiment]
            frame = self.folder.frame(name)
            if frame.empty:
                continue
            files.append((products, self.folder.merge(name, products)))
            when = float(frame["finished_at"].max())
            last = when if last == self.begun else max(last, when)
            good = frame[~frame["failed"]]
            self._log_cells(name, experiment, frame, good)
            if good.empty:
                continue
            prefix = plain_name(name)
            metrics = experiment.study_metrics(good)
            self.tracker.metrics({f"{prefix}.{key}": value for key, value in metrics.items()}, when)
            result.tables.extend(experiment.summary_tables(good))
            for stem, figure in experiment.figures(good).items():
                result.figures.append(_keep_figure(products, f"figures/{prefix}_{stem}.png", figure))
        for folder, file in [*files, *((products, name) for name in result.figures)]:
            self._log_file(folder, file)
        self._log_data_sets()
        return last

    def _log_cells(
        self, sweep: str, experiment: AbstractExperiment[Any], frame: pd.DataFrame, good: pd.DataFrame
    ) -> None:
        """A child run for every grid cell, read one cell at a time."""
        cells = {trial.cell: trial for trial in self._cells().get(sweep, [])}
        for cell, rows in frame.groupby("cell", sort=False):
            kept = good[good["cell"] == cell]
            trial = cells[str(cell)]
            metrics = experiment.cell_metrics(trial.params, kept) if len(kept) else {}
            metrics = {**metrics, "failed": float(len(rows) - len(kept))}
            varying = [axis for axis in self.study.sweeps[sweep].grid if axis in trial.params]
            name = " ".join(f"{axis}={trial.params[axis]}" for axis in varying) or sweep
            params = {"sweep": sweep, **trial.params}
            self.tracker.cell(f"{sweep}/{cell}", f"{sweep}: {name}", params, metrics, float(rows["finished_at"].max()))

    def _cells(self) -> dict[str, list[Trial]]:
        """The first trial of every grid cell, by sweep."""
        found: dict[str, list[Trial]] = {}
        for trial in self.trials:
            if trial.replicate == 0:
                found.setdefault(trial.sweep, []).append(trial)
        return found

    def _log_file(self, place: RunFolder, name: str) -> None:
        """A file of a run folder, if it is there, as an artifact; from object stores by way of a temporary copy."""
        folder = os.path.dirname(name) or None
        local = place.local_path
        if local is not None:
            if os.path.exists(os.path.join(local, name)):
                self.tracker.artifact(os.path.join(local, name), folder)
            return
        content = place.read(name)
        if content is not None:
            with tempfile.TemporaryDirectory() as copies:
                path = os.path.join(copies, os.path.basename(name))
                with open(path, "wb") as stream:
                    stream.write(content)
                self.tracker.artifact(path, folder)

    def _log_data_sets(self) -> None:
        seen: set[str] = set()
        for trials in self._cells().values():
            for trial in trials:
                for name in self.experiments[trial.experiment].data_sources(trial.params):
                    if name in seen:
                        continue
                    seen.add(name)
                    options = {key: trial.params.get(key) for key in ("label", "radius") if key in trial.params}
                    seed = int(trial.params.get("data_seed", 0))
                    problem = load_problem(name, seed=seed, data_dir=self.context.data_dir, **options)
                    self.tracker.data_set(name.replace("/", "_"), problem.points, problem.labels)


def _provenance() -> dict[str, str]:
    """Where this process runs; inside a Ray job with the job's id."""
    job = job_submission_id()
    return provenance() | ({"ray.job_submission_id": job} if job else {})


def _keep_figure(folder: RunFolder, name: str, figure: Any) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    folder.write(name, content.getvalue())
    return name


def result_from_parts(run: StudyRun) -> RunResult:
    """What a finished or interrupted run came to, from its parts alone."""
    done = failed = 0
    for name in run.study.sweeps:
        frame = run.folder.frame(name)
        if not frame.empty:
            done, failed = done + len(frame), failed + int(frame["failed"].sum())
    return RunResult(run.folder, run.parent_run_id, done, failed, 0.0, 0.0, 0.0, done)


def describe(study: Study, batches: Sequence[Batch], resumed: int) -> list[str]:
    """What `--dry-run` says."""
    trials = sum(len(batch.trials) for batch in batches)
    cost = sum(batch.cost_seconds for batch in batches)
    lines = [f"study {study.name}: {trials} trials in {len(batches)} batches, {resumed} finished before"]
    lines.append(f"expected work: about {cost:.0f} core-seconds")
    for name, sweep in study.sweeps.items():
        lines.append(f"  {name}: {sweep.experiment}, {sweep.replicates} replicates, {canonical_json(list(sweep.grid))}")
    return lines
