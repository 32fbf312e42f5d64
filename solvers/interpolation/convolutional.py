"""The translation-invariant construction: shared random filters, then a second layer that covers orbit after orbit."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from solvers.bits.correlations import Method, complement_maps
from solvers.bits.images import as_images, check_shape
from solvers.bits.maps import packed_features
from solvers.errors import InputError
from solvers.interpolation._base import AbstractInterpolator, Construction, check_first_layer, detected_classes
from solvers.interpolation.class_cover import Centres, check_centres
from solvers.interpolation.orbit_layer import build_second_layer, choose_second_layer
from solvers.networks.conv_threshold import ConvThresholdNetwork
from solvers.problems.orbits import find_orbits, refuse_translated_classes
from solvers.problems.questions import InterpolationProblem

__all__ = ["Convolutional"]


@dataclass(frozen=True)
class Convolutional(AbstractInterpolator):
    """A convolution with n Gaussian filters, then per class full-size 0/1 filters and a global maximum.

    Interpolation is possible exactly when no point is a cyclic translate of a point of another class; otherwise
    `solve` raises `InputError` and names two such rows. Translates of one another are constructed from only once, so
    a class made of all shifts of a pattern costs as much as the pattern.

    Attributes:
        width: n, filters of the first layer.
        max_bias: lambda; first-layer biases are uniform on [-lambda, lambda].
        shape: (C, H, W) of a point; 1-D signals have H = 1.
        kernel: (kh, kw), or k for (min(k, H), min(k, W)); the full (H, W) when left out.
        minus: for two classes, the label of the covered class "-"; the last one in sorted order when left out.
        method: how the products over all translations are counted; the quicker way when left out, same network.
        device: torch device for the evaluation.
        centres: in random order, greedily the one that covers most, or as few as a program finds.
        seconds: for the programs of all classes of minimal centres.
    Source: the translation-invariant variant of [DFG24, Algorithm 2] in [FinkeThesis].
    """

    width: int
    max_bias: float
    shape: tuple[int, int, int]
    kernel: int | tuple[int, int] | None = None
    minus: object = None
    method: Method | None = None
    device: str = "cpu"
    centres: Centres = "random"
    seconds: float = 60.0
    name: ClassVar[str] = "convolutional"
    summary: ClassVar[str] = "random filters, second layer by covering orbits under translation; translation-invariant"
    options: ClassVar[tuple[str, ...]] = ("shape", "kernel", "centres")

    def __post_init__(self) -> None:
        check_first_layer(self.width, self.max_bias)
        check_shape(self.shape)
        check_centres(self.centres)
        height, width = self.kernel_size
        if not (1 <= height <= self.shape[1] and 1 <= width <= self.shape[2]):
            raise InputError(
                f"a kernel must lie between 1 x 1 and H x W = {self.shape[1]} x {self.shape[2]}, got {height} x {width}"
            )

    @property
    def kernel_size(self) -> tuple[int, int]:
        """(kh, kw)."""
        if self.kernel is None:
            return self.shape[1], self.shape[2]
        if isinstance(self.kernel, tuple):
            return self.kernel
        return min(self.kernel, self.shape[1]), min(self.kernel, self.shape[2])

    @property
    def drawn_for(self) -> tuple[object, ...]:
        return self.shape, self.kernel

    def check(self, problem: InterpolationProblem) -> None:
        """As of every construction; also raises InputError where classes are equal but for a shift."""
        AbstractInterpolator.check(self, problem)
        orbits = find_orbits(as_images(problem.points, self.shape))
        refuse_translated_classes(orbits, problem.labels, problem.classes)

    def _solve(self, problem: InterpolationProblem, rng: np.random.Generator) -> Construction:
        started = time.perf_counter()
        images = as_images(problem.points, self.shape)
        detectors = detected_classes(problem, self.minus)
        orbits = find_orbits(images)
        refuse_translated_classes(orbits, problem.labels, problem.classes)
        grouped = time.perf_counter()
        filters = rng.standard_normal((self.width, self.shape[0], *self.kernel_size))
        biases = rng.uniform(-self.max_bias, self.max_bias, size=self.width)
        representatives, orbit = np.unique(orbits.first, return_inverse=True)
        maps = packed_features(images[representatives], filters, biases)
        featured = time.perf_counter()
        labels = problem.labels[representatives]
        masks, thresholds, centres, drawn, uncovered, at_least = [], [], [], 0, 0, 0
        for k in detectors:
            order = rng.permutation(np.flatnonzero(problem.labels == k))
            # A translate of a candidate has its products, so the first one drawn stands for its orbit.
            candidates, place = np.unique(orbit[order], return_index=True)
            in_order = np.argsort(place)
            first_drawn = dict(zip(candidates.tolist(), order[place].tolist(), strict=True))
            others = np.flatnonzero(labels != k)
            if self.centres == "random":
                layer = build_second_layer(maps, candidates[in_order], others, self.method)
            else:
                seconds, least = self.seconds / len(detectors), self.centres == "minimal"
                layer = choose_second_layer(maps, candidates, others, least, seconds, self.method)
            rows = np.array([first_drawn[centre] for centre in layer.centres.tolist()], dtype=np.int64)
            masks.append(complement_maps(packed_features(images[rows], filters, biases)))
            thresholds.append(layer.thresholds)
            centres.append(rows)
            drawn += layer.drawn
            at_least += layer.at_least
            uncovered += len(layer.missed)
        covered = time.perf_counter()
        network = ConvThresholdNetwork(
            self.shape, filters, biases, tuple(masks), tuple(thresholds), detectors, problem.classes
        )
        stats = {
            "orbits": float(len(representatives)),
            "uncovered_orbits": float(uncovered),
            "passes": float(drawn),
            "orbit_seconds": grouped - started,
            "feature_seconds": featured - grouped,
            "cover_seconds": covered - featured,
        }
        return Construction(network, tuple(centres), stats, at_least if self.centres == "minimal" else None)
