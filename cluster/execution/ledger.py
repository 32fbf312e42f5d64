"""Run folders: which one a study goes to, what is finished in it, and what is taken as finished while it runs."""

from __future__ import annotations

import hashlib
import os
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.execution.worker import BatchSummary
from solvers.errors import InputError
from tasks.experiment import Trial
from tasks.seeding import content_digest
from tasks.sweeps import Study
from tracking.manifest import Manifest, read_manifest
from tracking.parts import DamagedPartError, PartSeal, RunFolder, StorageError
from tracking.provenance import KERNELS, kernels_digest

__all__ = ["Ledger", "Survey", "earlier_runs", "open_run", "study_digest"]

# Of the parts on an object store one in so many is read again when it is taken; all of them are at the end.
SAMPLED = 16


def study_digest(study: Study) -> str:
    """Content hash of a study: the same file with the same overrides, whatever time its trials are given."""
    return content_digest(study.model_dump(mode="python", exclude={"trial_timeout"}))[:8]


def open_run(study: Study, out: str, resume: bool) -> tuple[RunFolder, bool]:
    """A new run folder under `out`, or the newest one of the same study.

    A run whose rows other sources of the methods gave is left as it is: its rows and new ones are not mixed.

    Returns:
        The folder, created and proved writable, and whether it is an old one.
    Raises:
        InputError: the folder cannot be written.
    """
    base, digest = _base(out), study_digest(study)
    if resume:
        for old in earlier_runs(study, out):
            if old.uri.endswith(f"-{digest}"):
                return old, True
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    folder = RunFolder(f"{base}/{study.name}-{stamp}-{uuid.uuid4().hex[:4]}-{digest}")
    try:
        folder.create()
    except StorageError as error:
        raise InputError(str(error)) from None
    return folder, False


def _base(out: str) -> str:
    return out.rstrip("/") if "://" in out else os.path.abspath(out)


def earlier_runs(study: Study, out: str, any_sources: bool = False) -> list[RunFolder]:
    """Runs of a study of this name whose rows may stand beside new ones, the newest first.

    The newest by the clock, not by name: older runs are named by the local time. Runs that do not say what sources
    gave their rows are older than this question, and are trusted.

    Args:
        any_sources: whether to take those of other sources of the methods too.
    """
    base = _base(out)
    try:
        names = RunFolder(base).folder_names()
    except StorageError:  # there is none yet, or `open_run` says why it cannot be used
        return []
    form = re.compile(rf"{re.escape(study.name)}-\d{{8}}-\d{{6}}-[0-9a-f]{{4}}-[0-9a-f]{{8}}")
    runs = [RunFolder(f"{base}/{name}") for name in sorted(names, reverse=True) if form.fullmatch(name)]
    ours = kernels_digest()
    fitting = [run for run in runs if any_sources or _json(run, "provenance.json").get(KERNELS, ours) == ours]
    return sorted(fitting, key=lambda run: -float(_json(run, "times.json").get("started_at", 0.0)))


def _json(run: RunFolder, name: str) -> dict[str, Any]:
    """A file of a run; nothing where it is damaged."""
    try:
        return dict(run.read_json(name) or {})
    except (ValueError, TypeError, OSError):
        return {}


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

    def adopt(self, runs: Sequence[RunFolder]) -> int:
        """Take over finished trials of other runs, the same by content, whatever else their studies held; how many."""
        finished, count = self.survey().finished, 0
        for run in runs:
            for sweep, known in self._keys.items():
                for table in run.tables(sweep):
                    wanted = known - finished[sweep]
                    rows = zip(table.column("trial_key").to_pylist(), table.column("failed").to_pylist(), strict=True)
                    places = [k for k, (key, failed) in enumerate(rows) if key in wanted and not failed]
                    if not places:
                        continue
                    keys = table.column("trial_key").take(places).to_pylist()
                    self._book().add(self._folder.write_table(sweep, content_digest(keys)[:24], table.take(places)))
                    finished[sweep].update(keys)
                    count += len(set(keys))
        return count

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
