"""Random streams that derive from what is computed, never from where, when or in which order.

A trial's stream depends on the experiment's name, the parameters that describe the draw, the replicate and the
study's seed. Growing a grid, changing the batch size or the number of workers, or resuming changes no number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["RandomStreams", "canonical_json", "content_digest"]


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, shortest floats, integers never written as floats.

    `2` and `2.0` mean the same parameter and give the same text; infinities become strings.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    number = float(value)
    if number != number or number in (float("inf"), float("-inf")):
        return str(number)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def content_digest(value: Any) -> str:
    """SHA-256 of the canonical text, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class RandomStreams:
    """Independent generators of one trial, one per purpose.

    A purpose has a name (`"weights"`, `"search"`), so drawing more for one never shifts another.
    """

    digest: str

    @classmethod
    def of(cls, content: Any) -> RandomStreams:
        """The streams of some content: anything `canonical_json` accepts."""
        return cls(content_digest(content))

    def generator(self, purpose: str) -> np.random.Generator:
        """A fresh Philox generator; the same one on every call, machine and worker."""
        entropy = int.from_bytes(hashlib.sha256(f"{self.digest}/{purpose}".encode()).digest(), "big")
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
