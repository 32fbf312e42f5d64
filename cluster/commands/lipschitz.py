"""Command on one network: lipschitz."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.commands.studies import Debug, Json
from cluster.output.picture_files import check_picture_file, write_picture
from cluster.output.solve_progress import SolveProgress
from cluster.output.terminal import EXIT_BUDGET, Exit, console, emit_json, guarded, say
from solvers.errors import InputError
from solvers.files.models import endings

if TYPE_CHECKING:
    from solvers.networks.relu import ReluNetwork
    from solvers.problems.domains import Domain
    from solvers.problems.results import LipschitzBounds

__all__ = ["reduce_outputs", "register"]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("lipschitz")(lipschitz)


def lipschitz(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"A {endings()} file; a .npz holds W0, b0, W1, ...")],
    p: Annotated[list[str] | None, typer.Option("--p", help="Exponent in [1, inf]; may be given again. [2]")] = None,
    whole: Annotated[bool, typer.Option("--global", help="The constant on all of R^d (the default).")] = False,
    box: Annotated[tuple[float, float] | None, typer.Option("--box", metavar="LO HI", help="On [LO, HI]^d.")] = None,
    center: Annotated[str | None, typer.Option(help="On a box around the point in a .npy or text file.")] = None,
    radius: Annotated[float | None, typer.Option(help="Half width of the box around --center.")] = None,
    method: Annotated[str, typer.Option(help="auto, or a method by name; mixed-integer:scip also works.")] = "auto",
    output: Annotated[int | None, typer.Option(help="Which output of a vector-valued network.")] = None,
    margin: Annotated[tuple[int, int] | None, typer.Option(metavar="I J", help="Output I minus output J.")] = None,
    all_outputs: Annotated[
        bool, typer.Option("--all-outputs", help="The largest constant over all outputs: l_p to l_inf.")
    ] = False,
    activation: Annotated[
        str | None,
        typer.Option(help="relu, leaky-relu:SLOPE or abs: what a .pt or .npz file does not say. [relu]"),
    ] = None,
    gap: Annotated[float, typer.Option(help="Relative gap at which the constant counts as exact.")] = 1e-6,
    time_limit: Annotated[
        float, typer.Option(metavar="S", help="Seconds; an open interval then exits with 3.")
    ] = math.inf,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="For d = 2, draw the linear regions (.png, .pdf, .svg).")
    ] = None,
    certify: Annotated[
        bool, typer.Option("--certify", help="Keep the proof of the upper bound, for `interlip verify`.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Bound or compute the l_p-Lipschitz constant of one ReLU network, with a witness.

    Example: interlip lipschitz net.npz --p 1 --p 2 --p inf --box -1 1
    With proofs: interlip lipschitz net.npz --box -1 1 --certify --json > result.json
    For two inputs, with a picture: interlip lipschitz net.npz --method region-enumeration --box -1 1 --plot net.png
    """
    with guarded(debug):
        from solvers.arithmetic.norms import parse_exponent
        from solvers.files.models import read_network
        from solvers.problems.budget import Budget
        from solvers.problems.questions import LipschitzProblem
        from solvers.registry import lipschitz_solver_named

        exponents = [parse_exponent(text) for text in (p or ["2"])]
        progress = SolveProgress(time_limit)
        budget = Budget(seconds=time_limit, relative_gap=gap, watch=progress.watch)
        if all_outputs and (output is not None or margin is not None or plot is not None):
            raise InputError("--all-outputs excludes --output, --margin and --plot, which are about one output")
        reading = read_network(model, activation)
        network = reduce_outputs(reading.network, output, margin)
        domain = _domain(network, whole, box, center, radius)
        chosen = lipschitz_solver_named(method)
        solver = chosen.certifying() if certify else chosen
        outputs: list[int | None] = [output] * len(exponents)
        if all_outputs:
            from solvers.lipschitz.vector_outputs import solve_all_outputs

            with progress:
                found = solve_all_outputs(solver, network, exponents, domain, budget=budget)
            answers, outputs = [one.bounds for one in found], [one.output for one in found]
        else:
            problems = [LipschitzProblem(network, exponent, domain) for exponent in exponents]
            if plot is not None:
                _check_plot(plot, network)
            with progress:
                answers = solver.solve_batch(problems, budget=budget)
        if reading.assumed:
            say(f"read as {reading}")
        if json:
            extra: dict[str, Any] = {"model": model, "read_as": str(reading), "gap": gap}
            extra["margin"] = list(margin) if margin else None
            if all_outputs:
                extra["all_outputs"] = True
            if activation is not None:
                extra["activation"] = activation
            documents = [
                {**answer.to_json(certificate_data=certify), **extra, "output": k}
                for answer, k in zip(answers, outputs, strict=True)
            ]
            emit_json(documents[0] if len(documents) == 1 else documents)
        else:
            _show_bounds(answers)
            if all_outputs:
                say(f"attained at output {', '.join(str(k) for k in outputs)}")
        if plot is not None:
            _draw_regions(plot, network, answers)
        bare = [answer for answer in answers if answer.certificate is None]
        if certify and bare:
            say(f"no certificate for {len(bare)} of {len(answers)}; {bare[0].reason or 'the method makes none'}")
        open_ones = [answer for answer in answers if not budget.is_closed(answer.lower, answer.upper)]
        if open_ones:
            why = open_ones[0].reason or open_ones[0].status.advice
            say(f"not exact for {len(open_ones)} of {len(answers)}: {why}")
            raise Exit(EXIT_BUDGET)


def _check_plot(path: str, network: ReluNetwork) -> None:
    """Refuse a picture that cannot be drawn before anything is computed."""
    if network.input_dimension != 2:
        raise InputError(f"--plot draws regions for d = 2 inputs, the network has d = {network.input_dimension}")
    check_picture_file(path)


def _draw_regions(path: str, network: ReluNetwork, answers: list[LipschitzBounds]) -> None:
    from tasks.figures.regions import region_figure

    write_picture(region_figure(network, answers), path)
    say(f"linear regions drawn in {path}")


def reduce_outputs(network: ReluNetwork, output: int | None, margin: tuple[int, int] | None) -> ReluNetwork:
    """The network of one output or of a margin; the network itself where neither is chosen."""
    if output is not None and margin is not None:
        raise InputError("--output and --margin exclude each other")
    if margin is not None:
        return network.margin(*margin)
    return network.select_output(output) if output is not None else network


def _domain(
    network: ReluNetwork, whole: bool, box: tuple[float, float] | None, center: str | None, radius: float | None
) -> Domain:
    from solvers.problems.domains import Box, WholeSpace

    if whole + (box is not None) + (center is not None) > 1:
        raise InputError("--global, --box and --center exclude each other")
    if (center is None) != (radius is None):
        raise InputError("--center and --radius go together")
    d = network.input_dimension
    if box is not None:
        return Box.cube(d, *box)
    if center is None or radius is None:
        return WholeSpace(d)
    point = _read_point(center)
    if point.shape != (d,):
        raise InputError(f"--center must hold a point of {d} numbers, got shape {point.shape}")
    if not radius > 0:
        raise InputError(f"--radius must be positive, got {radius:g}: an empty box has no Lipschitz constant")
    return Box.ball(point, radius)


def _read_point(path: str) -> Any:
    import numpy as np

    try:
        if path.endswith(".npy"):
            return np.load(path, allow_pickle=False).astype(np.float64).ravel()
        return np.loadtxt(path, dtype=np.float64, delimiter="," if path.endswith(".csv") else None).ravel()
    except (OSError, ValueError) as error:
        raise InputError(f"--center {path} is not a readable point: {str(error).splitlines()[0]}") from None


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
