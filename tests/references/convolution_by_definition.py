"""The translation-invariant construction straight from its definition: every translation, one after the other.

Written for the tests alone and without a line of the package: plain loops over samples, translations and positions.
"""

from __future__ import annotations

import itertools

import numpy as np


def translations(image):
    """All (shift, T image) of an array (..., H, W)."""
    height, width = image.shape[-2:]
    for shift in itertools.product(range(height), range(width)):
        yield shift, np.roll(image, shift, axis=(-2, -1))


def first_layer(image, filters, biases):
    """Phi(x), shape (n, H, W), position by position from b_k + sum of w x in the order (c, p, q)."""
    channels, height, width = image.shape
    kernel_height, kernel_width = filters.shape[2:]
    above, left = (kernel_height - 1) // 2, (kernel_width - 1) // 2
    found = np.zeros((len(filters), height, width), dtype=int)
    for k, i, j in itertools.product(range(len(filters)), range(height), range(width)):
        total = biases[k]
        for c, p, q in itertools.product(range(channels), range(kernel_height), range(kernel_width)):
            total += filters[k, c, p, q] * image[c, (i + p - above) % height, (j + q - left) % width]
        found[k, i, j] = total > 0
    return found


def least_product(mask, features):
    """min over T of <u, T z>."""
    return min(int((mask * moved).sum()) for _, moved in translations(features))


def second_layer(features, labels, covered_class, order):
    """The greedy algorithm over all rows: the rows x* and thresholds m of the neurons, and the rows left uncovered."""
    candidates = list(order)
    uncovered = set(order)
    others = [row for row in range(len(labels)) if labels[row] != covered_class]
    centres, thresholds = [], []
    while candidates:
        centre = candidates.pop(0)
        mask = 1 - features[centre]
        threshold = min(least_product(mask, features[row]) for row in others)
        if threshold > 0:
            centres.append(centre)
            thresholds.append(threshold)
            near = {row for row in uncovered if least_product(mask, features[row]) < threshold}
            uncovered -= near
            candidates = [row for row in candidates if row not in near]
    return centres, thresholds, sorted(uncovered)


def answer(image, filters, biases, masks, thresholds, detector_classes):
    """The class index that the network gives an image, -1 where several detectors are all silent."""
    features = first_layer(image, filters, biases)
    firing = [
        sum(least_product(mask, features) < limit for mask, limit in zip(rows, limits, strict=True))
        for rows, limits in zip(masks, thresholds, strict=True)
    ]
    if len(detector_classes) == 1:
        return detector_classes[0] if firing[0] else 1 - detector_classes[0]
    return detector_classes[int(np.argmax(firing))] if any(firing) else -1
