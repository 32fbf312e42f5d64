"""Numbers of seven binary digits as small whole numbers, so that multipliers take little room in a certificate.

Code c stands for (64 + r) 2^(e - 7) with c = 64 e + r and 0 <= r < 64: the float64 numbers of that form, in their
order. Any multiplier >= 0 is sound, so only sharpness is lost by rounding before something is proved.
"""

from __future__ import annotations

import math

import numpy as np

from solvers.arithmetic.compiled import compiled

__all__ = ["code_above", "from_code"]


@compiled
def code_above(value):  # type: ignore[no-untyped-def]
    """The code of the least such number that is no smaller; for values from 1e-140 to 1e140."""
    mantissa, exponent = math.frexp(value)
    return 64 * np.int64(exponent) + np.int64(np.ceil(128.0 * mantissa)) - 64


@compiled
def from_code(code):  # type: ignore[no-untyped-def]
    """The number that a code stands for."""
    whole = np.int64(code)
    return math.ldexp(64.0 + whole % 64, whole // 64 - 7)  # type: ignore[arg-type]
