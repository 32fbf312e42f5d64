"""Exact Lipschitz constants of ReLU networks, and networks that interpolate a data set.

Four functions and the public names of `solvers`:

    lipschitz       the constant of a network: an interval that holds, with a witness
    interpolate     a network that gives every point of a data set its label
    from_torch      a torch module as a network
    load            a network from a file

What is heavy is imported when it is asked for, so that `import interlip` answers at once.

Example:
    >>> import interlip
    >>> network = interlip.ReluNetwork([[[1.0, 2.0], [1.0, -1.0]], [[1.0, -2.0]]], [[0.0, 0.5], [0.0]])
    >>> answer = interlip.lipschitz(network, p=2)
    >>> print(f"{answer.lower:.9f} {answer.upper:.9f} {answer.status}")  # the largest gradient is (-1, 4)
    4.123105626 4.123105626 exact
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, NDArray

    from solvers import INTERPOLATORS as INTERPOLATORS
    from solvers import LIPSCHITZ_SOLVERS as LIPSCHITZ_SOLVERS
    from solvers import Box as Box
    from solvers import Budget as Budget
    from solvers import InputError as InputError
    from solvers import InterpolatingClassifier as InterpolatingClassifier
    from solvers import InterpolatingConvClassifier as InterpolatingConvClassifier
    from solvers import InterpolationProblem as InterpolationProblem
    from solvers import LipschitzBounds as LipschitzBounds
    from solvers import LipschitzProblem as LipschitzProblem
    from solvers import ReluNetwork as ReluNetwork
    from solvers import SoundnessError as SoundnessError
    from solvers import Status as Status
    from solvers import ThresholdNetwork as ThresholdNetwork
    from solvers import WholeSpace as WholeSpace
    from solvers import Witness as Witness
    from solvers import load_network as load_network
    from solvers import load_threshold_network as load_threshold_network
    from solvers import save_threshold_network as save_threshold_network
    from solvers.interpolation.class_cover import Centres, Masks
    from solvers.problems.domains import Domain

    Exponents: TypeAlias = list[float] | list[float | str] | tuple[float | str, ...] | NDArray[Any]

HERE = Path(__file__).resolve().parent


def _hidden(*packages: str) -> str | None:
    """One sentence about what hides one of our packages from Python; None where all are found."""
    for package in packages:
        try:
            spec = importlib.util.find_spec(package)
        except ValueError:  # a module of that name was made by hand and says nothing of itself
            spec = None
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        found = [Path(place) for place in places if place is not None]
        if not found:
            return f"interlip's package {package!r} is not installed beside {__file__}: install interlip again"
        if found[0].resolve().parent != HERE / package:
            return (
                f"{found[0]} hides interlip's package {package!r}: rename it, or start Python where it is not on "
                "the path"
            )
    return None


def main() -> None:
    """The console command `interlip`: a look at what hides the program, then the program."""
    trouble = _hidden("solvers", "tasks", "tracking", "cluster")
    if trouble is not None:
        print(f"interlip: {trouble}", file=sys.stderr)
        raise SystemExit(2)
    from cluster.cli import main as run

    run()


_trouble = _hidden("solvers", "tasks")
if _trouble is None:
    from solvers import __all__ as _names
elif Path(sys.argv[0] if sys.argv else "").stem == "interlip":
    _names = []  # the console command, in which `main` says the same sentence, without a traceback
else:
    raise ImportError(_trouble)

__all__ = ["from_torch", "interpolate", "lipschitz", "load", *_names]


def __getattr__(name: str) -> Any:
    if name not in _names:
        raise AttributeError(f"module 'interlip' has no attribute {name!r}")
    return getattr(importlib.import_module("solvers"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@overload
def lipschitz(
    model_or_network: str | Path | ReluNetwork | torch.nn.Module,
    p: float | str = 2.0,
    domain: Domain | tuple[ArrayLike, ArrayLike] | None = None,
    method: str = "auto",
    *,
    output: int | None = None,
    margin: tuple[int, int] | None = None,
    gap: float = 1e-6,
    time_limit: float = math.inf,
    seed: int = 0,
    certify: bool = False,
    executor: str = "local",
    workers: int | None = None,
    address: str | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
) -> LipschitzBounds: ...


@overload
def lipschitz(
    model_or_network: str | Path | ReluNetwork | torch.nn.Module,
    p: Exponents,
    domain: Domain | tuple[ArrayLike, ArrayLike] | None = None,
    method: str = "auto",
    *,
    output: int | None = None,
    margin: tuple[int, int] | None = None,
    gap: float = 1e-6,
    time_limit: float = math.inf,
    seed: int = 0,
    certify: bool = False,
    executor: str = "local",
    workers: int | None = None,
    address: str | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
) -> list[LipschitzBounds]: ...


def lipschitz(
    model_or_network: str | Path | ReluNetwork | torch.nn.Module,
    p: float | str | Exponents = 2.0,
    domain: Domain | tuple[ArrayLike, ArrayLike] | None = None,
    method: str = "auto",
    *,
    output: int | None = None,
    margin: tuple[int, int] | None = None,
    gap: float = 1e-6,
    time_limit: float = math.inf,
    seed: int = 0,
    certify: bool = False,
    executor: str = "local",
    workers: int | None = None,
    address: str | None = None,
    checkpoint: str | Path | None = None,
    resume: str | Path | None = None,
) -> LipschitzBounds | list[LipschitzBounds]:
    """Bound or compute the l_p-Lipschitz constant of a ReLU network: lower <= Lip_p(f; X) <= upper, always.

    Args:
        model_or_network: a file as `load` reads it, a `ReluNetwork`, or a torch module as `from_torch` reads it.
        p: exponent in [1, inf] of the norm on the inputs (`math.inf` or "inf" for the largest coordinate), or several;
            several together cost little more than one.
        domain: X. All of R^d when None; a domain such as `Box`; or a pair (lower, upper) of numbers or of vectors (d,).
        method: auto, or a method by name: see `LIPSCHITZ_SOLVERS`.
        output: which output of a network with several.
        margin: (i, j) for output i minus output j.
        gap: relative gap at which the constant counts as exact.
        time_limit: seconds; the interval is open when they end too early, and the status says so.
        seed: of the methods that draw.
        certify: keep the proof of the upper bound in `certificate`, for `interlip verify`.
        executor: local, or ray: one search by branch and bound over `workers` (all CPUs when None) of the cluster at
            `address` ("auto" or HOST:PORT; a local one when None). `checkpoint` is a file that keeps the search, every
            30 s and when it stops; `resume` goes on from one. The interval is the same, within the gap; Ctrl-C
            ends with the one so far.
    Returns:
        Bounds with the status and a witness, a point whose gradient has the length `lower`; a list of them for a list
        of p.
    Raises:
        InputError: a question that makes no sense; the message says what was wanted.

    Example:
        The absolute value |x_1| has slope 1 where x_1 != 0, and its box may lie on one side only:

        >>> import interlip
        >>> absolute = interlip.ReluNetwork([[[1.0, 0.0], [-1.0, 0.0]], [[1.0, 1.0]]], [[0.0, 0.0], [0.0]])
        >>> [f"{bounds.upper:.6f}" for bounds in interlip.lipschitz(absolute, p=[1, "inf"], domain=(-1, 1))]
        ['1.000000', '1.000000']
        >>> interlip.lipschitz(absolute, domain=([0.5, 0.0], [1.0, 1.0])).witness.gradient.tolist()
        [1.0, 0.0]
    """
    import numpy as np

    from solvers.arithmetic.norms import parse_exponent
    from solvers.errors import InputError
    from solvers.problems.budget import Budget
    from solvers.problems.questions import LipschitzProblem
    from solvers.registry import lipschitz_solver_named

    asked = p if isinstance(p, list | tuple | np.ndarray) else [p]
    exponents = [parse_exponent(one) for one in asked]
    network = _one_output(_network(model_or_network), output, margin)
    where = _domain(domain, network.input_dimension)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be a whole number >= 0, got {seed!r}")
    solver = lipschitz_solver_named(method)
    problems = [LipschitzProblem(network, exponent, where) for exponent in exponents]
    budget = Budget(seconds=time_limit, relative_gap=gap)
    generators = [np.random.default_rng(seed) for _ in problems]
    if executor not in ("local", "ray"):
        raise InputError(f"executor must be 'local' or 'ray', got {executor!r}")
    if executor == "ray":
        from cluster.execution.search.opening import check_spread, spread_search

        check_spread(method)
        files: dict[str, Any] = {"checkpoint": checkpoint, "resume": resume, "certify": certify, "method": method}
        with spread_search(network, exponents, where, gap, workers=workers, address=address, **files) as spread:
            answers = spread.solve_together(problems, budget=budget, rngs=generators)
    elif any(option is not None for option in (workers, address, checkpoint, resume)):
        raise InputError("workers, address, checkpoint and resume are for executor='ray'")
    else:
        solver = solver.certifying() if certify else solver
        answers = solver.solve_together(problems, budget=budget, rngs=generators)
    return answers if asked is p else answers[0]


def interpolate(
    X: ArrayLike,
    y: ArrayLike,
    width: int | None = None,
    *,
    max_bias: float | None = None,
    minus: object = None,
    shape: tuple[int, int, int] | None = None,
    kernel: int | tuple[int, int] | None = None,
    restarts: int = 10,
    probability: float = 0.95,
    max_width: int = 2**15,
    seed: int = 0,
    centres: Centres = "greedy",
    masks: Masks = "point",
) -> InterpolatingClassifier | InterpolatingConvClassifier:
    """Construct a threshold network that gives every row of X its label, and check it on every row.

    Args:
        X: points, (N, d).
        y: labels, (N,), of at least two classes.
        width: n, neurons of the first layer; when None the least one that interpolates with `probability` is searched.
        max_bias: lambda, for points scaled to max ||x||_2 = 1; 0.5 when None, and in a search the best of several.
        minus: for two classes, the label of the covered one.
        shape: (C, H, W) of a point, for the convolutional network, whose answers no cyclic translation changes.
        kernel: size of its kernels, k or (kh, kw).
        restarts: networks tried at most at a given width.
        probability: wanted chance that one construction interpolates, for a search.
        max_width: the widest first layer that a search tries.
        seed: of the construction.
        centres: of second-layer neurons: "random" order as in the theorem, "greedy", or "minimal", as few as a program
            finds.
        masks: "point", or "cluster" for far fewer neurons, which answer less well on points that were not fitted.
    Returns:
        A fitted scikit-learn classifier: `predict`, `score`, the network itself as `network_`, and whether it fits
        every row as `interpolates_`.
    Raises:
        InputError: the same point under two labels, one class only, NaN, or parameters that fit nothing.
    Warns:
        ConvergenceWarning: no network that was tried fits every row; the best one is kept.

    Example:
        >>> import interlip
        >>> fitted = interlip.interpolate([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], ["low", "high", "high"], width=40)
        >>> fitted.interpolates_, fitted.predict([[0.0, 0.0], [0.0, 1.0]]).tolist()
        (True, ['low', 'high'])
    """
    from solvers.errors import InputError
    from solvers.estimators import InterpolatingClassifier, InterpolatingConvClassifier

    if shape is None and kernel is not None:
        raise InputError("a kernel is for the convolutional network: give the shape (C, H, W) of a point too")
    if shape is not None and masks != "point":
        raise InputError("cluster masks are for the fully connected network: leave the shape out")
    settings: dict[str, Any] = {
        "centres": centres,
        "width": width,
        "max_bias": max_bias,
        "minus": minus,
        "restarts": restarts,
        "probability": probability,
        "max_width": max_width,
        "random_state": seed,
    }
    if shape is None:
        return InterpolatingClassifier(masks=masks, **settings).fit(X, y)
    return InterpolatingConvClassifier(shape=shape, kernel=kernel, **settings).fit(X, y)


def from_torch(module: torch.nn.Module) -> ReluNetwork:
    """A torch module as a `ReluNetwork`: the same function, or a refusal in one sentence that names the layer.

    An `nn.Sequential`, nested or not, of Linear, ReLU, LeakyReLU, Flatten, Identity and Dropout is read, as it acts in
    evaluation mode: Dropout does nothing. `solvers.networks.from_torch` says what is exact.

    Raises:
        InputError: anything else.

    Example:
        >>> import interlip, torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> _ = torch.nn.init.constant_(layer.weight, 3.0)
        >>> network = interlip.from_torch(torch.nn.Sequential(torch.nn.Flatten(), layer, torch.nn.ReLU()))
        >>> print(f"{interlip.lipschitz(network, p=1).upper:.6f}")
        3.000000
    """
    from solvers.networks.from_torch import network_from_torch

    return network_from_torch(module)


def load(path: str | Path, activation: str | None = None) -> ReluNetwork:
    """Read a ReLU network from a file; no file is allowed to run code.

    Args:
        path: `.npz` with W0, b0, W1, b1, ... (rows are outputs), `.pt` with a state_dict, or `.onnx`.
        activation: relu, leaky-relu:SLOPE or abs: what a .pt or .npz file does not say.
    Raises:
        InputError: one sentence that says what is wrong with the file.

    Example:
        >>> import tempfile, interlip, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/net.npz", W0=[[2.0], [-1.0]], b0=[0.0, 0.0], W1=[[1.0, 1.0]], b1=[0.0])
        ...     network = interlip.load(f"{folder}/net.npz")
        >>> network.widths
        (2,)
    """
    from solvers.files.models import load_network

    return load_network(path, activation)


def _network(given: object) -> ReluNetwork:
    from solvers.errors import InputError
    from solvers.networks.relu import ReluNetwork

    if isinstance(given, ReluNetwork):
        return given
    if isinstance(given, str | Path):
        return load(given)
    if "torch" in sys.modules:  # else nothing can be a module of it
        import torch

        if isinstance(given, torch.nn.Module):
            return from_torch(given)
    raise InputError(f"a network is a file, a ReluNetwork or a torch module, got {type(given).__name__}")


def _one_output(network: ReluNetwork, output: int | None, margin: tuple[int, int] | None) -> ReluNetwork:
    from solvers.errors import InputError

    if output is not None and margin is not None:
        raise InputError("output and margin exclude each other")
    if margin is not None:
        if len(margin) != 2:
            raise InputError(f"a margin is a pair of outputs (i, j), got {len(margin)} numbers")
        return network.margin(*margin)
    if output is not None:
        return network.select_output(output)
    if network.output_dimension != 1:
        raise InputError(
            f"the network has {network.output_dimension} outputs: choose one (output=k) or a margin (margin=(i, j))"
        )
    return network


def _domain(given: Domain | tuple[ArrayLike, ArrayLike] | None, dimension: int) -> Domain:
    import numpy as np

    from solvers.errors import InputError
    from solvers.problems.domains import Box, WholeSpace

    if given is None:
        return WholeSpace(dimension)
    if not isinstance(given, tuple | list):
        if isinstance(getattr(given, "dimension", None), int):
            return given
        raise InputError(f"a domain is None, a Box or a pair (lower, upper), got {type(given).__name__}")
    try:
        lower, upper = (np.broadcast_to(np.asarray(side, dtype=np.float64), (dimension,)) for side in given)
    except (TypeError, ValueError):
        raise InputError(
            f"a domain as a pair is (lower, upper), each a number or a vector of the {dimension} inputs"
        ) from None
    return Box(lower, upper)


if __name__ == "__main__":
    main()
