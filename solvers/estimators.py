"""Interpolating networks as scikit-learn classifiers: they fit every training point exactly, or say which they miss.

Example:
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from solvers import InterpolatingClassifier, InterpolatingConvClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> InterpolatingClassifier(width=300, random_state=0).fit(X, y).score(X, y)
    1.0
    >>> X, y = X[:200], y[:200]
    >>> conv = InterpolatingConvClassifier(shape=(1, 8, 8), kernel=3, width=60, random_state=0).fit(X, y)
    >>> shifted = np.roll(X.reshape(-1, 8, 8), (3, 1), axis=(1, 2)).reshape(-1, 64)
    >>> conv.score(shifted, y)
    1.0
"""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError
from solvers.interpolation._base import AbstractInterpolator
from solvers.interpolation.class_cover import Centres, Masks
from solvers.interpolation.convolutional import Convolutional
from solvers.interpolation.fully_connected import FullyConnected
from solvers.interpolation.width_search import Restart, SearchState, WidthSearch
from solvers.networks.detectors import BuiltNetwork
from solvers.networks.margins import detector_margins
from solvers.problems.interpolants import Interpolant
from solvers.problems.questions import InterpolationProblem
from solvers.registry import interpolator_named

__all__ = ["InterpolatingClassifier", "InterpolatingConvClassifier"]

# lambda at a given width; data are scaled to radius 1.
MAX_BIAS = 0.5

Maker: TypeAlias = Callable[[int, float], AbstractInterpolator]


@dataclass(frozen=True, slots=True)
class _Built:
    """A network for points of radius 1 and the settings it was made with."""

    interpolant: Interpolant
    width: int
    max_bias: float


class _AbstractInterpolating(ClassifierMixin, BaseEstimator, abc.ABC):  # type: ignore[misc]
    """What both classifiers do. Parameters are stored as they come and looked at by `fit`, as scikit-learn asks."""

    def __init__(
        self,
        width: int | None = None,
        max_bias: float | None = None,
        *,
        minus: object = None,
        restarts: int = 10,
        probability: float = 0.95,
        max_width: int = 2**15,
        random_state: Any = None,
        device: str = "cpu",
        centres: Centres = "greedy",
    ) -> None:
        self.centres = centres
        self.width = width
        self.max_bias = max_bias
        self.minus = minus
        self.restarts = restarts
        self.probability = probability
        self.max_width = max_width
        self.random_state = random_state
        self.device = device

    @abc.abstractmethod
    def _construction(self, dimension: int) -> tuple[str, dict[str, Any]]:
        """Name in `solvers.registry.INTERPOLATORS` and settings of its own, for points of this dimension."""

    def _maker(self, dimension: int) -> Maker:
        name, options = self._construction(dimension)
        return partial(interpolator_named, name, minus=self.minus, device=self.device, **options)

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Construct a network that gives every row of X its label.

        Args:
            X: (N, d), finite.
            y: (N,), labels of at least two classes.
        Raises:
            ValueError: the same point under two labels, one class only, NaN, or parameters that fit nothing.
        Warns:
            ConvergenceWarning: no network that was tried gives every point its label; the best one is kept.
        """
        points, labels = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(labels)
        if not (isinstance(self.restarts, int | np.integer) and self.restarts >= 1):
            raise InputError(f"restarts must be a whole number >= 1, got {self.restarts!r}")
        radius = _radius(points)
        problem = InterpolationProblem(points / radius, labels)
        entropy = int(check_random_state(self.random_state).randint(2**31 - 1))
        make = self._maker(points.shape[1])
        built = None if self.width is not None else self._search(problem, make, entropy)
        if built is None:
            width = self.max_width if self.width is None else self.width
            built = self._best_of(problem, make, entropy, width)
        self.network_: BuiltNetwork = built.interpolant.network.rescaled(radius)
        self.classes_ = np.unique(labels)
        self.width_, self.max_bias_ = built.width, built.max_bias
        self.centres_ = built.interpolant.centres
        self.missed_ = np.flatnonzero(self.network_.predict(points, self.device) != problem.labels)
        self.interpolates_ = not len(self.missed_)
        if not self.interpolates_:
            warnings.warn(
                f"the network misses {len(self.missed_)} of {len(points)} points: allow a larger width, another "
                "max_bias, or more restarts",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def decision_function(self, X: ArrayLike) -> FloatArray:
        """How far the nearest neuron of a class is from firing or beyond it, in features that may still differ.

        With max over its neurons (u, m) of m - <u, Phi(x)> - 1/2: positive exactly where the class is spoken for. Two
        classes: (N,), positive for `classes_[1]`. More: (N, K).
        """
        check_is_fitted(self)
        points = validate_data(self, X, dtype=np.float64, reset=False)
        found = detector_margins(self.network_, points, self.device)
        if found.shape[1] > 1:
            return found
        one: FloatArray = found[:, 0]
        return one if self.network_.detector_classes == (1,) else -one

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels (N,): the class of the largest decision value.

        Where the network itself has an answer it is that one. Where no class or more than one is spoken for, which no
        training point of an interpolating network is, the class nearest to firing or farthest beyond it is taken.
        """
        values = self.decision_function(X)
        chosen = (values > 0).astype(np.int64) if values.ndim == 1 else values.argmax(axis=1)
        labels: NDArray[Any] = self.classes_[chosen]
        return labels

    def _best_of(self, problem: InterpolationProblem, make: Maker, entropy: int, width: int) -> _Built:
        """The first of some networks of one width that interpolates, or the one that misses fewest points."""
        bias = MAX_BIAS if self.max_bias is None else self.max_bias
        best: Interpolant | None = None
        for number in range(self.restarts):
            rng = np.random.default_rng(np.random.SeedSequence([entropy, number]))
            found = make(width, bias).solve(problem, rng=rng)
            if best is None or len(found.missed) < len(best.missed):
                best = found
            if found.interpolates:
                break
        assert best is not None
        return _Built(best, width, bias)

    def _search(self, problem: InterpolationProblem, make: Maker, entropy: int) -> _Built | None:
        """The smallest network of those that showed the least width; None when no width was shown."""
        settings = WidthSearch(probability=self.probability, largest=self.max_width)
        if self.max_bias is not None:
            settings = replace(settings, max_biases=(self.max_bias,))
        state = SearchState()
        shown: dict[int, tuple[int, Restart]] = {}

        def solve(restart: Restart) -> Interpolant:
            # The streams derive from what the restart is, not from when it comes.
            stage = int.from_bytes(restart.stage.encode(), "little")
            content = [entropy, restart.width, *_words(restart.max_bias), stage, restart.number]
            rng = np.random.default_rng(np.random.SeedSequence(content))
            return make(restart.width, restart.max_bias).solve(problem, rng=rng)

        rounds = settings.rounds(state)
        try:
            asked = next(rounds)
            while True:
                outcomes = []
                for restart in asked.wanted:
                    found = solve(restart)
                    outcomes.append(found.interpolates)
                    if found.interpolates and restart.stage == "certify":
                        entry = (found.network.parameters, restart)
                        shown[restart.width] = min(shown.get(restart.width, entry), entry, key=lambda pair: pair[0])
                asked = rounds.send(outcomes)
        except StopIteration:
            pass
        if state.found.width is None:
            return None
        restart = shown[state.found.width][1]
        return _Built(solve(restart), restart.width, restart.max_bias)


class InterpolatingClassifier(_AbstractInterpolating):
    """The two-layer threshold network of [DFG24, Algorithm 2], fitted to every training point.

    Parameters:
        centres: of second-layer neurons: random order as in the theorem, greedy, or minimal: as few as a program finds.
        masks: point, or cluster: far fewer neurons, which answer less well on points that were not fitted.
        width: n, neurons of the first layer; when None the least one that interpolates with `probability` is searched.
        max_bias: lambda, the range of first-layer biases for points scaled to max ||x||_2 = 1; when None 0.5, and in a
            search the best of several.
        minus: for two classes, the label of the covered class; the last in sorted order when None.
        restarts: networks tried at most at a given width.
        probability: wanted chance that one construction interpolates, for a search.
        max_width: the widest first layer that a search tries.
        random_state: seed, generator or None, as everywhere in scikit-learn.
        device: torch device.

    Attributes:
        classes_: the labels, sorted. n_features_in_: d.
        network_: the `ThresholdNetwork`, for points as they are given (not scaled).
        interpolates_: whether every training point gets its label. missed_: the rows that do not.
        width_, max_bias_: of the network. centres_: per detector the rows of X its neurons were made from.

    Example:
        >>> from sklearn.datasets import make_moons
        >>> X, y = make_moons(1000, noise=0.05, random_state=0)
        >>> model = InterpolatingClassifier(width=200, random_state=0).fit(X, y)
        >>> model.score(X, y), model.interpolates_
        (1.0, True)
    """

    def __init__(
        self,
        width: int | None = None,
        max_bias: float | None = None,
        *,
        minus: object = None,
        restarts: int = 10,
        probability: float = 0.95,
        max_width: int = 2**15,
        random_state: Any = None,
        device: str = "cpu",
        centres: Centres = "greedy",
        masks: Masks = "point",
    ) -> None:
        super().__init__(
            width,
            max_bias,
            minus=minus,
            restarts=restarts,
            probability=probability,
            max_width=max_width,
            random_state=random_state,
            device=device,
            centres=centres,
        )
        self.masks = masks

    def _construction(self, dimension: int) -> tuple[str, dict[str, Any]]:
        return FullyConnected.name, {"centres": self.centres, "masks": self.masks}


class InterpolatingConvClassifier(_AbstractInterpolating):
    """The translation-invariant convolutional threshold network, fitted to every training point.

    `predict` gives every cyclic translate of a point the same label, exactly. `fit` raises `ValueError` and names two
    rows when a point is a translate of one of another class.

    Parameters:
        shape: (C, H, W) of a point, H = 1 for signals; (1, 1, d), a signal of d numbers, when None.
        kernel: k or (kh, kw), size of the first layer's kernels; the full (H, W) when None.
        width: n, filters of the first layer; when None the least number that interpolates with `probability`.
        max_bias, minus, restarts, probability, max_width, random_state, device, centres: as of
            `InterpolatingClassifier`.

    Attributes:
        Those of `InterpolatingClassifier`; network_ is a `ConvThresholdNetwork`.

    Example:
        >>> import numpy as np
        >>> X = np.array([[1, 2, 0, 0, 0], [1, 0, 2, 0, 0]], dtype=float)
        >>> model = InterpolatingConvClassifier(width=60, kernel=3, random_state=0).fit(X, ["near", "far"])
        >>> model.predict(np.roll(X, 2, axis=1)).tolist()
        ['near', 'far']
    """

    def __init__(
        self,
        shape: tuple[int, int, int] | None = None,
        kernel: int | tuple[int, int] | None = None,
        width: int | None = None,
        max_bias: float | None = None,
        *,
        minus: object = None,
        restarts: int = 10,
        probability: float = 0.95,
        max_width: int = 2**15,
        random_state: Any = None,
        device: str = "cpu",
        centres: Centres = "greedy",
    ) -> None:
        super().__init__(
            width,
            max_bias,
            minus=minus,
            restarts=restarts,
            probability=probability,
            max_width=max_width,
            random_state=random_state,
            device=device,
            centres=centres,
        )
        self.shape = shape
        self.kernel = kernel

    def _construction(self, dimension: int) -> tuple[str, dict[str, Any]]:
        shape = (1, 1, dimension) if self.shape is None else self.shape
        return Convolutional.name, {"shape": shape, "kernel": self.kernel, "centres": self.centres}


def _radius(points: FloatArray) -> float:
    """max ||x||_2, or 1 where all points are 0; no square overflows."""
    largest = float(np.abs(points).max())
    if largest == 0:
        return 1.0
    return largest * float(np.sqrt(((points / largest) ** 2).sum(axis=1).max()))


def _words(number: float) -> list[int]:
    """The bits of a float64 as two numbers below 2^32."""
    bits = int(np.float64(number).view(np.uint64))
    return [bits & 0xFFFFFFFF, bits >> 32]
