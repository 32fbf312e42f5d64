"""What the networks of all constructions have in common: two hidden layers, the second one split among detectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from solvers.arithmetic.norms import FloatArray
from solvers.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["NO_CLASS", "BuiltNetwork", "LayerSizes", "ThresholdDetectors", "sole_class"]

# What a network answers where no detector fires, or more than one.
NO_CLASS = -1


def sole_class(spoken_for: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Class indices (N,) from which classes (N, K) are spoken for: the only one, `NO_CLASS` for none or several."""
    alone = spoken_for.sum(axis=1) == 1
    return np.where(alone, spoken_for.argmax(axis=1), NO_CLASS).astype(np.int64)


class BuiltNetwork(Protocol):
    """A network as any construction builds it; whoever evaluates, draws, scales or keeps one asks for no more.

    Attributes:
        kind: of network, as files name it; a file format has one table entry a kind.
        weights: first layer, (n, ...). biases: (n,).
        masks: per detector the 0/1 rows u. thresholds: per detector the m, (M_k,).
        detector_classes: per detector the index of its class.
        classes: the labels, sorted.
        positions: at which the first layer is evaluated: 1, or all translations H W.
        features: n times positions, what a second-layer neuron sees.
        inputs: d, numbers of a point.
        widest: numbers that one point brings about in the widest layer of the torch module.
    """

    kind: ClassVar[str]

    @property
    def weights(self) -> FloatArray: ...
    @property
    def biases(self) -> FloatArray: ...
    @property
    def masks(self) -> Sequence[Sized]: ...
    @property
    def thresholds(self) -> tuple[NDArray[Any], ...]: ...
    @property
    def detector_classes(self) -> tuple[int, ...]: ...
    @property
    def classes(self) -> tuple[object, ...]: ...
    @property
    def first_layer_width(self) -> int: ...
    @property
    def second_layer_widths(self) -> tuple[int, ...]: ...
    @property
    def second_layer_width(self) -> int: ...
    @property
    def positions(self) -> int: ...
    @property
    def features(self) -> int: ...
    @property
    def inputs(self) -> int: ...
    @property
    def widest(self) -> int: ...
    @property
    def parameters(self) -> int: ...
    def rescaled(self, factor: float) -> Self: ...
    def to_torch(self, device: str = "cpu") -> torch.nn.Module: ...
    def margins(self, device: str = "cpu") -> Callable[[torch.Tensor], torch.Tensor]: ...
    def predict(self, points: FloatArray, device: str = "cpu", threads: int | None = None) -> NDArray[np.int64]: ...


class LayerSizes:
    """Widths and parameters, from the first layer and the thresholds of every detector's neurons.

    For networks on points in R^d; others say what their positions, inputs and widest layer are.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def weights(self) -> FloatArray: ...

    biases: FloatArray
    thresholds: tuple[NDArray[Any], ...]
    detector_classes: tuple[int, ...]

    @property
    def first_layer_width(self) -> int:
        """n, neurons or filters of the first layer."""
        return len(self.biases)

    @property
    def second_layer_widths(self) -> tuple[int, ...]:
        """Neurons of every detector."""
        return tuple(len(threshold) for threshold in self.thresholds)

    @property
    def second_layer_width(self) -> int:
        """Neurons of all detectors together."""
        return sum(self.second_layer_widths)

    @property
    def positions(self) -> int:
        """At which the first layer is evaluated."""
        return 1

    @property
    def features(self) -> int:
        """What a second-layer neuron sees."""
        return self.first_layer_width * self.positions

    @property
    def inputs(self) -> int:
        """d."""
        return int(self.weights.shape[1])

    @property
    def widest(self) -> int:
        """Numbers that one point brings about in the widest layer."""
        return max(self.first_layer_width, self.second_layer_width)

    @property
    def parameters(self) -> int:
        """Weights and biases of both hidden layers and of the output; a filter shared by all positions counts once."""
        hidden = self.second_layer_width
        first = self.weights.size + self.first_layer_width
        return first + hidden * (self.features + 1) + hidden + len(self.detector_classes)


class ThresholdDetectors(LayerSizes):
    """What threshold networks share, fully connected and convolutional ones: dataclasses with `biases`."""

    __slots__ = ()

    classes: tuple[object, ...]

    def _check_classes(self) -> None:
        """Raise InputError unless two classes have one detector and K > 2 classes K."""
        if len(self.classes) < 2 or len(self.detector_classes) != (1 if len(self.classes) == 2 else len(self.classes)):
            raise InputError("two classes take one detector, K > 2 classes take K")

    def rescaled(self, factor: float) -> Self:
        """The network that answers on factor * x what this one answers on x, up to rounding: biases times factor > 0.

        A network built on points divided by their radius R is one for the points themselves after `rescaled(R)`.
        """
        network: Any = self
        scaled: Self = replace(network, biases=self.biases * factor)
        return scaled

    if TYPE_CHECKING:

        def to_torch(self, device: str = "cpu") -> torch.nn.Module: ...

    def margins(self, device: str = "cpu") -> Callable[[torch.Tensor], torch.Tensor]:
        """Points (N, d) to the margins (N, M) of second-layer neurons, m - 1/2 - <u, Phi(x)>: positive where they fire.

        Convolutional ones at their best translation.
        """
        module: Any = self.to_torch(device)
        margins: Callable[[torch.Tensor], torch.Tensor] = module.margins
        return margins
