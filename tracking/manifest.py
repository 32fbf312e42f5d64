"""What a driver has seen of finished parts: one line each, in a file of its own for every time a run is begun."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import asdict
from typing import Any

from tracking.parts import PartSeal, RunFolder

__all__ = ["Manifest", "read_manifest"]

FOLDER = "manifest"
# On an object store the whole file is written again, so not after every part.
REMOTE_SECONDS = 10.0


class Manifest:
    """Lines of one driver. A line that is not there is no loss: a part carries its own digest."""

    def __init__(self, folder: RunFolder) -> None:
        # Files are read in the order of their names: a run may be resumed within the second in which it ended.
        seconds, rest = divmod(time.time_ns(), 10**9)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
        self._folder, self._name = folder, f"{FOLDER}/{stamp}.{rest:09d}Z-{uuid.uuid4().hex[:8]}.jsonl"
        self._lines: list[str] = []
        self._written = 0.0

    def add(self, seal: PartSeal) -> None:
        """Note a part that was seen.

        Raises:
            StorageError: it cannot be written.
        """
        self._note(asdict(seal))

    def drop(self, sweep: str, part: str) -> None:
        """Note that a part does not count any more."""
        self._note({"sweep": sweep, "part": part, "dropped": True})

    def _note(self, value: dict[str, Any]) -> None:
        line = json.dumps(value, sort_keys=True) + "\n"
        if self._folder.local_path is not None:
            self._folder.append(self._name, line.encode())
            return
        self._lines.append(line)
        if time.monotonic() - self._written > REMOTE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._lines:
            self._written = time.monotonic()
            self._folder.write(self._name, "".join(self._lines).encode())


def read_manifest(folder: RunFolder) -> dict[tuple[str, str], PartSeal]:
    """(sweep, part) -> what was noted of it, last; lines that were cut off are passed over."""
    found: dict[tuple[str, str], PartSeal] = {}
    for name in folder.names(FOLDER, ".jsonl"):
        for line in (folder.read(name) or b"").splitlines():
            try:
                value = json.loads(line)
                if value.get("dropped"):
                    found.pop((value["sweep"], value["part"]), None)
                    continue
                seal = PartSeal(**value)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            found[seal.sweep, seal.part] = seal
    return found
