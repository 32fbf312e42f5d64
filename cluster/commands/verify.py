"""Command that trusts no solver: verify."""

from __future__ import annotations

import json as json_format
import math
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cluster.commands.lipschitz_request import reduce_outputs
from cluster.commands.options import Activation, Debug, Json
from cluster.output.solve_progress import LINE_SECONDS
from cluster.output.terminal import EXIT_BUDGET, EXIT_ERROR, Exit, emit_json, guarded, say
from solvers.errors import InputError

if TYPE_CHECKING:
    from solvers.networks.relu import ReluNetwork
    from solvers.verify import Verification

__all__ = ["register"]

# Of a box that is written out.
MOST_SIDES = 8


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("verify")(verify)


def verify(
    result: Annotated[
        str, typer.Argument(metavar="RESULT.json", help="What `interlip lipschitz --json` printed; - for stdin.")
    ],
    model: Annotated[str, typer.Option("--model", metavar="MODEL", help="Your own copy of the network.")],
    activation: Activation = None,
    proofs: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where the result's long proofs are, if not where it says (.zip)."),
    ] = None,
    gap: Annotated[
        float, typer.Option(help="Relative gap at which you count a constant as exact, whatever the result says.")
    ] = 1e-6,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Recheck a Lipschitz constant without the solver: the witness in exact arithmetic, the certificate step by step.

    Says what was proved: for which network (SHA-256 of its arrays), domain, p and output, which interval, and whether
    it is as narrow as --gap asks. Exits with 0 when everything is proved, 1 when something is wrong (and says what), 3
    when nothing is wrong but a claim has no proof (solve with --certify to get one, or to a narrower gap), 2 on bad
    input.

    Example: interlip lipschitz net.npz --box -1 1 --certify --json > result.json

    Then: interlip verify result.json --model net.npz
    """
    with guarded(debug), ExitStack() as opened:
        from solvers.files.models import read_network
        from solvers.problems.budget import Budget
        from solvers.verify import Verdict, network_digest

        documents = _read(result)
        reading = read_network(model, activation)
        listed = documents if isinstance(documents, list) else [documents]
        for document in listed:
            _check_activation(document, activation)
            _open_parts(document, proofs, Path() if result == "-" else Path(result).parent, opened)
        budget = Budget(relative_gap=gap)
        said = {"read_as": str(reading), "network_sha256": network_digest(reading.network), "gap": gap}
        found = [_verified(document, reading.network, budget.relative_gap) for document in listed]
        reports = [_report(document, one, said) for document, one in zip(listed, found, strict=True)]
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
    """The JSON document of a file; strict: NaN, infinite numbers and numbers beyond float64 are no JSON."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    def finite(text: str) -> float:
        value = float(text)
        if math.isinf(value):
            raise ValueError(f"{text[:40]} is beyond float64")
        return value

    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        value = json_format.loads(text, parse_constant=refuse, parse_float=finite)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a JSON document: {error}") from None
    if isinstance(value, list) and not value:
        raise InputError(f"{path} holds an empty list of results")
    return value


def _open_parts(value: Any, given: str | None, folder: Path, opened: ExitStack) -> None:
    """Put the parts of long certificates in the place of the files that are named, wherever in a result."""
    from zipfile import BadZipFile

    from solvers.checkers.search_tree import TreeParts

    if isinstance(value, list):
        for one in value:
            _open_parts(one, given, folder, opened)
    if not isinstance(value, dict):
        return
    # Certificates are few levels deep, and what lies below the trees themselves is not looked at.
    for key in ("certificate", "data", "outputs"):
        _open_parts(value.get(key), given, folder, opened)
    named = value.get("parts")
    if not isinstance(named, dict):
        return
    said, number = named.get("file"), named.get("folder")
    if not isinstance(said, str) or type(number) is not int:
        raise InputError("`parts` of a certificate must name a `file` and a whole number `folder`")
    path = folder / said if given is None else Path(given)
    if not path.is_file() and given is None:
        path = Path(said)
    if not path.is_file():
        raise InputError(f"there is no file {path} with the proofs of the result: --proofs FILE says where it is")
    try:
        value["parts"] = opened.enter_context(TreeParts(path, number, _Told()))
    except (OSError, BadZipFile) as error:
        raise InputError(f"the proofs {path} cannot be read: {error}") from None


class _Told:
    """Says now and then how many parts of a certificate were looked at."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done: int, count: int) -> None:
        if time.monotonic() - self._last >= LINE_SECONDS:
            self._last = time.monotonic()
            say(f"{done} of {count} parts of the certificate are proved")


def _check_activation(document: Any, activation: str | None) -> None:
    """The result speaks of the network that the caller has, by the caller's own word."""
    from solvers.networks.activations import parse_activation

    said = document.get("activation") if isinstance(document, dict) else None
    if isinstance(said, str) and parse_activation(said) != parse_activation(activation or "relu"):
        raise InputError(f"the result is about a network of {said}: pass --activation {said} if that is what yours is")


def _verified(document: Any, network: ReluNetwork, gap: float) -> Verification:
    from solvers.errors import SoundnessError
    from solvers.problems.questions import LipschitzProblem
    from solvers.problems.results import LipschitzBounds
    from solvers.verify import Check, Verification, verify_all_outputs, verify_bounds

    try:
        bounds = LipschitzBounds.from_json(document)
    except SoundnessError as error:
        return Verification((Check("interval", False, str(error)),))
    output, margin = document.get("output"), document.get("margin")
    claimed = document.get("gap")
    if not (output is None or type(output) is int):
        raise InputError(f"`output` of the result must be a whole number or null, got {output!r}")
    if not (margin is None or (isinstance(margin, list) and [type(i) for i in margin] == [int, int])):
        raise InputError(f"`margin` of the result must be a pair of whole numbers or null, got {margin!r}")
    if not (claimed is None or type(claimed) in (int, float)):
        raise InputError(f"`gap` of the result must be a number or null, got {claimed!r}")
    if document.get("all_outputs"):
        if margin is not None:
            raise InputError("the result is about all outputs and about a margin, which exclude each other")
        return verify_all_outputs(network, output or 0, bounds, gap, claimed_gap=claimed)
    reduced = reduce_outputs(network, output, None if margin is None else (margin[0], margin[1]))
    return verify_bounds(LipschitzProblem(reduced, bounds.p, bounds.domain), bounds, gap, claimed_gap=claimed)


def _report(document: Mapping[str, Any], found: Verification, said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **said,
        "verdict": str(found.verdict),
        "p": document["p"],
        "domain": document["domain"],
        "output": document.get("output"),
        "margin": document.get("margin"),
        "all_outputs": bool(document.get("all_outputs")),
        "lower": document["lower"],
        "upper": document["upper"],
        "checks": [{"subject": c.subject, "holds": c.holds, "reason": c.reason} for c in found.checks],
        "unproved": list(found.unproved),
    }


def _show(report: Mapping[str, Any]) -> None:
    print(f"p = {report['p']}: {report['lower']} <= L <= {report['upper']}: {report['verdict']}")
    print(f"  asked: {_function(report)} {_place(report['domain'])}, exact to a relative gap of {report['gap']:g}")
    print(f"  network: SHA-256 of its arrays {report['network_sha256']}")
    for check in report["checks"]:
        print(f"  {check['subject']}: {'holds' if check['holds'] else 'WRONG'}: {check['reason']}")
    for claim in report["unproved"]:
        print(f"  unproved: {claim}")


def _function(report: Mapping[str, Any]) -> str:
    if report["all_outputs"]:
        return "all outputs"
    if report["margin"] is not None:
        return "output {} minus output {}".format(*report["margin"])
    return "the output" if report["output"] is None else f"output {report['output']}"


def _place(domain: Mapping[str, Any]) -> str:
    if domain["kind"] == "global":
        return f"on all of R^{domain['dimension']}"
    low, high = domain["lower"], domain["upper"]
    if len(set(low)) == len(set(high)) == 1:
        return f"on [{low[0]}, {high[0]}]^{len(low)}"
    if len(low) > MOST_SIDES:
        return f"on a box in R^{len(low)} (its corners: --json)"
    return "on " + " x ".join(f"[{a}, {b}]" for a, b in zip(low, high, strict=True))
