"""The tables of methods: name -> Lipschitz solver, name -> interpolator. What stands here is tested."""

from __future__ import annotations

import difflib

from solvers.errors import InputError
from solvers.interpolation._base import AbstractInterpolator
from solvers.interpolation.convolutional import Convolutional
from solvers.interpolation.fully_connected import FullyConnected
from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.mixed_integer import MixedInteger
from solvers.lipschitz.norm_product import NormProduct
from solvers.lipschitz.portfolio import Portfolio
from solvers.lipschitz.programs.backends import check_backend
from solvers.lipschitz.propagation import Propagation
from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.lipschitz.sampling import Sampling
from solvers.lipschitz.vertex_enumeration import VertexEnumeration

__all__ = ["INTERPOLATORS", "LIPSCHITZ_SOLVERS", "lipschitz_solver_named"]

_METHODS: tuple[AbstractLipschitzSolver, ...] = (
    VertexEnumeration(),
    BranchAndBound(),
    RegionEnumeration(),
    Sampling(),
    Propagation(),
    NormProduct(),
)
# Slower than branch and bound, and exact in another way: for those who ask for a second opinion.
_BY_NAME_ONLY: tuple[AbstractLipschitzSolver, ...] = (MixedInteger(),)
_ALL: tuple[AbstractLipschitzSolver, ...] = (Portfolio(_METHODS), *_METHODS, *_BY_NAME_ONLY)

LIPSCHITZ_SOLVERS: dict[str, AbstractLipschitzSolver] = {solver.name: solver for solver in _ALL}

INTERPOLATORS: dict[str, type[AbstractInterpolator]] = {
    FullyConnected.name: FullyConnected,
    Convolutional.name: Convolutional,
}


def lipschitz_solver_named(name: str) -> AbstractLipschitzSolver:
    """Look a method up; `mixed-integer:scip` also names the solver of its programs.

    Raises:
        InputError: unknown; the message gives the nearest name.
        MissingBackendError: the solver of its programs is not installed.
    """
    method, _, backend = name.partition(":")
    if method not in LIPSCHITZ_SOLVERS:
        near = difflib.get_close_matches(method, LIPSCHITZ_SOLVERS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"unknown method {name!r}{hint} (known: {', '.join(LIPSCHITZ_SOLVERS)})")
    solver = LIPSCHITZ_SOLVERS[method]
    if not backend:
        return solver
    if not isinstance(solver, MixedInteger):
        raise InputError(f"method {method} takes no solver after a colon, got {name!r}")
    check_backend(backend.upper())
    return MixedInteger(backend.upper())
