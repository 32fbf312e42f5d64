"""What any N points cost in the worst case: threshold networks of the literature, in neurons and in parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from solvers.errors import InputError

__all__ = ["WorstCase", "worst_case_counts"]

# Of a number that float64 holds.
LARGEST_LOG = 709.0


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The size of a network that a theorem promises for any data of a kind.

    Attributes:
        source: author and year; of [HH91], [Baum88], [Ver20] and [RSPK21].
        neurons, parameters: the counts; inf beyond float64's range.
        log10_neurons, log10_parameters: their decimal logarithms, always finite.
        formula: neurons; parameters, as the source states them.
        precise: whether the counts are exact, rather than up to constants and logarithms.
        needs: what the theorem asks of the data.
    """

    source: str
    neurons: float
    parameters: float
    log10_neurons: float
    log10_parameters: float
    formula: str
    precise: bool
    needs: str

    def to_json(self) -> dict[str, Any]:
        """The counts in plain JSON types."""
        return {
            "source": self.source,
            "neurons": self.neurons,
            "parameters": self.parameters,
            "log10_neurons": self.log10_neurons,
            "log10_parameters": self.log10_parameters,
            "formula": self.formula,
            "up_to_constants_and_logarithms": not self.precise,
            "needs": self.needs,
        }


def worst_case_counts(points: int, dimension: int, separation: float) -> tuple[WorstCase, ...]:
    """Counts for N different points in two classes.

    Args:
        points: N.
        dimension: d.
        separation: delta, the smallest distance between two points that are scaled to max ||x||_2 = 1.
    Raises:
        InputError: not N >= 2, d >= 1 and delta > 0.
    """
    n, d, delta = points, dimension, separation
    if n < 2 or d < 1 or not delta > 0:
        raise InputError(f"worst-case counts need N >= 2, d >= 1 and a separation > 0, got {n}, {d}, {delta}")
    apart, root = "points delta apart, max ||x|| = 1", math.sqrt(n)
    few = -(-n // d)
    log_balls = delta**-2  # log of e^(1 / delta^2), which is soon beyond float64
    return (
        _counted("Huang and Huang 1991", n, n * (d + 2) + 1, "N; N (d + 2) + 1", True, "different points"),
        _counted(
            "Baum 1988",
            few,
            few * (d + 2) + 1,
            "ceil(N / d); ceil(N / d) (d + 2) + 1",
            True,
            "points in general position",
        ),
        _from_logs(
            "Vershynin 2020",
            _log_sum(log_balls, math.log(root)),
            _log_sum(log_balls + math.log(d + root), math.log(n)),
            "e^(1/delta^2) + sqrt(N); e^(1/delta^2) (d + sqrt(N)) + N",
            False,
            apart,
        ),
        _counted("Rajput et al. 2021", 1 / delta + root, d / delta + n, "1/delta + sqrt(N); d/delta + N", False, apart),
    )


def _counted(source: str, neurons: float, parameters: float, formula: str, precise: bool, needs: str) -> WorstCase:
    logs = math.log10(neurons), math.log10(parameters)
    return WorstCase(source, neurons, parameters, *logs, formula, precise, needs)


def _from_logs(source: str, neurons: float, parameters: float, formula: str, precise: bool, needs: str) -> WorstCase:
    """From natural logarithms."""
    few, many = (math.exp(log) if log < LARGEST_LOG else math.inf for log in (neurons, parameters))
    return WorstCase(source, few, many, neurons / math.log(10), parameters / math.log(10), formula, precise, needs)


def _log_sum(first: float, second: float) -> float:
    """log(e^first + e^second)."""
    return max(first, second) + math.log1p(math.exp(-abs(first - second)))
