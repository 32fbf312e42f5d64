"""Commands on studies: run, studies, submit, sync, ui."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.commands.options import DataDir, Debug, Json, check_cluster, check_data_dir, check_executor, check_workers
from cluster.commands.stores import chosen_store, default_out, sync_tracker, tracker_for
from cluster.output.terminal import EXIT_ERROR, Exit, console, emit_json, guarded, say
from solvers.errors import InputError

if TYPE_CHECKING:
    from cluster.execution.executor import AbstractExecutor
    from cluster.execution.runner import RunResult
    from tasks.sweeps import Study

__all__ = ["register"]

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=V", help="Set a key of the study; may be given again.")
]
Out = Annotated[str | None, typer.Option("--out", metavar="URI", help="Folder or URI of the run folders [./runs]")]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", metavar="URI", help="MLflow store [$MLFLOW_TRACKING_URI, else a file in --out]"),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("run")(run)
    app.command("studies")(studies)
    app.command("submit")(submit)
    app.command("sync")(sync)
    app.command("ui")(ui)


def _executor(kind: str, address: str | None, workers: int | None, trial_timeout: float | None) -> AbstractExecutor:
    check_executor(kind, workers, address)
    if kind == "local":
        if workers not in (None, 1):
            raise InputError("--executor local has one worker: leave --workers out, or take --executor ray")
        from cluster.execution.in_process import InProcessExecutor

        return InProcessExecutor()
    from cluster.execution.fleet.ray_executor import RayExecutor

    check_cluster(address)
    return RayExecutor(workers, address, trial_timeout)


def run(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped study.")],
    executor: Annotated[str, typer.Option(help="ray, or local: one process, no Ray.")] = "ray",
    address: Annotated[str | None, typer.Option(help="A standing Ray cluster: auto or HOST:PORT.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker actors [all CPUs].")] = None,
    out: Out = None,
    tracking_uri: TrackingUri = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the newest run of this study in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and plan, compute nothing.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a study: a grid of trials on Ray, every trial kept in Parquet, every cell in MLflow, figures at the end.

    Example: interlip run overview --set sweeps.lipschitz.replicates=20
    """
    with guarded(debug):
        from tasks.sweeps import load_study, study_text

        loaded, (text, _) = load_study(study, overrides or ()), study_text(study)
        place = default_out() if out is None else out
        context_dir = check_data_dir(data_dir)
        engine = _executor(executor, address, workers, loaded.trial_timeout)
        _run(loaded, text, engine, place, tracking_uri, resume, dry_run, context_dir, json)


def _run(
    study: Study,
    text: str,
    engine: AbstractExecutor,
    out: str,
    tracking_uri: str | None,
    resume: bool,
    dry_run: bool,
    data_dir: str | None,
    json: bool,
) -> None:
    from cluster.execution.ledger import earlier_runs, open_run
    from cluster.execution.runner import StudyRun
    from cluster.execution.scheduling import describe
    from cluster.output.progress import ProgressDisplay
    from tasks.experiment import RunContext
    from tracking.memory_tracker import MemoryTracker
    from tracking.parts import RunFolder

    context = RunContext(data_dir=data_dir)
    if dry_run:
        planned = StudyRun(study, RunFolder(out), MemoryTracker(), context)
        planned.check()
        batches, resumed = planned.batches()
        if json:
            emit_json({"study": study.name, "trials": len(planned.trials), "batches": len(batches)})
        else:
            print("\n".join(describe(study, batches, resumed)))
        return
    tracker = tracker_for(out, tracking_uri)
    StudyRun(study, RunFolder(out), MemoryTracker(), context).check()
    folder, old = open_run(study, out, resume)
    job = StudyRun(study, folder, tracker, context, text)
    if resume and not old:
        runs = [run for run in earlier_runs(study, out) if run != folder]
        taken = job.ledger.adopt(runs)
        reused = f", {taken} finished trials of earlier runs are taken over" if taken else ""
        say(f"nothing to resume for this study in {out}: starting a new run{reused}")
        if len(earlier_runs(study, out, any_sources=True)) > len(runs) + 1:
            say("runs by other sources of the methods are left as they are: their rows and new ones are not mixed")
    say(f"study {study.name}: {len(job.trials)} trials, run folder {folder.uri}")
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        with engine, ProgressDisplay() as display:
            result = job.execute(engine, display.show)
        job.conclude(result)
    except BaseException as error:
        tracker.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        say(f"what was finished is kept in {folder.uri}; the same command with --resume goes on from there")
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
    _finish(job.tracker, result, json, out, tracking_uri)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _finish(tracker: Any, result: RunResult, json: bool, out: str, tracking_uri: str | None) -> None:
    """The last words of a run: tables, figures, where to look."""
    if json:
        emit_json(
            {
                "run_dir": result.folder.uri,
                "tracking_uri": tracker.uri,
                "parent_run_id": result.parent_run_id,
                "trials": result.trials,
                "failed": result.failed,
                "seconds": result.seconds,
                "start_up_seconds": result.start_up_seconds,
                "work_seconds": result.work_seconds,
                "resumed": result.resumed,
                "figures": [f"{result.folder.uri}/{name}" for name in result.figures],
                "tracking_trouble": tracker.trouble,
            }
        )
    else:
        _show_tables(result)
    if result.failed:
        say(f"{result.failed} trials failed; the first: {result.first_error}; --resume tries them again")
        if result.first_failed:
            say(f"alone and in this process: interlip replay {result.folder.uri} {result.first_failed}")
    if tracker.trouble:
        say(
            f"tracking missed something ({tracker.trouble}); `interlip sync {result.folder.uri}` logs it from the parts"
        )
    for name in result.figures:
        say(f"figure   {result.folder.uri}/{name}")
    where = f" --tracking-uri {tracker.uri}" if tracking_uri else f" --out {out}" if out != "runs" else ""
    say(f"finished {result.trials} trials in {result.seconds:.0f} s; open the dashboard with: interlip ui{where}")
    if result.failed and result.failed == result.trials:
        raise Exit(EXIT_ERROR)


def _show_tables(result: RunResult) -> None:
    from rich.table import Table

    screen = console(stderr=False)
    for table in result.tables:
        shown = Table(title=table.title, title_justify="left", header_style="bold")
        for k, column in enumerate(table.columns):
            shown.add_column(column, justify="left" if k == 0 else "right")
        for row in table.rows:
            shown.add_row(*row)
        screen.print(shown)
        for note in table.notes:
            screen.print(note)


def studies(json: Json = False, debug: Debug = False) -> None:
    """List the shipped studies.

    Example: interlip studies
    """
    with guarded(debug):
        import tomllib

        from tasks.sweeps import shipped_studies

        found = {name: str(tomllib.loads(text).get("title", "")) for name, text in shipped_studies().items()}
        if json:
            emit_json([{"name": name, "title": title} for name, title in found.items()])
        else:
            for name, title in found.items():
                print(f"{name:<24} {title}")


def submit(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped study.")],
    address: Annotated[str, typer.Option(help="Dashboard of a standing cluster: http://HOST:8265.")],
    follow: Annotated[bool, typer.Option("--follow", help="Show the job's log until it ends.")] = False,
    workers: Annotated[int | None, typer.Option(help="Worker actors [all CPUs of the cluster].")] = None,
    out: Out = None,
    tracking_uri: TrackingUri = None,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the newest run of this study in --out.")] = False,
    data_dir: DataDir = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a study as a Ray job on a standing cluster; nothing of ours needs to be installed there.

    Example: interlip submit overview --address http://127.0.0.1:8265 --follow
    """
    with guarded(debug):
        from cluster.execution.jobs import JobRequest, follow_job, submit_study
        from tasks.sweeps import load_study

        load_study(study, overrides or ())
        check_workers(workers)
        request = JobRequest(
            study,
            address,
            overrides=tuple(overrides or ()),
            workers=workers,
            out=out,
            tracking_uri=chosen_store(tracking_uri),
            resume=resume,
            data_dir=check_data_dir(data_dir),
        )
        job = submit_study(request)
        say(f"job {job.job_id} submitted to {address}; results go to {job.out}")
        status = follow_job(job, say) if follow else None
        if json:
            emit_json({"job_id": job.job_id, "address": address, "out": job.out, "status": status})
        if status is not None:
            say(f"job {job.job_id} {status.lower()}")
        elif not json:
            say(f"its log: ray job logs --address {address} --follow {job.job_id}")
        if status not in (None, "SUCCEEDED"):
            raise Exit(EXIT_ERROR)


def sync(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Log to MLflow, from a run folder's parts, what the tracker missed.

    Example: interlip sync runs/overview-20261124-101500-ab12-0f3c9a77
    """
    with guarded(debug):
        from cluster.execution.runner import StudyRun
        from cluster.output.run_report import opened_run
        from tasks.experiment import RunContext
        from tasks.sweeps import stored_study

        folder, described = opened_run(run)
        path = folder.uri
        parent = path.rsplit("/", 1)[0]
        tracker = sync_tracker(parent, tracking_uri)
        context = RunContext(data_dir=check_data_dir(data_dir))
        job = StudyRun(stored_study(described, f"{run}/study.json"), folder, tracker, context)
        result = job.log_again()
        for note in result.notes:
            say(f"{note}; the study's command with --resume computes its trials again")
        if tracker.trouble:
            say(f"interlip: the tracker still misses something: {tracker.trouble}")
            raise Exit(EXIT_ERROR)
        if json:
            emit_json(
                {
                    "run_dir": path,
                    "tracking_uri": tracker.uri,
                    "parent_run_id": job.parent_run_id,
                    "trials": result.trials,
                }
            )
        say(f"logged {result.trials} trials of {path} to {tracker.uri}")


def ui(
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000,
    out: Out = None,
    tracking_uri: TrackingUri = None,
    debug: Debug = False,
) -> None:
    """Open MLflow's page over the embedded store (Ctrl-C ends it).

    Example: interlip ui --port 5001
    """
    with guarded(debug):
        from cluster.output.dashboard import serve

        serve(default_out() if out is None else out, chosen_store(tracking_uri), port)
