"""Exact Lipschitz constants of small networks, written only for the tests: every linear region in whole numbers.

A point x of R^d stands for the ray (x, 1) in R^(d + 1), so a box is a cone with a ray through every corner, an orthant
a cone with the rays (+-e_k, 0) and (0, 1), and R^d the union of its 2^d orthants. Every affine function becomes a
linear form. A cone is cut by one neuron after the other, each on the forms that hold in it: the rays of a part are
those on its side and one new ray for every edge that is cut (the double description method). All numbers are Python
integers, so nothing is rounded and nothing is ever "nearly" zero. Nothing is shared with the solvers.

Meant for d <= 3 and a few dozen neurons; right for every d.

Source: Motzkin, Raiffa, Thompson, Thrall 1953; Fukuda and Prodon 1996 for which pairs of rays span an edge.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import mpmath

__all__ = ["Region", "exact_constant", "exact_regions", "length_between"]

# d slopes and a constant, times some power of two that its layer has.
Form: TypeAlias = tuple[int, ...]

# Digits for irrational exponents, and what is given away for a few hundred roundings of that many digits.
DIGITS = 90
SLACK = Fraction(1, 10**60)


@dataclass(frozen=True)
class Region:
    """A linear region with an interior.

    Attributes:
        pattern: 0 or 1 for every neuron, layer by layer; 0 for one that is identically 0 there.
        point: in its interior, d coordinates.
        gradient: d entries.
    """

    pattern: tuple[tuple[int, ...], ...]
    point: tuple[Fraction, ...]
    gradient: tuple[Fraction, ...]


@dataclass(frozen=True)
class _Cone:
    """Rays as primitive whole vectors, and for each the faces that it lies on, as bits."""

    rays: tuple[Form, ...]
    faces: tuple[int, ...]
    count: int

    def split(self, form: Form) -> tuple[_Cone | None, _Cone | None]:
        """The parts where the form is <= 0 and >= 0; None for one without interior, both where it is 0 all over."""
        values = [sum(map(int.__mul__, form, ray)) for ray in self.rays]
        above, below = [i for i, v in enumerate(values) if v > 0], [i for i, v in enumerate(values) if v < 0]
        if not above or not below:
            return self if below else None, self if above else None
        new_face = 1 << self.count
        new_rays, new_faces = [], []
        for i, j in itertools.product(above, below):
            common = self.faces[i] & self.faces[j]
            if self._is_edge(common):
                ray = [values[i] * b - values[j] * a for a, b in zip(self.rays[i], self.rays[j], strict=True)]
                divisor = math.gcd(*ray)
                new_rays.append(tuple(x // divisor for x in ray))
                new_faces.append(common | new_face)
        on = [i for i, v in enumerate(values) if v == 0]
        shared_rays = (*new_rays, *(self.rays[i] for i in on))
        shared_faces = (*new_faces, *(self.faces[i] | new_face for i in on))

        def part(kept: list[int]) -> _Cone:
            rays, faces = tuple(self.rays[i] for i in kept), tuple(self.faces[i] for i in kept)
            return _Cone(rays + shared_rays, faces + shared_faces, self.count + 1)

        return part(below), part(above)

    def _is_edge(self, common: int) -> bool:
        """Whether the least face on which two rays lie holds no third one."""
        if common.bit_count() < len(self.rays[0]) - 2:
            return False
        return sum(1 for faces in self.faces if faces & common == common) == 2


def exact_regions(
    weights: Sequence[Any], biases: Sequence[Any], box: tuple[Sequence[float], Sequence[float]] | None = None
) -> Iterator[Region]:
    """All linear regions with an interior of a network with one output; a region may come in several parts.

    Args:
        weights, biases: W_0, ..., W_L and b_0, ..., b_L, arrays or lists of finite float64 numbers; W_L has one row.
        box: lower and upper corner; all of R^d when left out.
    """
    layers = [([_row(r) for r in w], _row(b)) for w, b in zip(weights, biases, strict=True)]
    d = len(layers[0][0][0])
    identity = [tuple(int(i == j) for j in range(d + 1)) for i in range(d)]
    for cone in _orthants(d) if box is None else [_over_box(box)]:
        yield from _below(layers, 0, cone, identity, 0, ())


def _row(values: Any) -> list[Fraction]:
    return [Fraction(float(v)) for v in values]


def _below(
    layers: Sequence[tuple[list[list[Fraction]], list[Fraction]]], level: int, cone: _Cone, forms: Sequence[Form],
    shift: int, pattern: tuple[tuple[int, ...], ...],
) -> Iterator[Region]:  # fmt: skip
    """The regions in a cone in which the inputs of a layer are `forms` / 2^shift."""
    w, b = layers[level]
    numbers = itertools.chain.from_iterable(w)
    own = max((v.denominator.bit_length() - 1 for v in numbers), default=0)
    own = max(own, *(v.denominator.bit_length() - 1 - shift for v in b))
    shift += own
    width = len(cone.rays[0])
    values: list[Form] = []
    for row, bias in zip(w, b, strict=True):
        total = [0] * width
        total[-1] = int(bias * (1 << shift))
        for v, form in zip(row, forms, strict=True):
            if v and any(form):
                factor = int(v * (1 << own))
                total = [t + factor * f for t, f in zip(total, form, strict=True)]
        values.append(tuple(total))
    if level == len(layers) - 1:
        inside = [sum(column) for column in zip(*cone.rays, strict=True)]
        point = tuple(Fraction(x, inside[-1]) for x in inside[:-1])
        yield Region(pattern, point, tuple(Fraction(v, 1 << shift) for v in values[0][:-1]))
        return
    parts: list[tuple[_Cone, tuple[int, ...]]] = [(cone, ())]
    for form in values:
        following = []
        for part, signs in parts:
            off, on = part.split(form)
            if on is not None:
                following.append((on, (*signs, 1)))
            if off is not None or on is None:
                following.append((part if off is None else off, (*signs, 0)))
        parts = following
    zero = (0,) * width
    for part, signs in parts:
        outputs = [form if on else zero for form, on in zip(values, signs, strict=True)]
        yield from _below(layers, level + 1, part, outputs, shift, (*pattern, signs))


def _orthants(d: int) -> Iterator[_Cone]:
    everything = (1 << (d + 1)) - 1
    for signs in itertools.product((-1, 1), repeat=d):
        rays = [tuple(s if i == k else 0 for i in range(d + 1)) for k, s in enumerate((*signs, 1))]
        yield _Cone(tuple(rays), tuple(everything ^ (1 << k) for k in range(d + 1)), d + 1)


def _over_box(box: tuple[Sequence[float], Sequence[float]]) -> _Cone:
    low, high = _row(box[0]), _row(box[1])
    rays, faces = [], []
    for sides in itertools.product((0, 1), repeat=len(low)):
        corner = [*(high[k] if side else low[k] for k, side in enumerate(sides)), Fraction(1)]
        scale = math.lcm(*(x.denominator for x in corner))
        ray = [int(x * scale) for x in corner]
        divisor = math.gcd(*ray)
        rays.append(tuple(x // divisor for x in ray))
        faces.append(sum(1 << (2 * k + side) for k, side in enumerate(sides)))
    return _Cone(tuple(rays), tuple(faces), 2 * len(low))


def length_between(vector: Sequence[Fraction], p: float) -> tuple[Fraction, Fraction]:
    """Bounds of ||v||_p', 1/p + 1/p' = 1 for this very float p: equal where p' is 1, inf or the root is rational."""
    sizes = [abs(v) for v in vector]
    most = max(sizes)
    if p == 1 or most == 0:
        return most, most
    if math.isinf(p):
        return sum(sizes, Fraction(0)), sum(sizes, Fraction(0))
    if p == 2:
        total = sum((v**2 for v in sizes), Fraction(0)) / most**2
        scaled = (total.numerator << 400) * total.denominator
        root = math.isqrt(scaled)
        exact = root * root == scaled
        unit = most / (total.denominator << 200)
        return unit * root, unit * (root if exact else root + 1)
    q = Fraction(p) / (Fraction(p) - 1)
    with mpmath.workdps(DIGITS):
        power = _real(q)
        total = mpmath.fsum(mpmath.exp(power * mpmath.log(_real(v / most))) for v in sizes if v)
        root = mpmath.exp(mpmath.log(total) / power)
        found = most * Fraction(int(mpmath.floor(root * mpmath.mpf(2) ** 260)), 1 << 260)
    return max(most, found * (1 - SLACK)), found * (1 + SLACK)


def _real(value: Fraction) -> mpmath.mpf:
    return mpmath.mpf(value.numerator) / value.denominator


def exact_constant(gradients: Iterable[Sequence[Fraction]], p: float) -> tuple[Fraction, Fraction]:
    """Bounds of the largest ||g||_p', less than 1e-59 apart relatively: the Lipschitz constant from all regions.

    So a claim lower <= L is false if `lower` exceeds the second number, a claim L <= upper if it is below the first.
    """
    found = set(map(tuple, gradients))
    most = max((abs(v) for g in found for v in g), default=Fraction(0))
    if not most:
        return most, most
    # Norms in float64, right to 1e-12 for all that are near the largest: only those few are looked at closely.
    q = 1.0 if math.isinf(p) else math.inf if p == 1 else p / (p - 1)
    rough = {g: _rough([abs(float(v / most)) for v in g], q) for g in found}
    best = max(rough.values())
    ends = [length_between(g, p) for g, size in rough.items() if size >= best * (1 - 1e-9)]
    return max(low for low, _ in ends), max(high for _, high in ends)


def _rough(sizes: list[float], q: float) -> float:
    most = max(sizes)
    if most == 0 or math.isinf(q):
        return most
    return most * sum((v / most) ** q for v in sizes) ** (1 / q)
