"""What the terminal shows: people read standard error and tables, machines one JSON document on standard output."""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import typer

from solvers.errors import InputError, MissingBackendError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "EXIT_BAD_INPUT",
    "EXIT_BUDGET",
    "EXIT_ERROR",
    "Exit",
    "console",
    "emit_json",
    "guarded",
    "only_documents",
    "say",
]

EXIT_ERROR = 1
EXIT_BAD_INPUT = 2
EXIT_BUDGET = 3


class Exit(typer.Exit):
    """Leave with a code, no message."""


def console(stderr: bool = True) -> Console:
    """A rich console; not a terminal means plain text of a width that tables fit in."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else int(os.environ.get("COLUMNS", "120"))
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def say(text: str) -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def only_documents() -> Iterator[None]:
    """Inside, whatever is written on standard output, by Ray's own processes too, goes to standard error instead."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def emit_json(value: Any) -> None:
    """The one JSON document of `--json`; infinities become "inf", NaN null."""
    json.dump(_finite(value), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    return value


@contextmanager
def guarded(debug: bool) -> Iterator[None]:
    """Turn exceptions into one clear sentence and an exit code; `--debug` shows the traceback."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        say("interlip: stopped")
        raise Exit(130) from None
    except BrokenPipeError:
        raise Exit(EXIT_ERROR) from None
    except Exception as error:  # the last line before the user
        if debug:
            traceback.print_exc()
        say(f"interlip: {_sentence(error)}")
        wrong = isinstance(error, InputError | MissingBackendError)
        raise Exit(EXIT_BAD_INPUT if wrong else EXIT_ERROR) from None


def _sentence(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "there is not enough memory for this; take a smaller problem or fewer workers"
    text = " ".join(str(error).split())
    if isinstance(error, (InputError, MissingBackendError)) or type(error).__name__ == "StorageError":
        return text
    return f"{type(error).__name__}: {text or 'no message'} (run again with --debug for the traceback)"
