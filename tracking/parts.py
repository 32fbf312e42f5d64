"""Finished batches as Parquet parts on any filesystem: the record of what is done, and all that a resume needs.

A run folder holds the study (`study.json`, and `study.toml` as it was written), `provenance.json`,
`parts/<sweep>/<batch>-<digest>.parquet`, `manifest/`, and at the end `<sweep>.parquet`, `figures/` and `times.json`; a
sweep stands there under its `plain_name`. A part appears whole or not at all, and its name holds the digest of its
bytes: one that was cut off or changed in a single bit is seen to be. Parts of older runs have no digest in their name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tracking.records import TrialRecord

__all__ = [
    "DamagedPartError",
    "PartSeal",
    "RunFolder",
    "StorageError",
    "joined_tables",
    "one_row_a_trial",
    "plain_name",
]

DIGEST_DIGITS = 32
SEALED = re.compile(rf"-([0-9a-f]{{{DIGEST_DIGITS}}})\.parquet$")
BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss"}
_BUCKETS_SEEN: set[str] = set()
IDENTITY = ("trial_key", "cell", "replicate", "failed", "finished_at")


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


class DamagedPartError(RuntimeError):
    """A part is not what was written: cut off, changed, or no part at all."""


@dataclass(frozen=True, slots=True)
class PartSeal:
    """What the writer of a part says of it.

    Attributes:
        part: its file name.
        sha256: of its bytes.
    """

    sweep: str
    part: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run folder at a path or URI (`/data/runs/x`, `s3://bucket/runs/x`)."""

    uri: str

    def _filesystem(self) -> tuple[Any, str]:
        if "://" not in self.uri:
            # A plain path is taken as it is: `::` chains no filesystems there, and `~` is no home folder.
            return fsspec.filesystem("file"), os.path.abspath(self.uri)
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
            _make_folder(filesystem, path)
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
                _make_folder(filesystem, os.path.dirname(path))
                filesystem.pipe_file(path, content)
        except Exception as error:
            raise StorageError(f"cannot write {name} in {self.uri}: {_reason(error)}") from error

    def read(self, name: str) -> bytes | None:
        """A file's content, or None when there is no such file."""
        filesystem, root = self._filesystem()
        path = f"{root}/{name}"
        return bytes(filesystem.cat_file(path)) if filesystem.exists(path) else None

    def remove(self, name: str) -> None:
        """Remove a file."""
        filesystem, root = self._filesystem()
        filesystem.rm_file(f"{root}/{name}")

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, (json.dumps(value, indent=1) + "\n").encode())

    def read_json(self, name: str) -> Any:
        content = self.read(name)
        return None if content is None else json.loads(content)

    def append(self, name: str, content: bytes) -> None:
        """Add to the end of a file of this machine.

        Raises:
            StorageError: no room, no permission.
        """
        path = os.path.join(self.local_path or "", name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "ab") as stream:
                stream.write(content)
        except OSError as error:
            raise StorageError(f"cannot write {name} in {self.uri}: {_reason(error)}") from error

    def names(self, folder: str, ending: str) -> list[str]:
        """The files of a folder that end so, with the folder before them, sorted; none where there is no folder."""
        filesystem, root = self._filesystem()
        if not filesystem.exists(f"{root}/{folder}"):
            return []
        filesystem.invalidate_cache(f"{root}/{folder}")
        entries = (str(path).rstrip("/") for path in filesystem.ls(f"{root}/{folder}", detail=False))
        return sorted(f"{folder}/{path.rsplit('/', 1)[-1]}" for path in entries if path.endswith(ending))

    def write_part(self, sweep: str, batch: str, records: Sequence[TrialRecord]) -> PartSeal:
        """Keep the finished trials of one batch."""
        rows = [record.to_row() for record in records]
        # pyarrow would take the columns of the first row alone, and a failed trial has no measurements.
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = {name: _column([row.get(name) for row in rows]) for name in names}
        return self.write_table(sweep, batch, pa.table(columns))

    def write_table(self, sweep: str, batch: str, table: pa.Table) -> PartSeal:
        """Keep rows that are a table already."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        content = sink.getvalue().to_pybytes()
        digest = hashlib.sha256(content).hexdigest()
        part = f"{batch}-{digest[:DIGEST_DIGITS]}.parquet"
        self.write(f"parts/{plain_name(sweep)}/{part}", content)
        return PartSeal(sweep, part, table.num_rows, len(content), digest)

    def part_names(self, sweep: str) -> list[str]:
        """The parts of a sweep, sorted, as paths of its filesystem."""
        _, root = self._filesystem()
        return [f"{root}/{name}" for name in self.names(f"parts/{plain_name(sweep)}", ".parquet")]

    def part_bytes(self, path: str) -> bytes:
        """A part's content, which has the digest that its name says.

        Raises:
            DamagedPartError: it has not, or it cannot be read.
        """
        filesystem, _ = self._filesystem()
        try:
            content = bytes(filesystem.cat_file(path))
        except Exception as error:  # every backend raises its own kinds
            raise DamagedPartError(f"cannot be read ({_reason(error)})") from error
        sealed = SEALED.search(path)
        if not content:
            raise DamagedPartError("is empty")
        if sealed and not hashlib.sha256(content).hexdigest().startswith(sealed[1]):
            raise DamagedPartError("was cut off or changed after it was written")
        return content

    def read_part(self, path: str, columns: list[str] | None = None) -> pa.Table:
        """The trials of a part.

        Raises:
            DamagedPartError: it is not what was written.
        """
        content = self.part_bytes(path)
        try:
            # Of a part without a digest every column is read: damage shows in the columns that are damaged.
            table = pq.read_table(pa.BufferReader(content), columns=columns if SEALED.search(path) else None)
        except Exception as error:  # whatever a damaged file makes of the reader
            raise DamagedPartError(f"is no table that can be read ({_reason(error)})") from error
        missing = [name for name in columns or IDENTITY if name not in table.column_names]
        if missing:
            raise DamagedPartError(f"has no column {missing[0]!r}")
        return table if columns is None else table.select(columns)

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
        """The sound parts of a sweep, one at a time; damaged ones are passed over."""
        for path in self.part_names(sweep):
            with contextlib.suppress(DamagedPartError):
                yield self.read_part(path, columns)

    def set_aside(self, path: str) -> str:
        """Move a part out of the way, to `aside/`; its new name."""
        filesystem, root = self._filesystem()
        name = f"aside/{path.removeprefix(f'{root}/parts/')}.{uuid.uuid4().hex[:8]}"
        try:
            _make_folder(filesystem, os.path.dirname(f"{root}/{name}"))
            filesystem.mv(path, f"{root}/{name}", recursive=filesystem.isdir(path))
        except Exception as error:
            raise StorageError(f"cannot move {path} to {name}: {_reason(error)}") from error
        return name

    def part_path(self, sweep: str, part: str) -> str:
        """Path of a part on its filesystem."""
        return f"{self._filesystem()[1]}/parts/{plain_name(sweep)}/{part}"

    def size_of(self, sweep: str, part: str) -> int | None:
        """Bytes of a part; None when there is none of that name."""
        filesystem, path = self._filesystem()[0], self.part_path(sweep, part)
        filesystem.invalidate_cache(os.path.dirname(path))
        try:
            return int(filesystem.size(path))
        except FileNotFoundError:
            return None
        except Exception as error:  # every backend raises its own kinds
            raise StorageError(f"cannot look at {path}: {_reason(error)}") from error

    def finished_keys(self, sweep: str) -> set[str]:
        """Keys of the trials that are done; failed ones are not among them, so a resume tries them again."""
        done: set[str] = set()
        for table in self.tables(sweep, ["trial_key", "failed"]):
            keys, failed = table.column("trial_key").to_pylist(), table.column("failed").to_pylist()
            done.update(key for key, bad in zip(keys, failed, strict=True) if not bad)
        return done

    def frame(self, sweep: str, cells: Collection[str] | None = None) -> pd.DataFrame:
        """All trials of a sweep, one row a trial, in an order that depends on content alone.

        A trial that failed and was computed later appears once, as computed.

        Args:
            cells: those that belong to the sweep; None for all that are there.
        """
        tables = [table for table in self.tables(sweep) if table.num_rows]
        if not tables:
            return pd.DataFrame()
        frame = joined_tables(tables).to_pandas()
        if cells is not None:
            frame = frame[frame["cell"].isin(cells)]
        return one_row_a_trial(frame)

    def merge(self, sweep: str, into: RunFolder | None = None, cells: Collection[str] | None = None) -> str:
        """Write all trials of a sweep as one Parquet file, here or into another folder; returns its name."""
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pandas(self.frame(sweep, cells), preserve_index=False), sink)
        name = f"{plain_name(sweep)}.parquet"
        (into or self).write(name, sink.getvalue().to_pybytes())
        return name


def one_row_a_trial(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of parts without the failures of trials that were computed later, by cell and replicate."""
    kept = rows.sort_values(["failed", "finished_at"], kind="stable").drop_duplicates("trial_key")
    return kept.sort_values(["cell", "replicate"], kind="stable").reset_index(drop=True)


def _column(values: list[Any]) -> pa.Array:
    """A column; of values that have no common type, their texts."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values])


def joined_tables(tables: list[pa.Table]) -> pa.Table:
    """One table; a column that is a text in one part and a number in another becomes text everywhere."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        texts = {field.name for table in tables for field in table.schema if pa.types.is_string(field.type)}
        return pa.concat_tables([_as_text(table, texts) for table in tables], promote_options="permissive")


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    for k, field in enumerate(table.schema):
        if field.name in names and not pa.types.is_string(field.type):
            values = [None if value is None else str(value) for value in table.column(k).to_pylist()]
            table = table.set_column(k, field.name, pa.array(values, pa.string()))
    return table


def _make_folder(filesystem: Any, path: str) -> None:
    """Make a folder; a bucket holds none, and is itself nothing to make in passing: it has an owner and a bill.

    Raises:
        FileNotFoundError: there is no such bucket.
    """
    if not BUCKETS & set(_protocols(filesystem)):
        filesystem.makedirs(path, exist_ok=True)
        return
    bucket = path.lstrip("/").partition("/")[0]
    if bucket not in _BUCKETS_SEEN:
        if not filesystem.exists(bucket):
            raise FileNotFoundError(f"there is no bucket {bucket!r}: make it first")
        _BUCKETS_SEEN.add(bucket)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "there is no room left on the device"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).splitlines()[0] if str(error) else type(error).__name__
