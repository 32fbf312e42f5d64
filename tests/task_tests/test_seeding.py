"""Random streams come from content alone, and different content gives unrelated streams."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.experiment import Trial
from tasks.registry import EXPERIMENTS
from tasks.seeding import RandomStreams, canonical_json, content_digest
from tests.strategies import DETERMINISTIC

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@DETERMINISTIC
@given(st.dictionaries(st.text(max_size=4), plain, max_size=5), st.randoms(use_true_random=False))
def test_order_of_keys_does_not_matter(content: dict[str, object], shuffle: object) -> None:
    names = list(content)
    shuffle.shuffle(names)  # type: ignore[attr-defined]
    assert canonical_json({name: content[name] for name in names}) == canonical_json(content)


@DETERMINISTIC
@given(plain, plain)
def test_equal_texts_mean_equal_content(left: object, right: object) -> None:
    """Content that JSON tells apart keeps apart, except that 2 and 2.0 are one number."""
    assert (canonical_json(left) == canonical_json(right)) == (as_numbers(left) == as_numbers(right))


def as_numbers(value: object) -> object:
    """The value with its type, all numbers being of one kind and infinities texts."""
    if isinstance(value, bool):
        return ("truth", value)
    if isinstance(value, (int, float)):
        return ("text", str(float(value))) if math.isinf(value) else ("number", value)
    if isinstance(value, str):
        return ("text", value)
    if isinstance(value, list):
        return ("list", [as_numbers(item) for item in value])
    if isinstance(value, dict):
        return ("table", {key: as_numbers(item) for key, item in value.items()})
    return ("nothing", value)


@DETERMINISTIC
@given(plain)
def test_the_text_is_json_without_spaces(value: object) -> None:
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text


def test_numbers_have_one_text() -> None:
    same = [2, 2.0, np.int64(2), np.float64(2.0), np.float32(2.0), np.int8(2)]
    assert {canonical_json({"p": value}) for value in same} == {'{"p":2}'}
    assert canonical_json([math.inf, -math.inf, math.nan]) == '["inf","-inf","nan"]'
    assert canonical_json([0.1, 1e300, -0.0, 2.5]) == "[0.1,1e+300,0,2.5]"
    assert canonical_json((1, 2)) == canonical_json([1, 2])
    assert len({canonical_json(value) for value in (1, True, "1", None, "None", [1])}) == 6


def test_a_stream_is_the_same_on_every_call_and_in_every_process(root: Path) -> None:
    code = (
        "from tasks.seeding import RandomStreams\n"
        "s = RandomStreams.of({'b': 2, 'a': [1.5, 'x']})\n"
        "print(s.digest, s.generator('weights').integers(2**63), s.generator('weights').integers(2**63))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    digest, first, again = other.stdout.split()
    here = RandomStreams.of({"a": [1.5, "x"], "b": 2.0})
    assert here.digest == digest
    assert first == again == str(here.generator("weights").integers(2**63))


def test_streams_of_different_content_or_purpose_never_coincide() -> None:
    contents = [[name, d, k] for name in ("a", "b") for d in (2, 3) for k in range(100)]
    purposes = ("weights", "biases", "search", "point")
    first = {
        RandomStreams.of(content).generator(purpose).integers(2**63) for content in contents for purpose in purposes
    }
    # 1600 numbers of 63 bits: two equal ones by luck with a chance of 2e-13.
    assert len(first) == len(contents) * len(purposes)
    assert len({content_digest(content) for content in contents}) == len(contents)


def test_drawing_more_for_one_purpose_shifts_no_other() -> None:
    greedy, modest = RandomStreams.of("x"), RandomStreams.of("x")
    greedy.generator("weights").standard_normal(10_000)
    np.testing.assert_array_equal(
        greedy.generator("biases").standard_normal(50), modest.generator("biases").standard_normal(50)
    )


def test_neighbouring_streams_are_uncorrelated() -> None:
    """Replicates 0..19 of one cell: 190 pairs of streams of 20 000 normal numbers. A correlation is N(0, 1/20000), so
    the largest exceeds 5.5 standard deviations with a chance below 1e-5; so does the mean of any stream."""
    draws = np.stack([RandomStreams.of(["cell", k]).generator("weights").standard_normal(20_000) for k in range(20)])
    products = draws @ draws.T / 20_000
    largest = max(abs(products[i, j]) for i, j in itertools.combinations(range(20), 2))
    assert largest < 5.5 / math.sqrt(20_000)
    assert np.abs(draws.mean(axis=1)).max() < 5.5 / math.sqrt(20_000)
    # Sorted together they are one normal sample: the variance of 400 000 squares is 2 / 400 000.
    assert abs((draws**2).mean() - 1) < 5.5 * math.sqrt(2 / draws.size)


def trial(experiment: str, replicate: int = 0, seed: int = 1, sweep: str = "one", **params: object) -> Trial:
    config = EXPERIMENTS[experiment].config_type.model_validate(params)
    return Trial(sweep, experiment, config.model_dump(), replicate, seed)


@pytest.mark.parametrize(
    ("experiment", "params", "asked", "drawn"),
    [
        (
            "lipschitz-monte-carlo",
            {"d": 2, "N": 8, "p": 1.0},
            {"p": 2.0, "method": "sampling", "relative_gap": 0.1, "time_limit": 3, "domain": "box", "radius": 2.0},
            {"d": 3, "N": 9, "L": 2, "bias": "normal", "bias_scale": 2.0},
        ),
        ("interpolation", {"data": "moons:20", "width": 5, "max_bias": 0.5}, {}, {"width": 6, "max_bias": 0.25}),
    ],
)
def test_only_parameters_that_ask_another_question_share_the_draw(
    experiment: str, params: dict[str, Any], asked: dict[str, Any], drawn: dict[str, Any]
) -> None:
    kind = EXPERIMENTS[experiment]
    base = trial(experiment, **params)
    streams = kind.streams(base).digest
    assert kind.streams(trial(experiment, sweep="another", **params)).digest == streams
    for name, value in asked.items():
        other = trial(experiment, **{**params, name: value})
        assert kind.streams(other).digest == streams, name
        assert other.key != base.key, name
    changed = [trial(experiment, **{**params, name: value}) for name, value in drawn.items()]
    changed += [trial(experiment, replicate=1, **params), trial(experiment, seed=2, **params)]
    digests = {kind.streams(other).digest for other in changed}
    assert len(digests | {streams}) == len(changed) + 1
