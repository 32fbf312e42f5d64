"""Options that several commands share, checks of what they are given, and commands whose options are one request."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from cluster.output.terminal import guarded
from solvers.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "Activation",
    "DataDir",
    "Debug",
    "Json",
    "Label",
    "check_cluster",
    "check_data_dir",
    "check_executor",
    "check_seed",
    "check_workers",
    "command_of",
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DataDir = Annotated[str | None, typer.Option("--data-dir", metavar="DIR", help="Folder that holds mnist.npz.")]
Label = Annotated[str | None, typer.Option("--label", help="Label column of a table [the last one].")]
Activation = Annotated[
    str | None,
    typer.Option("--activation", help="relu, leaky-relu:SLOPE or abs: what a .pt or .npz file does not say. [relu]"),
]

Request = TypeVar("Request", bound="DataclassInstance")


def check_data_dir(data_dir: str | None) -> str | None:
    """An absolute path, so that workers elsewhere on this machine find it."""
    if data_dir is None:
        return None
    if not Path(data_dir).is_dir():
        raise InputError(f"--data-dir: there is no folder {data_dir}")
    return str(Path(data_dir).resolve())


def check_seed(seed: int) -> None:
    """Raise InputError unless the seed is >= 0."""
    if seed < 0:
        raise InputError(f"--seed must be a whole number >= 0, got {seed}")


def check_workers(workers: int | None) -> None:
    """Raise InputError for fewer than one worker; None leaves the number open."""
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be at least 1, got {workers}")


def check_executor(executor: str, workers: int | None, address: str | None) -> None:
    """Raise InputError unless work can run there; the cluster itself is not asked."""
    if executor not in ("ray", "local"):
        raise InputError(f"--executor must be ray or local, got {executor!r}")
    check_workers(workers)
    if executor == "local" and address is not None:
        raise InputError("--address is for --executor ray")


def check_cluster(address: str | None) -> None:
    """Raise InputError where a named address does not answer: before data are read and run folders are made."""
    if address is not None and address != "auto":
        from cluster.execution.ray_runtime import check_reachable

        check_reachable(address)


def command_of(request: type[Request], act: Callable[[Request], None]) -> Callable[..., None]:
    """The command whose options are the fields of a request.

    Args:
        request: a dataclass that checks itself when it is made. Its fields are annotated as the parameters of a
            command are; one without a default is an argument that must be given.
        act: what the command does; its docstring is the command's help.
    Returns:
        A function with one parameter per field, and --debug.
    """

    def command(*, debug: bool, **given: Any) -> None:
        with guarded(debug):
            act(request(**given))

    hints = get_type_hints(request, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(request)
    ]
    parameters.append(inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug))
    command.__doc__ = act.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # which typer reads
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
