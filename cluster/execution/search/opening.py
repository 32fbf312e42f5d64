"""A spread search made ready: workers, signals and checkpoint, for the command and for Python alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.execution.search.checkpoint import Checkpoint, command_digest
from cluster.execution.search.pool import SearchPool
from cluster.execution.search.spread import SpreadSearch, Standing
from cluster.execution.search.stopping import Stop
from solvers.errors import InputError
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Domain

if TYPE_CHECKING:
    from solvers.lipschitz.search.kept_proofs import LeafFile

__all__ = ["check_spread", "spread_search"]

SPREADS = ("auto", "branch-and-bound")


def check_spread(method: str) -> None:
    """Raise InputError for a method that no cluster helps."""
    if method not in SPREADS:
        raise InputError(f"only branch-and-bound is spread over workers: {method} runs with the executor local")


@contextmanager
def spread_search(
    network: ReluNetwork,
    exponents: Sequence[float],
    domain: Domain,
    gap: float,
    *,
    workers: int | None = None,
    address: str | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
    certify: bool = False,
    report: Callable[[Standing], None] | None = None,
    method: str = "branch-and-bound",
    leaf_file: LeafFile | None = None,
) -> Iterator[SpreadSearch]:
    """A solver for questions about one network, as long as the context is open. Its workers stand when it opens.

    Args:
        network: with one output, or with all outputs that are asked about.
        exponents, domain, gap: of all questions; a checkpoint is about the same ones.
        workers: how many; all CPUs of the cluster when left out.
        address: None for a local cluster (inside a Ray job: the job's own), else "auto" or HOST:PORT.
        checkpoint: the file that keeps the search; where it is left out, the one that is resumed.
        resume: go on from this file.
        certify: keep the proof of the upper bound.
        report: hears where a search stands.
        method: branch-and-bound, or auto, which bounds the question in this process first.
        leaf_file: where the leaves of a long certificate go.
    Raises:
        InputError: no cluster answers, it has too few CPUs, or a file does not fit.
    """
    from solvers.registry import lipschitz_solver_named

    kept = Checkpoint(resume if checkpoint is None else checkpoint, command_digest(network, exponents, domain, gap))
    if resume is not None:
        kept.resume(resume)
    with SearchPool(workers, address) as pool, Stop() as stop:
        first = lipschitz_solver_named("bounds") if method == "auto" else None
        if first is not None and certify:
            first = first.certifying()
        yield SpreadSearch(
            certified=certify,
            leaf_file=leaf_file,
            pool=pool,
            checkpoint=kept,
            stop=stop,
            report=report,
            first=first,
        )
