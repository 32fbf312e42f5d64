"""Command that trusts no solver: verify."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cluster.commands.lipschitz import reduce_outputs
from cluster.commands.studies import Debug, Json
from cluster.output.terminal import EXIT_BUDGET, EXIT_ERROR, Exit, emit_json, guarded
from solvers.errors import InputError

if TYPE_CHECKING:
    from solvers.networks.relu import ReluNetwork
    from solvers.verify import Verification

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("verify")(verify)


def verify(
    result: Annotated[
        str, typer.Argument(metavar="RESULT.json", help="What `interlip lipschitz --json` printed; - for stdin.")
    ],
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="Your own copy of the network.")],
    activation: Annotated[
        str | None,
        typer.Option(help="relu, leaky-relu:SLOPE or abs: what a .pt or .npz file does not say. [relu]"),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Recheck a Lipschitz constant without the solver: the witness in exact arithmetic, the certificate step by step.

    Exits with 0 when everything is proved, 1 when something is wrong (and says what), 3 when nothing is wrong but a
    bound has no certificate (solve with --certify to get one), 2 on bad input.

    Example: interlip lipschitz net.npz --box -1 1 --certify --json > result.json

    Then: interlip verify result.json --model net.npz
    """
    with guarded(debug):
        from solvers.files.models import read_network
        from solvers.verify import Verdict

        documents = _read(result)
        reading = read_network(model, activation)
        listed = documents if isinstance(documents, list) else [documents]
        for document in listed:
            _check_activation(document, activation)
        found = [_verified(document, reading.network) for document in listed]
        reports = [_report(document, one, str(reading)) for document, one in zip(listed, found, strict=True)]
        if json:
            emit_json(reports if isinstance(documents, list) else reports[0])
        else:
            print(f"read as {reading}")
            for report in reports:
                _show(report)
        verdicts = {one.verdict for one in found}
        if Verdict.REFUTED in verdicts:
            raise Exit(EXIT_ERROR)
        if Verdict.UNPROVED in verdicts:
            raise Exit(EXIT_BUDGET)


def _read(path: str) -> Any:
    """The JSON document of a file; strict: NaN and infinite numbers are no JSON."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        value = json_format.loads(text, parse_constant=refuse)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON document: {error}") from None
    if isinstance(value, list) and not value:
        raise InputError(f"{path} holds an empty list of results")
    return value


def _check_activation(document: Any, activation: str | None) -> None:
    """The result speaks of the network that the caller has, by the caller's own word."""
    from solvers.networks.activations import parse_activation

    said = document.get("activation") if isinstance(document, dict) else None
    if isinstance(said, str) and parse_activation(said) != parse_activation(activation or "relu"):
        raise InputError(f"the result is about a network of {said}: pass --activation {said} if that is what yours is")


def _verified(document: Any, network: ReluNetwork) -> Verification:
    from solvers.errors import SoundnessError
    from solvers.problems.budget import DEFAULT_RELATIVE_GAP
    from solvers.problems.questions import LipschitzProblem
    from solvers.problems.results import LipschitzBounds
    from solvers.verify import Check, Verification, verify_all_outputs, verify_bounds

    try:
        bounds = LipschitzBounds.from_json(document)
    except SoundnessError as error:
        return Verification((Check("interval", False, str(error)),))
    output, margin = document.get("output"), document.get("margin")
    gap = document.get("gap", DEFAULT_RELATIVE_GAP)
    if not (output is None or type(output) is int):
        raise InputError(f"`output` of the result must be a whole number or null, got {output!r}")
    if not (margin is None or (isinstance(margin, list) and [type(i) for i in margin] == [int, int])):
        raise InputError(f"`margin` of the result must be a pair of whole numbers or null, got {margin!r}")
    if isinstance(gap, bool) or not isinstance(gap, (int, float)):
        raise InputError(f"`gap` of the result must be a number, got {gap!r}")
    if document.get("all_outputs"):
        if margin is not None:
            raise InputError("the result is about all outputs and about a margin, which exclude each other")
        return verify_all_outputs(network, output or 0, bounds, gap)
    reduced = reduce_outputs(network, output, None if margin is None else (margin[0], margin[1]))
    return verify_bounds(LipschitzProblem(reduced, bounds.p, bounds.domain), bounds, gap)


def _report(document: Mapping[str, Any], found: Verification, read_as: str) -> dict[str, Any]:
    return {
        "read_as": read_as,
        "verdict": str(found.verdict),
        "p": document["p"],
        "lower": document["lower"],
        "upper": document["upper"],
        "checks": [{"subject": c.subject, "holds": c.holds, "reason": c.reason} for c in found.checks],
        "unproved": list(found.unproved),
    }


def _show(report: Mapping[str, Any]) -> None:
    print(f"p = {report['p']}: {report['lower']} <= L <= {report['upper']}: {report['verdict']}")
    for check in report["checks"]:
        print(f"  {check['subject']}: {'holds' if check['holds'] else 'WRONG'}: {check['reason']}")
    for claim in report["unproved"]:
        print(f"  unproved: {claim}")
