"""The simplex method of Nelder and Mead (1965), asked for its points one at a time.

It compares values only, so they may be tuples: the steps to the target, and the risk at that step
where the steps are equal. Steps are whole numbers, and without the second a search ends on the
first plateau. On a cliff, where a dip of an oscillating risk just misses the target, a method that
fits a model would be led astray; this one shrinks and goes along it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from operator import itemgetter

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Value = tuple[float, ...]
Asked = Generator[Array, Value, None]
"""Yields a point, and is sent its value."""

CLOSE = 1e-3
"""A simplex is done when no corner is further than this from the best, in any coordinate."""


def nelder_mead(
    start: Array, value: Value, sides: Sequence[float], box: tuple[Array, Array]
) -> Asked:
    """Points to look at, one after another, each sent its value; ends when the simplex is small.

    Args:
        start: a corner whose value is known.
        value: its value.
        sides: how far the other corners are from it, one along each coordinate, in its direction.
        box: the lowest and the highest point; others are moved to the nearest inside.
    """

    def inside(point: Array) -> Array:
        return np.clip(point, *box)

    corners = [(value, start)]
    for i, side in enumerate(sides):
        point = start.copy()
        point[i] += side if box[0][i] <= start[i] + side <= box[1][i] else -side
        point = inside(point)
        corners.append(((yield point), point))
    while True:
        corners.sort(key=itemgetter(0))
        best, second, (worst_value, worst) = corners[0], corners[-2], corners[-1]
        if all(np.max(np.abs(point - best[1])) < CLOSE for _, point in corners):
            return
        centre = np.mean([point for _, point in corners[:-1]], axis=0)
        reflected = inside(2.0 * centre - worst)
        found = yield reflected
        if found < best[0]:
            further = inside(3.0 * centre - 2.0 * worst)
            better = yield further
            corners[-1] = (better, further) if better < found else (found, reflected)
            continue
        if found < second[0]:
            corners[-1] = (found, reflected)
            continue
        # Between the centre and the better of the two.
        towards = reflected if found < worst_value else worst
        nearer = inside(0.5 * (centre + towards))
        contracted = yield nearer
        if contracted < min(found, worst_value):
            corners[-1] = (contracted, nearer)
            continue
        for i in range(1, len(corners)):
            point = 0.5 * (best[1] + corners[i][1])
            corners[i] = ((yield point), point)
