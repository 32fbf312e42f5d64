"""Finished batches as Parquet parts on any filesystem: the record of what is done, and all that a resume needs.

A run folder holds the study (`study.json`, and `study.toml` as it was written), `provenance.json`,
`parts/<sweep>/<batch>.parquet`, and at the end `<sweep>.parquet`, `figures/` and `times.json`; a sweep stands there
under its `plain_name`. A part appears whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tracking.records import TrialRecord

__all__ = ["RunFolder", "StorageError", "one_row_a_trial", "plain_name"]


def plain_name(name: str) -> str:
    """A name that every file system and every tracker takes: letters, digits, `.`, `_` and `-`.

    A name of these stays as it is. Of any other the signs become `_` and a digest of the name follows, so that names
    which differ in one sign stay apart.
    """
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        return name
    kept = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")
    return f"{kept}-{hashlib.sha256(name.encode()).hexdigest()[:10]}".lstrip("-")


class StorageError(RuntimeError):
    """The run folder cannot be written or read; what was finished before is safe."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run folder at a path or URI (`/data/runs/x`, `s3://bucket/runs/x`)."""

    uri: str

    def _filesystem(self) -> tuple[Any, str]:
        filesystem, path = fsspec.core.url_to_fs(self.uri)
        return filesystem, str(path).rstrip("/")

    @property
    def local_path(self) -> str | None:
        """The folder's path when it is on this machine's filesystem, else None."""
        filesystem, path = self._filesystem()
        return path if "file" in _protocols(filesystem) else None

    def create(self) -> None:
        """Make the folder and prove that it can be written.

        Raises:
            StorageError: it cannot.
        """
        filesystem, path = self._filesystem()
        probe = f"{path}/.probe-{uuid.uuid4().hex}"
        try:
            filesystem.makedirs(path, exist_ok=True)
            filesystem.pipe_file(probe, b"")
            filesystem.rm_file(probe)
        except Exception as error:  # every backend raises its own kinds
            raise StorageError(f"cannot write to the folder {self.uri}: {_reason(error)}") from error

    def write(self, name: str, content: bytes) -> None:
        """Write a file so that it is either whole or absent.

        Raises:
            StorageError: no room, no permission, no connection.
        """
        filesystem, root = self._filesystem()
        path = f"{root}/{name}"
        try:
            if "file" in _protocols(filesystem):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                temporary = f"{path}.{uuid.uuid4().hex}.tmp"
                try:
                    with open(temporary, "wb") as stream:
                        stream.write(content)
                        stream.flush()
                        os.fsync(stream.fileno())
                    os.replace(temporary, path)
                finally:
                    if os.path.exists(temporary):
                        os.unlink(temporary)
            else:
                filesystem.makedirs(os.path.dirname(path), exist_ok=True)
                filesystem.pipe_file(path, content)
        except Exception as error:
            raise StorageError(f"cannot write {name} in {self.uri}: {_reason(error)}") from error

    def read(self, name: str) -> bytes | None:
        """A file's content, or None when there is no such file."""
        filesystem, root = self._filesystem()
        path = f"{root}/{name}"
        return bytes(filesystem.cat_file(path)) if filesystem.exists(path) else None

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, (json.dumps(value, indent=1) + "\n").encode())

    def read_json(self, name: str) -> Any:
        content = self.read(name)
        return None if content is None else json.loads(content)

    def write_part(self, sweep: str, batch: str, records: Sequence[TrialRecord]) -> None:
        """Keep the finished trials of one batch."""
        rows = [record.to_row() for record in records]
        # pyarrow would take the columns of the first row alone, and a failed trial has no measurements.
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = pa.table({name: [row.get(name) for row in rows] for name in names})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self.write(f"parts/{plain_name(sweep)}/{batch}.parquet", sink.getvalue().to_pybytes())

    def part_names(self, sweep: str) -> list[str]:
        """The parts of a sweep, sorted."""
        filesystem, root = self._filesystem()
        folder = f"{root}/parts/{plain_name(sweep)}"
        if not filesystem.exists(folder):
            return []
        filesystem.invalidate_cache(folder)
        return sorted(str(path) for path in filesystem.ls(folder, detail=False) if str(path).endswith(".parquet"))

    def open_part(self, path: str) -> Any:
        """A stream over one of `part_names`."""
        return self._filesystem()[0].open(path, "rb")

    def folder_names(self) -> list[str]:
        """Names of the folders inside.

        Raises:
            StorageError: there is no such place, or it cannot be read.
        """
        filesystem, root = self._filesystem()
        try:
            filesystem.invalidate_cache(root)
            entries = filesystem.ls(root, detail=True)
        except Exception as error:  # every backend raises its own kinds
            raise StorageError(f"cannot read the folder {self.uri}: {_reason(error)}") from error
        return [str(entry["name"]).rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory"]

    def tables(self, sweep: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """The parts of a sweep, one at a time."""
        filesystem, _ = self._filesystem()
        for path in self.part_names(sweep):
            with filesystem.open(path, "rb") as stream:
                yield pq.read_table(stream, columns=columns)

    def finished_keys(self, sweep: str) -> set[str]:
        """Keys of the trials that are done; failed ones are not among them, so a resume tries them again."""
        done: set[str] = set()
        for table in self.tables(sweep, ["trial_key", "failed"]):
            keys, failed = table.column("trial_key").to_pylist(), table.column("failed").to_pylist()
            done.update(key for key, bad in zip(keys, failed, strict=True) if not bad)
        return done

    def frame(self, sweep: str) -> pd.DataFrame:
        """All trials of a sweep, one row a trial, in an order that depends on content alone.

        A trial that failed and was computed later appears once, as computed.
        """
        tables = list(self.tables(sweep))
        if not tables:
            return pd.DataFrame()
        return one_row_a_trial(pa.concat_tables(tables, promote_options="permissive").to_pandas())

    def merge(self, sweep: str, into: RunFolder | None = None) -> str:
        """Write all trials of a sweep as one Parquet file, here or into another folder; returns its name."""
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pandas(self.frame(sweep), preserve_index=False), sink)
        name = f"{plain_name(sweep)}.parquet"
        (into or self).write(name, sink.getvalue().to_pybytes())
        return name


def one_row_a_trial(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of parts without the failures of trials that were computed later, by cell and replicate."""
    kept = rows.sort_values(["failed", "finished_at"], kind="stable").drop_duplicates("trial_key")
    return kept.sort_values(["cell", "replicate"], kind="stable").reset_index(drop=True)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "there is no room left on the device"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).splitlines()[0] if str(error) else type(error).__name__
