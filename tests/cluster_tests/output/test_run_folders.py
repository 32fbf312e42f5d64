"""`list`, `status`, `show` and `export` read run folders in any state, and nothing else."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from cluster.cli import app
from tests.one_sentence import assert_one_sentence
from tracking.parts import RunFolder
from tracking.records import TrialRecord

ODD = "ℓ2: p=2, [box] #1/50%"
CELLS = {(2, 1.0): "a", (2, math.inf): "b", (3, 1.0): "c", (3, math.inf): "d"}


def record(d: int, p: float, replicate: int, at: float, *, error: str | None = None, **metrics: Any) -> TrialRecord:
    cell = CELLS[d, p]
    params = {"d": d, "p": p, "N": 6}
    return TrialRecord(f"{cell}{replicate}", cell, ODD, replicate, 0, params, metrics, error, f"host/{d}", at)


def measured(value: float, upper: float | None = None, seconds: float = 2.0) -> dict[str, Any]:
    return {"lower": value, "upper": value if upper is None else upper, "wall_seconds": seconds}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run in the middle: 8 trials in 4 cells and 2 of another sweep are planned.

    Of the first, 4 are done, one of them open; one failed, one more failed first and was then computed.
    """
    folder = RunFolder(str(tmp_path / "runs" / "study-1"))
    sweep = {"experiment": "lipschitz-monte-carlo", "replicates": 2, "fixed": {"N": 6}}
    folder.write_json("study.json", {
        "name": "study", "title": "Depth and width", "seed": 0, "sweeps": {
            ODD: {**sweep, "grid": {"d": [2, 3], "p": [1.0, math.inf]}},
            "gone": {"experiment": "of-another-version", "replicates": 1,
                     "grid": {"n": {"start": 1, "stop": 2, "step": 1}}}}})  # fmt: skip
    folder.write_json("times.json", {"started_at": 1000.0})
    folder.write_part(ODD, "one", [record(2, 1.0, 0, 1010.0, **measured(1.0)),
                                   record(2, 1.0, 1, 1011.0, error="ValueError: first\nof two lines")])  # fmt: skip
    folder.write_part(ODD, "two", [record(2, 1.0, 1, 1020.0, **measured(2.0, 4.0, seconds=4.0)),
                                   record(2, math.inf, 0, 1021.0, **measured(3.0))])  # fmt: skip
    folder.write_part(ODD, "three", [record(3, 1.0, 0, 1022.0, **measured(5.0)),
                                     record(3, 1.0, 1, 1023.0, error="SolverError: no answer")])  # fmt: skip
    return folder


def interlip(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def told(*arguments: str) -> Any:
    answer = interlip(*arguments, "--json")
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)


def finish(folder: RunFolder) -> None:
    """Add what is missing."""
    folder.write_part(ODD, "four", [record(2, math.inf, 1, 1030.0, **measured(3.0)),
                                    record(3, 1.0, 1, 1031.0, **measured(5.0)),
                                    record(3, math.inf, 0, 1032.0, **measured(7.0)),
                                    record(3, math.inf, 1, 1033.0, **measured(8.0))])  # fmt: skip
    rows = [
        TrialRecord(f"n{n}", f"n{n}", "gone", 0, 0, {"n": n}, {"found": n * 0.5}, None, "w", 1040.0) for n in (1, 2)
    ]
    folder.write_part("gone", "all", rows)
    folder.write_json("times.json", {"started_at": 1000.0, "finished_at": 1050.0})


def test_status_counts_what_is_there(run: RunFolder) -> None:
    said = told("status", run.uri)
    assert (said["trials"], said["done"], said["failed"], said["open"]) == (10, 4, 1, 1)
    assert said["finished"] is False
    assert (said["started_at"], said["last_trial_at"]) == (1000.0, 1023.0)
    first, gone = said["sweeps"]
    assert (first["cells"], first["cells_begun"], gone["cells"], gone["cells_begun"]) == (4, 3, 2, 0)
    (failure,) = first["failures"]  # the other one was computed later
    assert failure == {"error": "SolverError: no answer", "count": 1, "trial_key": "c1", "replicate": 1,
                       "cell": {"d": 3, "p": 1.0}}  # fmt: skip
    assert said["seconds_left"] is None  # nobody knows what cells cost in which no trial is measured


def test_the_time_left_comes_from_measured_seconds_of_the_cells_that_miss_trials(run: RunFolder) -> None:
    finish(run)
    path = next(path for path in run.part_names(ODD) if "/four-" in path)
    Path(path).unlink()
    run.write_part(ODD, "four", [record(3, math.inf, 0, 1032.0, **measured(7.0, seconds=30.0))])
    # One trial of (2, inf) at 2 s and one of (3, inf) at 30 s; the newest minute saw host/2, host/3 and w.
    assert told("status", run.uri)["seconds_left"] == pytest.approx((2.0 + 30.0) / 3)


def test_a_finished_run_is_called_finished(run: RunFolder) -> None:
    finish(run)
    said = told("status", run.uri)
    assert (said["finished"], said["done"], said["failed"], said["seconds_left"]) == (True, 10, 0, 0.0)
    (listed,) = told("list", "--out", str(Path(run.uri).parent))
    assert listed == said
    assert "finished" in interlip("list", "--out", str(Path(run.uri).parent)).stdout


@pytest.mark.parametrize("content", [b"", b"PAR1 garbage", None])
def test_a_part_that_cannot_be_read_is_named_and_the_rest_is_counted(run: RunFolder, content: bytes | None) -> None:
    if content is None:
        frame = io.BytesIO()
        pd.DataFrame({"other": [1]}).to_parquet(frame)
        content = frame.getvalue()
    (path,) = (path for path in run.part_names(ODD) if "/two-" in path)
    Path(path).write_bytes(content)
    said = told("status", run.uri)
    assert (said["done"], said["failed"]) == (2, 2)
    assert said["sweeps"][0]["unreadable"] == [Path(path).name]
    assert "two-" in interlip("status", run.uri).stdout
    assert "two-" in interlip("show", run.uri).stderr


def test_show_gives_means_by_cell(run: RunFolder) -> None:
    rows = told("show", run.uri)[ODD]
    assert [(row["d"], row["p"], row["trials"], row["failed"], row["open"], row["lower"], row["upper"])
            for row in rows] == [(2, 1.0, 2, 0, 1, 1.5, 2.5), (2, "inf", 1, 0, 0, 3.0, 3.0),
                                 (3, 1.0, 2, 1, 0, 5.0, 5.0)]  # fmt: skip
    finish(run)
    assert [row["found"] for row in told("show", run.uri, "--sweep", "gone")["gone"]] == [0.5, 1.0]
    assert list(told("show", run.uri, "--sweep", ODD, "--column", "upper")[ODD][0]) == [
        "d", "p", "trials", "failed", "open", "upper"]  # fmt: skip


def test_everything_fits_eighty_columns(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    many = {f"a_measurement_of_some_length_{k}": 1.0 * k for k in range(9)}
    run.write_part("gone", "wide", [TrialRecord("k", "k", "gone", 0, 0, {"n": 1}, many, None, "w", 1.0)])
    for command in ("status", "show"):
        lines = interlip(command, run.uri).stdout.splitlines()
        assert max(cell_len(line) for line in lines if run.uri not in line) <= 80
    assert "for --column: a_measurement" in interlip("show", run.uri).stdout


def test_export_writes_the_trials_and_the_table(run: RunFolder, tmp_path: Path) -> None:
    csv, parquet, latex = (str(tmp_path / f"x.{form}") for form in ("csv", "parquet", "tex"))
    said = told("export", run.uri, "--sweep", ODD, "--csv", csv, "--parquet", parquet, "--latex", latex)
    assert said == {"sweep": ODD, "trials": 5, "unreadable": [],
                    "files": {"csv": csv, "parquet": parquet, "latex": latex}}  # fmt: skip
    for frame in (pd.read_csv(csv), pd.read_parquet(parquet)):
        assert list(frame["trial_key"]) == ["a0", "a1", "b0", "c0", "c1"]
        assert frame["upper"].tolist()[:4] == [1.0, 4.0, 3.0, 5.0]
        assert frame["p"].tolist()[2] == math.inf
    text = Path(latex).read_text(encoding="utf-8")
    assert text.startswith("\\begin{tabular}{lr")
    assert "wall\\_seconds" in text
    assert text.count("\\\\\n") == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("status", "absent"), "absent is not a run folder"),
        (("show", "."), ". is not a run folder"),
        (("export", ".", "--csv", "x.csv"), ". is not a run folder"),
        (("list", "--out", "absent"), "cannot read the folder"),
        (("show", "RUN", "--sweep", "moon"), "has no sweep 'moon'"),
        (("show", "RUN", "--sweep", ODD, "--column", "uper"), "no column 'uper'"),
        (("export", "RUN", "--sweep", ODD), "name at least one file"),
        (("export", "RUN", "--csv", "x.csv"), "several sweeps"),
        (("export", "RUN", "--sweep", "gone", "--csv", "x.csv"), "holds no trial"),
        (("export", "RUN", "--sweep", ODD, "--csv", "absent/x.csv"), "there is no folder"),
    ],
)
def test_mistakes_are_one_sentence(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_sentence(interlip(*(run.uri if word == "RUN" else word for word in arguments)), said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_a_damaged_description_is_one_sentence(run: RunFolder) -> None:
    for content in (b"", b"[]", b'{"sweeps": []}'):
        run.write("study.json", content)
        assert_one_sentence(interlip("status", run.uri), "is not a run folder")
    run.write("study.json", b'{"name": "x", "sweeps": {"a": 1}}')
    assert_one_sentence(interlip("status", run.uri), "sweeps.a")


def test_neither_ray_nor_mlflow_is_asked(run: RunFolder, root: Path) -> None:
    program = (
        "import sys\nfrom cluster.cli import app\n"
        "try: app(sys.argv[1:])\nexcept SystemExit as end: assert not end.code\n"
        "print(sorted({'ray', 'mlflow', 'torch'} & set(sys.modules)), file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", program, "show", run.uri], cwd=root, capture_output=True, text=True,
                            check=False, timeout=300)  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.splitlines()[-1] == "[]"
