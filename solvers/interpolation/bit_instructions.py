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

__all__ = ["LANES", "lanes_below", "popcount", "positive_lanes"]

# Points in a block, and bits in a word.
LANES = 64
# Words after which a block may be given up; a power of two.
STRIDE = 4

# Typed as Any: numba's helpers carry no types.
cgutils: Any = untyped_cgutils
I64, DOUBLE = ir.IntType(64), ir.DoubleType()


def _splat(builder: Any, value: Any, vector: Any) -> Any:
    """A vector with the same number in every lane."""
    nothing = ir.Constant(vector, ir.Undefined)
    single = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, nothing, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _load(builder: Any, pointer: Any, vector: Any) -> Any:
    """A vector from an address that is a multiple of 8 only."""
    value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
    value.align = 8
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


def _positive_lanes(typing_context: Any, values: Any, start: Any, limit: Any) -> Any:
    """Which of the 64 numbers from values[start] on are above `limit`, as the bits of one word.

    Args:
        values: (size,) float64, contiguous, start + 64 <= size.
    """
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = ir.VectorType(DOUBLE, LANES)
        numbers = context.make_array(signature.args[0])(context, builder, arguments[0])
        loaded = _load(builder, builder.gep(numbers.data, [arguments[1]]), vector)
        return builder.bitcast(builder.fcmp_ordered(">", loaded, _splat(builder, arguments[2], vector)), I64)

    return types.uint64(values, start, types.float64), generate


# Typed as Any: numba passes the typing context itself, which a type checker cannot know.
popcount: Any = intrinsic(_popcount)
lanes_below: Any = intrinsic(_lanes_below)
positive_lanes: Any = intrinsic(_positive_lanes)
