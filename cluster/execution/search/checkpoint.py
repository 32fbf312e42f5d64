"""Searches on disk: one file holds every search of one command, so that it can go on after a stop or a crash.

The file is a digest and the arrays of a .npz without pickled objects, written beside its place and moved there. What it
says of open nodes decides which upper bound is claimed later, so the digest covers all of it, and is looked at first.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.execution.search.wire import Decisions
from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.lipschitz.search.nodes import Expansion
from solvers.lipschitz.search.proofs import Leaf
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Domain
from solvers.problems.questions import LipschitzProblem
from solvers.verify import network_digest

__all__ = ["Checkpoint", "KeptSearch", "command_digest", "question_digest"]

# How a file of this version begins; the digest of what follows comes next.
FIRST, DIGITS = b"interlip search 2\n", 64
COUNTS = ("expanded", "programs", "thin", "bounded", "dropped", "unsettled")
ARRAYS = ("pieces", "signs", "bounds", "splits", "ends", "paths", "code_ends", "codes")


@dataclass(frozen=True, slots=True, eq=False)
class KeptSearch:
    """All that one search has come to.

    Attributes:
        start_floor: as in `worker.Question`.
        point: (d,), where the best gradient is; None without one. What it proves is proved again.
        nodes: that are open; none once the search has ended.
        facts: as in `worker.Found`.
        proved: whether proofs of everything so far are among the facts.
        seconds: spent so far.
        ceiling: a bound of everything that was proved elsewhere.
        slopes: whether nodes are bounded by programs over slopes; None where that was not asked yet.
    """

    start_floor: float
    point: FloatArray | None
    nodes: Decisions
    facts: Expansion
    proved: bool
    seconds: float
    ceiling: float
    slopes: bool | None


def question_digest(problem: LipschitzProblem, gap: float) -> str:
    """Names a question by its content; the gap is part of it, since nodes are dropped by it."""
    return command_digest(problem.network, [problem.p], problem.domain, gap)


def command_digest(network: ReluNetwork, exponents: Sequence[float], domain: Domain, gap: float) -> str:
    """Names all that one command asks."""
    asked = [network_digest(network), sorted(float(p).hex() for p in exponents), domain.describe(), gap]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


class Checkpoint:
    """The searches of one command, by the digests of their questions, and the file that keeps them.

    Args:
        path: where to keep them; None to keep nothing.
        command: digest of all that is asked.
    """

    def __init__(self, path: str | Path | None, command: str) -> None:
        self.path = None if path is None else Path(path)
        self._command = command
        self._states: dict[str, KeptSearch] = {}
        if self.path is not None and not self.path.parent.is_dir():
            raise InputError(f"there is no folder {self.path.parent} for the checkpoint")

    def resume(self, path: str | Path) -> None:
        """Take over what a file holds.

        Raises:
            InputError: it cannot be read, is damaged, or is about another question.
        """
        try:
            whole = Path(path).read_bytes()
        except FileNotFoundError:
            raise InputError(f"there is no checkpoint {path}") from None
        except OSError as error:
            raise InputError(f"the checkpoint {path} cannot be read: {error.strerror or error}") from None
        if not whole.startswith(FIRST):
            raise InputError(f"{path} is no checkpoint of a search, or one of another version of interlip")
        start = len(FIRST) + DIGITS
        if whole[len(FIRST) : start] != _digest(whole[start:]):
            raise InputError(f"the checkpoint {path} is damaged: its contents do not match their digest")
        with np.load(io.BytesIO(whole[start:]), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        written = json.loads(str(arrays.pop("header")[()]))
        if written["command"] != self._command:
            raise InputError(
                f"the checkpoint {path} is about another network, p, domain or gap: give the same ones again"
            )
        self._states = {key: _state(state, arrays, key) for key, state in written["searches"].items()}

    def find(self, key: str) -> KeptSearch | None:
        """What is known of a question."""
        return self._states.get(key)

    def keep(self, key: str, state: KeptSearch) -> None:
        """Remember a search, and write the file anew."""
        self._states[key] = state
        if self.path is None:
            return
        arrays: dict[str, Any] = {}
        searches = {}
        for name, one in self._states.items():
            searches[name] = _described(one)
            for field in ARRAYS:
                arrays[f"{name}/{field}"] = getattr(one.nodes, field)
            if one.point is not None:
                arrays[f"{name}/point"] = one.point
        header = {"command": self._command, "searches": searches}
        whole = io.BytesIO()
        np.savez(whole, header=np.array(json.dumps(header)), **arrays)
        content = whole.getvalue()
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            with open(draft, "wb") as file:
                file.write(FIRST + _digest(content) + content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self.path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise InputError(f"the checkpoint {self.path} cannot be written: {error.strerror or error}") from None


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _described(state: KeptSearch) -> dict[str, Any]:
    """What is no array; floats as text that says them exactly."""
    facts = state.facts
    return {
        "start_floor": float(state.start_floor).hex(),
        "settled": float(facts.discarded).hex(),
        **{name: getattr(facts, name) for name in COUNTS},
        "proofs": [
            [piece, list(leaf.path), leaf.kind, list(leaf.rows), [_text(y) for y in leaf.multipliers], leaf.loose]
            for piece, leaf in facts.proofs
        ],
        "proved": state.proved,
        "point": state.point is not None,
        "seconds": state.seconds,
        "ceiling": float(state.ceiling).hex(),
        "slopes": state.slopes,
    }


def _state(written: Mapping[str, Any], arrays: Mapping[str, Any], key: str) -> KeptSearch:
    facts = Expansion(
        discarded=float.fromhex(written["settled"]),
        proofs=[
            (piece, Leaf(tuple(path), kind, tuple(rows), tuple(_number(y) for y in multipliers), loose))
            for piece, path, kind, rows, multipliers, loose in written["proofs"]
        ],
        expanded=int(written["expanded"]),
        programs=int(written["programs"]),
        thin=int(written["thin"]),
        bounded=int(written["bounded"]),
        dropped=int(written["dropped"]),
        unsettled=int(written["unsettled"]),
    )
    nodes = Decisions(*(arrays[f"{key}/{field}"] for field in ARRAYS))
    point = arrays[f"{key}/point"] if written["point"] else None
    return KeptSearch(
        float.fromhex(written["start_floor"]),
        point,
        nodes,
        facts,
        written["proved"],
        float(written["seconds"]),
        float.fromhex(written["ceiling"]),
        written["slopes"],
    )


def _text(multiplier: float | str) -> str | list[str]:
    """A fraction stays text; a number is marked by brackets."""
    return multiplier if isinstance(multiplier, str) else [float(multiplier).hex()]


def _number(multiplier: str | list[str]) -> float | str:
    return multiplier if isinstance(multiplier, str) else float.fromhex(multiplier[0])
