"""What `interlip interpolate` is asked: its options, checked before any data are read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.commands.options import DataDir, Json, Label, check_data_dir, check_executor, check_seed
from cluster.commands.shape_options import Conv, Shape, asked_shape, picture_sizes, whole_numbers
from solvers.errors import InputError

if TYPE_CHECKING:
    from cluster.output.kept_files import Wishes
    from solvers.interpolation.size_search import Aim
    from solvers.interpolation.width_search import WidthSearch
    from tasks.constructions import ConstructionChoice
    from tasks.data_sets import LabelledPoints

__all__ = ["InterpolationRequest"]

MAX_BIAS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpolationRequest:
    """The options of one call; a made request is one that can be tried.

    Every mistake that shows without the data is an `InputError` when the request is made; what the data must be for
    it is seen when they are read.
    """

    data: Annotated[str, typer.Argument(metavar="DATA", help="digits, moons:N, ..., or a .npz/.csv/.parquet file.")]
    width: Annotated[
        int | None, typer.Option(help="n, neurons (--conv: filters) of the first layer [searched for].")
    ] = None
    max_bias: Annotated[
        list[float] | None,
        typer.Option(help="lambda; data are scaled to max ||x|| = 1. A search takes several. [0.5; a search: a grid]"),
    ] = None
    conv: Conv = False
    shape: Shape = None
    kernel: Annotated[
        str | None, typer.Option(metavar="K", help="--conv: side of the kernels, or KH,KW [the full size].")
    ] = None
    construction: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another construction than the fully connected one.")
    ] = None
    activation: Annotated[
        str | None, typer.Option(metavar="SIGMA", help="threshold, or relu: a network with a Lipschitz constant.")
    ] = None
    centres: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="Of second-layer neurons: random, greedy or minimal (with a bound). [greedy]"),
    ] = None
    masks: Annotated[
        str | None,
        typer.Option(metavar="OF", help="point, or cluster: far fewer neurons with smaller margins. [point]"),
    ] = None
    probability: Annotated[
        float | None, typer.Option(help="Search: wanted chance that one construction interpolates. [0.95]")
    ] = None
    confidence: Annotated[float | None, typer.Option(help="Search: confidence in the answer. [0.95]")] = None
    max_width: Annotated[int | None, typer.Option(help="Search: no wider first layer. [32768]")] = None
    minimise: Annotated[
        str | None, typer.Option(metavar="WHAT", help="Search: the least width, neurons or parameters. [width]")
    ] = None
    curve: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Search: draw sizes against widths (--minimise neurons, parameters)."),
    ] = None
    time_limit: Annotated[
        float | None, typer.Option(metavar="S", help="Search: seconds; an unfinished one exits with 3.")
    ] = None
    executor: Annotated[
        str | None, typer.Option(help="Search: local (threads) or ray. --width: ray for the classes. [local]")
    ] = None
    workers: Annotated[int | None, typer.Option(help="Threads, or processes on Ray [all CPUs].")] = None
    address: Annotated[str | None, typer.Option(help="A standing Ray cluster: auto or HOST:PORT.")] = None
    seed: Annotated[int, typer.Option(help="Of the construction (and of a made data set).")] = 0
    label: Label = None
    minus: Annotated[str | None, typer.Option(metavar="CLASS", help="Two classes: the one to cover.")] = None
    save: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Write the network as .npz, ONNX and MLflow model to a new folder."),
    ] = None
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw regions (d = 2) or the centres of neurons (images; .png, .pdf, .svg)."),
    ] = None
    relu_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="--activation relu: write the network (.npz) for interlip lipschitz."),
    ] = None
    data_dir: DataDir = None
    json: Json = False

    def __post_init__(self) -> None:
        self._check_search()
        check_seed(self.seed)
        if self.width is None or self.on_ray:
            check_executor(self.place, self.workers, self.address)
            if self.time_limit is not None and not self.time_limit > 0:
                raise InputError(f"--time-limit must be a positive number of seconds, got {self.time_limit:g}")
        if self.width is None:
            self.settings()
        else:
            self.bias()
        if self.plot is not None:
            picture_sizes(self.data, self.shape)
        self.choice()
        self.aim()
        self._check_activation()
        check_data_dir(self.data_dir)

    def _check_search(self) -> None:
        """Options of a search exclude --width; where the classes of one network are spread, it has a place too."""
        if self.width is None:
            return
        for_search: dict[str, object] = {
            "--probability": self.probability,
            "--confidence": self.confidence,
            "--max-width": self.max_width,
            "--minimise": self.minimise,
            "--curve": self.curve,
            "--time-limit": self.time_limit,
        }
        if not self.on_ray:
            for_search |= {"--executor": self.executor, "--workers": self.workers, "--address": self.address}
        given = [name for name, value in for_search.items() if value is not None]
        if given:
            raise InputError(f"{given[0]} is for the search of a width: leave --width out")

    def _check_activation(self) -> None:
        relu = self.activation == "relu"
        if relu and (self.save is not None or self.plot is not None):
            option = "--save" if self.save is not None else "--plot"
            raise InputError(f"{option} is for threshold neurons; --relu-file keeps a network of --activation relu")
        if self.on_ray and (self.conv or relu):
            option = "--conv" if self.conv else "--activation relu"
            raise InputError(f"--executor ray with --width spreads classes of threshold neurons: leave {option} out")
        if not relu and self.relu_file is not None:
            raise InputError("--relu-file is for --activation relu")

    @property
    def on_ray(self) -> bool:
        """Whether the classes of one network are covered on Ray."""
        return self.width is not None and self.executor == "ray"

    @property
    def place(self) -> str:
        """Where a search runs: local or ray."""
        return self.executor or "local"

    @property
    def seconds(self) -> float:
        """The time of a search."""
        return math.inf if self.time_limit is None else self.time_limit

    @property
    def folder(self) -> str | None:
        """--data-dir as an absolute path."""
        return check_data_dir(self.data_dir)

    def bias(self) -> float:
        """lambda at a given width.

        Raises:
            InputError: several, which only a search can take.
        """
        biases = self.max_bias or [MAX_BIAS]
        if len(biases) > 1:
            raise InputError("--width takes one --max-bias; leave --width out to search over several")
        return biases[0]

    def aim(self) -> Aim:
        """What a search makes small.

        Raises:
            InputError: an unknown word, or a curve of a search that measures none.
        """
        if self.minimise not in (None, "width", "neurons", "parameters"):
            raise InputError(f"--minimise must be width, neurons or parameters, got {self.minimise!r}")
        if self.minimise in (None, "width") and self.curve is not None:
            raise InputError("--curve is for --minimise neurons or parameters")
        return self.minimise or "width"  # type: ignore[return-value]  # checked above

    def settings(self) -> WidthSearch:
        """How a width is searched for.

        Raises:
            InputError: settings that no search can have.
        """
        from solvers.interpolation.width_search import WidthSearch

        given = {
            "probability": self.probability,
            "confidence": self.confidence,
            "max_biases": tuple(self.max_bias) if self.max_bias else None,
            "largest": self.max_width,
        }
        return WidthSearch(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    def choice(self) -> ConstructionChoice:
        """The construction, but for the class to cover, whose name only the data know.

        Raises:
            InputError: options that fit no construction.
        """
        from solvers.registry import construction_named
        from tasks.constructions import ConstructionChoice

        if self.activation not in (None, "threshold", "relu"):
            raise InputError(f"--activation must be threshold or relu, got {self.activation!r}")
        if self.conv and self.construction not in (None, "convolutional"):
            raise InputError("--conv is --construction convolutional: leave one of the two out")
        name = "convolutional" if self.conv else self.construction or "fully-connected"
        taken = construction_named(name).options
        options: dict[str, Any] = {}
        # A picture may want a shape that the construction does not.
        wanted = None if self.plot is not None and "shape" not in taken else self.shape
        sizes = asked_shape(self.data, "shape" in taken, wanted)
        if sizes is not None:
            options["shape"] = sizes
        if self.kernel is not None:
            if "kernel" not in taken:
                raise InputError("--kernel is for --conv")
            sides = whole_numbers("--kernel", self.kernel, "K or KH,KW", (1, 2))
            options["kernel"] = sides[0] if len(sides) == 1 else sides
        if self.activation == "relu" and "activation" not in taken:
            away = "--conv" if self.conv else "--construction"
            raise InputError(f"--activation relu is for the fully connected network: leave {away} out")
        if self.activation is not None and "activation" in taken:
            options["activation"] = self.activation
        for option, value, usual in (("centres", self.centres, "greedy"), ("masks", self.masks, None)):
            if value is not None and option not in taken:
                raise InputError(f"the {name} construction has no choice of {option}: leave --{option} out")
            if option in taken and (value or usual) is not None:
                options[option] = value or usual
        chosen = ConstructionChoice(name, options)
        chosen.interpolator(1, 0.0)
        return chosen

    def wishes(self) -> Wishes:
        """The files to keep."""
        from cluster.output.kept_files import Wishes
        from tasks.data_sets import load_data_set

        def load() -> LabelledPoints:
            return load_data_set(self.data, seed=self.seed, label=self.label, data_dir=self.folder)

        sizes = None if self.plot is None else picture_sizes(self.data, self.shape)
        return Wishes(self.save, self.plot, sizes, load, self.relu_file)
