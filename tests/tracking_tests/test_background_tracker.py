"""Tracking on its own thread: a store that is slow, away or locked holds no study up, and one that returns is told."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.tracking_tests.loopback_store import loopback_store
from tests.tracking_tests.test_trackers import STUDY, client_of, tell
from tracking import background_tracker
from tracking.background_tracker import PATIENCE_SECONDS, BackgroundTracker
from tracking.memory_tracker import MemoryTracker
from tracking.mlflow_tracker import MlflowTracker, embedded_uri
from tracking.tracker import StudyHandle


class Moody(MemoryTracker):
    """Answers while `up`, waits for `free` in every cell, refuses the cell "bad" always."""

    def __init__(self) -> None:
        super().__init__()
        self.up = True
        self.seconds = 0.0
        self.free = threading.Event()
        self.free.set()
        self.in_cell = threading.Event()
        self.failed: str | None = None

    @property
    def trouble(self) -> str | None:
        return self.failed

    def forgive(self) -> None:
        self.failed = None

    def answers(self) -> bool:
        return self.up

    def cell(
        self, key: str, name: str, params: Mapping[str, Any], metrics: Mapping[str, float], timestamp: float
    ) -> None:
        self.in_cell.set()
        time.sleep(self.seconds)
        self.free.wait()
        if not self.up or key == "bad":
            self.failed = "no answer"
            return
        super().cell(key, name, params, metrics, timestamp)


def cell(tracker: BackgroundTracker, key: str) -> None:
    tracker.cell(key, key, {}, {}, 1.0)


@pytest.fixture
def inner(monkeypatch: pytest.MonkeyPatch) -> Moody:
    monkeypatch.setattr(background_tracker, "FIRST_RETRY_SECONDS", 0.02)
    return Moody()


def test_everything_is_told_in_order_before_finish_returns(inner: Moody, tmp_path: Path) -> None:
    figure = tmp_path / "plot.png"
    figure.write_bytes(b"")
    tracker, direct = BackgroundTracker(inner), MemoryTracker()
    tell(tracker, figure)
    tell(direct, figure)
    kept = ("study", "progress_points", "cells", "study_metrics", "artifacts", "data_sets", "status")
    assert {name: getattr(inner, name) for name in kept} == {name: getattr(direct, name) for name in kept}
    assert (tracker.trouble, tracker.parent_id) == (None, STUDY.key)


def test_what_was_told_while_the_store_was_away_arrives_when_it_is_back(inner: Moody) -> None:
    tracker = BackgroundTracker(inner)
    tracker.start(STUDY)
    tracker.settle()
    inner.up = False
    keys = [f"c{k}" for k in range(20)]
    for key in keys:
        cell(tracker, key)
    assert inner.in_cell.wait(60)
    assert not inner.cells
    inner.up = True
    tracker.finish("FINISHED")
    assert list(inner.cells) == keys
    assert (tracker.trouble, inner.status) == (None, "FINISHED")


def test_a_store_that_stays_away_ends_in_one_clause_that_counts(inner: Moody) -> None:
    tracker = BackgroundTracker(inner)
    tracker.start(STUDY)
    tracker.settle()
    inner.up = False
    for k in range(3):
        cell(tracker, f"c{k}")
    tracker.finish("FINISHED")
    assert tracker.trouble == "no answer; 4 records missed"
    assert inner.status == "RUNNING"


def test_a_record_that_the_store_cannot_take_is_missed_alone(inner: Moody) -> None:
    tracker = BackgroundTracker(inner)
    tracker.start(STUDY)
    for key in ("a", "bad", "b"):
        cell(tracker, key)
    tracker.finish("FINISHED")
    assert list(inner.cells) == ["a", "b"]
    assert (tracker.trouble, inner.status) == ("no answer; 1 records missed", "FINISHED")


def test_a_hanging_store_is_waited_for_once_and_the_queue_is_bounded(inner: Moody) -> None:
    tracker = BackgroundTracker(inner, patience=0.3, most=5)
    tracker.start(STUDY)
    tracker.settle()
    inner.free.clear()
    begun = time.monotonic()
    for k in range(200):  # 194 of them find the queue full: one patience for all, or this takes a minute
        cell(tracker, f"c{k}")
    tracker.finish("FINISHED")
    assert time.monotonic() - begun < 30
    assert len(tracker._calls) <= 5
    assert tracker.trouble is not None
    assert "201 records missed" in tracker.trouble
    assert not inner.cells
    inner.free.set()


def test_a_store_that_is_quick_is_waited_for_as_long_as_it_takes(inner: Moody) -> None:
    tracker = BackgroundTracker(inner, patience=0.5, most=3)
    tracker.start(STUDY)
    inner.seconds = 0.05
    for k in range(40):  # 2 s in all
        cell(tracker, f"c{k}")
    tracker.finish("FINISHED")
    assert (len(inner.cells), tracker.trouble) == (40, None)


def test_the_patience_is_below_five_seconds() -> None:
    assert PATIENCE_SECONDS < 5


@pytest.mark.parametrize("mode", ["hangs", "fails"])
def test_a_study_ends_while_its_server_hangs_or_fails(mode: str, tmp_path: Path) -> None:
    figure = tmp_path / "plot.png"
    figure.write_bytes(b"")
    with loopback_store(mode) as store:
        tracker = BackgroundTracker(MlflowTracker(store.uri), patience=0.5)
        assert tell(tracker, figure) is None
        assert not store.released.is_set()  # nobody waited for an answer
        assert tracker.trouble is not None
        assert "8 records missed" in tracker.trouble


def test_a_server_that_returns_gets_everything_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_tracker, "FIRST_RETRY_SECONDS", 0.05)
    with loopback_store("answers") as store:
        tracker = BackgroundTracker(MlflowTracker(store.uri))
        tracker.start(STUDY)
        tracker.settle()
        store.mode = "fails"
        before = store.asked
        for k in range(3):
            tracker.cell(f"cell-{k}", f"d={k}", {"d": k}, {"upper_mean": 1.5 * k}, 101.0)
        while store.asked == before:
            time.sleep(0.01)
        store.mode = "answers"
        tracker.finish("FINISHED")
        assert tracker.trouble is None
        children = {run["tags"]["interlip.cell"]: run["metrics"] for run in store.runs.values()
                    if "interlip.cell" in run["tags"]}  # fmt: skip
        assert len(store.runs) == 4
        assert children == {f"cell-{k}": {"upper_mean": 1.5 * k} for k in range(3)}
        assert {run["status"] for run in store.runs.values()} == {"FINISHED"}


HOLDER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def test_an_sqlite_store_locked_by_another_process_holds_nothing_up(tmp_path: Path) -> None:
    figure = tmp_path / "plot.png"
    figure.write_bytes(b"")
    store = str(tmp_path / "store")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own imports
        MlflowTracker(embedded_uri(store)).prepare()
    path = f"{store}/mlflow.db"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        tracker = BackgroundTracker(MlflowTracker(embedded_uri(store), f"{store}/artifacts"), patience=0.5)
        assert tell(tracker, figure) is None
        assert holder.poll() is None  # the lock was there all the time
        assert tracker.trouble is not None
        assert "locked" in tracker.trouble
        late = BackgroundTracker(MlflowTracker(embedded_uri(store), f"{store}/artifacts"))
        late.start(StudyHandle("run-2", "overview", {}, {}))
    finally:
        holder.stdin.close()
        holder.wait(60)
        holder.stdout.close()
    late.finish("FINISHED")
    assert late.trouble is None
    client = client_of(embedded_uri(store))
    parent = client.get_run(late.parent_id)
    assert (parent.info.status, parent.data.tags["interlip.run"]) == ("FINISHED", "run-2")
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
