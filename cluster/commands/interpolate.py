"""Command on one data set: interpolate, at a given width or at the least one that a search shows to be wide enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.commands.shape_options import Conv, Shape, asked_shape, picture_sizes, whole_numbers
from cluster.commands.studies import DataDir, Debug, Json, check_data_dir
from cluster.output.kept_files import Wishes
from cluster.output.terminal import EXIT_BUDGET, Exit, emit_json, guarded, say
from solvers.errors import InputError

if TYPE_CHECKING:
    from cluster.execution.least_width import SearchResult
    from solvers.interpolation.width_search import WidthSearch
    from solvers.problems.interpolants import Interpolant
    from solvers.problems.questions import InterpolationProblem
    from tasks.constructions import ConstructionChoice
    from tasks.data_sets import LabelledPoints

__all__ = ["register"]

MAX_BIAS = 0.5


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("interpolate")(interpolate)


def interpolate(
    data: Annotated[str, typer.Argument(metavar="DATA", help="digits, moons:N, ..., or a .npz/.csv/.parquet file.")],
    width: Annotated[
        int | None, typer.Option(help="n, neurons (--conv: filters) of the first layer [searched for].")
    ] = None,
    max_bias: Annotated[
        list[float] | None,
        typer.Option(help="lambda; data are scaled to max ||x|| = 1. A search takes several. [0.5; a search: a grid]"),
    ] = None,
    conv: Conv = False,
    shape: Shape = None,
    kernel: Annotated[
        str | None, typer.Option(metavar="K", help="--conv: side of the kernels, or KH,KW [the full size].")
    ] = None,
    construction: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another construction than the fully connected one.")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(metavar="SIGMA", help="threshold, or relu: a network with a Lipschitz constant.")
    ] = None,
    probability: Annotated[
        float | None, typer.Option(help="Search: wanted chance that one construction interpolates. [0.95]")
    ] = None,
    confidence: Annotated[float | None, typer.Option(help="Search: confidence in the answer. [0.95]")] = None,
    max_width: Annotated[int | None, typer.Option(help="Search: no wider first layer. [32768]")] = None,
    time_limit: Annotated[
        float | None, typer.Option(metavar="S", help="Search: seconds; an unfinished one exits with 3.")
    ] = None,
    executor: Annotated[
        str | None, typer.Option(help="Search: local (threads) or ray. --width: ray for the classes. [local]")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads, or processes on Ray [all CPUs].")] = None,
    address: Annotated[str | None, typer.Option(help="A standing Ray cluster: auto or HOST:PORT.")] = None,
    seed: Annotated[int, typer.Option(help="Of the construction (and of a made data set).")] = 0,
    label: Annotated[str | None, typer.Option(help="Label column of a table [the last one].")] = None,
    minus: Annotated[str | None, typer.Option(metavar="CLASS", help="Two classes: the one to cover.")] = None,
    save: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Write the network as .npz, ONNX and MLflow model to a new folder."),
    ] = None,
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw regions (d = 2) or the centres of neurons (images; .png, .pdf, .svg)."),
    ] = None,
    relu_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="--activation relu: write the network (.npz) for interlip lipschitz."),
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Construct a network that interpolates a data set, and check it on every point.

    Without --width, search the least width at which a construction interpolates with the wanted probability.

    --save DIR keeps the network, made to take the points as they are (not scaled), in three forms. Each is read back
    and has to give every point its label, or nothing is saved and the command exits with 1. The ONNX file and the
    MLflow model answer with the index of the class in sorted order, -1 for none.

    --plot FILE draws, for two inputs, what the network answers where and the region of every second-layer neuron; for
    images (a square number of inputs, 16 or more, or --shape) and signals (--shape) the points that the neurons were
    made from, per class.

    --activation relu takes ReLU neurons in both hidden layers. The network's one output is positive on the covered
    class (with more than two classes: one output for each); --relu-file keeps it, made to take the points as they are.

    Example: interlip interpolate moons:1000 --width 200 --max-bias 0.5 --save moons-network --plot moons.png
    """
    with guarded(debug):
        for_search = {
            "--probability": probability,
            "--confidence": confidence,
            "--max-width": max_width,
            "--time-limit": time_limit,
            "--executor": executor,
            "--workers": workers,
            "--address": address,
        }
        on_ray = width is not None and executor == "ray"
        if on_ray:
            for_search = {k: v for k, v in for_search.items() if k not in ("--executor", "--workers", "--address")}
        given = [name for name, value in for_search.items() if value is not None]
        if width is not None and given:
            raise InputError(f"{given[0]} is for the search of a width: leave --width out")
        if seed < 0:
            raise InputError(f"--seed must be a whole number >= 0, got {seed}")
        where = None
        if width is None or on_ray:
            where = _checked_place(executor or "local", workers, address, time_limit)
        settings = None if width is not None else _search_settings(probability, confidence, max_bias, max_width)
        drawn = None if plot is None else picture_sizes(data, shape)
        chosen = _choice(data, conv, shape, plot is not None, kernel, activation, construction)
        relu = activation == "relu"
        if relu and (save is not None or plot is not None):
            option = "--save" if save is not None else "--plot"
            raise InputError(f"{option} is for threshold neurons; --relu-file keeps a network of --activation relu")
        if on_ray and (conv or relu):
            option = "--conv" if conv else "--activation relu"
            raise InputError(f"--executor ray with --width spreads classes of threshold neurons: leave {option} out")
        if not relu and relu_file is not None:
            raise InputError("--relu-file is for --activation relu")
        from dataclasses import replace

        from tasks.data_sets import load_data_set, load_problem

        folder = check_data_dir(data_dir)

        def load() -> LabelledPoints:
            return load_data_set(data, seed=seed, label=label, data_dir=folder)

        wishes = Wishes(save, plot, drawn, load, relu_file)
        wishes.check_places()
        problem = load_problem(data, seed=seed, label=label, data_dir=folder)
        wishes.check_data(problem)
        if minus is not None:
            chosen = replace(chosen, minus=_class_named(minus, problem.classes))
        if width is not None:
            _construct(problem, chosen, data, seed, width, max_bias, where, wishes, json)
        else:
            assert settings is not None
            assert where is not None
            _search(problem, chosen, data, seed, settings, where, wishes, json)


@dataclass(frozen=True, slots=True)
class _Place:
    executor: str
    workers: int | None
    address: str | None
    seconds: float


def _checked_place(executor: str, workers: int | None, address: str | None, time_limit: float | None) -> _Place:
    if executor not in ("ray", "local"):
        raise InputError(f"--executor must be ray or local, got {executor!r}")
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be at least 1, got {workers}")
    if executor == "local" and address is not None:
        raise InputError("--address is for --executor ray")
    if time_limit is not None and not time_limit > 0:
        raise InputError(f"--time-limit must be a positive number of seconds, got {time_limit:g}")
    if address not in (None, "auto"):
        from cluster.execution.ray_runtime import check_reachable

        check_reachable(str(address))  # before the data are read
    return _Place(executor, workers, address, math.inf if time_limit is None else time_limit)


def _search_settings(
    probability: float | None, confidence: float | None, max_bias: list[float] | None, max_width: int | None
) -> WidthSearch:
    from solvers.interpolation.width_search import WidthSearch

    given = {
        "probability": probability,
        "confidence": confidence,
        "max_biases": tuple(max_bias) if max_bias else None,
        "largest": max_width,
    }
    return WidthSearch(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _choice(
    data: str,
    conv: bool,
    shape: str | None,
    drawn: bool,
    kernel: str | None,
    activation: str | None,
    construction: str | None,
) -> ConstructionChoice:
    from solvers.registry import construction_named
    from tasks.constructions import ConstructionChoice

    if activation not in (None, "threshold", "relu"):
        raise InputError(f"--activation must be threshold or relu, got {activation!r}")
    if conv and construction not in (None, "convolutional"):
        raise InputError("--conv is --construction convolutional: leave one of the two out")
    name = "convolutional" if conv else construction or "fully-connected"
    taken = construction_named(name).options
    options: dict[str, Any] = {}
    # A picture may want a shape that the construction does not.
    sizes = asked_shape(data, "shape" in taken, None if drawn and "shape" not in taken else shape)
    if sizes is not None:
        options["shape"] = sizes
    if kernel is not None:
        if "kernel" not in taken:
            raise InputError("--kernel is for --conv")
        sides = whole_numbers("--kernel", kernel, "K or KH,KW", (1, 2))
        options["kernel"] = sides[0] if len(sides) == 1 else sides
    if activation == "relu" and "activation" not in taken:
        away = "--conv" if conv else "--construction"
        raise InputError(f"--activation relu is for the fully connected network: leave {away} out")
    if activation is not None and "activation" in taken:
        options["activation"] = activation
    chosen = ConstructionChoice(name, options)
    chosen.interpolator(1, 0.0)
    return chosen


def _class_named(text: str, classes: tuple[object, ...]) -> object:
    for label in classes:
        if str(label) == text:
            return label
    raise InputError(f"--minus: there is no class {text!r}; the classes are {', '.join(map(str, classes))}")


def _construct(
    problem: InterpolationProblem,
    choice: ConstructionChoice,
    data: str,
    seed: int,
    width: int,
    max_bias: list[float] | None,
    place: _Place | None,
    wishes: Wishes,
    json: bool,
) -> None:
    """One network at a given width; with a place its classes are covered on Ray."""
    from tasks.seeding import RandomStreams

    biases = max_bias or [MAX_BIAS]
    if len(biases) > 1:
        raise InputError("--width takes one --max-bias; leave --width out to search over several")
    solver = choice.interpolator(width, biases[0])
    if place is not None:
        from cluster.execution.class_pool import ClassPool

        solver = solver.dealt(ClassPool(place.workers, place.address).cover)
    answer = solver.solve(problem, rng=RandomStreams.of(["interpolate", data, seed]).generator("construction"))
    kept = wishes.fulfil(answer, problem)
    if json:
        emit_json({**answer.to_json(), "max_bias": biases[0], **_size(answer, problem), **kept.document})
    else:
        _show(answer, problem)
        kept.show()
        if not answer.interpolates and kept.trouble is None:
            say(answer.status.advice)
    kept.end()


def _search(
    problem: InterpolationProblem,
    choice: ConstructionChoice,
    data: str,
    seed: int,
    settings: WidthSearch,
    place: _Place,
    wishes: Wishes,
    json: bool,
) -> None:
    """The least width, and the smallest of the networks that showed it."""
    from cluster.execution.least_width import find_least_width
    from cluster.output.search_progress import SearchDisplay

    choice.check(problem)
    with SearchDisplay() as display:
        result = find_least_width(
            problem,
            choice,
            (data, seed),
            settings,
            executor=place.executor,
            workers=place.workers,
            address=place.address,
            seconds=place.seconds,
            report=display.show,
        )
    answer = result.interpolant
    kept = wishes.fulfil(answer, problem)
    if json:
        nothing = {
            "interpolates": None,
            "first_layer_width": None,
            "second_layer_width": None,
            "second_layer_widths": None,
            "parameters": None,
            "misclassified": None,
            "seconds": result.seconds,
        }
        found = nothing if answer is None else {**answer.to_json(), **_size(answer, problem)}
        emit_json({**found, "max_bias": result.found.max_bias, "search": result.to_json(), **kept.document})
    elif answer is not None:
        _show(answer, problem)
        _show_search(result)
        kept.show()
    kept.end()
    if not result.finished:
        say(f"interlip: {result.advice}")
        raise Exit(EXIT_BUDGET)


def _size(answer: Interpolant, problem: InterpolationProblem) -> dict[str, Any]:
    """The network's parameters against the numbers that it memorizes, and what theorems promise for any such points."""
    from solvers.complexity.size_comparison import worst_case_of

    numbers = problem.points.size
    return {
        "numbers": numbers,
        "parameters_per_number": answer.network.parameters / numbers,
        "worst_case": [counts.to_json() for counts in worst_case_of(problem)],
    }


def _show(answer: Interpolant, problem: InterpolationProblem) -> None:
    from solvers.complexity.size_comparison import worst_case_of

    network = answer.network
    widths = ", ".join(map(str, network.second_layer_widths))
    print(f"interpolates          {'yes' if answer.interpolates else 'no'}")
    print(f"points missed         {len(answer.missed)} of {answer.points}")
    print(f"first-layer width     {network.first_layer_width}")
    print(f"second-layer width    {network.second_layer_width} ({widths} per covered class)")
    share, (samples, dimension) = network.parameters / problem.points.size, problem.points.shape
    size = f"{share:.3g} times samples x dimension = {samples} x {dimension}"
    print(f"parameters            {network.parameters} ({size})")
    for k, counts in enumerate(worst_case_of(problem)):
        title = "in the worst case" if k == 0 else ""
        order = "" if counts.precise else " up to constants and logarithms"
        print(f"{title:21} 10^{counts.log10_parameters:.1f} parameters{order} ({counts.source}: {counts.needs})")
    print(f"seconds               {answer.stats['wall_seconds']:.2f}")


def _show_search(result: SearchResult) -> None:
    found, settings = result.found, result.settings
    print(f"maximal bias          {found.max_bias:g}")
    print(
        f"shown                 width {found.width} interpolates with probability >= {settings.probability:g} "
        f"({found.successes} of {found.restarts} restarts)"
    )
    if found.too_narrow:
        print(f"                      width {found.too_narrow} does not, at any of the maximal biases tried")
    print(f"                      confidence {settings.confidence:g}; more neurons taken to do no harm")
    print(f"search                {result.restarts} restarts in {result.seconds:.1f} s, {result.workers} workers")
