"""Command on one data set: its mutual complexity, beside the worst case."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.commands.options import DataDir, Debug, Json, Label, check_data_dir, check_seed
from cluster.commands.shape_options import Conv, Shape, asked_shape
from cluster.output.terminal import console, emit_json, guarded
from solvers.errors import InputError

if TYPE_CHECKING:
    from solvers.complexity.measure import DataComplexity, NetworkSize, PairComplexity

__all__ = ["register"]

CONSTANTS = (0.25, 0.5, 1.0)


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("complexity")(complexity)


def complexity(
    data: Annotated[str, typer.Argument(metavar="DATA", help="digits, moons:N, ..., or a .npz/.csv/.parquet file.")],
    constant: Annotated[
        list[float] | None,
        typer.Option(help="C of the condition on radii; may be given again. [0.25, 0.5 and 1]"),
    ] = None,
    conv: Conv = False,
    shape: Shape = None,
    mean_width_samples: Annotated[int, typer.Option(metavar="N", help="Gaussian vectors for the mean widths.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the mean widths (and of a made data set).")] = 0,
    label: Label = None,
    data_dir: DataDir = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure how hard the classes of a data set are to tell apart: mutual coverings, separation, mean widths.

    Balls cover every class; the radius of one about c is at most C d / sqrt(log(e R / d)), with d the distance from c
    to the centres of the other class. What the theorem of Dirksen, Finke and Genzel [DFG24] makes of them stands
    beside the counts that hold for any data. Data are scaled to max ||x|| = 1.

    Example: interlip complexity moons:1000 --constant 0.5 --constant 1
    """
    with guarded(debug):
        sizes = asked_shape(data, conv, shape)
        check_seed(seed)
        if mean_width_samples < 2:
            raise InputError(f"--mean-width-samples must be at least 2, got {mean_width_samples}")
        constants = tuple(dict.fromkeys(constant or CONSTANTS))
        if not all(0 < value < math.inf for value in constants):
            raise InputError(f"--constant must be a positive number, got {', '.join(f'{c:g}' for c in constants)}")
        folder = check_data_dir(data_dir)
        from cluster.output.progress import StageDisplay
        from solvers.complexity.measure import measure_complexity
        from tasks.data_sets import load_problem
        from tasks.seeding import RandomStreams

        problem = load_problem(data, seed=seed, label=label, data_dir=folder)
        started = time.perf_counter()
        with StageDisplay() as display:
            found = measure_complexity(
                problem,
                constants=constants,
                draws=mean_width_samples,
                rng=RandomStreams.of(["complexity", data, seed]).generator("mean widths"),
                shape=sizes,
                threads=-1,
                report=display.show,
            )
        seconds = time.perf_counter() - started
        if json:
            emit_json(
                {"data": data, "shape": sizes, **found.to_json(), "draws": mean_width_samples, "seconds": seconds}
            )
        else:
            _show(found, sizes, seconds)


def _show(found: DataComplexity, shape: tuple[int, int, int] | None, seconds: float) -> None:
    from rich.table import Table

    what = "orbits" if shape else "different points"
    rows = " and ".join(map(str, found.separation_rows))
    print(f"points                {found.points} in dimension {found.dimension}; {len(found.rows)} {what}")
    print(f"separation            {found.separation:.4g} between classes (rows {rows}), {found.closest:.4g} in all")
    print(f"seconds               {seconds:.2f}\n")
    screen = console(stderr=False)
    table = Table(title="Mutual coverings (lengths where max ||x|| = 1)", title_justify="left", header_style="bold")
    for k, column in enumerate(
        ("C", "covered", "against", "balls", "against it", "separation", "omega", "layer 1", "layer 2", "parameters")
    ):
        table.add_column(column, justify="left" if k in (1, 2) else "right")
    for index, (constant, pairs) in enumerate(zip(found.constants, found.pairs, strict=True)):
        for pair in pairs:
            for swapped in (False, True) if len(pairs) == 1 else (False,):
                table.add_row(f"{constant:g}", *_row(pair, swapped))
        if len(pairs) > 1:
            table.add_row(f"{constant:g}", "every class", *[""] * 5, *_size(found.network(index)), end_section=True)
    screen.print(table)
    print("Layers and parameters are orders, for the theorem leaves its constants open; samples do not enter them.\n")
    table = Table(title="Worst case", title_justify="left", header_style="bold")
    for k, column in enumerate(("source", "neurons", "parameters", "holds for", "counts")):
        table.add_column(column, justify="right" if k in (1, 2) else "left")
    for counts in found.worst_case:
        table.add_row(
            counts.source,
            _count(counts.neurons, counts.log10_neurons),
            _count(counts.parameters, counts.log10_parameters),
            counts.needs,
            "exact" if counts.precise else "up to constants and logarithms",
        )
    screen.print(table)


def _row(pair: PairComplexity, swapped: bool) -> tuple[str, ...]:
    names = [str(pair.minus), "the others" if pair.plus is None else str(pair.plus)]
    centres = [f"{len(pair.covering.minus.centres)}", f"{len(pair.covering.plus.centres)}"]
    if swapped:
        names.reverse()
        centres.reverse()
    omega = f"{pair.omega.value:.3g} ± {pair.omega.error:.1g}"
    return *names, *centres, f"{pair.covering.separation:.4g}", omega, *_size(pair.size(swapped))


def _size(size: NetworkSize) -> tuple[str, str, str]:
    return f"{size.first_layer:.0f}", f"{size.second_layer:.0f}", f"{size.parameters:.0f}"


def _count(value: float, log10: float) -> str:
    """Whole while that can be read, else a power of ten."""
    return f"{value:.0f}" if log10 < 9 else f"10^{log10:.0f}"
