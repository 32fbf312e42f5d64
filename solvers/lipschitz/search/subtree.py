"""Compiled depth-first search below one node of branch and bound: a pure function, free of queues, clocks and Python.

A node that float64 cannot settle (no interior wider than rounding, a pre-activation whose slope may be zero, one
gradient that rounding cannot tell from the floor) is handed back untouched, for exact arithmetic to look at.

`search_subtree` and `_examine` are long on purpose: parts of them would take nearly all of their two dozen variables as
arguments, and numba compiles every such function anew.
"""

from __future__ import annotations

import numpy as np

from solvers.arithmetic.compiled import compiled
from solvers.lipschitz.bounds.gradients import gradient_bound, gradient_of, node_slack
from solvers.lipschitz.bounds.interiors import deep_point
from solvers.lipschitz.bounds.lengths import length_of
from solvers.lipschitz.bounds.pattern_tree import patterns_left
from solvers.lipschitz.bounds.ranges import EMPTY, STOPPED, flat_rows, propagate
from solvers.lipschitz.bounds.relaxation.coupling import ANY, coupled_bound
from solvers.lipschitz.bounds.slopes.kernels import RANK, slopes_bound
from solvers.lipschitz.search.direction_kernels import directions_inside
from solvers.lipschitz.search.node_kernels import (
    decide_ahead,
    decide_by_programs,
    gather_rows,
    gradient_at,
    is_inside,
)
from solvers.lipschitz.search.record_kernels import copy_node, copy_path, enter_bounded, enter_leaf, forget

__all__ = ["THIN", "search_subtree"]

# Distance to the nearest kink below which an interior is left to exact arithmetic.
THIN = 1e-9
# Undecided neurons of a layer up to which programs look at the layer after it; they leave no proof for a certificate.
FEW_OPEN = 6
# Numbers that a tree of patterns may compute at a node, about a nanosecond each.
PATTERN_WORK = 50_000
# What became of a child.
OVER, OPEN, DELICATE, UNSEEN = 0, 1, 2, 3


@compiled
def _examine(  # type: ignore[no-untyped-def]
    k, slopes, signs, z_low, z_high, point, vectors, codes, has_point, bound, chosen, left, floor, path, length, log,
    keep, tally,
):  # fmt: skip
    """Propagate, bound, prove empty or find a point inside, decide neurons by linear programs.

    Returns:
        (state, bound, directions left, first undecided layer, neuron to split, preferred sign, has_point, length);
        `signs`, `z_low`, `z_high`, `point`, `vectors`, `codes`, `chosen` and `path` are changed in place.
    """
    depth, n = k.biases.shape
    size = len(k.low)
    below, above = np.empty((depth, n, size + 1)), np.empty((depth, n, size + 1))
    errors = np.zeros((depth, n))
    no_codes = np.empty(0, dtype=np.int16)
    no_split, no = np.int64(-1), np.int64(0)  # typed: literals would compile the callee anew
    neuron, prefer, first = -1, 1, depth
    bounded, heaviest, heavy_side = -1, -1, 1
    aligned = False
    fresh = np.empty(len(vectors), dtype=np.int16)
    wanted = np.full(n, ANY, dtype=np.int8)
    for attempt in range(3):
        first = propagate(
            k.weights, k.biases, k.widths, k.group, k.turn, k.low, k.high, signs, z_low, z_high, below, above, errors,
            k.stop,
        )  # fmt: skip
        if first == STOPPED:
            return UNSEEN, bound, left, first, neuron, prefer, has_point, length
        if first == EMPTY:
            if keep:
                enter_bounded(log, path, length, no_codes)
            return OVER, bound, left, first, neuron, prefer, has_point, length
        rounding = node_slack(k, signs, floor)
        if first < depth:
            flat = np.empty(n, dtype=np.int64)
            if flat_rows(k.widths, first, k.low, k.high, signs, below, errors, flat) > 0:
                return DELICATE, bound, left, first, neuron, prefer, has_point, length
            now, left, neuron, prefer = gradient_bound(
                k.weights, k.widths, k.output, k.inputs, first, signs, k.directions, k.along_inputs,
                chosen, left, k.q, k.dual, floor - rounding,
            )  # fmt: skip
            if now + rounding < bound:
                bound = now + rounding
                forget(codes)
            # Leaves of a certificate are bounded by ranges or programs: a checker knows no such tree.
            if k.dual and not keep and bound > floor and first < depth - 1:
                left, _ = patterns_left(
                    k.weights, k.widths, k.output, k.inputs, first, signs, k.directions, chosen, left, floor - rounding,
                    PATTERN_WORK,
                )  # fmt: skip
                if left == 0:
                    bound = floor
            # Programs over slopes once a layer: what linear programs decide in it changes their bound little.
            exact = k.dual and not keep and first == depth - 1
            if slopes.sweeps > 0 and bound > floor and first != bounded and not exact:
                tally[2] += 1
                now, heaviest, heavy_side = slopes_bound(
                    slopes, k.widths, signs, first, k.q, bound, slopes.sweeps, vectors, fresh
                )  # fmt: skip
                tally[3] += now <= floor
                if now < bound:
                    bound = now
                    for t in range(len(codes)):
                        codes[t] = fresh[t]
                bounded = first
            if first == bounded and heaviest >= 0 and signs[first, heaviest] == 0:
                neuron, prefer = heaviest, heavy_side
        else:
            gradient = gradient_of(k.weights, k.widths, k.output, k.inputs, signs)
            now = length_of(gradient, k.q) * (1.0 + 1e-14)
            if now + rounding > floor >= now - 3.0 * rounding:
                return DELICATE, bound, left, first, neuron, prefer, has_point, length
            if now + rounding < bound:
                bound = now + rounding
                forget(codes)
        if bound <= floor:
            tally[0] = max(tally[0], bound)
            if keep:
                enter_bounded(log, path, length, codes)
            return OVER, bound, left, first, neuron, prefer, has_point, length
        open_ = 0
        for i in range(k.widths[first] if first < depth else 0):
            open_ += signs[first, i] == 0
        # With fewer kinks than dimensions a node is hardly smaller than the box, and the programs decide nothing new.
        ahead = not keep and first < depth - 1 and open_ <= FEW_OPEN and size < k.widths[first]
        last = k.dual and not keep and first == depth - 1 > 0 and left <= open_
        if attempt == 0 or first >= k.tight or ahead:
            a, b, slack, places = gather_rows(k.widths, first, k.low, k.high, signs, below, errors)
        if last and not aligned:
            # Fewer directions than neurons: a program for each. The node's own is among them.
            aligned, before = True, left
            left, programs, entered, margin = directions_inside(
                k, first, signs, below, errors, a, b, slack, chosen, left, floor - rounding, point
            )  # fmt: skip
            tally[1] += programs
            if k.stop[0] != 0:
                return UNSEEN, bound, left, first, neuron, prefer, has_point, length
            if left == 0:
                tally[0] = max(tally[0], floor)
                return OVER, floor, left, first, neuron, prefer, has_point, length
            if not margin > THIN:
                return DELICATE, bound, left, first, neuron, prefer, has_point, length
            has_point = True
            if entered > 0 or left < before:
                continue
            break
        if attempt == 0 and not (has_point and is_inside(a, b, k.low, k.high, point, THIN)):
            tally[1] += 1
            margin, proof, deepest, y = deep_point(a, b, slack, k.low, k.high, k.stop)
            if proof < 0.0:
                if keep:
                    enter_leaf(log, path, length, places, y, len(b), n, no_split, no)
                return OVER, bound, left, first, neuron, prefer, has_point, length
            if k.stop[0] != 0:
                return UNSEEN, bound, left, first, neuron, prefer, has_point, length
            if not margin > THIN:
                return DELICATE, bound, left, first, neuron, prefer, has_point, length
            for t in range(size):
                point[t] = deepest[t]
            has_point = True
        # Multipliers of the coupling are in no certificate. Deep networks have programs for directions by now.
        if k.dual and not keep and first == 0 == depth - 1:
            now, left, loosest, loose_side = coupled_bound(
                k, signs, a, b, slack, below[first], errors[first], z_low, z_high, point, chosen, left,
                floor - 2.0 * rounding, wanted,
            )  # fmt: skip
            bound = min(bound, now + 2.0 * rounding)
            if bound <= floor:
                tally[0] = max(tally[0], bound)
                return OVER, bound, left, first, neuron, prefer, has_point, length
            if loosest >= 0:
                neuron, prefer = loosest, loose_side
        decided_ahead = 0
        if ahead and attempt < 2:
            programs, decided_ahead = decide_ahead(
                a, b, slack, k.widths[first + 1], first + 1, k.low, k.high, signs, below, above, errors, z_low, z_high,
                point, k.stop,
            )  # fmt: skip
            tally[1] += programs
        if first == depth or attempt == 2 or last or (first < k.tight and decided_ahead == 0):
            break
        if first < k.tight:
            continue
        # Ranges that programs tighten leave no proof behind, only neurons that they decide.
        programs, decided, multipliers = decide_by_programs(
            a, b, slack, k.widths[first], first, k.low, k.high, signs, below, errors, z_low, z_high, point, wanted,
            not keep, k.stop,
        )  # fmt: skip
        tally[1] += programs
        if len(decided) + decided_ahead == 0:
            break
        if keep:
            for r in range(len(decided)):
                code = 2 * (first * n + decided[r])
                sign = 1 if signs[first, decided[r]] > 0 else 0
                loose = 1 if r > 0 else 0
                enter_leaf(log, path, length, places, multipliers[r], len(b), n, code + 1 - sign, loose)
                path[length] = code + sign
                length += 1
    return OPEN, bound, left, first, neuron, prefer, has_point, length


@compiled
def search_subtree(k, slopes, start, start_chosen, start_bound, start_split, floor, incumbent, steps, path, log, keep):  # type: ignore[no-untyped-def]
    """Split an open node and, depth first, what comes out of it.

    Args:
        k: KernelArrays; slopes: SlopeArrays.
        start: (signs (L, n), z_low, z_high, point (k,), vectors, codes), the node; NaN where no point is known; no
            vectors without programs (`slopes.sweeps` = 0), and no codes without proofs either.
        start_chosen: directions still looked at; start_bound; start_split: (layer, neuron, preferred sign).
        floor: nodes with bounds up to here are dropped.
        incumbent: longer gradients are candidates.
        steps: nodes to split.
        path: splits that lead here; log, keep: proofs, and whether to keep them.
    Returns:
        (arrays of nodes, (top, bottom), (ends, directions) of delicate nodes, (tally, nodes split), point of the
        longest gradient). The tally holds the largest bound dropped, linear programs, programs over slopes, nodes that
        these dropped. The arrays are signs, z_low, z_high, points, vectors, codes, bounds, splits (layer, neuron,
        preferred sign), path lengths, paths, ends in the concatenated directions, directions; open nodes stand before
        `top`, delicate ones, the first met last, from `bottom` on.
    """
    signs0, z_low0, z_high0, point0, vectors0, codes0 = start
    depth, n = signs0.shape
    size = len(point0)
    room = steps + 3
    width = depth * n + 1 if keep else 0
    all_signs = np.empty((room, depth, n), dtype=np.int8)
    all_low, all_high = np.empty((room, depth, n)), np.empty((room, depth, n))
    points, bounds = np.empty((room, size)), np.empty(room)
    all_vectors = np.empty((room, len(vectors0), RANK), dtype=np.float32)
    all_codes = np.empty((room, len(codes0)), dtype=np.int16)
    splits, ends = np.empty((room, 3), dtype=np.int64), np.empty(room, dtype=np.int64)
    paths, lengths = np.empty((room, width), dtype=np.int32), np.zeros(room, dtype=np.int64)
    choices = np.empty(max(64, 4 * len(start_chosen)), dtype=np.int32)
    # Nodes that exact arithmetic has to look at, and leaves, are collected from the end.
    top, bottom = 1, room
    copy_node(
        signs0, z_low0, z_high0, point0, vectors0, codes0,
        all_signs[0], all_low[0], all_high[0], points[0], all_vectors[0], all_codes[0],
    )  # fmt: skip
    bounds[0], ends[0] = start_bound, len(start_chosen)
    splits[0, 0], splits[0, 1], splits[0, 2] = start_split[0], start_split[1], start_split[2]
    for e in range(len(start_chosen)):
        choices[e] = start_chosen[e]
    if keep:
        lengths[0] = len(path)
        copy_path(path, len(path), paths[0])
    tally = np.array([-np.inf, 0.0, 0.0, 0.0])
    best, best_point = incumbent, np.full(size, np.nan)
    here_chosen, chosen = np.empty(len(start_chosen), dtype=np.int64), np.empty(len(start_chosen), dtype=np.int64)
    path_here, path_child = np.empty(width + 1, dtype=np.int32), np.empty(width + 1, dtype=np.int32)
    odd_choices = np.empty(max(64, len(start_chosen)), dtype=np.int32)
    odd_end, split_nodes = 0, 0
    odd_ends = np.zeros(room, dtype=np.int64)
    signs_here, low_here, high_here = np.empty_like(signs0), np.empty_like(z_low0), np.empty_like(z_high0)
    signs_child, low_child, high_child = np.empty_like(signs0), np.empty_like(z_low0), np.empty_like(z_high0)
    point_here, point_child = np.empty(size), np.empty(size)
    vectors_here, vectors_child = np.empty(vectors0.shape), np.empty(vectors0.shape)
    codes_here, codes_child = np.empty_like(codes0), np.empty_like(codes0)
    while top > 0 and split_nodes < steps and top + 1 < bottom:
        if keep and (
            log.counts[0] + 2 * n + 4 > len(log.leaves)
            or log.counts[1] + (2 * n + 4) * width > len(log.paths)
            or log.counts[2] + (2 * n + 4) * (width + len(codes0)) > len(log.rows)
        ):
            break
        top -= 1
        parent = top
        layer, neuron, prefer = splits[top, 0], splits[top, 1], splits[top, 2]
        copy_node(
            all_signs[top], all_low[top], all_high[top], points[top], all_vectors[top], all_codes[top],
            signs_here, low_here, high_here, point_here, vectors_here, codes_here,
        )  # fmt: skip
        parent_bound, length_here = bounds[top], lengths[top]
        begin = ends[top - 1] if top > 0 else 0
        count = ends[top] - begin
        for e in range(count):
            here_chosen[e] = choices[begin + e]
        if keep:
            copy_path(paths[top], length_here, path_here)
        split_nodes += 1
        marks = (bottom, odd_end, log.counts[0], log.counts[1], log.counts[2])
        unseen = False
        for turn in range(2):
            # The preferred side is pushed last, so looked at first.
            sign = -prefer if turn == 0 else prefer
            copy_node(
                signs_here, low_here, high_here, point_here, vectors_here, codes_here,
                signs_child, low_child, high_child, point_child, vectors_child, codes_child,
            )  # fmt: skip
            signs_child[layer, neuron] = sign
            for e in range(count):
                chosen[e] = here_chosen[e]
            length = 0
            if keep:
                copy_path(path_here, length_here, path_child)
                path_child[length_here] = 2 * (layer * n + neuron) + (1 if sign > 0 else 0)
                length = length_here + 1
            state, bound, left, first, next_neuron, next_prefer, has_point, length = _examine(
                k, slopes, signs_child, low_child, high_child, point_child, vectors_child, codes_child,
                not np.isnan(point_here[0]), parent_bound, chosen, count, floor, path_child, length, log, keep, tally,
            )  # fmt: skip
            if state == OVER:
                continue
            if state == UNSEEN:
                unseen = True
                break
            if state == OPEN and has_point:
                fresh = False
                for t in range(size):
                    fresh = fresh or point_child[t] != point_here[t]
                if fresh:
                    gradient = gradient_at(k.weights, k.biases, k.widths, k.output, k.inputs, point_child)
                    reach = length_of(gradient, k.q)
                    if reach > best:
                        best = reach
                        for t in range(size):
                            best_point[t] = point_child[t]
            if state == OPEN and first < depth:
                begin_child = ends[top - 1] if top > 0 else 0
                if begin_child + left > len(choices):
                    grown = np.empty(2 * (begin_child + left), dtype=np.int32)
                    copy_path(choices, begin_child, grown)
                    choices = grown
                for e in range(left):
                    choices[begin_child + e] = chosen[e]
                ends[top] = begin_child + left
                slot = top
                top += 1
            else:
                bottom -= 1
                slot = bottom
                if state == DELICATE:
                    first, next_neuron = -1, -1
                else:
                    left = 0
                if odd_end + left > len(odd_choices):
                    grown = np.empty(2 * (odd_end + left), dtype=np.int32)
                    copy_path(odd_choices, odd_end, grown)
                    odd_choices = grown
                for e in range(left):
                    odd_choices[odd_end + e] = chosen[e]
                odd_end += left
                odd_ends[slot] = odd_end
            copy_node(
                signs_child, low_child, high_child, point_child, vectors_child, codes_child,
                all_signs[slot], all_low[slot], all_high[slot], points[slot], all_vectors[slot], all_codes[slot],
            )  # fmt: skip
            bounds[slot] = bound
            splits[slot, 0], splits[slot, 1], splits[slot, 2] = first, next_neuron, next_prefer
            if keep:
                lengths[slot] = length
                copy_path(path_child, length, paths[slot])
        if unseen:
            # Time is up: the node stays as it was, unsplit.
            top = parent
            bottom, odd_end, log.counts[0], log.counts[1], log.counts[2] = marks
            split_nodes -= 1
            copy_node(
                signs_here, low_here, high_here, point_here, vectors_here, codes_here,
                all_signs[top], all_low[top], all_high[top], points[top], all_vectors[top], all_codes[top],
            )  # fmt: skip
            bounds[top], lengths[top] = parent_bound, length_here
            splits[top, 0], splits[top, 1], splits[top, 2] = layer, neuron, prefer
            if keep:
                copy_path(path_here, length_here, paths[top])
            begin = ends[top - 1] if top > 0 else 0
            for e in range(count):
                choices[begin + e] = here_chosen[e]
            ends[top] = begin + count
            top += 1
            break
    known = (all_signs, all_low, all_high, points, all_vectors, all_codes)
    nodes = (*known, bounds, splits, lengths, paths, ends, choices)
    return nodes, (top, bottom), (odd_ends, odd_choices), (tally, split_nodes), best_point
