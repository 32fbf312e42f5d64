"""A study from file to figures: skip what is finished, compute the rest, keep it, tell the tracker."""

from __future__ import annotations

import io
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from cluster.execution.executor import AbstractExecutor, Notice, Progress, StudyTally
from cluster.execution.ledger import Ledger
from cluster.execution.ray_runtime import job_submission_id
from cluster.execution.scheduling import Batch, plan, remaining
from tasks.data_sets import load_problem
from tasks.experiment import AbstractExperiment, RunContext, SummaryTable, Trial
from tasks.registry import experiment_named
from tasks.sweeps import Study, trials_of
from tracking.parts import RunFolder, StorageError, plain_name
from tracking.progress_log import ProgressLog
from tracking.provenance import provenance
from tracking.tracker import AbstractTracker, StudyHandle

__all__ = ["RunResult", "StudyRun", "result_from_parts"]

# How often parts that do not stay as they were written are computed again.
MOST_ROUNDS = 3


@dataclass(slots=True)
class RunResult:
    """What a study came to.

    Attributes:
        start_up_seconds: until the workers were ready.
        work_seconds: from the first batch's start to the last one's end, on the workers' clocks.
        seconds: all in all.
        resumed: trials that were finished before.
        notes: parts that were left out because they cannot be believed.
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
    notes: list[str] = field(default_factory=list)
    first_error: str | None = None
    first_failed: str | None = None


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
        self.ledger = Ledger(folder, self.trials)
        self.parent_run_id: str | None = None
        self.begun = time.time()
        self.told = ProgressLog(folder)

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
        return self._without(self.ledger.survey().finished)

    def _without(self, done: Mapping[str, set[str]]) -> tuple[list[Batch], int]:
        left = remaining(plan(self.trials), dict(done))
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
        kept = {name: value for name, value in times.items() if name != "finished_at"}
        self.folder.write_json("times.json", {**kept, "started_at": self.begun})
        self.folder.write_json("study.json", self.study.model_dump(mode="json"))
        if self.text is not None:
            self.folder.write("study.toml", self.text.encode())
        self.folder.write_json("provenance.json", _provenance())
        survey = self.ledger.survey()
        notes = self.ledger.set_aside(survey)
        left, resumed = self._without(survey.finished)
        opening = threading.Thread(target=self.open_tracker, name="open-tracker")
        opening.start()
        if left:
            used = sorted({batch.experiment for batch in left})
            executor.start([self.experiments[name] for name in used], self.folder)
        opening.join()
        start_up = time.time() - begun
        tally = StudyTally(len(self.trials), sum(batch.cost_seconds for batch in left) or 1.0, resumed)
        report(tally.progress())
        for note in notes:
            report(tally.progress(note))
        for attempt in range(MOST_ROUNDS):
            all_taken = self._compute(executor, left, tally, report)
            if all_taken and not self.ledger.unsound():
                break
            survey = self.ledger.survey()
            for note in self.ledger.set_aside(survey):
                report(tally.progress(note))
            kept = {name: keys | survey.failed[name] for name, keys in survey.finished.items()}
            left, tally.done = self._without(kept)
            tally.failed = sum(map(len, survey.failed.values()))
            if left and attempt == MOST_ROUNDS - 1:
                raise StorageError(f"parts in {self.folder.uri} do not stay as they were written, {MOST_ROUNDS} times")
        self._tell_progress(tally, resumed)
        return RunResult(
            folder=self.folder,
            parent_run_id=self.parent_run_id,
            trials=tally.done,
            failed=tally.failed,
            seconds=time.time() - begun,
            start_up_seconds=start_up,
            work_seconds=max(0.0, tally.last - tally.first),
            resumed=resumed,
            first_error=tally.error,
            first_failed=tally.guilty,
        )

    def _compute(
        self, executor: AbstractExecutor, left: list[Batch], tally: StudyTally, report: Callable[[Progress], None]
    ) -> bool:
        """Compute batches and count those whose parts were seen; whether all of them were."""
        all_taken, resumed = True, tally.done
        for summary in executor.run(left, self.experiments, self.folder, self.context) if left else ():
            if isinstance(summary, Notice):
                report(tally.progress(summary.text))
                continue
            wrong = self.ledger.take(summary)
            if wrong is not None:
                all_taken = False
                report(tally.progress(f"{wrong}: its trials are computed again"))
                continue
            tally.count(summary)
            report(tally.progress())
            if self.told.due(time.time()):
                self._tell_progress(tally, resumed)
        return all_taken

    def _tell_progress(self, tally: StudyTally, resumed: int) -> None:
        elapsed = time.time() - tally.begun
        rate = (tally.done - resumed) / elapsed if elapsed > 0 else 0.0
        metrics = {"progress.trials_done": float(tally.done), "progress.trials_failed": float(tally.failed)}
        metrics["progress.trials_per_second"] = rate
        now = time.time()
        self.told.add(tally.done, metrics, now)
        self.tracker.progress(tally.done, metrics, now)

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
        for step, metrics, when in self.told.points():
            self.tracker.progress(step, metrics, when)
        result = result_from_parts(self)
        times = self.folder.read_json("times.json") or {}
        with tempfile.TemporaryDirectory(prefix="interlip-sync-") as place:
            last = self._publish(result, RunFolder(place))
        self._log_end(result, times, times.get("finished_at", last))
        return result

    def _log_end(self, result: RunResult, times: Mapping[str, float], when: float) -> None:
        measured = {name: value for name, value in times.items() if name.endswith("seconds")}
        self.tracker.metrics({**measured, "trials": result.trials, "failed": result.failed}, when)
        # A run that is told of from its folder may have been stopped on its way.
        self.tracker.finish("FINISHED" if "finished_at" in times else "KILLED", when)
        result.parent_run_id = self.parent_run_id = self.tracker.parent_id

    def _publish(self, result: RunResult, products: RunFolder) -> float:
        """Log everything that follows from the parts; tables and figures go to a folder.

        Returns:
            When the last trial was finished.
        """
        last = self.begun
        files = [(self.folder, name) for name in ("study.json", "study.toml", "provenance.json")]
        for name, sweep in self.study.sweeps.items():
            experiment = self.experiments[sweep.experiment]
            cells = {trial.cell for trial in self._cells().get(name, [])}
            frame = self.folder.frame(name, cells)
            if frame.empty:
                continue
            files.append((products, self.folder.merge(name, products, cells)))
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
                self.tracker.settle()

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
        frame = run.folder.frame(name, {trial.cell for trial in run.trials if trial.sweep == name})
        if not frame.empty:
            done, failed = done + len(frame), failed + int(frame["failed"].sum())
    result = RunResult(run.folder, run.parent_run_id, done, failed, 0.0, 0.0, 0.0, done)
    survey = run.ledger.survey()
    result.notes = [f"the part {path} {reason}: left out" for _, path, reason in survey.damaged]
    result.notes += [f"the part {sweep}/{part} is gone" for sweep, part in survey.gone]
    return result
