"""Command about the program itself: methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from cluster.commands.options import Debug, Json
from cluster.output.terminal import emit_json, guarded

if TYPE_CHECKING:
    from solvers.lipschitz._base import AbstractLipschitzSolver

__all__ = ["register"]

# Of the name, and of columns that hold a word or two.
COLUMNS = (20, 7, 10, 13)


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("methods")(methods)


def methods(json: Json = False, debug: Debug = False) -> None:
    """List the methods for Lipschitz constants: what each gives, where, and what it costs.

    Example: interlip methods
    Then, by name: interlip lipschitz net.npz --method semidefinite
    """
    with guarded(debug):
        from solvers.registry import LIPSCHITZ_SOLVERS

        found = [_described(method) for method in LIPSCHITZ_SOLVERS.values()]
        if json:
            emit_json(found)
            return
        print(_row("method", "gives", "p", "domain", "needs"))
        for one in found:
            print(_row(one["name"], one["gives"], one["p"], ", ".join(one["domain"]), one["needs"] or "-"))
            print(f"  {one['summary']}")
            print(f"  cost: {one['cost']}")


def _described(method: AbstractLipschitzSolver) -> dict[str, Any]:
    from solvers.lipschitz._base import Gives

    sides = {Gives.LOWER: "lower", Gives.UPPER: "upper", Gives.BOTH: "both"}
    return {
        "name": method.name,
        "gives": "exact" if method.exact else sides[method.gives],
        "p": method.exponents,
        "domain": [kind.kind for kind in method.domains],
        "needs": method.needs,
        "cost": method.cost,
        "summary": method.summary,
    }


def _row(*words: str) -> str:
    *first, last = words
    return "".join(word.ljust(width) for word, width in zip(first, COLUMNS, strict=True)) + last
