"""Upper bounds from norms of the weights alone: any depth, any p, all of R^d.

Lip_p(f) <= ||W_0||_{p -> r_1} ||W_1||_{r_1 -> r_2} ... ||W_L||_{r_L -> |.|} for every choice of norms between the
layers, since ReLU is 1-Lipschitz in each l_r. The best chain over r in {1, 2, inf, p} is a shortest path. Beside it,
every gradient is at most |W_L| ... |W_0| entry by entry.
Source: [Szegedy14, section 4.3] for the product; the chain is its refinement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from solvers.arithmetic.norms import check_exponent, dual_exponent, vector_norm
from solvers.arithmetic.operator_norms import operator_norm_bound, operator_norm_rules, spectral_bound
from solvers.arithmetic.rounding import EPSILON
from solvers.networks.relu import ReluNetwork
from solvers.problems.results import Certificate

__all__ = ["layer_spectra", "norm_product_bound", "norm_product_certificate"]


def layer_spectra(network: ReluNetwork, seconds: float = math.inf) -> list[float]:
    """`spectral_bound` of every layer but the last, each with a share of the seconds: nearly all that products cost."""
    layers = network.weights[:-1]
    work = [w.shape[0] * w.shape[1] * min(w.shape) for w in layers]
    return [spectral_bound(w, seconds * own / sum(work)) for w, own in zip(layers, work, strict=True)]


def norm_product_bound(
    network: ReluNetwork, p: float, seconds: float = math.inf, spectra: Sequence[float] | None = None
) -> float:
    """A proved upper bound of the global Lip_p of a one-output network, rounded upward.

    Args:
        seconds: about what may be spent; where that is short, spectral norms are replaced by larger bounds.
        spectra: `layer_spectra(network)` where they are known.
    """
    spectra = layer_spectra(network, seconds) if spectra is None else spectra
    return min(_chain_bound(network, p, spectra)[0], _absolute_bound(network, p))


def norm_product_certificate(network: ReluNetwork, p: float, spectra: Sequence[float] | None = None) -> Certificate:
    """What proves `norm_product_bound`: the best chain with a norm and a rule for every layer, or the absolute values.

    Data: `chain`, a list of layers from the first to the last, each with `source`, `target` (exponents), `norm` (no
    less than the operator norm between them) and `rule` (see `operator_norms.operator_norm_rules`); None where the
    absolute values of the weights give less.
    """
    spectra = layer_spectra(network) if spectra is None else spectra
    chain, path = _chain_bound(network, p, spectra)
    if _absolute_bound(network, p) <= chain:
        return Certificate("norm-product", {"chain": None})
    layers = []
    known = [*spectra, None]
    for w, source, target, spectral in zip(network.weights, path, [*path[1:], math.inf], known, strict=True):
        rules = operator_norm_rules(w, source, target, spectral)
        rule = min(rules, key=rules.__getitem__)
        layers.append({"source": source, "target": target, "rule": rule, "norm": rules[rule]})
    return Certificate("norm-product", {"chain": layers})


def _chain_bound(network: ReluNetwork, p: float, spectra: Sequence[float]) -> tuple[float, list[float]]:
    """The smallest product over chains of norms, and the chain r_0 = p, r_1, ..., r_L."""
    choices = sorted({1.0, 2.0, math.inf, check_exponent(p)})
    reached: dict[float, tuple[float, list[float]]] = {check_exponent(p): (1.0, [check_exponent(p)])}
    for w, spectral in zip(network.weights[:-1], spectra, strict=True):
        following: dict[float, tuple[float, list[float]]] = {}
        for target in choices:
            options = [
                (cost * operator_norm_bound(w, source, target, spectral), [*path, target])
                for source, (cost, path) in reached.items()
            ]
            following[target] = min(options, key=lambda option: option[0])
        reached = following
    last = network.weights[-1]
    ends = [(cost * operator_norm_bound(last, source, math.inf), path) for source, (cost, path) in reached.items()]
    best = min(ends, key=lambda option: option[0])
    return best[0] * (1 + (network.depth + 2) * EPSILON), best[1]


def _absolute_bound(network: ReluNetwork, p: float) -> float:
    product = np.abs(network.weights[-1])
    terms = 1
    for w in reversed(network.weights[:-1]):
        product = product @ np.abs(w)
        terms += w.shape[0] + 2
    return float(vector_norm(product[0], dual_exponent(p))) * (1 + (terms + 16) * 2 * EPSILON)
