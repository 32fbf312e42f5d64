"""Command replay: one trial of a run once more."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.commands.options import DataDir, Debug, Json, check_data_dir
from cluster.output.terminal import emit_json, guarded, say

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("replay")(replay)


def replay(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")],
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's key, or how it begins.")],
    data_dir: DataDir = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compute one trial of a run again, alone in this process, and compare it with what was kept.

    Example: interlip replay runs/overview-20261124-101500-ab12-0f3c9a77 3f9a
    """
    with guarded(debug):
        from cluster.execution.fleet.replay import differences, kept_row, named_trial, replay_trial
        from cluster.output.run_report import opened_run
        from tasks.experiment import RunContext
        from tasks.sweeps import stored_study

        folder, described = opened_run(run)
        chosen = named_trial(stored_study(described, f"{run}/study.json"), trial)
        kept = kept_row(folder, chosen)
        shown = ", ".join(f"{name} = {value}" for name, value in chosen.params.items())
        say(f"trial {chosen.key} of {chosen.sweep}: {shown}; replicate {chosen.replicate}, seed {chosen.seed}")
        if kept is not None and kept["failed"]:
            say(f"kept as failed: {kept['error']}")
            if kept.get("traceback"):
                say(kept["traceback"].rstrip())
        measured = replay_trial(chosen, RunContext(data_dir=check_data_dir(data_dir)))
        compared = kept is not None and not kept["failed"]
        differ = differences(kept or {}, measured) if compared else None
        if json:
            emit_json({"trial": chosen.key, "measured": measured, "differs_in": differ})
        else:
            for name, value in measured.items():
                print(f"{name:<24} {value}")
        if differ:
            say(f"differs from what was kept in {', '.join(differ)}")
        elif compared:
            say("the same as was kept, bit for bit")
