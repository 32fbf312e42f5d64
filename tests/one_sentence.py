"""What a command says of a mistake: one sentence on standard error, nothing else, exit code 2."""

from typer.testing import Result


def assert_one_sentence(answer: Result, said: str) -> None:
    assert answer.exit_code == 2, answer.output
    assert answer.stdout == ""
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("interlip: ")
    assert said in lines[0]
