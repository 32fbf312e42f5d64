"""The command line. Heavy libraries are imported by the commands that use them, so that `--help` answers at once."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.commands.complexity import register as register_complexity_command
from cluster.commands.interpolate import register as register_interpolate_command
from cluster.commands.lipschitz import register as register_solve_commands
from cluster.commands.methods import register as register_methods_command
from cluster.commands.replay import register as register_replay_command
from cluster.commands.run_folders import register as register_run_commands
from cluster.commands.studies import register as register_study_commands
from cluster.commands.verify import register as register_verify_command

__all__ = ["app", "main"]

app = typer.Typer(
    name="interlip",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Exact Lipschitz constants of ReLU networks, and networks that interpolate a data set; "
        "one network at a time, or whole studies on a Ray cluster with every run in MLflow.\n\n"
        "Example: interlip run overview"
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(version("interlip"))
        except PackageNotFoundError:  # run from a working directory without an install
            typer.echo("unknown (not installed)")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


register_study_commands(app)
register_run_commands(app)
register_replay_command(app)
register_solve_commands(app)
register_methods_command(app)
register_interpolate_command(app)
register_complexity_command(app)
register_verify_command(app)


def main() -> None:
    """Entry point of the console command `interlip`."""
    app()


if __name__ == "__main__":
    main()
