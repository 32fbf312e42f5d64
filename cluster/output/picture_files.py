"""Files for `--plot`: refused before anything is computed where they will not do, written at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from solvers.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_picture_file", "write_picture"]


def check_picture_file(path: str, option: str = "--plot") -> None:
    """Raise InputError unless the file that an option names is a .png, .pdf or .svg in a folder that exists."""
    if Path(path).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"{option} must name a .png, .pdf or .svg file, got {path!r}")
    if not Path(path).resolve().parent.is_dir():
        raise InputError(f"{option} {path}: there is no folder {Path(path).resolve().parent}")


def write_picture(figure: Figure, path: str, option: str = "--plot") -> None:
    """Write a figure in the format of the file's ending.

    Raises:
        InputError: it cannot be written.
    """
    try:
        figure.savefig(path)
    except OSError as error:
        raise InputError(f"{option} {path} cannot be written: {error.strerror or error}") from None
