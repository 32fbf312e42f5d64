"""Parts appear whole or not at all, on any filesystem; the ledger follows from them alone."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tracking.parts import RunFolder, StorageError, plain_name
from tracking.records import TrialRecord


def record(key: str, replicate: int = 0, error: str | None = None, value: float = 1.0, at: float = 0.0) -> TrialRecord:
    metrics = {} if error else {"upper": value}
    return TrialRecord(key, "cell", "sweep", replicate, 1, {"d": 2}, metrics, error, "host", at)


@pytest.fixture(params=["path", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """The same contract on a path and on two kinds of URI."""
    uri = {"path": str(tmp_path / "r"), "file": f"file://{tmp_path}/r", "memory": f"memory://{uuid.uuid4().hex}/r"}
    made = RunFolder(uri[request.param])
    made.create()
    return made


def test_what_is_written_is_read(folder: RunFolder) -> None:
    assert folder.finished_keys("sweep") == set()
    assert folder.frame("sweep").empty
    assert folder.read("absent") is None
    folder.write_json("study.json", {"a": [1, 2]})
    assert folder.read_json("study.json") == {"a": [1, 2]}
    folder.write_part("sweep", "b", [record("k2", 1)])
    folder.write_part("sweep", "a", [record("k1", 0)])
    assert folder.finished_keys("sweep") == {"k1", "k2"}
    assert folder.frame("sweep")["trial_key"].tolist() == ["k1", "k2"]
    assert folder.read(folder.merge("sweep")) is not None


def test_a_failed_trial_is_not_done_and_gives_way_to_the_computed_one(folder: RunFolder) -> None:
    folder.write_part("sweep", "a", [record("k1", error="ValueError: no", at=1.0), record("k2", 1)])
    assert folder.finished_keys("sweep") == {"k2"}
    assert folder.frame("sweep")["failed"].tolist() == [True, False]
    folder.write_part("sweep", "b", [record("k1", value=7.0, at=2.0)])
    frame = folder.frame("sweep")
    assert frame["upper"].tolist() == [7.0, 1.0]
    assert not frame["failed"].any()


def test_a_part_that_was_cut_off_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(str(tmp_path))
    folder.write_part("sweep", "whole", [record("k1")])

    def killed(source: str, target: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tracking.parts.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.write_part("sweep", "cut", [record("k2")])
    # A killed process leaves its temporary file behind; it is no part.
    (tmp_path / "parts" / "sweep" / "cut.parquet.0123.tmp").write_bytes(b"PAR1 half of")
    assert folder.finished_keys("sweep") == {"k1"}
    assert len(folder.part_names("sweep")) == 1


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write to the folder"):
        RunFolder(str(tmp_path / "file" / "run")).create()


def test_no_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tracking.parts.os.fsync", full)
    with pytest.raises(StorageError, match="no room left"):
        RunFolder(str(tmp_path)).write("x", b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_column_taken_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="taken twice"):
        TrialRecord("k", "c", "s", 0, 0, {"upper": 1}, {"upper": 2.0}).to_row()


def test_plain_names_are_safe_and_keep_names_apart() -> None:
    for name in ("lipschitz", "memorizer-robustness", "p_2", "a.b-C_3"):
        assert plain_name(name) == name
    odd = ["p≤2", "p≥2", "p_2", "p=2", "p,2", "p/2", "..", "../p", ".", "", "🙂", "ℓ2: p=2, [box] #1/50%", "p 2"]
    found = [plain_name(name) for name in odd]
    assert len(set(found)) == len(odd)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) for name in found)


class Buckets(MemoryFileSystem):  # type: ignore[misc]  # it comes without types
    """An object store that, as S3 does, would make a bucket when a folder is made in it."""

    protocol = "s3"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]


def test_a_bucket_is_never_made_in_passing(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = Buckets()
    monkeypatch.setattr("tracking.parts.fsspec.core.url_to_fs", lambda uri: (stores, uri.removeprefix("s3:/")))
    with pytest.raises(StorageError, match="there is no bucket 'mistyped': make it first"):
        RunFolder("s3://mistyped/runs/x").create()
    with pytest.raises(StorageError, match="there is no bucket"):
        RunFolder("s3://mistyped/runs/x").write("a", b"1")
    assert not stores.exists("/mistyped")
    stores.mkdir("/mine")
    folder = RunFolder("s3://mine/runs/x")
    folder.create()
    folder.write_part("sweep", "a", [record("k1")])
    assert folder.finished_keys("sweep") == {"k1"}


def test_values_without_a_common_type_become_texts(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    folder.write_part("sweep", "a", [record("k1", value=1.5), record("k2", 1, value="many")])  # type: ignore[arg-type]
    folder.write_part("sweep", "b", [record("k3", 2, value=2.5)])
    assert folder.frame("sweep")["upper"].tolist() == ["1.5", "many", "2.5"]
