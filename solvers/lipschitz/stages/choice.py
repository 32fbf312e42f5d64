"""Which methods `auto` asks, in which order and for how long: arithmetic on the size of a problem.

The limits are from measurements on one core, box and all of R^d, Gaussian networks with biases, p = 1, 2 and inf:
vertex enumeration looks at 10^7 signs of hyperplanes at vertices a second; region enumeration is ahead of branch and
bound for two inputs always (d = 2, 64-64-64: 0.05 s against 0.5 s on a box, 0.3 s against 4 s on R^2), for three inputs
on networks of some dozens of neurons, for four about equal on the smallest, and far behind beyond.

Problems that an exact method closes at once get no other. A search that is not over after a second or two asks for
bounds: what it finds below them is dropped unseen, and they are all there is if it does not end.

What is chosen depends on the problem alone, never on its batch: the answer to a trial is the same in any company.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from solvers.problems.questions import LipschitzProblem

__all__ = [
    "ASCENT",
    "MOST_PROPAGATION",
    "MOST_RATIO",
    "MOST_SEARCHED",
    "PATIENCE",
    "Choice",
    "Size",
    "Stage",
    "choose",
    "propagation_work",
    "size_of",
    "vertex_signs",
]

VERTICES, REGIONS, SEARCH = "vertex-enumeration", "region-enumeration", "branch-and-bound"
ASCENT, PROPAGATION, PRODUCT, SEMIDEFINITE = "ascent", "propagation", "norm-product", "semidefinite"

# Undecided hidden neurons up to which a search that may never end is started, whatever the bounds;
# and the most that the upper bound may be above the lower one, relatively, for it to be started beyond.
MOST_SEARCHED, MOST_RATIO = 400, 1.5
# The same with one hidden layer and few inputs, where vertices are too many but a node is small after few splits: 500
# neurons of four inputs take 2000 nodes.
MOST_SHALLOW, FEW_INPUTS = 1000, 5
# Signs of hyperplanes at vertices: at most this many are looked at before, and after, branch and bound is tried.
FEW_SIGNS, MOST_SIGNS = 10**6, 10**9
# A box has 3^d faces, and vertex enumeration takes them one by one: a millisecond each, or so many signs.
SIGNS_A_FACE = 10**4
# Inputs -> hidden neurons up to which regions are enumerated first. The most take seconds on a box, and at d = 2 half a
# minute on R^2.
FEW_NEURONS = {1: 1000, 2: 1000, 3: 64, 4: 16}
# Multiplications of a propagation through the network: about 10^8 a second.
MOST_PROPAGATION = 3 * 10**8
# Without a time limit an exact method ends after so many seconds for each problem, compilation not counted: `auto`
# never hangs. Bounds take seconds, but what two proofs of multipliers surely take is granted.
PATIENCE, PATIENCE_OF_BOUNDS, PATIENCE_OF_CLIMBS, SURE_RATE = 300.0, 5.0, 6.0, 4e9
# Of a search on more neurons than `MOST_SEARCHED`, beside bounds that are close.
PATIENCE_OF_SEARCH = 60.0
# Of the time left, what goes to a method that others follow: an exact one; the only exact one, whose bounds may be
# met only after it; bounds.
FIRST_SHARE, SEARCH_SHARE = 0.6, 0.9
PRODUCT_SHARE, PROPAGATION_SHARE, ASCENT_SHARE, SEMIDEFINITE_SHARE = 0.15, 0.2, 0.35, 0.7
# A search goes on alone for so many nodes times their size, a second or two, before it asks for bounds; where these
# would be fewer nodes than a first round splits, bounds come first.
ALONE_WORK, LEAST_NODES = 800_000, 64


@dataclass(frozen=True, slots=True)
class Size:
    """What the choice depends on.

    Attributes:
        inputs: d.
        widths: neurons of every hidden layer.
        pieces: bounded pieces that stand for the domain (`solvers.problems.facets`).
        undecided: hidden neurons that change sign on the domain, as far as is known; at most all of them.
    """

    inputs: int
    widths: tuple[int, ...]
    pieces: int
    undecided: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One method that is asked.

    Attributes:
        share: of the time left, where there is a limit.
        patience: seconds for each problem, where there is none.
        helped: the nodes after which the search asks for the bounds that follow; None where they were asked before.
        exact: whether the method may close the gap whatever the bounds.
        if_close: only where the bounds so far are within `MOST_RATIO` of each other.
        to_spare: only where a time limit leaves something.
    """

    method: str
    share: float = 1.0
    patience: float = PATIENCE
    helped: int | None = None
    exact: bool = False
    if_close: bool = False
    to_spare: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked, in order; where that holds no exact method without conditions, the reason."""

    stages: tuple[Stage, ...]
    reason: str = ""

    @property
    def exact(self) -> tuple[str, ...]:
        """Exact methods that are asked whatever the bounds."""
        return tuple(dict.fromkeys(stage.method for stage in self.stages if stage.exact and not stage.if_close))

    @property
    def bounds(self) -> tuple[str, ...]:
        """The methods that only bound."""
        return tuple(dict.fromkeys(stage.method for stage in self.stages if not stage.exact))


def size_of(problem: LipschitzProblem) -> Size:
    """The size of a problem before anything is computed: every neuron may be undecided."""
    network, domain = problem.network, problem.domain
    d = network.input_dimension
    whole = not domain.is_bounded
    if network.is_homogeneous and domain.strictly_contains(np.zeros(d)):
        pieces = 2 * d
    else:
        pieces = 2 * d + 1 if whole else 1
    return Size(d, network.widths, pieces, sum(network.widths))


def choose(size: Size, certified: bool = False) -> Choice:
    """The methods for a problem of that size.

    Args:
        size: of the problem.
        certified: whether the upper bound is to be proved again. A checker replays a tree of splits or a list of cells
            of R^d in milliseconds, but crosses the facets of a few dozen regions a second; so branch and bound goes
            before methods that list regions.
    """
    exact = _exact_methods(size)
    if certified and SEARCH in exact and (exact[0] == REGIONS or size.pieces == 1):
        exact = (SEARCH, *(name for name in exact if name != SEARCH))
    if not exact:
        return _only_bounds(size)
    first, *others = exact
    alone = _nodes_before_help(size) if first == SEARCH else None
    if alone is not None and alone < LEAST_NODES:
        return Choice((*_bounds(size), *_in_order(exact)))
    one = Stage(first, FIRST_SHARE if others else SEARCH_SHARE, exact=True, helped=alone)
    return Choice((one, *_bounds(size), *_in_order(others)))


def _in_order(exact: Sequence[str]) -> list[Stage]:
    """The last one has all the time that is left."""
    return [Stage(name, 1.0 if name == exact[-1] else FIRST_SHARE, exact=True) for name in exact]


def _exact_methods(size: Size) -> tuple[str, ...]:
    """The exact methods that may come to their end, in order."""
    if not size.widths:
        return (VERTICES,)
    searched = size.undecided <= MOST_SEARCHED
    if len(size.widths) == 1:
        signs = vertex_signs(size) + (SIGNS_A_FACE * 3**size.inputs if size.pieces == 1 else 0)
        if signs <= FEW_SIGNS:
            return (VERTICES, SEARCH) if searched else (VERTICES,)
        if signs > MOST_SIGNS and size.inputs <= FEW_INPUTS:
            searched = size.undecided <= MOST_SHALLOW
        return ((SEARCH,) if searched else ()) + ((VERTICES,) if signs <= MOST_SIGNS else ())
    if sum(size.widths) <= FEW_NEURONS.get(size.inputs, 0):
        return (REGIONS, SEARCH) if searched else (REGIONS,)
    return (SEARCH,) if searched else ()


def _bounds(size: Size) -> tuple[Stage, ...]:
    """Cheap bounds first, then what is attained, then the bound that takes its time."""
    asked = [Stage(PRODUCT, PRODUCT_SHARE, PATIENCE_OF_BOUNDS)]
    if propagation_work(size) <= MOST_PROPAGATION:
        asked.append(Stage(PROPAGATION, PROPAGATION_SHARE, PATIENCE_OF_BOUNDS))
    layers = [size.inputs, *size.widths]
    proof = sum(n**3 / 3 + n * n * m + 2 * n * m * m for m, n in itertools.pairwise(layers))
    asked.append(Stage(ASCENT, ASCENT_SHARE, PATIENCE_OF_CLIMBS))
    asked.append(Stage(SEMIDEFINITE, SEMIDEFINITE_SHARE, PATIENCE_OF_BOUNDS + 4 * proof / SURE_RATE))
    return tuple(asked)


def _only_bounds(size: Size) -> Choice:
    many = f"{size.undecided} hidden neurons may change sign on the domain"
    stages = _bounds(size)
    if propagation_work(size) > MOST_PROPAGATION:
        pieces = f" on its {size.pieces} pieces" if size.pieces > 1 else ""
        reason = (
            f"{many}, more than the {MOST_SEARCHED} that are searched; the first bound of a search{pieces} takes long"
        )
    else:
        stages += (Stage(SEARCH, FIRST_SHARE, PATIENCE_OF_SEARCH, exact=True, if_close=True),)
        reason = (
            f"{many}, and above {MOST_SEARCHED} a search is started only where bounds are within a factor of "
            f"{MOST_RATIO:g}"
        )
    return Choice((*stages, Stage(ASCENT, to_spare=True)), reason)


def _nodes_before_help(size: Size) -> int:
    """Nodes that a second or two suffices for, by their neurons and weights."""
    layers = [size.inputs, *size.widths, 1]
    work = sum(size.widths) + size.inputs * sum(m * n for m, n in itertools.pairwise(layers)) // 1000
    return ALONE_WORK // max(1, work)


def vertex_signs(size: Size) -> int:
    """Signs that vertex enumeration looks at in a shallow network: d-subsets of its neurons, times the neurons.

    On a box the vertices on its faces are added, k hyperplanes meeting where d - k coordinates are fixed; on R^d the
    vertices at infinity.
    """
    d, (neurons,) = size.inputs, size.widths
    boxed = size.pieces == 1
    faces = [math.comb(d, k) * 2 ** (d - k) if boxed else 1 for k in range(d + 1)]
    return neurons * sum(count * math.comb(neurons, k) for k, count in enumerate(faces))


def propagation_work(size: Size) -> int:
    """Multiplications of one propagation of linear functions of the inputs through the layers, over all pieces."""
    layers = [size.inputs, *size.widths]
    return size.pieces * size.inputs * sum(m * n for m, n in itertools.pairwise(layers))
