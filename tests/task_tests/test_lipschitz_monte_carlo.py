"""The Monte Carlo experiment: its trials are the definition's, alone as in any batch; aggregates drop nothing."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from solvers.arithmetic.norms import dual_exponent
from solvers.errors import InputError
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Box, WholeSpace
from solvers.registry import lipschitz_solver_named
from tasks.ensembles import draw_network
from tasks.experiment import Measurement, RunContext, Trial
from tasks.experiments import lipschitz_monte_carlo
from tasks.experiments.lipschitz_monte_carlo import (
    LipschitzConfig,
    LipschitzMonteCarlo,
    pointwise_exponent,
    theory_exponent,
)
from tasks.sweeps import parse_study, trials_of
from tests.clocks import LookedAtClock
from tests.references.instances import Instance, instances
from tests.references.lp_enumeration import lipschitz_by_lp
from tests.strategies import P_VALUES

EXPERIMENT = LipschitzMonteCarlo()
VARYING = {"wall_seconds"}


def trials(seed: int = 5, replicates: int = 2, fixed: dict[str, Any] | None = None, **grid: list[Any]) -> list[Trial]:
    sweep = {"experiment": EXPERIMENT.name, "grid": grid, "fixed": fixed or {}, "replicates": replicates}
    return list(trials_of(parse_study({"name": "t", "seed": seed, "sweeps": {"t": sweep}}, "t")))


def run(batch: Sequence[Trial], context: RunContext | None = None) -> list[dict[str, Any]]:
    configs = [LipschitzConfig.model_validate(t.params) for t in batch]
    measured = EXPERIMENT.run_batch(configs, [EXPERIMENT.streams(t) for t in batch], context or RunContext())
    return [dict(row) for row in measured]


def frame(batch: Sequence[Trial]) -> pd.DataFrame:
    return pd.DataFrame(
        [{**t.params, "replicate": t.replicate, **run([t])[0]} for t in batch],
    )


def bits(measured: Measurement) -> dict[str, Any]:
    return {
        name: value.hex() if isinstance(value, float) else value
        for name, value in measured.items()
        if name not in VARYING
    }


CELLS: list[dict[str, Any]] = [
    {"d": [2], "bias": ["zero"]},
    {"d": [3], "bias": ["normal"]},
    {"d": [2], "bias": ["cauchy"], "fixed": {"domain": "box", "radius": 2.0}},
    {"d": [1], "bias": ["uniform"]},
    {"d": [3], "bias": ["laplace"], "fixed": {"method": "sampling", "L": 2}},
    {"d": [4], "bias": ["normal"], "fixed": {"method": "norm-product", "L": 3}},
]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_trial_does_not_depend_on_its_batch(cell: dict[str, Any]) -> None:
    """Alone, all together, shuffled, and in uneven parts: the same bits."""
    grid = {**cell, "fixed": {"N": 10, **cell.get("fixed", {})}}
    all_trials = trials(replicates=5, p=list(P_VALUES), **grid)
    groups = {EXPERIMENT.batch_group(LipschitzConfig.model_validate(t.params)) for t in all_trials}
    assert len(groups) == 1
    alone = {t.key: bits(run([t])[0]) for t in all_trials}
    order = list(all_trials)
    random.Random(0).shuffle(order)
    cuts = [0, 1, 4, 11, len(order)]
    for batches in ([all_trials], [order], [order[a:b] for a, b in itertools.pairwise(cuts)]):
        for batch in batches:
            for t, measured in zip(batch, run(batch), strict=True):
                assert bits(measured) == alone[t.key]


def test_other_settings_do_not_share_a_batch() -> None:
    base = LipschitzConfig(d=2, N=8, p=2)
    changes: dict[str, Any] = {
        "d": 3, "N": 9, "L": 2, "bias": "normal", "bias_scale": 2.0, "domain": "box", "radius": 2.0,
        "method": "sampling", "relative_gap": 0.1, "time_limit": 1.0,
    }  # fmt: skip
    groups = [EXPERIMENT.batch_group(base.model_copy(update={name: value})) for name, value in changes.items()]
    assert len({EXPERIMENT.batch_group(base), *groups}) == 1 + len(changes)
    assert EXPERIMENT.batch_group(base.model_copy(update={"p": 1.0})) == EXPERIMENT.batch_group(base)


@pytest.mark.parametrize("domain", ["global", "box"])
@pytest.mark.parametrize("bias", ["zero", "normal"])
def test_the_constant_is_that_of_the_drawn_network(bias: str, domain: str) -> None:
    """Against linear programs on the network that `draw_network` gives for the trial's streams."""
    fixed = {"N": 7, "d": 2, "bias": bias, "domain": domain, "radius": 0.8}
    batch = trials(replicates=2, fixed=fixed, p=[1.0, 1.5, math.inf])
    streams = {EXPERIMENT.streams(t) for t in batch}
    assert len(streams) == 2
    where = WholeSpace(2) if domain == "global" else Box.cube(2, -0.8, 0.8)
    duals = [dual_exponent(t.params["p"]) for t in batch]
    truths = {s: lipschitz_by_lp(draw_network(2, [7], bias, 1.0, s), where, duals) for s in streams}
    for t, measured in zip(batch, run(batch), strict=True):
        truth = truths[EXPERIMENT.streams(t)][dual_exponent(t.params["p"])]
        assert measured["status"] == "exact"
        assert measured["lower"] == pytest.approx(truth, rel=1e-9)
        assert measured["upper"] == pytest.approx(truth, rel=1e-9)
        assert measured["lower"] <= measured["upper"]


def test_the_network_is_shared_by_all_questions_about_it() -> None:
    """One draw for every p: ||g||_{p'} grows with p, and at most d = 3 times from p = 1 to p = inf."""
    rows = frame(trials(replicates=4, fixed={"N": 12, "d": 3}, p=list(P_VALUES)))
    for _, group in rows.groupby("replicate"):
        for column in ("lower", "gradient_norm"):
            values = group.sort_values("p")[column].to_numpy()
            assert (np.diff(values) >= -1e-12 * values[:-1]).all()
            assert values[-1] <= 3 * values[0] * (1 + 1e-12)
        # Norms of one gradient with three entries differ strictly.
        assert group["gradient_norm"].nunique() == len(P_VALUES)
    assert (rows["gradient_norm"] <= rows["upper"] * (1 + 1e-12)).all()


def test_the_gradient_is_that_of_differences_on_the_unit_sphere() -> None:
    for t in trials(replicates=5, fixed={"N": 9, "d": 3, "bias": "normal"}, p=[2.0]):
        streams = EXPERIMENT.streams(t)
        network = draw_network(3, [9], "normal", 1.0, streams)
        point = streams.generator("point").standard_normal(3)
        point /= np.linalg.norm(point)
        step = 1e-6 * np.eye(3)
        slopes = (network.evaluate(point + step) - network.evaluate(point - step))[:, 0] / 2e-6
        assert run([t])[0]["gradient_norm"] == pytest.approx(float(np.linalg.norm(slopes)), rel=1e-6)


@pytest.mark.parametrize("instance", [i for i in instances() if i.depth == 1], ids=lambda instance: instance.name)
def test_a_network_of_known_constant_gives_it(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """The known networks take the place of the drawn one."""

    def known(*_: Any) -> ReluNetwork:
        return instance.network

    monkeypatch.setattr(lipschitz_monte_carlo, "draw_network", known)
    domain = instance.domain
    if isinstance(domain, Box) and not (np.all(domain.lower == -1) and np.all(domain.upper == 1)):
        pytest.fail("the experiment knows cubes around the origin only")
    fixed = {
        "N": instance.network.widths[0],
        "d": instance.network.input_dimension,
        "domain": "box" if isinstance(domain, Box) else "global",
    }
    for t in trials(replicates=1, fixed=fixed, p=list(P_VALUES)):
        measured, truth = run([t])[0], instance.constant(dual_exponent(t.params["p"]))
        assert measured["status"] == "exact"
        assert measured["lower"] <= truth * (1 + 1e-14)
        assert measured["upper"] >= truth * (1 - 1e-14)
        assert measured["upper"] - measured["lower"] <= 1e-9 * truth
        assert measured["gradient_norm"] <= truth * (1 + 1e-12)


def test_every_measurement_has_the_declared_columns() -> None:
    for method in ("auto", "vertex-enumeration", "sampling", "norm-product"):
        measured = run(trials(replicates=2, fixed={"N": 6, "d": 2, "p": 2.0, "method": method}))
        assert all(set(row) == set(EXPERIMENT.columns) for row in measured)
        assert {row["answered_by"] for row in measured} <= {"vertex-enumeration", "sampling", "norm-product"}


@pytest.mark.parametrize("method", ["auto", "vertex-enumeration", "sampling"])
def test_the_seconds_of_the_trials_add_up_to_those_of_their_batch(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial's column is the solver's own share."""
    told: list[float] = []
    whole = lipschitz_solver_named(method).__class__.solve_batch
    clock = LookedAtClock(monkeypatch)

    def solve_batch(*arguments: Any, **options: Any) -> Any:
        answers = whole(*arguments, **options)
        told[:] = [answer.stats["wall_seconds"] for answer in answers]
        return answers

    monkeypatch.setattr(lipschitz_solver_named(method).__class__, "solve_batch", solve_batch)
    batch = trials(replicates=4, fixed={"N": 6, "d": 2, "bias": "normal", "method": method}, p=[1.0, 2.0, math.inf])
    seconds = [row["wall_seconds"] for row in run(batch)]
    assert seconds == told
    assert 0 < sum(seconds) <= clock.now
    if method == "vertex-enumeration":
        assert sum(seconds) == pytest.approx(clock.now - 1, rel=1e-12)


def test_a_spent_time_limit_is_an_interval() -> None:
    batch = trials(replicates=3, fixed={"N": 20, "d": 3, "p": 2.0, "bias": "normal", "time_limit": 0.0})
    exact = trials(replicates=3, fixed={"N": 20, "d": 3, "p": 2.0, "bias": "normal"})
    for cut, whole in zip(run(batch), run(exact), strict=True):
        assert cut["status"] == "budget-spent"
        assert cut["lower"] <= whole["upper"]
        assert cut["upper"] >= whole["lower"]
        assert cut["gradient_norm"] == whole["gradient_norm"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "vertex-enumeration", "L": 2}, "vertex-enumeration cannot take d = 2, N = 6, L = 2"),
        ({"method": "vertx-enumeration"}, "did you mean 'vertex-enumeration'"),
    ],
)
def test_what_could_never_run_is_said_before_anything_starts(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EXPERIMENT.check(LipschitzConfig(d=2, N=6, p=2, **changes), RunContext())
    EXPERIMENT.check(LipschitzConfig(d=2, N=6, p=2), RunContext())


def test_costs_grow_with_the_work() -> None:
    def cost(**params: Any) -> float:
        return EXPERIMENT.cost_seconds(LipschitzConfig(p=2, **params))

    assert 0 < cost(d=2, N=16) < cost(d=3, N=16) < cost(d=3, N=32) < cost(d=3, N=32, bias="normal")
    assert cost(d=3, N=32, bias="normal", domain="box") > cost(d=3, N=32, bias="normal")


def test_the_predicted_exponents_have_their_kink_at_two() -> None:
    """[DFGSV25]: d^(1/2) up to p = 2, d^(1 - 1/p) from there; the gradient at a point d^(1 - 1/p) throughout."""
    assert [theory_exponent(p) for p in (1, 1.5, 2, 4, math.inf)] == [0.5, 0.5, 0.5, 0.75, 1.0]
    assert [pointwise_exponent(p) for p in (1, 2, 4, math.inf)] == [0.0, 0.5, 0.75, 1.0]
    assert pointwise_exponent(1.5) == pytest.approx(1 / 3)
