"""The mixed-integer model of all gradients of a network on a box, in cvxpy.

A binary variable says for every undecided neuron whether it is active. With ranges [l, u] of pre-activations z and of
the derivatives b by activations, the forward pass a = max(z, 0) and the backward pass h = [active] b are linear:

    max(z, 0) <= a <= min(u on, z - l (1 - on)),
    max(lo on, b - hi (1 - on)) <= h <= min(hi on, b - lo (1 - on)).

Neurons are measured in units of their range, the gradient in units of the best length known, and `outward` leaves room
for a solver's tolerances: they are relative ones then, and counted. The constraints are closed: at a kink patterns pass
that have no region (`strict_interior` finds them, and they are cut off).

Sources: [JD20, section 5] for the formulation; [TXT19] for the forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.arithmetic.rationals import DyadicArray
from solvers.lipschitz.bounds.directions import dual_directions
from solvers.lipschitz.bounds.pattern_bounds import bound_piece
from solvers.lipschitz.bounds.piece_arrays import PieceArrays
from solvers.lipschitz.programs.affine_rows import AffineRows, Variables
from solvers.lipschitz.programs.outward import ROUNDING, outward
from solvers.lipschitz.programs.strict_interior import Conflict
from solvers.problems.facets import BoundedPiece
from solvers.problems.regions import ActivationPattern

if TYPE_CHECKING:
    import cvxpy

__all__ = ["GradientModel", "Objective", "Program"]

# Where terms cancel to far less than this share of their sizes, the sum is measured by the terms.
LEAST_UNIT = 2.0**-20


@dataclass(frozen=True, slots=True)
class Objective:
    """What a program maximises: `sign` * g_k with k = `component` for p = 1, ||g||_1 without one for p = inf."""

    component: int | None = None
    sign: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class _Switches:
    """[active] of a layer as an affine function of binary variables: `matrix` @ free + `constant`."""

    matrix: FloatArray
    constant: FloatArray

    @classmethod
    def of(cls, signs: NDArray[np.int8], group: NDArray[np.int64], turn: NDArray[np.int8]) -> _Switches:
        """Neurons whose rows are multiples of each other share a variable."""
        heads = sorted({int(group[i]) for i in range(len(signs)) if signs[i] == 0})
        place = {head: column for column, head in enumerate(heads)}
        matrix, constant = np.zeros((len(signs), len(heads))), (signs > 0).astype(np.float64)
        for i in np.flatnonzero(signs == 0):
            matrix[i, place[int(group[i])]] = float(turn[i])
            constant[i] = 0.0 if turn[i] > 0 else 1.0
        return cls(matrix, constant)

    def range_of(self, rows: FloatArray, factors: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Bounds of (`rows` * factors) @ [active]; opposite and repeated neurons are added up first."""
        products = rows * factors
        slopes, constant = products @ self.matrix, products @ self.constant
        width = ROUNDING * np.abs(products).sum(axis=1)
        for r in np.flatnonzero((slopes == 0).all(axis=1) & (constant == 0) & (width > 0)):
            if self._vanishes(rows[r], factors):
                width[r] = 0.0
        return (
            constant + np.minimum(slopes, 0.0).sum(axis=1) - width,
            constant + np.maximum(slopes, 0.0).sum(axis=1) + width,
        )

    def _vanishes(self, row: FloatArray, factors: FloatArray) -> bool:
        """Whether all neurons cancel exactly, not by rounding."""
        products = [Fraction(w) * Fraction(v) for w, v in zip(row.tolist(), factors.tolist(), strict=True)]
        columns = [*self.matrix.T.tolist(), self.constant.tolist()]
        return not any(sum(p * int(c) for p, c in zip(products, column, strict=True)) for column in columns)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """One mixed-integer program.

    Attributes:
        problem: maximises a length of the gradient, in units of the scale.
        reals, switches: the columns in their order, those that are 0 or 1 apart; reals in units of their own.
        binary: (columns,), which those are.
        active: for every hidden layer 1 where neurons are active.
    """

    problem: cvxpy.Problem
    reals: cvxpy.Variable
    switches: cvxpy.Variable
    binary: NDArray[np.bool_]
    active: Sequence[AffineRows]

    def pattern(self) -> ActivationPattern:
        """The solver's pattern."""
        x = np.zeros(len(self.binary))
        x[self.binary] = self.switches.value
        return tuple(on.value(x) > 0.5 for on in self.active)


class GradientModel:
    """The patterns of one bounded piece that are not cut off, and programs over them.

    Attributes:
        piece: what is modelled.
        signs: (L, n) int8: what propagation and cuts decide.
        conflicts: what is cut off.
        low, high: (d,), ranges of the gradient's components.
        complete: whether propagation came to its end; nothing else is known before.
    """

    def __init__(self, piece: BoundedPiece, stop: NDArray[np.int8] | None = None) -> None:
        self.piece = piece
        network, q = piece.problem.network, piece.problem.dual_p
        arrays = PieceArrays.of(piece, dual_directions(network, q), stop)
        whole = bound_piece(arrays)
        self.signs = whole.signs
        self._longest = whole.bound
        self.complete = math.isfinite(whole.bound)
        self.conflicts: list[Conflict] = []
        self._kernel = arrays.kernel
        self._widths = piece.network.widths
        self._z = [(whole.z_low[m, :n].copy(), whole.z_high[m, :n].copy()) for m, n in enumerate(self._widths)]
        if self.complete:
            self._update()

    def _update(self) -> None:
        kernel = self._kernel
        self._switches = [
            _Switches.of(self.signs[m, :n], kernel.group[m, :n], kernel.turn[m, :n]) for m, n in enumerate(self._widths)
        ]
        self._b, (self.low, self.high) = self._backward_ranges()

    def cut(self, conflict: Conflict) -> bool:
        """Leave out all patterns that agree with a conflict; whether that is news.

        A conflict on a single neuron decides it, and all neurons whose rows are multiples of its row.
        """
        if conflict in self.conflicts:
            return False
        self.conflicts.append(conflict)
        if len(conflict.literals) == 1:
            m, neuron, on = conflict.literals[0]
            width = self._widths[m]
            group, turn = self._kernel.group[m, :width], self._kernel.turn[m, :width]
            family = group == group[neuron]
            self.signs[m, :width][family] = (-1 if on else 1) * turn[neuron] * turn[family]
            self._update()
        return True

    def _backward_ranges(self) -> tuple[list[tuple[FloatArray, FloatArray]], tuple[FloatArray, FloatArray]]:
        """Ranges of the derivatives by the activations of hidden layers 0..L-2, and of the gradient."""
        network = self.piece.network
        chain = [self.piece.inputs, *network.weights[1:-1]]
        found: list[tuple[FloatArray, FloatArray]] = []
        low, high = self._switches[-1].range_of(chain[-1].T, network.weights[-1][0])
        for m in range(network.depth - 2, -1, -1):
            found.insert(0, (low, high))
            signs = self.signs[m, : self._widths[m]]
            least = np.where(signs < 0, 0.0, np.where(signs == 0, np.minimum(low, 0.0), low))
            most = np.where(signs < 0, 0.0, np.where(signs == 0, np.maximum(high, 0.0), high))
            rows = chain[m].T
            up, down = np.maximum(rows, 0.0), np.minimum(rows, 0.0)
            width = ROUNDING * (np.abs(rows) @ np.maximum(np.abs(least), np.abs(most)))
            low, high = up @ least + down @ most - width, up @ most + down @ least + width
        return found, (low, high)

    def bound(self, objective: Objective) -> float:
        """What propagation alone says of an objective."""
        if objective.component is None:
            reach = float(np.maximum(np.abs(self.low), np.abs(self.high)).sum()) * (1 + ROUNDING)
        else:
            k = objective.component
            reach = float(self.high[k] if objective.sign > 0 else -self.low[k])
        return min(reach, self._longest)

    @property
    def binaries(self) -> int:
        """Undecided neurons, those that share a variable counted once."""
        return sum(switch.matrix.shape[1] for switch in self._switches)

    def decided_pattern(self) -> ActivationPattern:
        """The pattern of a piece on which every neuron is decided."""
        return tuple(self.signs[m, :width] > 0 for m, width in enumerate(self._widths))

    def build(self, objective: Objective, floor: float, ceiling: float, scale: float) -> Program:
        """The program that maximises an objective above a floor.

        Args:
            floor: only gradients with at least this objective.
            ceiling: no pattern that is left has a larger one.
            scale: power of two that lengths of gradients are divided by.
        """
        variables = Variables()
        active = []
        for switch in self._switches:
            heads = switch.matrix.shape[1]
            free = variables.add(np.zeros(heads), np.ones(heads), binary=True)
            active.append(free.mapped(switch.matrix) + switch.constant)
        # Every constraint is: rows <= 0.
        rows = self._forward(variables, active) + self._cuts(active)
        gradient = self._backward(variables, active, scale, rows)
        bound = min(self.bound(objective), ceiling) / scale * (1 + ROUNDING)
        if objective.component is not None:
            pick = np.zeros((1, len(self.low)))
            pick[0, objective.component] = objective.sign
            length = gradient.mapped(pick)
        else:
            length = self._absolute_values(variables, gradient, scale, bound, rows).mapped(np.ones((1, len(self.low))))
        top = variables.add(np.array([floor / scale]), np.array([bound]))
        rows.append(top - length)
        return _assembled(variables, rows, active)

    def _forward(self, variables: Variables, active: list[AffineRows]) -> list[AffineRows]:
        """a = max(z, 0), layer by layer, every neuron in units of its range."""
        box, network = self.piece.box, self.piece.network
        middle = 0.5 * box.lower + 0.5 * box.upper
        half = np.nextafter(np.maximum(box.upper - middle, middle - box.lower), np.inf)
        before = variables.add(-np.ones(len(middle)), np.ones(len(middle)))
        # The constant is one exact sum, rounded once: with a small box far from 0 its terms are much larger than it is.
        exact = (DyadicArray.of(network.weights[0]) @ DyadicArray.of(middle[:, None])) + DyadicArray.of(
            network.biases[0][:, None]
        )
        w, b = network.weights[0] * half, np.array([float(value) for value in exact.fractions()])
        rows: list[AffineRows] = []
        for m, (low, high) in enumerate(self._z):
            unit = _units(low, high, np.abs(w) @ before.size + np.abs(b))
            z = variables.define(before.mapped(w / unit[:, None]) + b / unit, low / unit, high / unit)
            low, high = np.minimum(low, 0.0) / unit, np.maximum(high, 0.0) / unit
            a = variables.add(np.zeros(len(unit)), high)
            on = active[m]
            rows += [z - a, a - z - on.times(low) + low, a - on.times(high)]
            before = a
            if m + 1 < network.depth:
                w, b = network.weights[m + 1] * unit, network.biases[m + 1]
        return rows

    def _backward(
        self, variables: Variables, active: list[AffineRows], scale: float, rows: list[AffineRows]
    ) -> AffineRows:
        """The gradient in units of `scale`; constraints of the backward pass are added to `rows`."""
        network = self.piece.network
        chain = [self.piece.inputs, *network.weights[1:-1]]
        h = active[-1].times(network.weights[-1][0] / scale)
        unit = np.ones(self._widths[-1])
        for m in range(network.depth - 2, -1, -1):
            low, high = self._b[m]
            matrix = chain[m + 1].T * unit
            following = _units(low / scale, high / scale, np.abs(matrix) @ h.size)
            low, high = low / scale / following, high / scale / following
            b = variables.define(h.mapped(matrix / following[:, None]), low, high)
            on = active[m]
            h = variables.add(np.minimum(low, 0.0), np.maximum(high, 0.0))
            rows += [
                h - on.times(high),
                on.times(low) - h,
                h - b - on.times(low) + low,
                b - h + on.times(high) - high,
            ]
            unit = following
        return h.mapped(chain[0].T * unit)

    def _absolute_values(
        self, variables: Variables, gradient: AffineRows, scale: float, bound: float, rows: list[AffineRows]
    ) -> AffineRows:
        """|g_k|, each with a binary variable for its sign where the range leaves that open; their sum has a bound."""
        low, high = np.maximum(self.low / scale, -bound), np.minimum(self.high / scale, bound)
        gradient = variables.define(gradient, low, high)
        sizes = variables.add(np.zeros(len(low)), np.maximum(np.abs(low), np.abs(high)))
        positive = variables.add(
            ((low >= 0) & (high > 0)).astype(np.float64), (high > 0).astype(np.float64), binary=True
        )
        below, above = 2 * np.maximum(-low, 0.0), 2 * np.maximum(high, 0.0)
        rows += [sizes - gradient + positive.times(below) - below, sizes + gradient - positive.times(above)]
        return sizes

    def _cuts(self, active: list[AffineRows]) -> list[AffineRows]:
        """At least one literal of every conflict is broken."""
        conflicts = [conflict.literals for conflict in self.conflicts if len(conflict.literals) > 1]
        if not conflicts:
            return []
        agreeing = AffineRows.fixed([1.0 - len(literals) for literals in conflicts])
        for m, width in enumerate(self._widths):
            weights = np.zeros((len(conflicts), width))
            for row, literals in enumerate(conflicts):
                for layer, neuron, on in literals:
                    if layer == m:
                        weights[row, neuron] = 1.0 if on else -1.0
            agreeing = agreeing + active[m].mapped(weights) + (weights < 0).sum(axis=1).astype(np.float64)
        return [agreeing]


def _assembled(variables: Variables, rows: list[AffineRows], active: list[AffineRows]) -> Program:
    """The program that maximises the last variable, in cvxpy."""
    import cvxpy as cp
    import scipy.sparse

    binary = np.array(variables.binary)
    program = outward(variables, rows, len(binary) - 1)
    low, high = program.low, program.high
    reals = cp.Variable(int((~binary).sum()), bounds=[low[~binary], high[~binary]])
    switches = cp.Variable(int(binary.sum()), boolean=True)

    def applied(matrix: FloatArray) -> cp.Expression:
        left, right = (scipy.sparse.csr_array(matrix[:, columns]) for columns in (~binary, binary))
        return left @ reals + right @ switches

    constraints = [applied(program.below) <= -program.below_constant]
    if len(program.zero):
        constraints.append(applied(program.zero) == -program.zero_constant)
    decided = binary & (low == high)
    if decided.any():
        constraints.append(switches[np.flatnonzero(decided[binary])] == low[decided])
    return Program(cp.Problem(cp.Maximize(reals[-1]), constraints), reals, switches, binary, active)


def _units(low: FloatArray, high: FloatArray, terms: FloatArray) -> FloatArray:
    """Powers of two, about the largest sizes of ranges, but not far below the terms that are added up; else 1."""
    size = np.maximum(np.maximum(np.abs(low), np.abs(high)), LEAST_UNIT * terms)
    return np.ldexp(1.0, np.frexp(np.where(size > 0, size, 1.0))[1])
