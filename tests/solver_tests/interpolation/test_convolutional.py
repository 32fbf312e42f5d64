"""The translation-invariant construction against its definition, and what its networks must hold."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from solvers.errors import InputError
from solvers.interpolation.convolutional import Convolutional
from solvers.networks.conv_module import OrderedConv2d
from solvers.networks.conv_threshold import ConvThresholdNetwork
from solvers.problems.interpolants import Interpolant, InterpolationStatus
from solvers.problems.questions import InterpolationProblem
from solvers.registry import INTERPOLATORS
from tests.references import convolution_by_definition as definition

# (C, H, W), kernel, filters, samples, classes, max_bias
CASES = [
    ((1, 1, 7), None, 5, 16, 2, 0.5),
    ((2, 1, 6), 3, 9, 14, 3, 1.0),
    ((1, 4, 4), None, 6, 18, 2, 0.0),
    ((1, 3, 5), (2, 4), 11, 15, 3, 0.5),
    ((3, 2, 3), (1, 1), 20, 12, 2, 0.5),
    ((1, 1, 6), (1, 2), 1, 20, 2, 0.3),
]
IDS = ["1d-full", "1d-channels", "2d-full", "2d-even-kernel", "pixelwise", "one-filter"]


def convolutional(found: Interpolant) -> ConvThresholdNetwork:
    assert isinstance(found.network, ConvThresholdNetwork)
    return found.network


def make(case, seed=0):
    shape, kernel, filters, samples, classes, max_bias = case
    rng = np.random.default_rng(seed)
    # Few values, so that equal features, ties and translates of the own class occur.
    points = rng.integers(-2, 3, size=(samples, *shape)).astype(float)
    points[1] = np.roll(points[0], 1, axis=-1)
    labels = np.r_[0, 0, np.arange(samples - 2) % classes]
    problem = InterpolationProblem(points.reshape(samples, -1), labels)
    return problem, points, Convolutional(filters, max_bias, shape, kernel)


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("method", ["popcount", "fourier"])
def test_the_construction_is_the_one_of_the_definition(case, method):
    for seed in range(3):
        problem, points, settings = make(case, seed)
        settings = Convolutional(settings.width, settings.max_bias, settings.shape, settings.kernel, method=method)
        found = settings.solve(problem, rng=np.random.default_rng(seed))
        # The same draws, in the documented order: filters, biases, one permutation for each class.
        rng = np.random.default_rng(seed)
        filters = rng.standard_normal((settings.width, settings.shape[0], *settings.kernel_size))
        biases = rng.uniform(-settings.max_bias, settings.max_bias, size=settings.width)
        assert np.array_equal(convolutional(found).filters, filters)
        features = [definition.first_layer(image, filters, biases) for image in points]
        uncovered_orbits = 0
        for k, covered in enumerate(found.network.detector_classes):
            order = rng.permutation(np.flatnonzero(problem.labels == covered))
            centres, thresholds, uncovered = definition.second_layer(features, problem.labels, covered, order)
            assert found.centres[k].tolist() == centres
            assert convolutional(found).thresholds[k].tolist() == thresholds
            assert found.network.second_layer_widths[k] == len(centres)
            uncovered_orbits += len(uncovered)
        if not uncovered_orbits:
            assert found.interpolates
        masks = [[1 - features[row] for row in rows] for rows in found.centres]
        answers = [
            definition.answer(
                image, filters, biases, masks, convolutional(found).thresholds, found.network.detector_classes
            )
            for image in points
        ]
        assert found.network.predict(problem.points).tolist() == answers
        assert convolutional(found).evaluate(problem.points).tolist() == answers
        assert found.missed.tolist() == np.flatnonzero(np.array(answers) != problem.labels).tolist()


def test_both_ends_occur():
    """The cases above hold networks that interpolate and networks that do not."""
    status = {settings.solve(problem, rng=np.random.default_rng(0)).status for problem, _, settings in map(make, CASES)}
    assert status == set(InterpolationStatus)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_every_translate_gets_the_same_answer(case):
    problem, points, settings = make(case)
    network = convolutional(settings.solve(problem, rng=np.random.default_rng(1)))
    fresh = np.random.default_rng(2).standard_normal((40, *settings.shape))
    module = network.to_torch()
    # Answers that all agree would prove nothing: random points must get several scores.
    with torch.inference_mode():
        scores = module(torch.tensor(fresh.reshape(len(fresh), -1)))
        for images in (points, fresh):
            first = module(torch.tensor(images))
            answers = network.evaluate(images)
            for _, moved in definition.translations(images):
                assert torch.equal(module(torch.tensor(moved)), first)
                assert np.array_equal(network.evaluate(moved), answers)
    assert network.second_layer_width == 0 or len(torch.unique(scores, dim=0)) > 1


@pytest.mark.parametrize("shape", [(1, 1, 64), (2, 8, 8), (1, 6, 9)])
def test_signs_of_vanishing_sums_are_translates_too(shape):
    """Filters orthogonal to the images up to rounding: the sign is decided by the order of the sum alone."""
    rng = np.random.default_rng(5)
    image = rng.standard_normal(shape)
    filters = rng.standard_normal((30, *shape))
    centred = np.roll(image, ((shape[1] - 1) // 2, (shape[2] - 1) // 2), axis=(1, 2))
    filters -= np.einsum("kchw,chw->k", filters, centred)[:, None, None, None] * centred / (centred**2).sum()
    biases = np.zeros(30)
    layer = OrderedConv2d(shape[0], 30, shape[1:])
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(filters))
        layer.bias.copy_(torch.tensor(biases))
        signs = layer(torch.tensor(image[None])) > 0
        other_order = layer.ordered(torch.tensor(image[None]))
        # The sums taken the other way round: some sign must differ, or the case tests nothing.
        reverse = [sum((f * centred).ravel()[::-1].tolist()) > 0 for f in filters]
        forward = [sum((f * centred).ravel().tolist()) > 0 for f in filters]
        assert reverse != forward
        assert torch.equal(signs, other_order > 0)
        assert np.array_equal(signs[0].numpy(), definition.first_layer(image, filters, biases).astype(bool))
        for shift, moved in definition.translations(image[None]):
            assert torch.equal(layer(torch.tensor(moved)) > 0, torch.roll(signs, shift, dims=(2, 3)))


def test_the_module_is_convolutions_a_pool_and_a_linear_layer():
    problem, _, settings = make(CASES[2])
    found = Convolutional(30, 0.5, settings.shape).solve(problem, rng=np.random.default_rng(0))
    assert found.interpolates
    module = convolutional(found).to_torch()
    kinds = [type(part) for part in module.children()]
    assert sum(issubclass(kind, torch.nn.Conv2d) for kind in kinds) == 2
    assert kinds.count(torch.nn.Linear) == 1
    # Its state, loaded into torch's own layers, is the same network: here no pre-activation is near 0.
    state = module.state_dict()
    hidden = found.network.second_layer_width
    options: dict[str, Any] = {"padding": "same", "padding_mode": "circular"}
    first = torch.nn.Conv2d(1, 30, (4, 4), dtype=torch.float64, **options)
    second = torch.nn.Conv2d(30, hidden, (4, 4), **options)
    output = torch.nn.Linear(hidden, 2)
    for name, part in (("first", first), ("second", second), ("output", output)):
        part.load_state_dict({key: state[f"{name}.{key}"] for key in ("weight", "bias")})
    with torch.inference_mode():
        images = torch.tensor(problem.points).reshape(-1, 1, 4, 4)
        features = (first(images) > 0).to(torch.float32)
        fired = (second(features).amax(dim=(2, 3)) > 0).to(torch.float32)
        plain = output(fired)
        assert torch.equal(plain, module(torch.tensor(problem.points)))
        assert plain.argmax(dim=1).tolist() == problem.labels.tolist()
    total = sum(values.numel() for values in state.values())
    # The module writes the other class's score as well: zeros and a constant 1/2.
    assert found.network.parameters == total - (hidden + 1)


@pytest.mark.parametrize(("filters", "neurons", "size"), [(3, 70, (5, 6)), (9, 4, (1, 8)), (4, 5, (7, 1))])
def test_the_module_correlates_alike_by_fourier_and_directly(filters, neurons, size):
    from solvers.networks.conv_module import MaskCorrelation2d

    generator = torch.Generator().manual_seed(1)
    direct = MaskCorrelation2d(filters, neurons, size)
    assert direct.bias is not None
    with torch.no_grad():
        direct.weight.copy_(-(torch.rand(direct.weight.shape, generator=generator) < 0.5).float())
        direct.bias.copy_(torch.arange(neurons) - 0.5)
        maps = (torch.rand((11, filters, *size), generator=generator) < 0.5).float()
        direct.by_fourier = False
        fourier = copy.deepcopy(direct)
        fourier.by_fourier = True
        assert torch.equal(direct(maps), fourier(maps))


def test_large_images_take_the_fourier_way_in_the_module():
    from solvers.networks.conv_module import MaskCorrelation2d

    assert MaskCorrelation2d(50, 100, (28, 28)).by_fourier
    assert not MaskCorrelation2d(20, 10, (4, 4)).by_fourier


def test_translates_of_the_other_class_are_named():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((9, 2, 4, 5))
    points[7] = np.roll(points[3], (1, 3), axis=(-2, -1))
    labels = np.array(list("aaaabbbbb"))
    problem = InterpolationProblem(points.reshape(9, -1), labels)
    settings = Convolutional(10, 0.5, (2, 4, 5))
    sentence = r"row 7 \(class 'b'\) is row 3 \(class 'a'\) translated cyclically by \(1, 3\)"
    with pytest.raises(InputError, match=sentence):
        settings.solve(problem, rng=np.random.default_rng(0))
    # The last bit of one number makes it another point, and then a network exists.
    points[7, 1, 2, 2] = np.nextafter(points[7, 1, 2, 2], 9)
    nearly = InterpolationProblem(points.reshape(9, -1), labels)
    assert settings.solve(nearly, rng=np.random.default_rng(0)).stats["orbits"] == 9


def test_shuffled_repeated_and_relabelled_data_interpolate():
    rng = np.random.default_rng(4)
    points = rng.standard_normal((30, 1, 5, 5))
    points = np.concatenate([points, np.roll(points, (2, 1), axis=(2, 3)), points[:7]]).reshape(67, -1)
    base = np.arange(30) % 3
    labels = np.concatenate([base, base, base[:7]])
    settings = Convolutional(40, 2.0, (1, 5, 5))
    order = rng.permutation(67)
    for x, y in ((points, labels), (points[order], labels[order]), (points, (labels + 1) % 3)):
        found = settings.solve(InterpolationProblem(x, y), rng=np.random.default_rng(1))
        assert found.interpolates
        assert found.stats["orbits"] == 30
        assert convolutional(found).evaluate(x).tolist() == y.tolist()


def test_a_covered_class_may_be_chosen():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((12, 9))
    problem = InterpolationProblem(points, np.r_[np.zeros(2), np.ones(10)])
    widths = []
    for minus in (0.0, 1.0):
        found = Convolutional(60, 3.0, (1, 1, 9), minus=minus).solve(problem, rng=np.random.default_rng(0))
        assert found.interpolates
        assert all((problem.labels[rows] == minus).all() for rows in found.centres)
        widths.append(found.network.second_layer_width)
    assert widths[0] <= 2


@pytest.mark.parametrize(("shape", "width"), [((1, 1, 1), 200), ((5, 1, 1), 50), ((1, 1, 5000), 10), ((1, 64, 64), 10)])
def test_one_sample_a_class_in_unusual_shapes(shape, width):
    """One position (no translation but the identity), a long signal and a large image, small kernels."""
    points = np.random.default_rng(0).standard_normal((2, int(np.prod(shape))))
    problem = InterpolationProblem(points, ["no", "yes"])
    found = Convolutional(width, 1.0, shape, 3).solve(problem, rng=np.random.default_rng(0))
    assert found.interpolates
    assert found.network.second_layer_width == 1
    assert convolutional(found).evaluate(points).tolist() == [0, 1]


def test_same_seed_same_network():
    problem, _, settings = make(CASES[3])
    first, second = (settings.solve(problem, rng=np.random.default_rng(3)) for _ in range(2))
    assert [rows.tolist() for rows in first.centres] == [rows.tolist() for rows in second.centres]
    assert np.array_equal(convolutional(first).filters, convolutional(second).filters)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: Convolutional(0, 0.5, (1, 4, 4)), "width of at least 1"),
        (lambda: Convolutional(5, float("nan"), (1, 4, 4)), "maximal bias"),
        (lambda: Convolutional(5, 0.5, (1, 4, 4), (5, 1)), "between 1 x 1 and H x W = 4 x 4, got 5 x 1"),
        (lambda: Convolutional(5, 0.5, (1, 4, 4), 0), "between 1 x 1"),
        (
            lambda: Convolutional(5, 0.5, (1, 4)),  # type: ignore[arg-type]
            "must be .C, H, W.",
        ),
        (lambda: Convolutional(5, 0.5, (1, 0, 4)), "must be .C, H, W."),
        (lambda: solve(Convolutional(5, 0.5, (1, 4, 5))), "holds 20 numbers, but points have d = 16"),
        (lambda: solve(Convolutional(5, 0.5, (1, 4, 4), minus=7)), "there is no class 7"),
    ],
)
def test_wrong_settings_end_in_one_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        settings()


def solve(settings):
    points = np.random.default_rng(0).standard_normal((4, 16))
    return settings.solve(InterpolationProblem(points, [0, 0, 1, 1]), rng=np.random.default_rng(0))


def test_it_is_registered():
    assert INTERPOLATORS["convolutional"] is Convolutional


def test_all_digits_are_interpolated():
    points, labels = load_digits(return_X_y=True)
    problem = InterpolationProblem(points / np.sqrt((points**2).sum(axis=1).max()), labels)
    found = Convolutional(40, 0.5, (1, 8, 8)).solve(problem, rng=np.random.default_rng(1))
    assert found.interpolates
    assert found.points == 1797
    assert convolutional(found).evaluate(problem.points).tolist() == labels.tolist()
    moved = np.roll(problem.points.reshape(-1, 8, 8), (3, 6), axis=(1, 2)).reshape(1797, -1)
    assert convolutional(found).evaluate(moved).tolist() == labels.tolist()
    # A 6 that is a shifted 9 must be reported, not fitted.
    relabelled = InterpolationProblem(np.concatenate([problem.points, moved[:1]]), np.r_[labels, (labels[0] + 1) % 10])
    with pytest.raises(InputError, match=r"row 1797 .* is row 0 .* by \(3, 6\)"):
        Convolutional(40, 0.5, (1, 8, 8)).solve(relabelled, rng=np.random.default_rng(1))
