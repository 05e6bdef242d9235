"""Eigenvalues of a diagonal matrix plus a positive one of rank 1, to the last digits of their gaps.

The eigenvalues e of diag(d) + z z^T, the d distinct and ascending and every s = z^2 > 0, are the
roots of the secular equation sum s_i / (e - d_i) = 1: one between each d and the next, the last
one above all. The eigenvector of e has the components z_i / (e - d_i), times a number.

Source: Golub 1973, "Some modified matrix eigenvalue problems"; Gu and Eisenstat 1994.
"""

from __future__ import annotations

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.compiled import compiled

MOST = 1100
"""Steps to a root: more than a float has binary digits, if none but halvings got ahead."""

CLOSE = 4e-16
"""Width of a bracket, over its upper end, that no float divides."""


def eigenvalues(diagonal: Array, squares: Array) -> tuple[Array, Array]:
    """The eigenvalues e of diag(d) + z z^T, and (z . v)^2 of each one's unit eigenvector v.

    Args:
        diagonal: d, distinct, ascending.
        squares: z^2, each > 0.

    Returns:
        Both ascending in e; the second ones are 1 / sum s / (e - d)^2.
    """
    found, shares = np.empty(diagonal.size), np.empty(diagonal.size)
    _roots(diagonal, squares, found, shares)
    return found, shares


@compiled
def _roots(  # noqa: PLR0912 (one pass over the roots)
    d: Array, s: Array, found: Array, shares: Array
) -> None:
    """Write each root and its share.

    A root is sought as its distance x from the nearer one, o, of the d it lies between, where no
    digits of it are lost. x (g - |x|) (sum s / (x - (d - o)) - 1), g the distance of the two, has
    no poles there and is nearly straight next to o, so that secants of a bracket find its root in a
    few steps.
    """
    n = d.size
    total = s.sum()
    for j in range(n):
        gap = d[j + 1] - d[j] if j + 1 < n else total
        middle = 0.0
        for i in range(n):
            middle += s[i] / (d[j] - d[i] + 0.5 * gap)
        origin, sign = j, 1.0
        if middle > 1.0 and j + 1 < n:  # the root is in the upper half
            origin, sign = j + 1, -1.0
        # Distances from the origin, into the gap; the value is above 0 next to d[j].
        last = j + 1 == n
        near, far = 0.0, gap if last else 0.5 * gap
        low, high = sign * s[origin] * (1.0 if last else gap), 0.0
        closed = False
        x, side = min(s[origin], far), 0
        for _ in range(MOST):
            excess = -1.0
            for i in range(n):
                excess += s[i] / (d[origin] - d[i] + sign * x)
            value = excess * x * (1.0 if last else gap - x)
            if excess * sign > 0.0:  # the root is further from the origin
                if side == 1:  # twice on one side: the secant's other end counts half (Illinois)
                    high *= 0.5
                near, low, side = x, value, 1
            else:
                if side == 2:
                    low *= 0.5
                far, high, closed, side = x, value, True, 2
            if excess == 0.0 or far - near <= CLOSE * far:
                break
            x = 0.5 * (near + far)
            if closed and high != low:
                guess = near + (far - near) * low / (low - high)
                if near < guess < far:
                    x = guess
            if x in (near, far):
                break
        found[j] = d[origin] + sign * x
        squares = 0.0
        for i in range(n):
            away = d[origin] - d[i] + sign * x
            squares += s[i] / away / away  # the square of what is small would be 0
        shares[j] = 1.0 / squares
