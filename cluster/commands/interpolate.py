"""Command on one data set: interpolate, at a given width or at the least one that a search shows to be wide enough."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from cluster.commands.interpolation_request import InterpolationRequest
from cluster.commands.options import check_cluster, command_of
from cluster.output.picture_files import check_picture_file, write_picture
from cluster.output.terminal import EXIT_BUDGET, Exit, emit_json, say
from solvers.errors import InputError

if TYPE_CHECKING:
    from cluster.execution.least_width import SearchResult
    from cluster.output.kept_files import Wishes
    from solvers.problems.interpolants import Interpolant
    from solvers.problems.questions import InterpolationProblem
    from tasks.constructions import ConstructionChoice

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("interpolate")(command_of(InterpolationRequest, interpolate))


def interpolate(request: InterpolationRequest) -> None:
    """Construct a network that interpolates a data set, and check it on every point.

    Without --width, search the least width at which a construction interpolates with the wanted probability; or with
    --minimise the width and the maximal bias at which the network has the fewest second-layer neurons or parameters.

    --save DIR keeps the network, made to take the points as they are (not scaled), in three forms. Each is read back
    and has to give every point its label, or nothing is saved and the command exits with 1. The ONNX file and the
    MLflow model answer with the index of the class in sorted order, -1 for none.

    --plot FILE draws, for two inputs, what the network answers where and the region of every second-layer neuron; for
    images (a square number of inputs, 16 or more, or --shape) and signals (--shape) the points that the neurons were
    made from, per class.

    --centres greedy takes the points as centres of second-layer neurons that cover most; minimal as few as a program
    finds, and says how many any choice needs at least; random draws them as the theorem does. --masks cluster lets
    neurons grow over as many points as they can without firing on other classes: far fewer, with smaller margins.

    --activation relu takes ReLU neurons in both hidden layers. The network's one output is positive on the covered
    class (with more than two classes: one output for each); --relu-file keeps it, made to take the points as they are.

    Example: interlip interpolate moons:1000 --width 200 --max-bias 0.5 --save moons-network --plot moons.png
    """
    from tasks.data_sets import load_problem

    check_cluster(request.address)
    if request.curve is not None:
        check_picture_file(request.curve, "--curve")
    choice, wishes = request.choice(), request.wishes()
    wishes.check_places()
    problem = load_problem(request.data, seed=request.seed, label=request.label, data_dir=request.folder)
    wishes.check_data(problem)
    if request.minus is not None:
        choice = replace(choice, minus=_class_named(request.minus, problem.classes))
    if request.width is not None:
        _construct(request, request.width, problem, choice, wishes)
    else:
        _search(request, problem, choice, wishes)


def _class_named(text: str, classes: tuple[object, ...]) -> object:
    for label in classes:
        if str(label) == text:
            return label
    raise InputError(f"--minus: there is no class {text!r}; the classes are {', '.join(map(str, classes))}")


def _construct(
    request: InterpolationRequest,
    width: int,
    problem: InterpolationProblem,
    choice: ConstructionChoice,
    wishes: Wishes,
) -> None:
    """One network at a given width, on Ray with its classes spread."""
    from tasks.seeding import RandomStreams

    bias = request.bias()
    solver = choice.interpolator(width, bias)
    if request.on_ray:
        from cluster.execution.class_pool import ClassPool

        solver = solver.dealt(ClassPool(request.workers, request.address).cover)
    rng = RandomStreams.of(["interpolate", request.data, request.seed]).generator("construction")
    answer = solver.solve(problem, rng=rng)
    kept = wishes.fulfil(answer, problem)
    if request.json:
        emit_json({**answer.to_json(), "max_bias": bias, **_size(answer, problem), **kept.document})
    else:
        _show(answer, problem)
        kept.show()
        if not answer.interpolates and kept.trouble is None:
            say(answer.status.advice)
    kept.end()


def _search(
    request: InterpolationRequest, problem: InterpolationProblem, choice: ConstructionChoice, wishes: Wishes
) -> None:
    """The least width, and the smallest of the networks that showed it."""
    from cluster.execution.least_width import find_least_width
    from cluster.output.search_progress import SearchDisplay

    choice.check(problem)
    with SearchDisplay() as display:
        result = find_least_width(
            problem,
            choice,
            (request.data, request.seed),
            request.settings(),
            executor=request.place,
            workers=request.workers,
            address=request.address,
            seconds=request.seconds,
            report=display.show,
            aim=request.aim(),
        )
    answer = result.interpolant
    kept = wishes.fulfil(answer, problem)
    if request.json:
        nothing = {
            "interpolates": None,
            "first_layer_width": None,
            "second_layer_width": None,
            "second_layer_at_least": None,
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
    if request.curve is not None:
        _draw_curve(request.curve, result)
    kept.end()
    if not result.finished:
        say(f"interlip: {result.advice}")
        raise Exit(EXIT_BUDGET)


def _draw_curve(path: str, result: SearchResult) -> None:
    from tasks.figures.interpolation import size_search_curve

    cells = [(point.width, point.max_bias, point.size) for point in result.curve]
    write_picture(size_search_curve(cells, result.aim, result.found.width), path, "--curve")
    say(f"drawn                 {path}")


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
    if answer.at_least is not None:
        print(f"                      at least {answer.at_least} for these candidates, by whatever choice")
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
