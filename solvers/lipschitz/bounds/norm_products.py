"""Upper bounds from norms of the weights alone: any depth, any p, all of R^d.

Lip_p(f) <= ||W_0||_{p -> r_1} ||W_1||_{r_1 -> r_2} ... ||W_L||_{r_L -> |.|} for every choice of norms between the
layers, since ReLU is 1-Lipschitz in each l_r. The best chain over r in {1, 2, inf, p} is a shortest path. Beside it,
every gradient is at most |W_L| ... |W_0| entry by entry.

LipLT, the loop transformation: relu(a) = a / 2 + u with |du| <= |da| / 2 entry by entry, so that with W_(k,j) =
W_(k-1) ... W_j the change of the k-th pre-activation, of the output for k = L + 1, is in any norm at most

    m_k = 2^(1-k) ||W_(k,0)|| + sum_{0 < j < k} 2^(j-k) ||W_(k,j)|| m_j,

never more than the product of the same norms, and less where singular directions of the layers differ. Here the inputs
are measured in l_p and all hidden layers in one l_r; the best r in {1, 2, inf, p} counts. A product is computed with a
bound of its rounding errors, entry by entry [Hig02, section 3.5], which its norm pays for four times: whoever computes
it again, in another order, comes to other errors.

All of these are loose where layers are many, for worst directions of norms hardly ever meet: by a factor that grows
like 2^L on Gaussian networks, less for LipLT.

Sources: [Szegedy14, section 4.3] for the product, the chain is its refinement; [FERC23, theorem 1] for LipLT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from solvers.arithmetic.norms import FloatArray, check_exponent, dual_exponent, vector_norm
from solvers.arithmetic.operator_norms import OperatorNorms, spectral_bound
from solvers.arithmetic.rounding import EPSILON, UNDERFLOW
from solvers.networks.relu import ReluNetwork
from solvers.problems.results import Certificate

__all__ = ["LayerProducts", "layer_spectra", "norm_product_bound", "norm_product_certificate"]

# Floating-point operations of the products of layers, beyond which none are computed; a second makes so many for sure.
MOST_WORK, SURE_RATE = 10**12, 4e9


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
    less than the operator norm between them) and `rule` (see `operator_norms.OperatorNorms.rules`); None where the
    absolute values of the weights give less.
    """
    spectra = layer_spectra(network) if spectra is None else spectra
    chain, path = _chain_bound(network, p, spectra)
    if _absolute_bound(network, p) <= chain:
        return Certificate("norm-product", {"chain": None})
    layers = []
    known = [*spectra, None]
    for w, source, target, spectral in zip(network.weights, path, [*path[1:], math.inf], known, strict=True):
        rules = OperatorNorms(w, spectral).rules(source, target)
        rule = min(rules, key=rules.__getitem__)
        layers.append({"source": source, "target": target, "rule": rule, "norm": rules[rule]})
    return Certificate("norm-product", {"chain": layers})


def _chain_bound(network: ReluNetwork, p: float, spectra: Sequence[float]) -> tuple[float, list[float]]:
    """The smallest product over chains of norms, and the chain r_0 = p, r_1, ..., r_L."""
    choices = sorted({1.0, 2.0, math.inf, check_exponent(p)})
    reached: dict[float, tuple[float, list[float]]] = {check_exponent(p): (1.0, [check_exponent(p)])}
    for w, spectral in zip(network.weights[:-1], spectra, strict=True):
        norms = OperatorNorms(w, spectral)
        following: dict[float, tuple[float, list[float]]] = {}
        for target in choices:
            options = [
                (cost * norms.bound(source, target), [*path, target]) for source, (cost, path) in reached.items()
            ]
            following[target] = min(options, key=lambda option: option[0])
        reached = following
    last = OperatorNorms(network.weights[-1])
    ends = [(cost * last.bound(source, math.inf), path) for source, (cost, path) in reached.items()]
    best = min(ends, key=lambda option: option[0])
    return best[0] * (1 + (network.depth + 2) * EPSILON), best[1]


def _absolute_bound(network: ReluNetwork, p: float) -> float:
    product = np.abs(network.weights[-1])
    terms = 1
    for w in reversed(network.weights[:-1]):
        product = product @ np.abs(w)
        terms += w.shape[0] + 2
    return float(vector_norm(product[0], dual_exponent(p))) * (1 + (terms + 16) * 2 * EPSILON)


@dataclass(frozen=True, slots=True, eq=False)
class LayerProducts:
    """W_(k,j) = W_(k-1) ... W_j for 0 <= j < k <= L + 1, for `transformed` bounds.

    Attributes:
        sizes: per k, per j, no less than |W_(k,j)| entry by entry.
        spectra: of each a bound of the largest singular value; inf for those of the output, where lengths say as much.
    """

    sizes: tuple[tuple[FloatArray, ...], ...]
    spectra: tuple[tuple[float, ...], ...]

    @classmethod
    def of(
        cls, network: ReluNetwork, seconds: float = math.inf, spectra: Sequence[float] | None = None
    ) -> LayerProducts | None:
        """The products of a one-output network; None where there are too many of them, or not in so many seconds.

        Args:
            spectra: `layer_spectra(network)` where they are known.
        """
        known = [*(layer_spectra(network, seconds) if spectra is None else spectra), math.inf]
        work = _work(network)
        seconds -= 2 * work / SURE_RATE
        if work > MOST_WORK or seconds < 0:
            return None
        share = seconds / max(network.depth * (network.depth - 1) / 2, 1)
        sizes, singular = [], []
        for k, w in enumerate(network.weights):
            mine, values = [np.abs(w)], [known[k]]
            product, radius = w, np.zeros_like(w)
            for below in reversed(network.weights[:k]):
                product, radius = _times(product, radius, below)
                mine.append((np.abs(product) + 4 * radius) * (1 + 4 * EPSILON))
                if k == network.depth or not np.isfinite(mine[-1]).all():
                    values.append(math.inf)
                    continue
                spread = 4 * float(vector_norm(radius.ravel(), 2.0)) * (1 + radius.size * EPSILON)
                values.append(spectral_bound(product, share) + spread)
            sizes.append(tuple(reversed(mine)))
            singular.append(tuple(reversed(values)))
        return cls(tuple(sizes), tuple(singular))

    def transformed(self, p: float) -> tuple[float, Certificate]:
        """LipLT's bound for p and what proves it.

        Data: `chain` None; `transformed`, per k a list over j = 0, ..., k - 1 of what `norm_product_certificate` lists
        for a layer.
        """
        choices = sorted({1.0, 2.0, math.inf, check_exponent(p)})
        norms = [
            [OperatorNorms(sizes, spectral) for sizes, spectral in zip(*own, strict=True)]
            for own in zip(self.sizes, self.spectra, strict=True)
        ]
        bound, terms = min((_measured(norms, p, r) for r in choices), key=lambda found: found[0])
        return bound, Certificate("norm-product", {"chain": None, "transformed": terms})


def _measured(norms: Sequence[Sequence[OperatorNorms]], p: float, r: float) -> tuple[float, list[list[dict[str, Any]]]]:
    """m_(L+1) with hidden layers measured in l_r, and the norms."""
    reached: list[float] = []
    listed = []
    for k, products in enumerate(norms, start=1):
        target = math.inf if k == len(norms) else r
        total, terms = 0.0, []
        for j, product in enumerate(products):
            source = r if j else check_exponent(p)
            with np.errstate(over="ignore", invalid="ignore"):
                rules = product.rules(source, target)
            rule = min(rules, key=rules.__getitem__)
            if not math.isfinite(rules[rule]):
                return math.inf, []
            terms.append({"source": source, "target": target, "rule": rule, "norm": rules[rule]})
            total += rules[rule] * (0.5 ** (k - j) * reached[j - 1] if j else 0.5 ** (k - 1))
        reached.append(total * (1 + 4 * (k + 2) * EPSILON))
        listed.append(terms)
    return reached[-1], listed


def _times(product: FloatArray, radius: FloatArray, w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The product with W, and a bound of its errors entry by entry where the factor has errors up to `radius`."""
    lost = (len(w) + 4) * EPSILON
    sizes = np.abs(w)
    with np.errstate(over="ignore", invalid="ignore"):
        spread = (radius @ sizes) * (1 + 2 * lost) + 2 * lost * (np.abs(product) @ sizes) + UNDERFLOW
        return product @ w, spread


def _work(network: ReluNetwork) -> float:
    """Floating-point operations of all products and their errors."""
    found = 0.0
    for k, w in enumerate(network.weights):
        found += 6.0 * len(w) * sum(below.shape[0] * below.shape[1] for below in network.weights[:k])
    return found
