"""Commands on run folders, from their parts alone: list, status, show, export."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.commands.options import Debug, Json
from cluster.output.terminal import emit_json, guarded, say
from solvers.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from cluster.output.run_report import RunReport
    from tasks.sweeps import Study
    from tracking.parts import RunFolder

__all__ = ["register"]

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")]
SweepName = Annotated[str | None, typer.Option("--sweep", metavar="NAME", help="One sweep of the study [all].")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", metavar="NAME", help="A measured column; may be given again [as fits].")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("list")(list_runs)
    app.command("status")(status)
    app.command("show")(show)
    app.command("export")(export)


def list_runs(
    out: Annotated[str | None, typer.Option("--out", metavar="URI", help="Where the run folders are [./runs]")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the run folders in a place: how far each is, and how many trials failed.

    Example: interlip list --out /shared/runs
    """
    with guarded(debug):
        from cluster.commands.stores import default_out
        from cluster.output.run_report import report_run
        from cluster.output.tables import text_table
        from tracking.parts import RunFolder, StorageError
        from tracking.run_survey import described_run

        place = default_out() if out is None else out
        base = place.rstrip("/") if "://" in place else str(Path(place).resolve())
        try:
            names = sorted(RunFolder(base).folder_names())
        except StorageError as error:
            raise InputError(str(error)) from None
        reports = [report_run(f"{base}/{name}") for name in names if described_run(RunFolder(f"{base}/{name}"))]
        if json:
            emit_json([report.document() for report in reports])
            return
        if not reports:
            say(f"there is no run folder in {place}")
            return
        rows = [[r.run_dir.rsplit("/", 1)[-1], f"{r.done}/{r.trials}", str(r.failed), _state(r)] for r in reports]
        print(text_table(["run", "done", "failed", "state"], rows))


def status(run: Run, json: Json = False, debug: Debug = False) -> None:
    """Say how far a run is: finished and failed trials with their errors, open intervals, the time left.

    Example: interlip status runs/overview-20261124-101500-ab12-0f3c9a77
    """
    with guarded(debug):
        from cluster.output.run_report import report_run

        report = report_run(run)
        if json:
            emit_json(report.document())
        else:
            print("\n".join(_status_lines(report)))


def _status_lines(report: RunReport) -> list[str]:
    from cluster.output.progress import duration
    from cluster.output.tables import WIDTH, text_table
    from tasks.statistics import OPEN_GAP

    failed = f", {report.failed} failed" if report.failed else ""
    told = [
        ("study", f"{report.study}: {report.title}" if report.title else report.study),
        ("state", f"{_state(report)}: {report.done} of {report.trials} trials{failed}"),
    ]
    if report.started_at is not None:
        told.append(("started", _moment(report.started_at)))
    if report.last_trial_at is not None:
        told.append(("last", f"{_moment(report.last_trial_at)}, workers in its minute: {report.workers}"))
    if not report.finished:
        left = report.seconds_left
        told.append(("left", "not known yet: some cells have no measured trial" if left is None else
                     f"about {duration(left)} with as many workers"))  # fmt: skip
    told.append(("open", f"{report.open} intervals wider than {OPEN_GAP:.1%} of their upper end"))
    lines = [f"run      {report.run_dir}"]
    for word, text in told:
        lines += textwrap.wrap(text, WIDTH, initial_indent=word.ljust(9), subsequent_indent=" " * 9)
    rows = [
        [s.name, s.experiment, f"{s.done}/{s.trials}", str(s.failed), f"{s.cells_begun}/{s.cells}", str(s.open)]
        for s in report.sweeps
    ]
    lines += ["", text_table(["sweep", "experiment", "done", "failed", "cells", "open"], rows)]
    for sweep in report.sweeps:
        for failure in sweep.failures:
            place = ", ".join([*(f"{axis}={value}" for axis, value in failure.cell.items()),
                               f"replicate {failure.replicate}"])  # fmt: skip
            head = " ".join(failure.error.split()) or "no message"
            lines += ["", *textwrap.wrap(f"{sweep.name}: {failure.count} failed: {head}", WIDTH, max_lines=4)]
            lines += textwrap.wrap(f"first: {place}", WIDTH, initial_indent="  ", subsequent_indent="  ")
        for part in sweep.unreadable:
            lines += ["", f"{sweep.name}: cannot read the part {part}"]
    return lines


def _state(report: RunReport) -> str:
    return "finished" if report.finished else "not finished"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def show(run: Run, sweep: SweepName = None, column: Columns = None, json: Json = False, debug: Debug = False) -> None:
    """Show a table for every sweep of a run: one row a grid cell, with the means of what its trials measured.

    Example: interlip show runs/overview-20261124-101500-ab12-0f3c9a77 --sweep moons
    """
    with guarded(debug):
        folder, study = _study_of(run)
        tables = {name: _cells(folder, study, name, column) for name in _sweeps(study, sweep)}
        if json:
            emit_json({name: table.to_dict("records") for name, table in tables.items()})
            return
        for k, (name, table) in enumerate(tables.items()):
            print("\n".join(["", *_shown(study, name, table)][k == 0 :]))


def _shown(study: Study, name: str, table: pd.DataFrame) -> list[str]:
    from cluster.output.tables import WIDTH, fitting, text_table

    sweep = study.sweeps[name]
    lines = textwrap.wrap(f"{name}: {sweep.experiment}, {len(table)} of {sweep.cells} cells begun, means over trials",
                          WIDTH)  # fmt: skip
    if table.empty:
        return lines
    columns, rows = _words(table)
    kept = fitting(columns, rows, columns.index("open") + 1)
    lines.append(text_table(columns[:kept], [row[:kept] for row in rows]))
    if kept < len(columns):
        lines += textwrap.wrap(f"for --column: {', '.join(columns[kept:])}", WIDTH)
    return lines


def export(
    run: Run,
    csv: Annotated[str | None, typer.Option("--csv", metavar="FILE", help="All trials as a CSV table.")] = None,
    parquet: Annotated[str | None, typer.Option("--parquet", metavar="FILE", help="All trials as Parquet.")] = None,
    latex: Annotated[
        str | None, typer.Option("--latex", metavar="FILE", help="The table of `show` for LaTeX, with booktabs.")
    ] = None,
    sweep: SweepName = None,
    column: Columns = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a sweep of a run to files: its trials, or the table of its cells; also of a run that is not finished.

    Example: interlip export runs/overview-20261124-101500-ab12-0f3c9a77 --sweep moons --csv moons.csv
    """
    with guarded(debug):
        if csv is None and parquet is None and latex is None:
            raise InputError("name at least one file: --csv FILE, --parquet FILE or --latex FILE")
        folder, study = _study_of(run)
        names = _sweeps(study, sweep)
        if len(names) > 1:
            raise InputError(f"the study has several sweeps, a file holds one: add --sweep ({', '.join(names)})")
        for path in (csv, parquet, latex):
            if path is not None and not Path(path).resolve().parent.is_dir():
                raise InputError(f"there is no folder {Path(path).resolve().parent}")
        written = _export(folder, study, names[0], {"csv": csv, "parquet": parquet, "latex": latex}, column)
        if json:
            emit_json(written)
        else:
            for form, path in written["files"].items():
                print(f"{form:<8} {path}")


def _export(
    folder: RunFolder, study: Study, name: str, places: dict[str, str | None], column: list[str] | None
) -> dict[str, Any]:
    from cluster.output.tables import latex_table
    from tracking.run_survey import survey_sweep

    survey = survey_sweep(folder, name)
    if survey.trials.empty:
        raise InputError(f"{folder.uri} holds no trial of the sweep {name} yet")
    files = {}
    for form, place in places.items():
        if place is None:
            continue
        path = Path(place).resolve()
        if form == "latex":
            _whole(path, latex_table(*_words(_cells(folder, study, name, column))).encode())
        elif form == "csv":
            _whole(path, survey.trials.to_csv(index=False).encode())
        else:
            _whole(path, survey.trials.to_parquet(index=False))
        files[form] = str(path)
    for part in survey.unreadable:
        say(f"cannot read the part {part} of {name}: its trials are left out")
    return {"sweep": name, "trials": len(survey.trials), "files": files, "unreadable": list(survey.unreadable)}


def _whole(path: Path, content: bytes) -> None:
    """Write a file of the user's whole or not at all."""
    from tracking.parts import RunFolder

    RunFolder(str(path.parent)).write(path.name, content)


def _study_of(run: str) -> tuple[RunFolder, Study]:
    from cluster.output.run_report import opened_run
    from tasks.sweeps import read_study

    folder, described = opened_run(run)
    return folder, read_study(described, f"{run}/study.json")


def _sweeps(study: Study, sweep: str | None) -> list[str]:
    if sweep is not None and sweep not in study.sweeps:
        raise InputError(f"the study has no sweep {sweep!r} (it has: {', '.join(study.sweeps)})")
    return list(study.sweeps) if sweep is None else [sweep]


def _cells(folder: RunFolder, study: Study, name: str, column: list[str] | None) -> pd.DataFrame:
    """The cells of a sweep with their means, of the chosen columns alone."""
    from cluster.output.run_report import cell_means
    from tracking.run_survey import survey_sweep

    survey = survey_sweep(folder, name)
    for part in survey.unreadable:
        say(f"cannot read the part {part} of {name}: its trials are left out")
    table = cell_means(study, name, survey.trials)
    if column is None:
        return table
    first = list(table.columns)[: list(table.columns).index("open") + 1]
    measured = [name for name in table if name not in first]
    for one in column:
        if one not in measured:
            raise InputError(f"{name} measures no column {one!r} (it measures: {', '.join(measured)})")
    return table[[*first, *column]]


def _words(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    from cluster.output.tables import number

    return list(table.columns), [[number(value) for value in row] for row in table.itertuples(index=False)]
