"""A network in the units of a search: the domain is a cube, every neuron's row has length 1.

A neuron with row w and bias b may be divided by any c > 0 if what reads it is multiplied by c; so rows get length 1,
and one temperature fits all neurons of a layer. Nothing that is computed here proves anything: numbers may be float32,
on a device of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.networks.relu import ReluNetwork
from solvers.problems.domains import Domain

__all__ = ["AnyArray", "SearchNetwork", "Towards", "typical_distance"]

# Of numpy, or of torch on a device.
AnyArray: TypeAlias = Any
# Gradients (count, d) -> the directions (count, d) in which the derivatives are to grow.
Towards: TypeAlias = Callable[[AnyArray], AnyArray]

# Weights from which float32 is worth its rounding, and the largest number that is left to it.
MANY_WEIGHTS, LARGEST = 100_000, 1e30
# How far inside the cube the points stay: float32 still tells them from its faces.
INSIDE = 1 - 1e-6
# How far out points of R^d may be, in units of the typical distance of a kink.
FARTHEST = 1e6


@dataclass(frozen=True, slots=True, eq=False)
class SearchNetwork:
    """x = centre + unit * u, u in the cube [-1, 1]^d or, without a box, in R^d.

    Attributes:
        xp: the module of the arrays, numpy or torch; both know the functions that are used here by the same names.
        weights, biases: of the hidden layers, (n_l, n_{l-1}) and (n_l,), in units of their own.
        output: (n_L,), largest entry 1.
        centre, unit: (d,), float64.
        per_unit: (d,), 1 / unit up to a factor: gradients in u times `per_unit` are those in x up to a factor.
        rays: gradients do not change along rays from the origin, all biases being 0 and the domain all of R^d.
    """

    xp: Any
    weights: tuple[AnyArray, ...]
    biases: tuple[AnyArray, ...]
    output: AnyArray
    centre: FloatArray
    unit: FloatArray
    per_unit: AnyArray
    bounded: bool
    rays: bool

    @classmethod
    def of(cls, network: ReluNetwork, domain: Domain, device: str) -> SearchNetwork:
        """The network, copied to a device; for `cpu` the arrays are numpy's."""
        bounds, d = domain.bounds, network.input_dimension
        if bounds is None:
            centre, unit = np.zeros(d), np.full(d, typical_distance(network))
        else:
            centre, unit = domain.centre, (bounds[1] - bounds[0]) / 2
        sizes: FloatArray = unit
        rows, offsets = [], []
        before, shift = sizes, network.weights[0] @ centre
        for w, b in zip(network.weights[:-1], network.biases[:-1], strict=True):
            lengths = np.sqrt(np.einsum("ij,ij,j->i", w, w, before**2))
            lengths[lengths == 0] = 1.0
            rows.append((before, lengths))
            offsets.append((b + shift) / lengths)
            before, shift = lengths, np.zeros(1)
        output = network.weights[-1][0] * before
        output = output / (np.abs(output).max() or 1.0)
        many = sum(w.size for w in network.weights) > MANY_WEIGHTS
        small = max(float(np.abs(b).max()) for b in offsets) < LARGEST
        xp, put = _placing(device, "float32" if many and small else "float64")
        weights = tuple(
            put(_scaled(w, before, lengths, many and small))
            for w, (before, lengths) in zip(network.weights[:-1], rows, strict=True)
        )
        return cls(
            xp,
            weights,
            tuple(put(b) for b in offsets),
            put(output),
            centre,
            unit,
            put(unit.min() / unit),
            bounds is not None,
            bounds is None and network.is_homogeneous,
        )

    @property
    def work(self) -> int:
        """Multiplications of one pass of one point."""
        return sum(int(w.shape[0]) * int(w.shape[1]) for w in self.weights)

    def put(self, values: FloatArray) -> AnyArray:
        """An array in the precision and on the device of the search."""
        where = {} if self.xp is np else {"device": self.output.device}
        return self.xp.asarray(values, dtype=self.output.dtype, **where)

    def fetch(self, values: AnyArray) -> FloatArray:
        """Back to numpy, as float64."""
        return np.asarray(values if self.xp is np else values.cpu().numpy(), dtype=np.float64)

    def inputs(self, u: AnyArray) -> FloatArray:
        """Points x (count, d) of points u."""
        return self.centre + self.unit * self.fetch(u)

    def coordinates(self, points: FloatArray) -> AnyArray:
        """Points u of points x (count, d), moved into the domain."""
        return self.placed(self.put((points - self.centre) / self.unit))

    def placed(self, u: AnyArray) -> AnyArray:
        """The points moved strictly inside the cube; on R^d not too far out, on rays to one distance."""
        if self.bounded:
            return self.xp.clip(u, -INSIDE, INSIDE)
        sizes = self.xp.sqrt((u * u).mean(1))[:, None]
        if self.rays:
            return u / self.xp.where(sizes > 0, sizes, 1.0)
        return u / self.xp.where(sizes > FARTHEST, sizes / FARTHEST, 1.0)

    def pre_activations(self, u: AnyArray) -> list[AnyArray]:
        """(count, n_l) of every hidden layer."""
        found, values = [], u
        for w, b in zip(self.weights, self.biases, strict=True):
            values = values @ w.T + b
            found.append(values)
            values = self.xp.where(values > 0, values, 0.0)
        return found

    def gradients(self, slopes: Sequence[AnyArray]) -> AnyArray:
        """Gradients (count, d) for slopes (count, n_l) of the neurons, up to one factor for all."""
        row = self.output * slopes[-1]
        for w, slope in zip(reversed(self.weights[1:]), reversed(slopes[:-1]), strict=True):
            row = (row @ w) * slope
        return (row @ self.weights[0]) * self.per_unit

    def lengths(self, gradients: AnyArray, q: float) -> AnyArray:
        """(count,), l_q norms."""
        sizes = abs(gradients)
        if q == 1:
            return sizes.sum(1)
        largest = self.xp.amax(sizes, 1)
        if q == np.inf:
            return largest
        scale = self.xp.where(largest > 0, largest, 1.0)[:, None]
        return scale[:, 0] * ((sizes / scale) ** q).sum(1) ** (1 / q)

    def values(self, u: AnyArray, q: float) -> AnyArray:
        """Lengths (count,) of the gradients at points, up to one factor for all."""
        return self.lengths(self.gradients([(z > 0) * 1.0 for z in self.pre_activations(u)]), q)

    def rise(self, u: AnyArray, temperature: float | AnyArray, towards: Towards, q: float) -> tuple[AnyArray, AnyArray]:
        """Lengths (count,) of the gradients at points, and a direction (count, d) in which they grow.

        A slope is 1 where z > 0, else 0: nothing can be seen in its derivative. In its place stands
        s(z / (temperature times the size of z in its layer)), s(t) = 1 / (1 + e^-t), for which the gradient g(x) has a
        derivative; the direction is that of <c, g(x)>, c = towards(g(x)) held fixed: a product of the Hessian and c.
        """
        xp = self.xp
        pre = self.pre_activations(u)
        lengths = self.lengths(self.gradients([(z > 0) * 1.0 for z in pre]), q)
        slopes, bends = [], []
        for z in pre:
            # Roots, so that a few distant kinks do not set the scale.
            size = (abs(z) ** 0.5).mean(1)[:, None] ** 2
            heat = temperature * xp.where(size > 0, size, 1.0)
            slope = 0.5 + 0.5 * xp.tanh(0.5 * (z / heat))
            slopes.append(slope)
            bends.append(slope * (1 - slope) / heat)
        c = towards(self.gradients(slopes)) * self.per_unit
        along = []  # derivatives of z along c
        for w, slope in zip(self.weights, slopes, strict=True):
            along.append(c @ w.T)
            c = along[-1] * slope
        row, change = self.output, 0.0
        for w, slope, bend, v in zip(
            reversed(self.weights), reversed(slopes), reversed(bends), reversed(along), strict=True
        ):
            change = (row * v * bend + change * slope) @ w
            row = (row * slope) @ w
        return lengths, change


def typical_distance(network: ReluNetwork) -> float:
    """Median distance of the first layer's kinks from the origin; 1 where all go through it."""
    w, b = network.weights[0], network.biases[0]
    lengths = np.sqrt((w**2).sum(axis=1))
    distances = np.abs(b[lengths > 0] / lengths[lengths > 0])
    return float(np.median(distances)) if distances.any() and np.median(distances) > 0 else 1.0


def _scaled(w: FloatArray, before: FloatArray, lengths: FloatArray, short: bool) -> AnyArray:
    """w_ij before_j / lengths_i, in float32 where `short`; row by row, so that no second copy in float64 is made."""
    found = np.empty(w.shape, dtype=np.float32 if short else np.float64)
    step = max(1, 2**20 // w.shape[1])
    for start in range(0, len(w), step):
        part = slice(start, start + step)
        found[part] = w[part] * before / lengths[part, None]
    return found


def _placing(device: str, precision: str) -> tuple[Any, Callable[[AnyArray], AnyArray]]:
    """The module of arrays on a device, and what brings numpy's arrays there."""
    if device == "cpu":
        return np, lambda values: np.asarray(values, dtype=precision)
    import torch

    try:
        torch.zeros(1, device=device)
    except (AssertionError, RuntimeError) as error:
        raise InputError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
    return torch, lambda values: torch.asarray(values, dtype=getattr(torch, precision), device=device)
