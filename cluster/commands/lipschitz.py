"""Command on one network: lipschitz."""

from __future__ import annotations

import shlex
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import typer

from cluster.commands.lipschitz_request import LipschitzRequest, reduce_outputs
from cluster.commands.options import check_cluster, command_of
from cluster.output.picture_files import check_picture_file, write_picture
from cluster.output.solve_progress import SolveProgress
from cluster.output.terminal import EXIT_BUDGET, Exit, console, emit_json, only_documents, say
from solvers.errors import InputError

if TYPE_CHECKING:
    from solvers.lipschitz._base import AbstractLipschitzSolver
    from solvers.lipschitz.search.kept_proofs import LeafFile
    from solvers.networks.relu import ReluNetwork
    from solvers.problems.budget import Budget
    from solvers.problems.domains import Domain
    from solvers.problems.results import LipschitzBounds

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("lipschitz")(command_of(LipschitzRequest, lipschitz))


def lipschitz(request: LipschitzRequest) -> None:
    """Bound or compute the l_p-Lipschitz constant of one ReLU network, with a witness.

    Example: interlip lipschitz net.npz --p 1 --p 2 --p inf --box -1 1
    With proofs: interlip lipschitz net.npz --box -1 1 --certify --json > result.json
    Over a cluster: interlip lipschitz net.npz --executor ray --address HEAD:6379 --checkpoint search.npz
    For two inputs, with a picture: interlip lipschitz net.npz --method region-enumeration --box -1 1 --plot net.png
    """
    from solvers.problems.budget import Budget

    check_cluster(request.address)
    progress = SolveProgress(request.time_limit)
    budget = Budget(seconds=request.time_limit, relative_gap=request.gap, watch=progress.watch)
    reading = request.reading()
    network = reduce_outputs(reading.network, request.output, request.margin)
    with only_documents() if request.json else nullcontext(), _leaf_file(request) as leaf_file:
        answers, outputs, stopped = _solve(request, network, budget, progress, leaf_file)
    if reading.assumed:
        say(f"read as {reading}")
    if request.json:
        documents = [_document(request, str(reading), answer, k) for answer, k in zip(answers, outputs, strict=True)]
        emit_json(documents[0] if len(documents) == 1 else documents)
    else:
        _show_bounds(answers)
        if request.all_outputs:
            say(f"attained at output {', '.join(str(k) for k in outputs)}")
    if request.plot is not None:
        _draw_regions(request.plot, network, answers)
    bare = [answer for answer in answers if answer.certificate is None]
    if request.certify and bare:
        say(f"no certificate for {len(bare)} of {len(answers)}; {bare[0].reason or 'the method makes none'}")
        if request.proofs is None and any("certified" in answer.stats for answer in bare):
            say("a search of many leaves needs a file for them: --proofs FILE")
    if stopped is not None:
        say(f"interlip: stopped; {_way_on(request)}")
        raise Exit(128 + stopped)
    open_ones = [answer for answer in answers if not budget.is_closed(answer.lower, answer.upper)]
    if open_ones:
        why = open_ones[0].reason or open_ones[0].status.advice
        say(f"not exact for {len(open_ones)} of {len(answers)}: {why}")
        if request.kept is not None:
            say(_way_on(request))
        raise Exit(EXIT_BUDGET)


def _leaf_file(request: LipschitzRequest) -> AbstractContextManager[LeafFile | None]:
    if request.proofs is None:
        return nullcontext()
    from solvers.lipschitz.search.kept_proofs import LeafFile

    return LeafFile(request.proofs)


def _way_on(request: LipschitzRequest) -> str:
    """How a search that is spread can be continued."""
    if request.kept is None:
        return "--checkpoint FILE would have kept the search"
    given = sys.argv[1:]
    for option in ("--resume", "--checkpoint"):
        if option in given:
            place = given.index(option)
            given = given[:place] + given[place + 2 :]
    return f"go on with: {shlex.join(['interlip', *given, '--resume', request.kept])}"


def _solve(
    request: LipschitzRequest,
    network: ReluNetwork,
    budget: Budget,
    progress: SolveProgress,
    leaf_file: LeafFile | None,
) -> tuple[list[LipschitzBounds], list[int | None], int | None]:
    """One answer for each p, the output that it is about, and the signal that stopped the search."""
    if request.plot is not None:
        _check_plot(request.plot, network)
    if request.starts is not None:
        _say_outside(request, request.domain(network.input_dimension))
    if not request.on_ray:
        with progress:
            chosen = request.solver() if leaf_file is None else request.solver().keeping_leaves(leaf_file)
            return *_ask(request, chosen, network, budget), None
    from cluster.execution.search.opening import spread_search

    with spread_search(
        network,
        request.exponents(),
        request.domain(network.input_dimension),
        request.gap,
        workers=request.workers,
        address=request.address,
        checkpoint=request.checkpoint,
        resume=request.resume,
        certify=request.certify,
        report=progress.stands,
        method=request.method,
        leaf_file=leaf_file,
    ) as solver:
        with progress:
            answers, outputs = _ask(request, solver, network, budget)
        return answers, outputs, solver.stop.signal


def _ask(
    request: LipschitzRequest, solver: AbstractLipschitzSolver, network: ReluNetwork, budget: Budget
) -> tuple[list[LipschitzBounds], list[int | None]]:
    """One answer for each p, and the output that it is about."""
    from solvers.problems.questions import LipschitzProblem

    exponents, domain = request.exponents(), request.domain(network.input_dimension)
    if request.all_outputs:
        from solvers.lipschitz.surveys.vector_outputs import solve_all_outputs

        found = solve_all_outputs(solver, network, exponents, domain, budget=budget)
        return [one.bounds for one in found], [one.output for one in found]
    problems = [LipschitzProblem(network, exponent, domain) for exponent in exponents]
    return solver.solve_together(problems, budget=budget), [request.output] * len(exponents)


def _say_outside(request: LipschitzRequest, domain: Domain) -> None:
    points = request.starting_points()
    if points.shape[1] != domain.dimension:
        raise InputError(f"--starts must hold points of {domain.dimension} numbers, got shape {points.shape}")
    outside = int((domain.nearest(points) != points).any(axis=1).sum())
    if outside:
        say(f"{outside} of {len(points)} starts lie outside the domain and were moved to its boundary")


def _document(request: LipschitzRequest, read_as: str, answer: LipschitzBounds, output: int | None) -> dict[str, Any]:
    """What --json says of one answer."""
    document: dict[str, Any] = answer.to_json(certificate_data=request.certify)
    document |= {"model": request.model, "read_as": read_as, "gap": request.gap}
    document |= {"margin": list(request.margin) if request.margin else None}
    if request.all_outputs:
        document["all_outputs"] = True
    if request.activation is not None:
        document["activation"] = request.activation
    return {**document, "output": output}


def _check_plot(path: str, network: ReluNetwork) -> None:
    """Refuse a picture that cannot be drawn before anything is computed."""
    if network.input_dimension != 2:
        raise InputError(f"--plot draws regions for d = 2 inputs, the network has d = {network.input_dimension}")
    check_picture_file(path)


def _draw_regions(path: str, network: ReluNetwork, answers: list[LipschitzBounds]) -> None:
    from tasks.figures.regions import region_figure

    write_picture(region_figure(network, answers), path)
    say(f"linear regions drawn in {path}")


def _show_bounds(answers: list[LipschitzBounds]) -> None:
    from rich.table import Table

    from solvers.arithmetic.norms import exponent_label

    table = Table(title="Lipschitz constant (output units per input unit)", title_justify="left", header_style="bold")
    for column in ("p", "lower", "upper", "relative gap", "status", "method", "seconds"):
        table.add_column(column, justify="right")
    for answer in answers:
        table.add_row(
            exponent_label(answer.p),
            f"{answer.lower:.9g}",
            f"{answer.upper:.9g}",
            f"{answer.relative_gap:.1e}",
            str(answer.status),
            answer.method,
            f"{answer.stats.get('wall_seconds', 0.0):.2f}",
        )
    console(stderr=False).print(table)
