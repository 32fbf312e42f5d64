"""How far float64 and float32 round, under names that say which of two neighbouring powers of two is meant.

Kernels hold these numbers as constants; that this file names `arithmetic.compiled` lets their cache go with it.
"""

from __future__ import annotations

__all__ = ["EPSILON", "SINGLE_ROUNDOFF", "UNDERFLOW", "UNIT_ROUNDOFF"]

# u: the largest relative error of one float64 operation, rounded to nearest.
UNIT_ROUNDOFF = 2.0**-53
# 2 u: from 1 to the next float64. Bounds that count in it have twice the room that one rounding needs.
EPSILON = 2.0**-52
# What underflow does to a sum of fewer than 10^23 products, 2^-1075 each, is far below: bounds of errors add it, and
# those of ordinary sizes stay what they are bit for bit.
UNDERFLOW = 1e-300
# u of float32.
SINGLE_ROUNDOFF = 2.0**-24
