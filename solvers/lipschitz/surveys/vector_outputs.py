"""Networks with several outputs: the l_p -> l_inf constant, exactly a maximum over the outputs.

||F(x) - F(y)||_inf is the largest |f_k(x) - f_k(y)|, so Lip_{p -> inf}(F; X) = max_k Lip_p(f_k; X). The largest lower
bound of an output is one of the whole, and so is the largest upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from solvers.lipschitz._base import AbstractLipschitzSolver
from solvers.lipschitz.bounds.norm_products import layer_spectra, norm_product_bound, norm_product_certificate
from solvers.networks.relu import ReluNetwork
from solvers.problems.balance import balance
from solvers.problems.budget import Budget
from solvers.problems.domains import Domain
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import Certificate, LipschitzBounds, Status

__all__ = ["OutputBounds", "solve_all_outputs"]


@dataclass(frozen=True, slots=True, eq=False)
class OutputBounds:
    """Bounds of Lip_{p -> inf}(F; X).

    Attributes:
        bounds: of the whole; the witness belongs to `output`. The certificate, of kind "all-outputs", holds one for
            every output under `outputs`, as `Certificate.to_json` writes it. Statistics are sums over the outputs.
        output: where the lower bound is attained; without a witness, the output of the largest upper bound.
    """

    bounds: LipschitzBounds
    output: int


def solve_all_outputs(
    solver: AbstractLipschitzSolver,
    network: ReluNetwork,
    exponents: Sequence[float],
    domain: Domain,
    *,
    budget: Budget | None = None,
) -> list[OutputBounds]:
    """Bound the l_p -> l_inf constant over all outputs, for several p at once.

    Outputs are taken in the order of their products of norms, largest first; one whose product cannot beat what is
    attained already is not solved at all. Each gets an equal share of the time that is left.

    Args:
        solver: how each output is solved.
        network: with one output or more.
        exponents: the p's.
        budget: limits of the whole question; a limit of nodes is one for each output.
    Returns:
        One answer for each p.
    Raises:
        UnsupportedProblemError: the method cannot take one of the problems.
    """
    limits = Budget() if budget is None else budget
    deadline = limits.start()
    single = [network.select_output(k) for k in range(network.output_dimension)]
    # As `solve_batch` does, so that no product of norms underflows to 0.
    safe = [balance(LipschitzProblem(one, exponents[0], domain)) for one in single]
    # Outputs that are left as they are share all layers but the last.
    shared = all(one.problem.network is own for one, own in zip(safe, single, strict=True))
    spectra = layer_spectra(network, 0.1 * limits.seconds) if shared else None
    products = np.array(
        [[one.bound(norm_product_bound(one.problem.network, p, spectra=spectra)) for p in exponents] for one in safe]
    )
    found: list[dict[int, LipschitzBounds]] = [{} for _ in exponents]
    order = np.argsort(-products.max(axis=1), kind="stable").tolist()
    for place, k in enumerate(order):
        asked = [
            i
            for i in range(len(exponents))
            if not found[i] or products[k, i] > max(answer.lower for answer in found[i].values())
        ]
        share = limits.within(deadline.remaining / (len(order) - place))
        problems = [LipschitzProblem(single[k], exponents[i], domain) for i in asked]
        if problems:
            for i, answer in zip(asked, solver.solve_together(problems, budget=share), strict=True):
                found[i][k] = answer
    return [
        _largest(
            [one.problem.network for one in safe], answers, products[:, i].tolist(), spectra, limits, deadline.elapsed
        )
        for i, answers in enumerate(found)
    ]


def _largest(
    balanced: list[ReluNetwork],
    answers: dict[int, LipschitzBounds],
    products: list[float],
    spectra: list[float] | None,
    budget: Budget,
    seconds: float,
) -> OutputBounds:
    """The maximum over outputs; those without an answer are bounded by their products of norms."""
    best = max(answers, key=lambda k: answers[k].lower)
    uppers = {k: answers[k].upper if k in answers else product for k, product in enumerate(products)}
    worst = max(uppers, key=lambda k: (uppers[k], k in answers))
    low = answers[best]
    # An output left out cannot be the worst of an open interval: its product is at most the lower bound.
    status = Status.EXACT if budget.is_closed(low.lower, uppers[worst]) else answers[worst].status
    names = dict.fromkeys(name for answer in answers.values() for name in answer.stats)
    stats = {name: math.fsum(answer.stats.get(name, 0.0) for answer in answers.values()) for name in names}
    stats |= {"outputs_solved": float(len(answers)), "wall_seconds": seconds}
    method = "+".join(dict.fromkeys(answer.method for answer in answers.values()))
    bounds = LipschitzBounds(
        low.lower,
        uppers[worst],
        status,
        method,
        low.p,
        low.domain,
        low.witness,
        _certificate(balanced, answers, spectra, low.p),
        stats,
        "; ".join(dict.fromkeys(answer.reason for answer in answers.values() if answer.reason)),
    )
    return OutputBounds(bounds, best if low.witness is not None else worst)


def _certificate(
    balanced: list[ReluNetwork], answers: dict[int, LipschitzBounds], spectra: list[float] | None, p: float
) -> Certificate | None:
    """The certificates of all outputs, if every answer has one; those that were left out have their products."""
    if any(answer.certificate is None for answer in answers.values()):
        return None
    products = {k: norm_product_certificate(one, p, spectra) for k, one in enumerate(balanced) if k not in answers}
    own = {k: answer.certificate for k, answer in answers.items() if answer.certificate is not None}
    whole = {**products, **own}
    return Certificate("all-outputs", {"outputs": [whole[k].to_json() for k in range(len(balanced))]})
