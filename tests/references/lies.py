"""Random changes of results in JSON: numbers nudged, parts dropped, swapped or taken over, proofs made up.

A change may leave a result true, also by luck: whether it does is for the caller to find out.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["altered", "forged_tree"]

Document = dict[str, Any]


def altered(honest: Document, others: Sequence[Document], rng: np.random.Generator) -> Document:
    """The result with one to four changes: mostly a claim that is bolder, and a proof that is bent to fit it.

    Args:
        others: results about networks of the same shape, to take parts from.
    """
    found = json.loads(json.dumps(honest))
    if rng.random() < 0.7:
        _bolder(found, rng)
    for _ in range(rng.integers(1, 4)):
        edits = [_field, _anywhere, _anywhere, _taken, *[edit for edit in _ATTACKS if edit(copy.copy(found), None)]]
        edits[rng.integers(len(edits))](found, rng, others)
    return found


def _bolder(found: Document, rng: np.random.Generator) -> None:
    """An interval that says more than before, or just something else."""
    lower, upper = found["lower"], found["upper"]
    nudge = float(10.0 ** -rng.integers(0, 17))
    if rng.random() < 0.5 and upper != "inf":
        found["upper"] = float(rng.choice([upper * (1 - nudge), lower, lower * (1 - nudge), 0.0, upper / 2]))
        found["lower"] = min(lower, found["upper"]) * float(rng.choice([1.0, 1 - nudge, 0.0]))
    else:
        raised = float(rng.choice([lower * (1 + nudge), 2 * lower, upper if upper != "inf" else 1.0]))
        found["lower"] = raised if math.isfinite(raised) else lower
        found["upper"] = upper if upper == "inf" else max(found["lower"], upper)
    if rng.random() < 0.5:
        found["status"] = "exact"


def _field(found: Document, rng: np.random.Generator, others: Sequence[Document]) -> None:
    """A field of the whole result."""
    d = len(found["domain"].get("lower", range(found["domain"].get("dimension", 1))))
    centre, side = rng.uniform(-1, 1, d), rng.uniform(0.01, 2, d)
    fields: dict[str, Callable[[], Any]] = {
        "p": lambda: [1, 1.0000001, 1.01, 1.3, 2, 3, 1e6, "inf"][rng.integers(8)],
        "status": lambda: ["exact", "bounded", "budget-spent", "numerical-trouble"][rng.integers(4)],
        "method": lambda: "honest",
        "gap": lambda: [0, 1e-6, 0.5, 5, 1e300][rng.integers(5)],
        "output": lambda: int(rng.integers(-1, 4)),
        "domain": lambda: (
            {"kind": "global", "dimension": d}
            if rng.random() < 0.3
            else {"kind": "box", "lower": (centre - side).tolist(), "upper": (centre + side).tolist()}
        ),
        "lower": lambda: float(rng.choice([0.0, 1e-300, 1.0, 1e300])),
        "upper": lambda: ["inf", 0.0, 1e-320, 1.0][rng.integers(4)],
        "witness": lambda: None,
    }
    name = list(fields)[rng.integers(len(fields))]
    found[name] = fields[name]()


def _taken(found: Document, rng: np.random.Generator, others: Sequence[Document]) -> None:
    """A part of another result."""
    other = others[int(rng.integers(len(others)))]
    name = ["certificate", "witness", "p", "domain", "upper", "lower"][rng.integers(6)]
    found[name] = copy.deepcopy(other[name])


def _anywhere(found: Document, rng: np.random.Generator, others: Sequence[Document]) -> None:
    """One entry of the certificate or of the witness."""
    holders = [found[name] for name in ("certificate", "certificate", "witness") if isinstance(found[name], dict)]
    if not holders:
        return
    places = list(_places(holders[rng.integers(len(holders))]))
    holder, key = places[rng.integers(len(places))]
    holder[key] = _changed(holder[key], rng)
    if isinstance(holder, list) and rng.random() < 0.2:
        if rng.random() < 0.5:
            del holder[key]
        else:
            holder.insert(int(rng.integers(len(holder) + 1)), copy.deepcopy(holder[key]))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _places(item)


def _changed(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return int(rng.choice([value + 1, value - 1, -value, -2 - value, 0, 1]))
    if isinstance(value, float):
        nudge = 1 + float(rng.choice([-1, 1])) * float(10.0 ** -rng.integers(1, 17))
        return float(rng.choice([value * nudge, -value, 0.0, 2 * value, math.nextafter(value, 0.0), 1e300, 5e-324]))
    if isinstance(value, str):
        if value and set(value) <= {"0", "1"}:
            k = int(rng.integers(len(value)))
            return value[:k] + ("0" if value[k] == "1" else "1") + value[k + 1 :]
        return str(rng.choice([*RULES, "1/3", "0", "-1"]))
    if isinstance(value, list) and len(value) > 1:
        i, j = (int(k) for k in rng.integers(len(value), size=2))
        kept = list(value)
        kept[i], kept[j] = kept[j], kept[i]
        return kept if rng.random() < 0.5 else kept[: max(i, 1)]
    return value


def forged_tree(widths: Sequence[int], asks: Callable[[Document], str | None], rng: np.random.Generator) -> Document:
    """The data of a tree of random splits for one piece, with whatever proofs the checker lets pass at its leaves.

    Args:
        asks: what the checker says against such data; None if nothing.
    """
    codes = [layer * max(widths) + j for layer, width in enumerate(widths) for j in range(width)]
    splits: list[int] = []
    paths: list[tuple[int, ...]] = []

    def grow(path: tuple[int, ...]) -> None:
        if not path or (len(path) < 4 and rng.random() < 0.5):
            code = codes[rng.integers(len(codes))]
            splits.append(code if rng.random() < 0.5 else -2 - code)
            grow((*path, code))
            grow((*path, code))
        else:
            splits.append(-1)
            paths.append(path)

    grow(())
    proofs: dict[int, list[Any]] = {}
    left = [_made_up(path) for path in paths]
    while True:
        data = {"splits": splits, "proofs": [[leaf, *proof] for leaf, proof in proofs.items()]}
        against = re.match(r"leaf (\d+) ", asks(data) or "")
        if against is None:
            return data
        leaf = int(against[1])
        if not left[leaf]:
            return data
        proofs[leaf] = left[leaf].pop()


def _made_up(path: tuple[int, ...]) -> list[list[Any]]:
    """Proofs to try at a leaf, the likeliest last."""
    rows = sorted(set(path))
    ones = [["rows", [code], [1.0]] for code in rows]
    return [["rows", rows, [1.0] * len(rows)], *ones, *(["constant", [code], [1]] for code in path)]


RULES = ("columns", "rows", "spectral", "hoelder", "one-two", "two-inf", "one-inf", "constant")


def _parts(found: Document, kind: str) -> list[dict[str, Any]]:
    """The data of all certificates of a kind in a result."""
    whole = found.get("certificate")
    if not isinstance(whole, dict) or not isinstance(whole.get("data"), dict):
        return []
    listed = whole["data"].get("outputs", []) if whole["kind"] == "all-outputs" else [whole]
    return [one["data"] for one in listed if isinstance(one, dict) and one.get("kind") == kind]


def _some(found: Document, kind: str, rng: np.random.Generator) -> dict[str, Any]:
    parts = _parts(found, kind)
    return parts[rng.integers(len(parts))]


def _cut_tree(found: Document, rng: np.random.Generator | None, others: Sequence[Document] = ()) -> bool:
    """A subtree becomes a leaf, a leaf a split that is decided already, or a leaf gets a proof that is made up."""
    if rng is None:
        return any(part.get("pieces") for part in _parts(found, "search-tree"))
    pieces = _some(found, "search-tree", rng)["pieces"]
    if not (isinstance(pieces, list) and pieces and isinstance(pieces[0], dict) and pieces[0].get("splits")):
        return True
    tree = pieces[rng.integers(len(pieces))]
    splits = tree["splits"]
    place = int(rng.integers(len(splits)))
    codes = sorted({max(split, -2 - split) for split in splits if isinstance(split, int) and split != -1} | {0, 1, 2})
    code = codes[rng.integers(len(codes))]
    kind = rng.integers(4)
    if kind == 0:
        splits[place : _end(splits, place)] = [-1]
    elif kind == 1:
        splits[place : place + 1] = [code, -1, -1]
    elif kind == 2:
        splits[place : _end(splits, place)] = [code, -1, -1]
    leaves = [i for i, split in enumerate(splits[: place + 3]) if split == -1]
    if kind != 1 or rng.random() < 0.5:
        number = max(len(leaves) - int(rng.integers(1, 3)), 0)
        made_up = ["constant", [code], [1]] if rng.random() < 0.6 else ["rows", codes[:2], [1.0, 1.0][: len(codes)]]
        tree["proofs"] = [*tree["proofs"], [number, *made_up]]
    return True


def _end(splits: list[int], place: int) -> int:
    """Where the subtree that starts at a place ends."""
    missing = 1
    while missing and place < len(splits):
        missing += 1 if splits[place] != -1 else -1
        place += 1
    return place


def _drop_cells(found: Document, rng: np.random.Generator | None, others: Sequence[Document] = ()) -> bool:
    """Regions or cells are left out, or one stands in for another."""
    lists = [entry for part in _parts(found, "region-list") for entry in part.get("pieces") or [] if entry]
    lists += [part for part in _parts(found, "shallow-cells") if part.get("points")]
    if rng is None:
        return bool(lists)
    entry = lists[rng.integers(len(lists))]
    points, patterns = entry.get("points"), entry.get("patterns")
    if not (isinstance(points, list) and isinstance(patterns, list) and points and len(points) == len(patterns)):
        return True
    i, j = (int(k) for k in rng.integers(len(points), size=2))
    if rng.random() < 0.6:
        for k in sorted({i, j}, reverse=True)[: max(len(points) - 1, 0)]:
            del points[k], patterns[k]
    else:
        points[i], patterns[i] = copy.deepcopy(points[j]), copy.deepcopy(patterns[j])
    return True


def _shrink_norms(found: Document, rng: np.random.Generator | None, others: Sequence[Document] = ()) -> bool:
    """One norm is made smaller, the next larger; or the chain is replaced by absolute values."""
    parts = _parts(found, "norm-product")
    if rng is None:
        return bool(parts)
    part = parts[rng.integers(len(parts))]
    chain = part.get("chain")
    if not isinstance(chain, list) or not chain or rng.random() < 0.2:
        part["chain"] = None
        return True
    factor = 1 - float(10.0 ** -rng.integers(0, 17))
    layer = chain[rng.integers(len(chain))]
    if isinstance(layer, dict) and isinstance(layer.get("norm"), float):
        layer["norm"] *= factor
        if rng.random() < 0.5:
            layer["rule"] = str(rng.choice(RULES))
    return True


def _shuffle_outputs(found: Document, rng: np.random.Generator | None, others: Sequence[Document] = ()) -> bool:
    """The proof of one output stands in for that of another, or is a claim without data."""
    whole = found.get("certificate")
    listed = whole["data"].get("outputs") if isinstance(whole, dict) and isinstance(whole.get("data"), dict) else None
    if rng is None:
        return isinstance(listed, list) and len(listed) > 1
    assert isinstance(listed, list)
    i, j = (int(k) for k in rng.integers(len(listed), size=2))
    listed[i] = copy.deepcopy(listed[j]) if rng.random() < 0.7 else "norm-product"
    return True


def _move_witness(found: Document, rng: np.random.Generator | None, others: Sequence[Document] = ()) -> bool:
    """Another point, pattern or gradient; the longest gradient that a sign pattern could have."""
    witness = found.get("witness")
    if rng is None:
        return isinstance(witness, dict)
    assert isinstance(witness, dict)
    kind = rng.integers(3)
    if kind == 0:
        witness["point"] = [float(x) for x in rng.uniform(-1, 1, len(witness["point"]))]
    elif kind == 1:
        witness["pattern"] = ["".join(map(str, rng.integers(0, 2, len(bits)))) for bits in witness["pattern"]]
    else:
        witness["gradient"] = [10.0 * g if isinstance(g, float) else g for g in witness["gradient"]]
    return True


_ATTACKS: tuple[Callable[..., Any], ...] = (_cut_tree, _drop_cells, _shrink_norms, _shuffle_outputs, _move_witness)
