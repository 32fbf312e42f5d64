"""Run folders: which one a study goes to, what is finished in it, and what is taken as finished while it runs."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.execution.worker import BatchSummary
from solvers.errors import InputError
from tasks.experiment import Trial
from tasks.seeding import content_digest
from tasks.sweeps import Study
from tracking.manifest import Manifest, read_manifest
from tracking.parts import DamagedPartError, PartSeal, RunFolder, StorageError

__all__ = ["Ledger", "Survey", "open_run", "study_digest"]

# Of the parts on an object store one in so many is read again when it is taken; all of them are at the end.
SAMPLED = 16


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


@dataclass(slots=True)
class Survey:
    """What a run folder holds.

    Attributes:
        finished: by sweep, keys of the trials that are computed.
        failed: the same of those that failed and were not computed since.
        damaged: sweep, path and what is wrong of every part that cannot be believed.
        gone: sweep and name of parts that a driver had seen and that are no longer there.
    """

    finished: dict[str, set[str]] = field(default_factory=dict)
    failed: dict[str, set[str]] = field(default_factory=dict)
    damaged: list[tuple[str, str, str]] = field(default_factory=list)
    gone: list[tuple[str, str]] = field(default_factory=list)


class Ledger:
    """The driver's book of one run: a part counts when the driver has seen it, not when a worker says so."""

    def __init__(self, folder: RunFolder, trials: Sequence[Trial]) -> None:
        self._folder = folder
        self._keys: dict[str, set[str]] = {}
        for trial in trials:
            self._keys.setdefault(trial.sweep, set()).add(trial.key)
        self._manifest: Manifest | None = None

    def survey(self) -> Survey:
        """Read every part; nothing is changed."""
        found = Survey()
        noted = read_manifest(self._folder)
        for sweep, known in self._keys.items():
            finished, failed = found.finished.setdefault(sweep, set()), found.failed.setdefault(sweep, set())
            there = set()
            for path in self._folder.part_names(sweep):
                there.add(path.rsplit("/", 1)[-1])
                try:
                    table = self._folder.read_part(path, ["trial_key", "failed"])
                    keys = table.column("trial_key").to_pylist()
                    if not known.issuperset(keys):
                        raise DamagedPartError("holds trials of another study")
                except DamagedPartError as error:
                    found.damaged.append((sweep, path, str(error)))
                    continue
                bad = table.column("failed").to_pylist()
                finished.update(key for key, fault in zip(keys, bad, strict=True) if not fault)
                failed.update(key for key, fault in zip(keys, bad, strict=True) if fault)
            failed -= finished
            found.gone += [(sweep, part) for named, part in noted if named == sweep and part not in there]
        return found

    def set_aside(self, survey: Survey) -> list[str]:
        """Move what cannot be believed out of the way; a sentence for each part, and for those that are gone."""
        said = []
        for sweep, path, reason in survey.damaged:
            place = self._folder.set_aside(path)
            self._book().drop(sweep, path.rsplit("/", 1)[-1])
            said.append(f"the part {path} {reason}: set aside as {place}, its trials are computed again")
        for sweep, part in survey.gone:
            self._book().drop(sweep, part)
            said.append(f"the part {sweep}/{part} is gone: its trials are computed again")
        return said

    def _book(self) -> Manifest:
        if self._manifest is None:
            self._manifest = Manifest(self._folder)
        return self._manifest

    def take(self, summary: BatchSummary) -> str | None:
        """Look at the part of a batch and note it; None, or why it does not count."""
        seal = summary.seal
        size = self._folder.size_of(seal.sweep, seal.part)
        if size is None:
            return f"the part {seal.sweep}/{seal.part} that a worker wrote is not there"
        if size != seal.bytes or not self._same_bytes(seal):
            return f"the part {seal.sweep}/{seal.part} is not what its worker wrote"
        self._book().add(seal)
        return None

    def _same_bytes(self, seal: PartSeal) -> bool:
        if self._folder.local_path is None and int(seal.sha256[:8], 16) % SAMPLED:
            return True
        try:
            content = self._folder.part_bytes(self._folder.part_path(seal.sweep, seal.part))
        except DamagedPartError:
            return False
        return hashlib.sha256(content).hexdigest() == seal.sha256

    def unsound(self) -> bool:
        """Whether any part has changed, or gone, since it was taken; writes the manifest's last lines."""
        if self._manifest is not None:
            self._manifest.flush()
        noted = {(sweep, part) for sweep, part in read_manifest(self._folder) if sweep in self._keys}
        for sweep in self._keys:
            for path in self._folder.part_names(sweep):
                noted.discard((sweep, path.rsplit("/", 1)[-1]))
                try:
                    self._folder.part_bytes(path)
                except DamagedPartError:
                    return True
        return bool(noted)
