"""Study files: grids expand as written, trials keep their key whatever stands beside them, mistakes are named."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers.errors import InputError
from tasks.experiment import Trial
from tasks.registry import EXPERIMENTS, experiment_named
from tasks.sweeps import Range, Study, apply_overrides, load_study, parse_study, shipped_studies, trials_of
from tests.strategies import DETERMINISTIC
from tracking.records import TrialRecord


def study(seed: int = 1, experiment: str = "lipschitz-monte-carlo", **sweep: Any) -> Study:
    fixed = {"N": 8} if experiment == "lipschitz-monte-carlo" else {}
    raw = {"experiment": experiment, **sweep}
    raw["fixed"] = {**fixed, **sweep.get("fixed", {})}
    raw["fixed"] = {name: value for name, value in raw["fixed"].items() if name not in sweep.get("grid", {})}
    return parse_study({"name": "test", "seed": seed, "sweeps": {"one": raw}}, "test")


def trials(*arguments: Any, **sweep: Any) -> list[Trial]:
    return list(trials_of(study(*arguments, **sweep)))


def test_the_grid_is_every_combination_times_replicates() -> None:
    found = trials(grid={"d": [2, 3], "bias": ["zero", "normal"], "p": [1.0, math.inf]}, replicates=3)
    seen = [(t.params["d"], t.params["bias"], t.params["p"], t.replicate) for t in found]
    assert seen == list(itertools.product([2, 3], ["zero", "normal"], [1.0, math.inf], range(3)))
    assert {t.params["N"] for t in found} == {8}
    assert {(t.sweep, t.experiment, t.seed) for t in found} == {("one", "lipschitz-monte-carlo", 1)}


def test_defaults_are_part_of_the_configuration() -> None:
    """So a study that spells a default out computes nothing again."""
    short = trials(grid={"d": [2]}, fixed={"p": 2})[0]
    spelled = trials(grid={"d": [2]}, fixed={"p": 2.0, "L": 1, "bias": "zero", "domain": "global", "radius": 1})[0]
    assert set(short.params) == set(EXPERIMENTS["lipschitz-monte-carlo"].config_type.model_fields)
    assert spelled.key == short.key
    assert spelled.cell == short.cell


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ({"start": 16, "stop": 64, "step": 16}, [16, 32, 48, 64]),
        ({"start": 1, "stop": 9, "step": 3}, [1, 4, 7]),
        ({"start": 5, "stop": 1, "step": -2}, [5, 3, 1]),
        ({"start": 2, "stop": 2, "step": 1}, [2]),
        ({"start": 0, "stop": 1, "step": 0.1}, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]),
        ({"start": 0.1, "stop": 0.3, "step": 0.1}, [0.1, 0.2, 0.3]),
        ({"start": 1, "stop": 2, "count": 5}, [1, 1.25, 1.5, 1.75, 2]),
        ({"start": 3, "stop": 9, "count": 1}, [3]),
        ({"start": 1, "stop": 1000, "count": 4, "spacing": "log"}, [1, 10, 100, 1000]),
        ({"start": 8, "stop": 1, "count": 4, "spacing": "log"}, [8, 4, 2, 1]),
    ],
)
def test_ranges_hold_their_ends_and_keep_whole_numbers(axis: dict[str, Any], values: list[float]) -> None:
    found = Range.model_validate(axis).values()
    assert found == values
    assert [type(v) for v in found] == [int if float(v).is_integer() else float for v in values]


@DETERMINISTIC
@given(st.integers(-50, 50), st.integers(1, 40), st.integers(1, 60), st.sampled_from([1, 2, 4, 5, 8, 10, 100]))
def test_a_step_range_in_decimals_has_every_value(start: int, step: int, number: int, parts: int) -> None:
    """Values k / parts have exact decimal names, and float64 drift must lose none of them."""
    axis = Range(start=start / parts, stop=(start + step * (number - 1)) / parts, step=step / parts)
    assert axis.values() == [(start + step * k) / parts for k in range(number)]


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"start": 1, "stop": 9}, "either step or count"),
        ({"start": 1, "stop": 9, "step": 1, "count": 3}, "either step or count"),
        ({"start": 1, "stop": 9, "step": -1}, "never ends with step -1"),
        ({"start": 1, "stop": 9, "step": 0}, "never ends with step 0"),
        ({"start": 1, "stop": 9, "step": 2, "spacing": "log"}, "takes count, not step"),
        ({"start": 0, "stop": 9, "count": 3, "spacing": "log"}, "needs positive ends"),
        ({"start": 1, "stop": math.inf, "step": 1}, "finite"),
        ({"start": 1, "stop": math.nan, "count": 2}, "finite"),
        ({"start": -math.inf, "stop": 1, "count": 2}, "finite"),
        ({"start": 1, "stop": 2, "step": math.nan}, "finite"),
        ({"start": 0, "stop": 1e9, "step": 1e-9}, "more than"),
        ({"start": 1, "stop": 9, "steps": 2}, "unknown key 'sweeps.one.grid.d.steps'; did you mean 'step'"),
        ({"start": 1, "stop": 9, "count": 0}, "count"),
        ({"start": 1, "step": 1}, "'sweeps.one.grid.d.stop' is missing"),
        ({"start": 1, "stop": "many", "step": 1}, "sweeps.one.grid.d.stop"),
        (3, "sweeps.one.grid.d"),
        ([], "axis d is empty"),
    ],
)
def test_impossible_axes_are_named(axis: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        trials(grid={"d": axis}, fixed={"p": 2})
    assert "\n" not in str(caught.value)


VALUES = {
    "d": st.integers(1, 4),
    "N": st.integers(1, 30),
    "p": st.sampled_from([1.0, 1.5, 2, 4, math.inf]),
    "bias": st.sampled_from(["zero", "normal", "cauchy"]),
    "radius": st.floats(0.1, 5.0),
}


@DETERMINISTIC
@given(
    st.fixed_dictionaries(
        {name: st.lists(values, min_size=1, max_size=3, unique=True) for name, values in VALUES.items()}
    ),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
    st.data(),
)
def test_a_trial_keeps_its_key_whatever_else_is_in_the_grid(
    grid: dict[str, list[Any]], replicates: int, shuffle: random.Random, data: st.DataObject
) -> None:
    """Fewer values, other order of values and axes, fixed instead of a one-valued axis: same trial, same key, same bits
    of randomness."""
    experiment = EXPERIMENTS["lipschitz-monte-carlo"]
    whole = {identity(t): t for t in trials(grid=grid, replicates=replicates)}
    assert len({t.key for t in whole.values()}) == len(whole)
    part = {name: data.draw(st.lists(st.sampled_from(axis), min_size=1, unique=True)) for name, axis in grid.items()}
    names = list(part)
    shuffle.shuffle(names)
    fixed = {name: part[name][0] for name in names if len(part[name]) == 1}
    others = trials(
        grid={name: part[name] for name in names if name not in fixed}, fixed=fixed, replicates=replicates + 2
    )
    for other in others:
        if other.replicate < replicates:
            same = whole[identity(other)]
            assert (other.key, other.cell) == (same.key, same.cell)
            assert experiment.streams(other) == experiment.streams(same)


def identity(trial: Trial) -> tuple[Any, ...]:
    return (*sorted((name, str(value)) for name, value in trial.params.items()), trial.replicate)


def test_the_key_changes_with_everything_that_decides_the_result_and_with_nothing_else() -> None:
    base = trials(grid={"d": [2]}, fixed={"p": 2})[0]
    seeded = trials(2, grid={"d": [2]}, fixed={"p": 2})[0]
    replicated = trials(grid={"d": [2]}, fixed={"p": 2}, replicates=2)[1]
    changed = [trials(grid={"d": [2]}, fixed={"p": 2, name: value})[0] for name, value in
               {"N": 9, "L": 2, "bias": "normal", "bias_scale": 2, "domain": "box", "radius": 2, "method": "sampling",
                "relative_gap": 0.1, "time_limit": 1}.items()]  # fmt: skip
    keys = [t.key for t in (base, seeded, replicated, *changed)]
    assert len(set(keys)) == len(keys)
    assert replicated.cell == base.cell
    assert len({t.cell for t in (base, seeded, *changed)}) == 2 + len(changed)
    renamed = Trial("another sweep", base.experiment, dict(reversed(list(base.params.items()))), 0, 1)
    assert (renamed.key, renamed.cell) == (base.key, base.cell)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_column_is_taken_twice(name: str) -> None:
    """Parameters, measurements and what every row has besides stand in one table."""
    experiment = EXPERIMENTS[name]
    fields, columns = set(experiment.config_type.model_fields), set(experiment.columns)
    assert not fields & columns
    row = TrialRecord("k", "c", "s", 0, 0, dict.fromkeys(fields, 1), dict.fromkeys(columns, 1)).to_row()
    assert fields | columns <= set(row)


def raw_study(**changes: Any) -> dict[str, Any]:
    sweep = {"experiment": "lipschitz-monte-carlo", "grid": {"d": [2]}, "fixed": {"N": 8, "p": 2}}
    return {"name": "test", "sweeps": {"one": {**sweep, **changes.pop("sweep", {})}}, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sedd": 1}, "unknown key 'sedd'; did you mean 'seed'"),
        ({"titel": "x"}, "unknown key 'titel'; did you mean 'title'"),
        ({"sweep": {"replicate": 3}}, "unknown key 'sweeps.one.replicate'; did you mean 'replicates'"),
        ({"sweep": {"gird": {}}}, "unknown key 'sweeps.one.gird'; did you mean 'grid'"),
        ({"sweep": {"grid": {"bais": ["zero"], "d": [2]}}}, "unknown key 'bais'; did you mean 'bias'"),
        ({"sweep": {"fixed": {"methd": "auto", "N": 8, "p": 2}}}, "unknown key 'methd'; did you mean 'method'"),
        ({"sweep": {"experiment": "lipschitz-montecarlo"}}, "did you mean 'lipschitz-monte-carlo'"),
        ({"sweep": {"experiment": "xyz"}}, "known: lipschitz-monte-carlo, interpolation"),
        ({"sweep": {"fixed": {"p": 2}}}, "the key 'N' is missing"),
        ({"sweep": {"fixed": {"N": 8, "p": 0.5}}}, "p must lie in .1, inf., got 0.5"),
        ({"sweep": {"fixed": {"N": 8, "p": "two"}}}, "p must be a number"),
        ({"sweep": {"fixed": {"N": 0, "p": 2}}}, "N: input should be greater than or equal to 1, got 0"),
        ({"sweep": {"fixed": {"N": 2.5, "p": 2}}}, "N: .*got 2.5"),
        ({"sweep": {"fixed": {"N": 8, "p": 2, "bias": "gauss"}}}, "unknown bias law"),
        ({"sweep": {"fixed": {"N": 8, "p": 2, "bias_scale": math.inf}}}, "bias_scale"),
        ({"sweep": {"fixed": {"N": 8, "p": 2, "domain": "ball"}}}, "domain: .*global.*box"),
        ({"sweep": {"fixed": {"N": 8, "p": 2, "d": 3}}}, "'d' stands in both grid and fixed"),
        ({"sweep": {"replicates": 0}}, "sweeps.one.replicates"),
        ({"seed": -1}, "seed"),
        ({"name": "../up"}, "name"),
        ({"sweeps": {}}, "sweeps"),
    ],
)
def test_mistakes_are_named_with_the_way_out(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_study(raw_study(**changes), "my.toml")
    assert "\n" not in str(caught.value)
    if "experiment" not in str(changes):
        assert str(caught.value).startswith("my.toml")


def test_a_wrong_value_deep_in_a_grid_is_found_before_anything_runs() -> None:
    with pytest.raises(InputError, match="p must lie in"):
        parse_study(raw_study(sweep={"grid": {"d": [2, 3], "p": [2, 1, 0.9]}, "fixed": {"N": 8}}), "my.toml")


@pytest.mark.parametrize("axis", [[2, 3, 2], [2, 2.0], ["2", 2], {"start": 2, "stop": 2, "count": 2}])
def test_a_cell_that_stands_twice_is_named(axis: Any) -> None:
    with pytest.raises(InputError, match=r"sweeps\.one\.grid holds the cell d = 2 twice"):
        trials(grid={"d": axis}, fixed={"p": 2})


def test_overrides_reach_every_place_and_type() -> None:
    raw = raw_study()
    found = apply_overrides(
        raw,
        ["seed=7", "sweeps.one.replicates = 3", "sweeps.one.grid.d=[4, 5]", "sweeps.one.fixed.bias=normal",
         "sweeps.one.fixed.p=inf", "title=a = b", "sweeps.one.grid.N={start = 1, stop = 3, step = 1}"],
    )  # fmt: skip
    assert found["seed"] == 7
    sweep = found["sweeps"]["one"]
    assert (sweep["replicates"], sweep["grid"]["d"], sweep["fixed"]["bias"]) == (3, [4, 5], "normal")
    assert sweep["fixed"]["p"] == math.inf
    assert found["title"] == "a = b"
    assert sweep["grid"]["N"] == {"start": 1, "stop": 3, "step": 1}
    assert raw == raw_study()


@pytest.mark.parametrize(
    ("text", "message"),
    [("seed", "needs the form a.b=value"), ("=3", "needs the form"), ("sweeps..one=3", "needs the form"),
     ("name.first=x", "name is a value, not a table")],
)  # fmt: skip
def test_overrides_without_a_place_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        apply_overrides(raw_study(), [text])


def test_a_study_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\n[sweeps.a]\nexperiment = "interpolation"\nreplicates = 2\n'
        "[sweeps.a.grid]\nwidth = {start = 10, stop = 30, step = 10}\n"
        '[sweeps.a.fixed]\ndata = "moons:20"\nmax_bias = 0.5\n'
    )
    found = list(trials_of(load_study(str(file), ["sweeps.a.replicates=1"])))
    assert [t.params["width"] for t in found] == [10, 20, 30]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "is not valid TOML"),
        ("", "the key 'name' is missing"),
        ('name = "x"', "the key 'sweeps' is missing"),
    ],
)
def test_a_file_that_is_no_study_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_study(str(tmp_path / "bad.toml"))
    assert "bad.toml" in str(caught.value)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot read the study"):
        load_study(str(tmp_path / "bytes.toml"))


def test_an_unknown_study_has_a_nearest_name() -> None:
    with pytest.raises(InputError, match="did you mean overview"):
        load_study("overveiw")
    with pytest.raises(InputError, match="shipped studies: "):
        load_study("zzz")
    with pytest.raises(InputError, match="did you mean 'interpolation'"):
        experiment_named("interpolatoin")


@pytest.mark.parametrize("name", shipped_studies())
def test_shipped_studies_expand_to_different_trials(name: str) -> None:
    loaded = load_study(name)
    assert loaded.name == name
    assert loaded.title
    found = list(trials_of(loaded))
    assert len({t.key for t in found}) == len(found)


def test_the_overview_is_what_was_promised() -> None:
    """100 draws and more of every cell of d in 2..5, N in {16, 32}, six p and two bias laws; moons and digits."""
    found = list(trials_of(load_study("overview")))
    lipschitz = [t for t in found if t.experiment == "lipschitz-monte-carlo"]
    cells = {(t.params["d"], t.params["N"], t.params["p"], t.params["bias"]) for t in lipschitz}
    wanted = itertools.product([2, 3, 4, 5], [16, 32], [1, 1.25, 1.5, 2, 4, math.inf], ["zero", "normal"])
    assert cells >= set(wanted)
    assert len(lipschitz) >= 100 * len(cells)
    assert {t.params["data"] for t in found if t.experiment == "interpolation"} == {"moons:1000", "digits"}


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/x", "a/../b", "..", "~/x", "a\\..\\b", "", "line\nbreak", "x" * 200]
)
def test_a_sweep_is_not_named_by_a_path(name: str) -> None:
    sweep = {"experiment": "lipschitz-monte-carlo", "fixed": {"d": 2, "N": 4}}
    with pytest.raises(InputError, match="a sweep's name must"):
        parse_study({"name": "s", "sweeps": {name: sweep}}, "s")


def test_the_time_of_a_trial_is_no_part_of_what_is_asked(tmp_path: Path) -> None:
    from cluster.execution.ledger import study_digest

    sweep = {"experiment": "lipschitz-monte-carlo", "fixed": {"d": 2, "N": 4, "p": 2}}
    plain = {"name": "s", "sweeps": {"a": sweep}}
    assert study_digest(parse_study(plain, "s")) == study_digest(parse_study({**plain, "trial_timeout": 60}, "s"))
    with pytest.raises(InputError, match="trial_timeout"):
        parse_study({**plain, "trial_timeout": 0}, "s")
