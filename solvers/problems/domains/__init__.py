"""Where a Lipschitz constant is taken: one file a domain, one line of `DOMAINS` each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from solvers.errors import InputError
from solvers.problems.domains._base import Domain
from solvers.problems.domains.box import Box
from solvers.problems.domains.whole_space import WholeSpace

__all__ = ["DOMAINS", "Box", "Domain", "WholeSpace", "check_kind", "domain_from_json"]

# The word in results and studies -> the kind.
DOMAINS: Mapping[str, type[Domain]] = MappingProxyType(
    {
        "global": WholeSpace,
        "box": Box,
    }
)


def check_kind(name: str) -> str:
    """The name of a kind of domain, as it is.

    Raises:
        InputError: there is none of that name.
    """
    if name not in DOMAINS:
        raise InputError(f"unknown domain {name!r} (known: {', '.join(DOMAINS)})")
    return name


def domain_from_json(value: Mapping[str, Any]) -> Domain:
    """The domain that `describe` wrote down.

    Raises:
        InputError: not such a description.
    """
    try:
        kind = DOMAINS.get(value["kind"])
        if kind is not None:
            return kind.from_description(value)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the domain of the result cannot be read: {error}") from None
    names = " or ".join(repr(name) for name in DOMAINS)
    raise InputError(f"the domain of the result must be of kind {names}, got {value['kind']!r}")
