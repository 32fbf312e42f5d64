"""Tables as plain text of a width, and as LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["WIDTH", "fitting", "latex_table", "number", "text_table"]

WIDTH = 80
GAP = 2
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def number(value: Any) -> str:
    """A table's entry: four digits of a float, other values as they are; what is not known is a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first to the left, the others to the right; long words are broken beyond `WIDTH`."""
    import io

    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="")
    for k, column in enumerate(columns):
        table.add_column(_printed(column), justify="left" if k == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_printed(word) for word in row))
    screen = Console(file=io.StringIO(), width=WIDTH, highlight=False, color_system=None, emoji=False, markup=False)
    screen.print(table)
    return "\n".join(line.rstrip() for line in screen.file.getvalue().splitlines())  # type: ignore[attr-defined]


def fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], always: int) -> int:
    """How many of the columns fit into `WIDTH`, but at least the first `always`."""
    from rich.cells import cell_len

    used = -GAP
    for k, column in enumerate(columns):
        used += GAP + max(cell_len(word) for word in (column, *(row[k] for row in rows)))
        if used > WIDTH and k >= always:
            return k
    return len(columns)


def latex_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A `tabular` with the rules of booktabs."""
    lines = [f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", r"\toprule", _latex_row(columns), r"\midrule"]
    return "\n".join([*lines, *(_latex_row(row) for row in rows), r"\bottomrule", r"\end{tabular}", ""])


def _latex_row(words: Sequence[str]) -> str:
    return " & ".join("".join(LATEX.get(sign, sign) for sign in _printed(word)) for word in words) + r" \\"


def _printed(word: str) -> str:
    """One line, and nothing that a terminal would obey."""
    return "".join(sign if sign.isprintable() else " " for sign in word)
