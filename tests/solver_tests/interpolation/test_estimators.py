"""The classifiers are scikit-learn's by scikit-learn's own checks, and interpolate or say what they miss."""

from __future__ import annotations

import doctest
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from solvers import InterpolatingClassifier, InterpolatingConvClassifier, estimators
from solvers.networks.detectors import NO_CLASS
from tests.strategies import DETERMINISTIC, labelled_clouds


def quietly(check: Callable[[Any], Any], estimator: Any) -> None:
    """Some checks fit noise to labels without sense, others skip themselves with a warning: neither is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


@parametrize_with_checks(
    [InterpolatingClassifier(width=60, restarts=2), InterpolatingConvClassifier(kernel=3, width=60)]
)
def test_scikit_learn_accepts_them(estimator: Any, check: Callable[[Any], Any]) -> None:
    quietly(check, estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [InterpolatingClassifier(), InterpolatingConvClassifier(kernel=3, probability=0.7, max_bias=0.5, max_width=1024)]
)
def test_scikit_learn_accepts_the_search_too(estimator: Any, check: Callable[[Any], Any]) -> None:
    quietly(check, estimator)


@settings(DETERMINISTIC, max_examples=30)
@given(labelled_clouds(), st.sampled_from([1e-8, 1.0, 1e120]), st.booleans())
def test_every_training_point_or_a_list_of_those_missed(
    data: tuple[np.ndarray, np.ndarray], scale: float, named: bool
) -> None:
    points, codes = data
    labels = np.array(["ant", "bee", "cat", "dog"])[codes] if named else codes
    model = InterpolatingClassifier(width=150, random_state=0, restarts=2)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(scale * points, labels)
    answered = model.network_.predict(scale * points)
    wrong = np.flatnonzero(answered != codes)
    assert model.missed_.tolist() == wrong.tolist()
    assert model.interpolates_ == (not len(wrong))
    assert bool(told) == bool(len(wrong))
    # Where the network has an answer, so has the classifier; it always has one.
    predicted = model.predict(scale * points)
    spoken = answered != NO_CLASS
    assert (predicted[spoken] == model.classes_[answered[spoken]]).all()
    assert set(predicted) <= set(labels)
    for k, rows in zip(model.network_.detector_classes, model.centres_, strict=True):
        assert (codes[rows] == k).all()


def test_decision_values_are_distances_in_features() -> None:
    points, labels = load_digits(return_X_y=True)
    model = InterpolatingClassifier(width=250, random_state=1).fit(points[:300], labels[:300])
    network = model.network_
    assert isinstance(network, ThresholdNetwork)
    features = (points[:40] @ network.weights.T + network.biases > 0).astype(int)
    values = model.decision_function(points[:40])
    for k, (words, limits) in enumerate(zip(network.masks, network.thresholds, strict=True)):
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, :250].astype(int)
        assert values[:, k].tolist() == (limits - features @ bits.T - 0.5).max(axis=1).tolist()
    assert (model.predict(points[:40]) == labels[:40]).all()


@pytest.mark.parametrize("minus", ["a", "b"])
def test_either_of_two_classes_may_be_covered(minus: str) -> None:
    points, codes = make_moons(120, noise=0.05, random_state=0)
    labels = np.array(["a", "b"])[codes]
    model = InterpolatingClassifier(width=120, minus=minus, random_state=0).fit(points, labels)
    assert model.classes_[model.network_.detector_classes[0]] == minus
    assert model.score(points, labels) == 1.0
    assert ((model.decision_function(points) > 0) == codes).all()


def test_the_least_width_is_searched() -> None:
    points, labels = make_moons(40, noise=0.05, random_state=0)
    model = InterpolatingClassifier(probability=0.7, max_bias=0.5, random_state=0).fit(points, labels)
    assert model.interpolates_
    assert model.max_bias_ == 0.5
    assert model.width_ == model.network_.first_layer_width < 100
    again = clone(model).fit(points, labels)
    assert (again.network_.weights == model.network_.weights).all()
    # Half the width is too narrow for most networks.
    fixed = [InterpolatingClassifier(model.width_ // 4, 0.5, restarts=1, random_state=k) for k in range(20)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert sum(other.fit(points, labels).interpolates_ for other in fixed) < 14


def test_a_search_without_an_answer_keeps_the_best_and_warns() -> None:
    points, labels = make_moons(60, noise=0.05, random_state=0)
    model = InterpolatingClassifier(max_width=3, max_bias=0.5, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"misses \d+ of 60 points"):
        model.fit(points, labels)
    assert model.width_ == 3
    assert len(model.missed_) > 0


def test_translates_get_the_label_of_the_point() -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((12, 2, 3, 4))
    labels = np.arange(12) % 3
    model = InterpolatingConvClassifier((2, 3, 4), 2, width=60, random_state=0).fit(images.reshape(12, -1), labels)
    probes = np.concatenate([images, rng.standard_normal((30, 2, 3, 4))])
    expected = model.predict(probes.reshape(len(probes), -1))
    assert (expected[:12] == labels).all()
    for down in range(3):
        for right in range(4):
            moved = np.roll(probes, (down, right), axis=(2, 3)).reshape(len(probes), -1)
            assert (model.predict(moved) == expected).all()


def test_it_works_in_a_pipeline_and_as_a_pickle() -> None:
    points, labels = load_digits(return_X_y=True)
    points, labels = points[:400], labels[:400]
    pipeline = make_pipeline(StandardScaler(), InterpolatingClassifier(300, random_state=0)).fit(points, labels)
    assert pipeline.score(points, labels) == 1.0
    assert (pickle.loads(pickle.dumps(pipeline)).predict(points) == labels).all()
    assert cross_val_score(InterpolatingClassifier(200, random_state=0), points, labels, cv=2).min() > 0.6


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (InterpolatingClassifier(width=0), "width of at least 1"),
        (InterpolatingClassifier(width=5, max_bias=-1.0), "maximal bias"),
        (InterpolatingClassifier(width=5, restarts=0), "restarts"),
        (InterpolatingClassifier(width=5, minus="c"), "no class 'c'"),
        (InterpolatingClassifier(probability=1.5), "probability"),
        (InterpolatingConvClassifier((1, 2, 2), width=5), "holds 4 numbers"),
        (InterpolatingConvClassifier(width=5, kernel=0), "kernel"),
    ],
)
def test_wrong_parameters_are_one_sentence(model: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model.fit(np.eye(6), list("ababab"))


def test_the_examples_in_the_docstrings_hold() -> None:
    found = doctest.testmod(estimators)
    assert found.attempted > 10
    assert found.failed == 0


def test_what_no_network_can_fit_is_named() -> None:
    points = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0], [1.0, 2.0, 0.0], [0.0, 1.0, 2.0]])
    with pytest.raises(ValueError, match="rows 0 and 2 are the same point with labels 'a' and 'b'"):
        InterpolatingClassifier(10).fit(points, ["a", "b", "b", "b"])
    with pytest.raises(ValueError, match=r"row 3 .* row 0 .* translated"):
        InterpolatingConvClassifier(width=10).fit(points[[0, 1, 0, 3]], ["a", "b", "a", "b"])
