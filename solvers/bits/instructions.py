"""Operations on 64 numbers at once that numba has no word for, written as LLVM vector code.

LLVM lowers them to the widest vectors of the machine it compiles for: AVX-512 with its vector population count where
there is one, AVX2 or scalar code elsewhere. Everything here is exact, so the answers are the same everywhere.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils as untyped_cgutils
from numba.core import types
from numba.extending import intrinsic

__all__ = ["LANES", "affine_sign_lanes", "lanes_below", "popcount", "sign_lanes"]

# Points in a block, and bits in a word.
LANES = 64
# Words after which a block may be given up; a power of two.
STRIDE = 4

# Typed as Any: numba's helpers carry no types.
cgutils: Any = untyped_cgutils
I64 = ir.IntType(64)
tuple_of: Any = types.Tuple
WORD_PAIR = tuple_of((types.uint64, types.uint64))


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    """A vector with the same number in every lane."""
    nothing = ir.Constant(vector, ir.Undefined)
    single = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, nothing, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _load(builder: Any, pointer: Any, vector: Any, number: Any = I64) -> Any:
    """A vector from an address that is a multiple of its numbers' size only."""
    value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
    value.align = 8 if number is I64 or isinstance(number, ir.DoubleType) else 4
    return value


def _popcount(typing_context: Any, value: Any) -> Any:
    """Number of ones in a 64-bit word, as one machine instruction where there is one (for numba code)."""
    del typing_context, value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        function = builder.module.declare_intrinsic("llvm.ctpop", [I64])
        return builder.call(function, arguments)

    return types.int64(types.uint64), generate


def _lanes_below(typing_context: Any, blocks: Any, block: Any, mask: Any, limit: Any, counts: Any) -> Any:
    """Points of a block that share fewer than `limit` features with a mask, as the bits of one word.

    Args:
        blocks: (B, depth, 64) uint64; blocks[b, w, i] holds features 64 w ... 64 w + 63 of point i.
        block: b.
        mask: (depth,) uint64.
        limit: a whole number.
        counts: (64,) int64, overwritten: the shared features of every point where the answer is not 0. The sums stop
            early once every point has reached the limit; then the answer is 0.
    """
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args, arguments, strict=True)
            if isinstance(kind, types.Array)
        ]
        words, features, sums = array
        vector = ir.VectorType(I64, LANES)
        count = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector]), f"llvm.ctpop.v{LANES}i64"
        )
        zero, one, lanes = ir.Constant(I64, 0), ir.Constant(I64, 1), ir.Constant(I64, LANES)
        depth = cgutils.unpack_tuple(builder, features.shape, 1)[0]
        start = builder.gep(words.data, [builder.mul(builder.mul(arguments[1], depth), lanes)])
        most = _splat(builder, arguments[3], vector)
        before = builder.block
        word, check, further, done = (builder.append_basic_block(name) for name in ("word", "check", "further", "done"))
        builder.branch(word)

        builder.position_at_end(word)
        place, so_far = builder.phi(I64), builder.phi(vector)
        place.add_incoming(zero, before)
        so_far.add_incoming(ir.Constant(vector, [0] * LANES), before)
        values = _load(builder, builder.gep(start, [builder.mul(place, lanes)]), vector)
        wanted = _splat(builder, builder.load(builder.gep(features.data, [place])), vector)
        total = builder.add(so_far, builder.call(count, [builder.and_(values, wanted)]))
        following = builder.add(place, one)
        last = builder.icmp_unsigned("==", following, depth)
        at_stride = builder.icmp_unsigned("==", builder.and_(following, ir.Constant(I64, STRIDE - 1)), zero)
        builder.cbranch(builder.or_(last, at_stride), check, further)

        builder.position_at_end(check)
        below = builder.bitcast(builder.icmp_signed("<", total, most), I64)
        builder.cbranch(builder.or_(last, builder.icmp_unsigned("==", below, zero)), done, further)

        builder.position_at_end(further)
        place.add_incoming(following, further)
        so_far.add_incoming(total, further)
        builder.branch(word)

        builder.position_at_end(done)
        stored = builder.store(total, builder.bitcast(sums.data, vector.as_pointer()))
        stored.align = 8
        return below

    return types.uint64(blocks, block, mask, types.int64, counts), generate


def _signs(context: Any, builder: Any, result: Any, values: Any, slack: Any, vector: Any) -> Any:
    """The pair of words (values above the slack; values within it, both ends included)."""
    limit = _splat(builder, slack, vector)
    above = builder.bitcast(builder.fcmp_ordered(">", values, limit), I64)
    not_below = builder.bitcast(builder.fcmp_ordered(">=", values, builder.fneg(limit)), I64)
    return context.make_tuple(builder, result, [above, builder.xor(above, not_below)])


def _sign_lanes(typing_context: Any, values: Any, start: Any, slack: Any) -> Any:
    """Which of the 64 numbers from values[start] on are above the slack, and which lie within it: two words.

    Args:
        values: (size,) float32 or float64, contiguous, start + 64 <= size.
        slack: of the same type, >= 0.
    """
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.get_value_type(values.dtype)
        vector = ir.VectorType(number, LANES)
        numbers = context.make_array(signature.args[0])(context, builder, arguments[0])
        loaded = _load(builder, builder.gep(numbers.data, [arguments[1]]), vector, number)
        return _signs(context, builder, WORD_PAIR, loaded, arguments[2], vector)

    return WORD_PAIR(values, types.int64, values.dtype), generate


def _affine_sign_lanes(
    typing_context: Any, points: Any, row: Any, weights: Any, biases: Any, start: Any, slack: Any
) -> Any:
    """`sign_lanes` of <w_j, x> + b_j for j = start ... start + 63, summed up in registers.

    Args:
        points: (N, d) float32. row: of x. weights: (d, m) float32. biases: (m,) float32; all contiguous.
        slack: float32, >= 0.
    """
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.get_value_type(types.float32)
        vector = ir.VectorType(number, LANES)
        places, matrix, offsets = (
            context.make_array(signature.args[k])(context, builder, arguments[k]) for k in (0, 2, 3)
        )
        multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{LANES}f32"
        )
        zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
        depth, width = cgutils.unpack_tuple(builder, matrix.shape, 2)
        point = builder.gep(places.data, [builder.mul(arguments[1], depth)])
        first = builder.gep(matrix.data, [arguments[4]])
        begun = _load(builder, builder.gep(offsets.data, [arguments[4]]), vector, number)
        before = builder.block
        term, done = (builder.append_basic_block(name) for name in ("term", "done"))
        builder.branch(term)

        builder.position_at_end(term)
        k, so_far = builder.phi(I64), builder.phi(vector)
        k.add_incoming(zero, before)
        so_far.add_incoming(begun, before)
        coordinate = _splat(builder, builder.load(builder.gep(point, [k])), vector)
        row_of_weights = _load(builder, builder.gep(first, [builder.mul(k, width)]), vector, number)
        total = builder.call(multiply_add, [coordinate, row_of_weights, so_far])
        following = builder.add(k, one)
        k.add_incoming(following, term)
        so_far.add_incoming(total, term)
        builder.cbranch(builder.icmp_unsigned("<", following, depth), term, done)

        builder.position_at_end(done)
        return _signs(context, builder, WORD_PAIR, total, arguments[5], vector)

    return WORD_PAIR(points, types.int64, weights, biases, types.int64, types.float32), generate


# Typed as Any: numba passes the typing context itself, which a type checker cannot know.
popcount: Any = intrinsic(_popcount)
lanes_below: Any = intrinsic(_lanes_below)
sign_lanes: Any = intrinsic(_sign_lanes)
affine_sign_lanes: Any = intrinsic(_affine_sign_lanes)
