"""A part counts when the driver has seen it: whatever is damaged is named, set aside and computed again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from cluster.cli import app
from cluster.execution.executor import AbstractExecutor, Notice
from cluster.execution.fleet.ray_executor import RayExecutor
from cluster.execution.in_process import InProcessExecutor
from cluster.execution.runner import RunResult, StudyRun
from cluster.execution.scheduling import Batch
from cluster.execution.worker import BatchSummary
from solvers.errors import InputError
from tasks.experiment import AbstractExperiment, RunContext
from tasks.sweeps import Study
from tests.cluster_tests.fleet.odd_trials import odd_study
from tests.cluster_tests.studies import stable
from tracking.manifest import Manifest, read_manifest
from tracking.memory_tracker import MemoryTracker
from tracking.parts import DamagedPartError, PartSeal, RunFolder, StorageError

# Trials of 0.02 expected seconds: three batches.
STUDY = odd_study(mates={"grid": {"number": list(range(150))}})


def run(folder: RunFolder, executor: AbstractExecutor | None = None, study: Study = STUDY) -> tuple[RunResult, str]:
    """Run or resume a study: the result, and everything that was said."""
    notes: list[str] = []
    job = StudyRun(study, folder, MemoryTracker(), RunContext())
    with executor or InProcessExecutor() as engine:
        result = job.execute(engine, lambda progress: notes.append(progress.note))
    job.conclude(result)
    return result, "\n".join(filter(None, notes))


def parts(folder: RunFolder) -> list[Path]:
    return [Path(path) for path in folder.part_names("mates")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(str(tmp_path_factory.mktemp("whole")))
    result, said = run(folder)
    assert (result.trials, said) == (150, "")
    assert len(parts(folder)) == 3
    return folder


def truncate(part: Path, other: Path) -> None:
    part.write_bytes(part.read_bytes()[:-100])


def empty(part: Path, other: Path) -> None:
    part.write_bytes(b"")


def garbage(part: Path, other: Path) -> None:
    part.write_bytes(b"PAR1 is not all that it takes")


def foreign(part: Path, other: Path) -> None:
    """Sound in itself, of a study with other trials."""
    part.unlink()
    shutil.copy(other, part.parent)


def other_content(part: Path, other: Path) -> None:
    shutil.copy(other, part)


def flip(part: Path, other: Path) -> None:
    content = bytearray(part.read_bytes())
    content[len(content) // 3] ^= 4
    part.write_bytes(bytes(content))


def make_folder(part: Path, other: Path) -> None:
    part.unlink()
    part.mkdir()
    (part / "something").write_text("")


@pytest.mark.parametrize("damage", [truncate, empty, garbage, foreign, other_content, flip, make_folder])
def test_a_damaged_part_is_named_set_aside_and_computed_again(
    tmp_path: Path, whole: RunFolder, damage: Callable[[Path, Path], None]
) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    shutil.copytree(whole.uri, folder.uri)
    stranger = RunFolder(str(tmp_path / "stranger"))
    run(stranger, study=odd_study(mates={"grid": {"number": [1000, 1001]}}))
    hurt, *others = parts(folder)
    damage(hurt, parts(stranger)[0])
    before = {path: os.stat(path).st_mtime_ns for path in others}
    result, said = run(folder)
    named = parts(stranger)[0].name if damage is foreign else hurt.name
    assert named in said
    assert "set aside as aside/mates/" in said
    assert "computed again" in said
    assert result.resumed == 100
    assert {path: os.stat(path).st_mtime_ns for path in others} == before
    pd.testing.assert_frame_equal(stable(folder, "mates"), stable(whole, "mates"), check_exact=True)
    assert len(list((tmp_path / "run" / "aside" / "mates").iterdir())) == 1
    again, said = run(folder)
    assert (again.resumed, said) == (150, "")


def test_a_flipped_bit_is_seen_at_every_byte(tmp_path: Path, whole: RunFolder) -> None:
    source = parts(whole)[0]
    content = source.read_bytes()
    target = tmp_path / source.name
    for position in range(0, len(content), 61):
        target.write_bytes(
            content[:position] + bytes([content[position] ^ 1 << position % 8]) + content[position + 1 :]
        )
        with pytest.raises(DamagedPartError, match="changed"):
            whole.part_bytes(str(target))


def test_a_part_that_is_gone_is_missed(tmp_path: Path, whole: RunFolder) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    shutil.copytree(whole.uri, folder.uri)
    parts(folder)[1].unlink()
    result, said = run(folder)
    assert "is gone: its trials are computed again" in said
    assert result.resumed == 100
    pd.testing.assert_frame_equal(stable(folder, "mates"), stable(whole, "mates"), check_exact=True)


def test_the_manifest_says_what_was_seen(whole: RunFolder) -> None:
    import hashlib

    noted = read_manifest(whole)
    assert {part for _, part in noted} == {path.name for path in parts(whole)}
    for path in parts(whole):
        seal = noted["mates", path.name]
        content = path.read_bytes()
        assert (seal.rows, seal.bytes, seal.sha256) == (50, len(content), hashlib.sha256(content).hexdigest())


def test_a_manifest_that_was_cut_off_is_no_loss(tmp_path: Path, whole: RunFolder) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    shutil.copytree(whole.uri, folder.uri)
    (manifest,) = (tmp_path / "run" / "manifest").iterdir()
    manifest.write_bytes(manifest.read_bytes()[:-200])
    result, said = run(folder)
    assert (result.resumed, said) == (150, "")


def test_a_run_of_before_is_resumed(tmp_path: Path, whole: RunFolder) -> None:
    """Its parts have no digest in their names and no traceback among their columns, and there is no manifest."""
    folder = RunFolder(str(tmp_path / "run"))
    shutil.copytree(whole.uri, folder.uri)
    shutil.rmtree(tmp_path / "run" / "manifest")
    for path in parts(folder):
        table = pd.read_parquet(path).drop(columns="traceback")
        table.to_parquet(path.with_name(f"{path.name.partition('-')[0]}.parquet"))
        path.unlink()
    result, said = run(folder)
    assert (result.resumed, said) == (150, "")
    pd.testing.assert_frame_equal(stable(folder, "mates"), stable(whole, "mates"), check_exact=True)


class Meddler(AbstractExecutor):
    """One process, whose parts are meddled with before the driver looks."""

    workers = 1

    def __init__(self, meddle: Callable[[Path], None], times: int) -> None:
        self.meddle, self.times = meddle, times

    def start(self, experiments: Sequence[AbstractExperiment[Any]], folder: RunFolder) -> None:
        return

    def run(
        self,
        batches: Sequence[Batch],
        experiments: dict[str, AbstractExperiment[Any]],
        folder: RunFolder,
        context: RunContext,
    ) -> Iterator[BatchSummary | Notice]:
        for summary in InProcessExecutor().run(batches, experiments, folder, context):
            assert isinstance(summary, BatchSummary)
            if self.times > 0:
                self.times -= 1
                self.meddle(Path(folder.part_path(summary.seal.sweep, summary.seal.part)))
            yield summary

    def stop(self) -> None:
        return


@pytest.mark.parametrize("meddle", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_what_a_worker_says_is_not_believed(tmp_path: Path, whole: RunFolder, meddle: Callable[[Path], None]) -> None:
    folder = RunFolder(str(tmp_path))
    result, said = run(folder, Meddler(meddle, times=2))
    assert result.trials == 150
    assert said.count("its trials are computed again") >= 2
    pd.testing.assert_frame_equal(stable(folder, "mates"), stable(whole, "mates"), check_exact=True)


def test_parts_that_are_never_there_end_the_study(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="do not stay as they were written"):
        run(RunFolder(str(tmp_path)), Meddler(lambda path: path.unlink(), times=1000))


def test_sync_tells_of_a_damaged_part_and_logs_the_others(tmp_path: Path, whole: RunFolder) -> None:
    shutil.copytree(whole.uri, tmp_path / "run")
    flip(parts(RunFolder(str(tmp_path / "run")))[0], Path())
    answer = CliRunner().invoke(app, ["sync", str(tmp_path / "run"), "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout)["trials"] == 100
    assert "was cut off or changed after it was written: left out" in answer.stderr


def test_the_memory_of_one_process_is_refused_on_ray() -> None:
    with pytest.raises(InputError, match="the memory of one process"):
        RayExecutor(1).start([], RunFolder("memory://x/y"))


@pytest.mark.ray
def test_a_folder_that_workers_do_not_share_is_refused_before_work(
    tmp_path: Path, ray_runtime: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one machine all is shared, so here the driver is shown an empty folder instead."""
    monkeypatch.setattr("cluster.execution.fleet.workers.SEEN_SECONDS", 0.5)
    elsewhere = RunFolder(str(tmp_path / "elsewhere"))
    from cluster.execution.fleet import ray_executor

    unseen = ray_executor._unseen
    monkeypatch.setattr(ray_executor, "_unseen", lambda folder, token: unseen(elsewhere, token))
    folder = RunFolder(str(tmp_path / "here"))
    with pytest.raises(InputError, match="is not seen here; give --out a folder or URI that all nodes share"):
        run(folder, RayExecutor(1))
    assert parts(folder) == []


def test_what_a_later_driver_notes_holds_within_the_same_second(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "run"))
    for k in range(20):
        seal = PartSeal("sweep", f"{k}.parquet", 1, 10, "0" * 64)
        Manifest(folder).add(seal)
        Manifest(folder).drop(seal.sweep, seal.part)
    assert read_manifest(folder) == {}
