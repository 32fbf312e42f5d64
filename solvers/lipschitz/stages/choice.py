"""Which methods `auto` asks, in which order, and why none of the exact ones: arithmetic on the size of a problem.

The limits are from measurements on one core, box and all of R^d, Gaussian networks with biases, p = 1, 2 and inf:
vertex enumeration looks at 10^7 signs of hyperplanes at vertices a second; region enumeration is ahead of branch and
bound for two inputs always (d = 2, 64-64-64: 0.05 s against 0.5 s on a box, 0.3 s against 4 s on R^2), for three inputs
on networks of some dozens of neurons, for four about equal on the smallest, and far behind beyond.

What is chosen depends on the problem alone, never on its batch: the answer to a trial is the same in any company.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from solvers.problems.questions import LipschitzProblem

__all__ = ["MOST_SEARCHED", "Choice", "Size", "choose", "propagation_work", "size_of", "vertex_signs"]

VERTICES, REGIONS, SEARCH = "vertex-enumeration", "region-enumeration", "branch-and-bound"
SAMPLING, PROPAGATION, PRODUCT, SEMIDEFINITE = "sampling", "propagation", "norm-product", "semidefinite"

# Undecided hidden neurons up to which a search that may never end is started at all.
MOST_SEARCHED = 400
# Signs of hyperplanes at vertices: at most this many are looked at before, and after, branch and bound is tried.
FEW_SIGNS, MOST_SIGNS = 10**6, 10**9
# A box has 3^d faces, and vertex enumeration takes them one by one: a millisecond each, or so many signs.
SIGNS_A_FACE = 10**4
# Inputs -> hidden neurons up to which regions are enumerated first. The most take seconds on a box, and at d = 2 half a
# minute on R^2.
FEW_NEURONS = {1: 1000, 2: 1000, 3: 64, 4: 16}
# Multiplications of a propagation through the network: about 10^8 a second.
MOST_PROPAGATION = 3 * 10**9


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
class Choice:
    """Exact methods in the order in which they are tried; bounds where there are none, and the reason for that."""

    exact: tuple[str, ...]
    bounds: tuple[str, ...] = ()
    reason: str = ""


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
    choice = _choose(size)
    if certified and SEARCH in choice.exact and (choice.exact[0] == REGIONS or size.pieces == 1):
        return Choice((SEARCH, *(name for name in choice.exact if name != SEARCH)))
    return choice


def _choose(size: Size) -> Choice:
    if not size.widths:
        return Choice((VERTICES,))
    searched = size.undecided <= MOST_SEARCHED
    if len(size.widths) == 1:
        signs = vertex_signs(size) + (SIGNS_A_FACE * 3**size.inputs if size.pieces == 1 else 0)
        if signs <= FEW_SIGNS:
            return Choice((VERTICES, SEARCH) if searched else (VERTICES,))
        exact = ((SEARCH,) if searched else ()) + ((VERTICES,) if signs <= MOST_SIGNS else ())
    elif sum(size.widths) <= FEW_NEURONS.get(size.inputs, 0):
        exact = (REGIONS, SEARCH) if searched else (REGIONS,)
    else:
        exact = (SEARCH,) if searched else ()
    if exact:
        return Choice(exact)
    affordable = propagation_work(size) <= MOST_PROPAGATION
    return Choice(
        (),
        (SAMPLING, PRODUCT, *((PROPAGATION,) if affordable else ()), SEMIDEFINITE),
        f"too large to be exact: {size.undecided} hidden neurons may change sign on the domain, and no search is "
        f"started on more than {MOST_SEARCHED}; the bounds are from sampling, from norms of the weights"
        f"{', from propagation' if affordable else ''} and from multipliers for slopes (semidefinite)",
    )


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
