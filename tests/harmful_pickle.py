"""What a harmful file would do when it is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Touch:
    """Pickled, it makes the file `mark` when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)
