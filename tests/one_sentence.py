"""What a command says on standard error: one sentence of a mistake, and on a slow machine progress before it."""

import re

from typer.testing import Result

# What the displays of cluster.output say now and then; a solve, a width search, a share of trials or of a stage.
PROGRESS = re.compile(
    r"(solving|compiling the solver) for \d+ (s|min|h)\b.*"
    r"|(looking for|showing wide enough|showing too narrow): width \d+ \(.*\), \d+ restarts, \d+ a second, \d+ s"
    r"| *\d+%  \S.*"
)


def without_progress(said: str) -> list[str]:
    """The lines of standard error that are not progress."""
    return [line for line in said.strip("\n").splitlines() if not PROGRESS.fullmatch(line)]


def assert_one_sentence(answer: Result, said: str) -> None:
    """A command has refused its input: one sentence on standard error, nothing else, exit code 2."""
    assert answer.exit_code == 2, answer.output
    assert answer.stdout == ""
    lines = without_progress(answer.stderr)
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("interlip: ")
    assert said in lines[0]
