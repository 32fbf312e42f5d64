"""What `interlip lipschitz` is asked: its options, and the network, domain and budget that they come to."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.commands.options import Activation, Json, check_executor
from solvers.errors import InputError
from solvers.files.models import endings

if TYPE_CHECKING:
    from solvers.files.models import Reading
    from solvers.lipschitz._base import AbstractLipschitzSolver
    from solvers.networks.relu import ReluNetwork
    from solvers.problems.domains import Domain

__all__ = ["LipschitzRequest", "reduce_outputs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LipschitzRequest:
    """The options of one call.

    Those that exclude each other are an `InputError` when the request is made; what the network must be for them is
    seen when it is read.
    """

    model: Annotated[str, typer.Argument(metavar="MODEL", help=f"A {endings()} file; a .npz holds W0, b0, W1, ...")]
    p: Annotated[list[str] | None, typer.Option("--p", help="Exponent in [1, inf]; may be given again. [2]")] = None
    whole: Annotated[bool, typer.Option("--global", help="The constant on all of R^d (the default).")] = False
    box: Annotated[tuple[float, float] | None, typer.Option("--box", metavar="LO HI", help="On [LO, HI]^d.")] = None
    center: Annotated[str | None, typer.Option(help="On a box around the point in a .npy or text file.")] = None
    radius: Annotated[float | None, typer.Option(help="Half width of the box around --center.")] = None
    method: Annotated[
        str, typer.Option(help="auto, bounds (no search), or one of `interlip methods`; mixed-integer:scip also works.")
    ] = "auto"
    program_solver: Annotated[
        str | None,
        typer.Option(
            "--solver", metavar="NAME", help="Of programs: highs, scip, gurobi; for semidefinite clarabel, scs, mosek."
        ),
    ] = None
    output: Annotated[int | None, typer.Option(help="Which output of a vector-valued network.")] = None
    margin: Annotated[tuple[int, int] | None, typer.Option(metavar="I J", help="Output I minus output J.")] = None
    all_outputs: Annotated[
        bool, typer.Option("--all-outputs", help="The largest constant over all outputs: l_p to l_inf.")
    ] = False
    activation: Activation = None
    gap: Annotated[float, typer.Option(help="Relative gap at which the constant counts as exact.")] = 1e-6
    time_limit: Annotated[float, typer.Option(metavar="S", help="Seconds; an open interval then exits with 3.")] = (
        math.inf
    )
    starts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Points (k, d), such as data, where climbs start: .npy, .csv, or .npz with x."
        ),
    ] = None
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="For d = 2, draw the linear regions (.png, .pdf, .svg).")
    ] = None
    certify: Annotated[
        bool, typer.Option("--certify", help="Keep the proof of the upper bound, for `interlip verify`.")
    ] = False
    proofs: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="With --certify, where proofs go that are too long for the result (.zip)."),
    ] = None
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Torch device for semidefinite, ascent, vertex-enumeration.")
    ] = "cpu"
    executor: Annotated[
        str, typer.Option(help="local, or ray: one search by branch and bound, spread over the workers of a cluster.")
    ] = "local"
    workers: Annotated[int | None, typer.Option(help="Workers on Ray. [all CPUs of the cluster]")] = None
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster: auto or HOST:PORT. [starts a local one]")
    ] = None
    checkpoint: Annotated[
        str | None, typer.Option(metavar="FILE", help="On Ray, keep the search here, every 30 s and when it stops.")
    ] = None
    resume: Annotated[
        str | None, typer.Option(metavar="FILE", help="On Ray, go on from this checkpoint, and keep the search there.")
    ] = None
    json: Json = False

    def __post_init__(self) -> None:
        self.exponents()
        if self.all_outputs and (self.output is not None or self.margin is not None or self.plot is not None):
            raise InputError("--all-outputs excludes --output, --margin and --plot, which are about one output")
        if self.whole + (self.box is not None) + (self.center is not None) > 1:
            raise InputError("--global, --box and --center exclude each other")
        if (self.center is None) != (self.radius is None):
            raise InputError("--center and --radius go together")
        if self.proofs is not None and not self.certify:
            raise InputError("--proofs is for --certify")
        check_executor(self.executor, self.workers, self.address)
        if self.on_ray:
            from cluster.execution.search.opening import check_spread

            check_spread(self.method)
            if self.starts is not None or self.program_solver is not None or self.device != "cpu":
                raise InputError("--starts, --solver and --device are for --executor local")
        elif self.workers is not None or self.checkpoint is not None or self.resume is not None:
            raise InputError("--workers, --checkpoint and --resume are for --executor ray")

    @property
    def on_ray(self) -> bool:
        """Whether the search is spread over workers."""
        return self.executor == "ray"

    @property
    def kept(self) -> str | None:
        """The file that keeps the search."""
        return self.checkpoint or self.resume

    def exponents(self) -> list[float]:
        """The p's.

        Raises:
            InputError: one is no exponent.
        """
        from solvers.arithmetic.norms import parse_exponent

        return [parse_exponent(text) for text in (self.p or ["2"])]

    def reading(self) -> Reading:
        """The network of the file, with all its outputs, and how it was read.

        Raises:
            InputError: no such file, or not what it says.
        """
        from solvers.files.models import read_network

        return read_network(self.model, self.activation)

    def solver(self) -> AbstractLipschitzSolver:
        """The method asked for, on its device; with --certify one that keeps its proofs.

        Raises:
            InputError: no method has that name, its programs no such solver, it uses no device or there is none such,
                it takes no --starts, or these cannot be read.
            MissingBackendError: the solver of programs is not installed.
        """
        from solvers.registry import lipschitz_solver_named

        chosen = lipschitz_solver_named(self.method, self.program_solver).on_device(self.device)
        if self.starts is not None:
            chosen = chosen.starting_at(self.starting_points())
        return chosen.certifying() if self.certify else chosen

    def starting_points(self) -> Any:
        """The points (k, d) of --starts.

        Raises:
            InputError: no such file, or it holds no points.
        """
        assert self.starts is not None
        return _read_points(self.starts)

    def domain(self, dimension: int) -> Domain:
        """Where the constant is taken.

        Raises:
            InputError: a point of another dimension, or an empty box.
        """
        from solvers.problems.domains import Box, WholeSpace

        if self.box is not None:
            return Box.cube(dimension, *self.box)
        if self.center is None or self.radius is None:
            return WholeSpace(dimension)
        point = _read_point(self.center)
        if point.shape != (dimension,):
            raise InputError(f"--center must hold a point of {dimension} numbers, got shape {point.shape}")
        if not self.radius > 0:
            raise InputError(f"--radius must be positive, got {self.radius:g}: an empty box has no Lipschitz constant")
        return Box.ball(point, self.radius)


def reduce_outputs(network: ReluNetwork, output: int | None, margin: tuple[int, int] | None) -> ReluNetwork:
    """The network of one output or of a margin; the network itself where neither is chosen."""
    if output is not None and margin is not None:
        raise InputError("--output and --margin exclude each other")
    if margin is not None:
        return network.margin(*margin)
    return network.select_output(output) if output is not None else network


def _read_point(path: str) -> Any:
    import numpy as np

    try:
        if path.endswith(".npy"):
            return np.load(path, allow_pickle=False).astype(np.float64).ravel()
        return np.loadtxt(path, dtype=np.float64, delimiter="," if path.endswith(".csv") else None).ravel()
    except (OSError, ValueError) as error:
        raise InputError(f"--center {path} is not a readable point: {str(error).splitlines()[0]}") from None


def _read_points(path: str) -> Any:
    """Points (k, d) of a .npy file, of a .csv file, or of x in a .npz file."""
    import numpy as np

    try:
        if path.endswith(".csv"):
            points = np.loadtxt(path, dtype=np.float64, delimiter=",", ndmin=2)
        elif path.endswith(".npy"):
            points = np.load(path, allow_pickle=False).astype(np.float64)
        elif path.endswith(".npz"):
            with np.load(path, allow_pickle=False) as arrays:
                if "x" not in arrays:
                    raise InputError(f"--starts {path} has no array x (it has: {', '.join(arrays.files) or 'none'})")
                points = arrays["x"].astype(np.float64)
        else:
            raise InputError(f"--starts {path} must be a .npy, .csv or .npz file")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--starts {path} does not hold readable points: {str(error).splitlines()[0]}") from None
    if points.ndim != 2 or 0 in points.shape or not np.isfinite(points).all():
        raise InputError(f"--starts {path} must hold finite points of shape (k, d), k >= 1, got shape {points.shape}")
    return points
