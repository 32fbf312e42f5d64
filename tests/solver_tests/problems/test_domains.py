"""Every domain of the table keeps the contract of `Domain`, and one more is a class and a line of the table."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from solvers.errors import InputError, UnsupportedProblemError
from solvers.lipschitz.norm_product import NormProduct
from solvers.lipschitz.sampling import Sampling
from solvers.problems import domains
from solvers.problems.domains import DOMAINS, Box, Domain, WholeSpace, check_kind, domain_from_json
from solvers.problems.questions import LipschitzProblem
from solvers.problems.results import LipschitzBounds
from solvers.verify import check_witness
from tests.strategies import gaussian_network


@dataclass(frozen=True, slots=True)
class Ball(Domain):
    """The points of Euclidean norm at most `radius`: a domain that no method here knows."""

    kind: ClassVar[str] = "ball"

    size: int
    radius: float

    @property
    def dimension(self) -> int:
        return self.size

    @property
    def key(self) -> Hashable:
        return (self.kind, self.radius)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full(self.size, -self.radius), np.full(self.size, self.radius)

    @property
    def centre(self) -> np.ndarray:
        return np.zeros(self.size)

    @classmethod
    def around_origin(cls, dimension: int, radius: float) -> Self:
        return cls(dimension, radius)

    def why_outside(self, point: np.ndarray) -> str | None:
        return None if self.strictly_contains(point) else "the point is too far out"

    def strictly_contains(self, points: np.ndarray) -> np.ndarray:
        return np.asarray((np.asarray(points) ** 2).sum(axis=-1) < self.radius**2)

    def reach(self, point: np.ndarray) -> float:
        return self.radius / max(float(np.linalg.norm(point)), 1e-300)

    def nearest(self, points: np.ndarray) -> np.ndarray:
        lengths = np.linalg.norm(points, axis=-1, keepdims=True)
        return np.asarray(points * np.minimum(1.0, self.radius / np.maximum(lengths, 1e-300)))

    def scaled(self, power: int) -> Ball:
        return Ball(self.dimension, math.ldexp(self.radius, power))

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        directions = rng.standard_normal((count, self.size))
        lengths = self.radius * rng.uniform(size=(count, 1)) ** (1 / self.size)
        return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True) * lengths)

    def describe(self) -> dict[str, object]:
        return {"kind": self.kind, "dimension": self.size, "radius": self.radius}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> Self:
        return cls(int(value["dimension"]), float(value["radius"]))


@pytest.fixture
def ball_in_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domains, "DOMAINS", MappingProxyType({**DOMAINS, Ball.kind: Ball}))


KINDS = [*DOMAINS.values(), Ball]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_every_domain_keeps_the_contract(kind: type[Domain], d: int) -> None:
    rng = np.random.default_rng(d)
    domain = kind.around_origin(d, 0.75)
    bounds = domain.bounds
    assert domain.dimension == d
    assert domain.is_bounded == (bounds is not None)
    assert domain.strictly_contains(domain.centre)
    points = rng.normal(size=(200, d)) * 10.0 ** rng.uniform(-2, 1, (200, 1))
    inside = domain.strictly_contains(points)
    assert inside.shape == (200,)
    assert [domain.why_outside(x) is None for x in points] == inside.tolist()
    assert (domain.reach(points[0]) == math.inf) == (bounds is None)
    assert domain.scaled(3).strictly_contains(8 * points).tolist() == inside.tolist()
    assert domain.scaled(3).scaled(-3).key == domain.key
    moved = domain.nearest(points)
    np.testing.assert_array_equal(moved[inside], points[inside])
    assert domain.strictly_contains(moved * (1 - 1e-12)).all()
    if bounds is None:
        assert inside.all()
        with pytest.raises(ValueError, match="no uniform law"):
            domain.draw(1, rng)
        return
    assert 0 < inside.sum() < 200
    assert Box(*bounds).strictly_contains(points[inside]).all()
    drawn = domain.draw(50, rng)
    assert drawn.shape == (50, d)
    assert domain.strictly_contains(drawn).all()
    for x in points:
        assert domain.strictly_contains(x * domain.reach(x) * (1 - 1e-12))
        assert not domain.strictly_contains(x * domain.reach(x) * (1 + 1e-12))


@pytest.mark.parametrize("name", DOMAINS)
def test_the_table_names_each_domain_as_it_names_itself(name: str) -> None:
    assert DOMAINS[name].kind == check_kind(name) == name
    domain = DOMAINS[name].around_origin(3, 0.1)
    again = domain_from_json(json.loads(json.dumps(domain.describe())))
    assert type(again) is type(domain)
    assert again.key == domain.key


def test_keys_tell_domains_apart() -> None:
    assert len({WholeSpace(2).key, Box.cube(2).key, Box.cube(2, -1, 2).key, Ball(2, 1.0).key}) == 4
    assert Box.cube(2).key == Box([-1.0, -1.0], [1.0, 1.0]).key


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "sphere"}, "must be of kind 'global' or 'box', got 'sphere'"),
        ({}, "cannot be read"),
        ({"kind": ["box"]}, "cannot be read"),
        ({"kind": "box", "lower": [0.0], "upper": [0.0]}, "empty in coordinate 0"),
        ({"kind": "box", "lower": [0.0]}, "upper"),
        ({"kind": "global", "dimension": "two"}, "cannot be read"),
    ],
)
def test_a_wrong_description_is_one_sentence(value: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        domain_from_json(value)


def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown domain 'cube' \(known: global, box\)"):
        check_kind("cube")


@pytest.mark.usefixtures("ball_in_table")
def test_a_new_domain_is_asked_answered_read_and_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a domain that no line of a method names: a lower bound inside it, a JSON round trip, a check."""
    network = gaussian_network([3, 8, 1], np.random.default_rng(0), 0.5)
    problem = LipschitzProblem(network, 2.0, Ball(3, 0.3))
    with pytest.raises(UnsupportedProblemError, match="WholeSpace or Box, not on Ball"):
        NormProduct().solve(problem)
    monkeypatch.setattr(Sampling, "domains", (*Sampling.domains, Ball))
    answer = Sampling(points=200).solve(problem)
    assert answer.lower > 0
    again = LipschitzBounds.from_json(json.loads(json.dumps(answer.to_json())))
    assert isinstance(again.domain, Ball)
    assert check_witness(problem, again.witness, again.lower).holds
    elsewhere = LipschitzProblem(network, 2.0, Ball(3, 1e-6))
    assert check_witness(elsewhere, again.witness, again.lower).reason == "the point is too far out"
