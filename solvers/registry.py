"""The tables of methods: name -> Lipschitz solver, name -> interpolator. What stands here is tested."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from solvers.errors import InputError
from solvers.interpolation._base import AbstractInterpolator
from solvers.interpolation.convolutional import Convolutional
from solvers.interpolation.fully_connected import FullyConnected
from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.lipschitz.ascent import Ascent
from solvers.lipschitz.branch_and_bound import BranchAndBound
from solvers.lipschitz.eclipse_fast import EclipseFast
from solvers.lipschitz.mixed_integer import MixedInteger
from solvers.lipschitz.norm_product import NormProduct
from solvers.lipschitz.portfolio import Portfolio
from solvers.lipschitz.propagation import Propagation
from solvers.lipschitz.region_enumeration import RegionEnumeration
from solvers.lipschitz.sampling import Sampling
from solvers.lipschitz.semidefinite import Semidefinite
from solvers.lipschitz.two_sided import TwoSided
from solvers.lipschitz.vertex_enumeration import VertexEnumeration

__all__ = [
    "INTERPOLATORS",
    "LIPSCHITZ_SOLVERS",
    "construction_named",
    "interpolator_named",
    "lipschitz_solver_named",
]

_METHODS: tuple[AbstractLipschitzSolver, ...] = (
    VertexEnumeration(),
    BranchAndBound(),
    RegionEnumeration(),
    Sampling(),
    Ascent(),
    Semidefinite(),
    Propagation(),
    EclipseFast(),
    NormProduct(),
)
# Slower than branch and bound, and exact in another way: for those who ask for a second opinion.
_BY_NAME_ONLY: tuple[AbstractLipschitzSolver, ...] = (MixedInteger(),)
_ALL: tuple[AbstractLipschitzSolver, ...] = (
    Portfolio(_METHODS),
    TwoSided(tuple(method for method in _METHODS if not method.exact)),
    *_METHODS,
    *_BY_NAME_ONLY,
)

LIPSCHITZ_SOLVERS: dict[str, AbstractLipschitzSolver] = {solver.name: solver for solver in _ALL}

INTERPOLATORS: dict[str, type[AbstractInterpolator]] = {
    FullyConnected.name: FullyConnected,
    Convolutional.name: Convolutional,
}


def construction_named(name: str) -> type[AbstractInterpolator]:
    """Look a construction up.

    Raises:
        InputError: unknown; the message gives the nearest name.
    """
    if name not in INTERPOLATORS:
        raise InputError(_unknown("construction", name, INTERPOLATORS))
    return INTERPOLATORS[name]


def interpolator_named(name: str, width: int, max_bias: float, **settings: Any) -> AbstractInterpolator:
    """A construction with its settings: `minus`, `device` and the construction's own `options`.

    Raises:
        InputError: it is unknown, takes no such setting, needs one that is missing, or the settings fit nothing.
    """
    kind = construction_named(name)
    made: Any = kind
    odd = sorted(settings.keys() - {"minus", "device", *kind.options})
    if odd:
        own = ", ".join(kind.options) or "none"
        raise InputError(f"the {name} construction has no setting {odd[0]!r} (settings of its own: {own})")
    needed = {field.name for field in fields(made) if field.default is MISSING and field.default_factory is MISSING}
    lacking = sorted(needed - settings.keys() - {"width", "max_bias"})
    if lacking:
        raise InputError(f"the {name} construction needs the setting {lacking[0]!r}")
    found: AbstractInterpolator = made(width=width, max_bias=max_bias, **settings)
    return found


def _unknown(what: str, name: str, table: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name.partition(":")[0], table, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {what} {name!r}{hint} (known: {', '.join(table)})"


def lipschitz_solver_named(name: str, program_solver: str | None = None) -> AbstractLipschitzSolver:
    """Look a method up; `mixed-integer:scip` and `semidefinite:clarabel` also name the solver of its programs.

    Args:
        name: of the method.
        program_solver: the solver of its programs, where the name does not say it.

    Raises:
        InputError: unknown, the message gives the nearest name; or two solvers, or one for a method without programs.
        MissingBackendError: the solver of its programs is not installed.
    """
    method, colon, backend = name.partition(":")
    if method not in LIPSCHITZ_SOLVERS:
        raise InputError(_unknown("method", name, LIPSCHITZ_SOLVERS))
    if colon and program_solver is not None:
        raise InputError(f"the method {name} names its solver already: leave out the solver {program_solver!r}")
    chosen = backend if backend else program_solver
    solver = LIPSCHITZ_SOLVERS[method]
    return solver if chosen is None else solver.with_program_solver(chosen.upper())
