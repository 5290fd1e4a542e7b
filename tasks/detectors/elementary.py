"""Logarithm and exponential that a compiler can do four at a time, which it cannot with the C library's.

Both are series on a short interval around 0 and some work on the bits of a double; right to
about one unit in the last place, and the same on every machine.
"""

import numpy as np
from numba import njit

_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to a whole number, which then stands in the low bits
_LN2_HIGH, _LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10  # the first part has 32 bits, k times it is exact
_PER_LN2 = 1.4426950408889634
_BIAS = np.int64(1023)
_FRACTION = np.int64(52)
_ROOT_HALF = np.uint64(0x3FE6A09E667F3BCD)  # bits of sqrt(1/2)
_SHIFT = np.uint64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
_MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)
_TWO_52 = np.uint64(0x4330000000000000)  # bits of 2**52
_U52 = np.uint64(52)


@njit(cache=True, error_model="numpy")
def quick_exp(y):
    """Return e**y for y up to 700; what is below -700 counts as -700."""
    y = max(y, -700.0)
    t = y * _PER_LN2 + _ROUND
    k = t - _ROUND
    r = (y - k * _LN2_HIGH) - k * _LN2_LOW  # within +-ln(2)/2
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return p * np.int64((np.float64(t).view(np.int64) << _FRACTION) + (_BIAS << _FRACTION)).view(np.float64)


@njit(cache=True, error_model="numpy")
def quick_log(x):
    """Return ln(x) of a normal positive number."""
    up = np.float64(x).view(np.uint64) + _SHIFT
    exponent = np.uint64((up >> _U52) | _TWO_52).view(np.float64) - 4503599627371519.0  # 2**52 + 1023
    m = np.uint64((up & _MANTISSA) + _ROOT_HALF).view(np.float64)  # from sqrt(1/2) to sqrt(2)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = 2.0 / 23.0
    p = p * z + 2.0 / 21.0
    p = p * z + 2.0 / 19.0
    p = p * z + 2.0 / 17.0
    p = p * z + 2.0 / 15.0
    p = p * z + 2.0 / 13.0
    p = p * z + 2.0 / 11.0
    p = p * z + 2.0 / 9.0
    p = p * z + 2.0 / 7.0
    p = p * z + 2.0 / 5.0
    p = p * z + 2.0 / 3.0
    return exponent * 0.693147180559945309417 + (2.0 * s + s * z * p)
