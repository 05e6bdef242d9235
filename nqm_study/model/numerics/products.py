"""Products of floats whose parts may be too large or too small for one, though the whole is not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.arrays import Array, Integers


def product(factors: Iterable[object], divisors: Iterable[object] = ()) -> tuple[Array, Integers]:
    """The factors over the divisors as x and e, the product being x 2^e.

    Args:
        factors: numbers, or arrays of one shape; some few, since each may halve x.
        divisors: the same, none of them 0.
    """
    x, e = np.float64(1.0), np.int64(0)
    for factor in factors:
        mantissa, exponent = np.frexp(factor)  # type: ignore[call-overload]  # numbers, as said
        x, e = x * mantissa, e + exponent
    for divisor in divisors:
        mantissa, exponent = np.frexp(divisor)  # type: ignore[call-overload]
        x, e = x / mantissa, e - exponent
    return np.asarray(x), np.asarray(e, dtype=np.int64)


def plain(x: npt.ArrayLike, e: Integers) -> Array:
    """The floats x 2^e: infinite where they are too large for one, 0 where too small."""
    with np.errstate(over="ignore"):
        return np.asarray(np.ldexp(x, np.clip(e, -(2**20), 2**20).astype(np.int32)))
