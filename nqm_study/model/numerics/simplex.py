"""The simplex method of Nelder and Mead (1965), asked for its points one at a time.

It compares values only, so they may be tuples: the steps to the target, and the risk at that step
where the steps are equal. Steps are whole numbers, and without the second a search ends on the
first plateau. On a cliff, where a dip of an oscillating risk just misses the target, a method that
fits a model would be led astray; this one shrinks and goes along it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from operator import itemgetter
from typing import TypeVar

import numpy as np

from nqm_study.model.numerics.arrays import Array

Value = TypeVar("Value", float, tuple[float, ...])

Done = Callable[[float, Value, Value], bool]
"""Whether a simplex is small enough, by how far its furthest corner is from the best in any
coordinate, and by its least and its largest value."""


def nelder_mead(
    start: Array, value: Value, sides: Sequence[float], box: tuple[Array, Array], done: Done[Value]
) -> Generator[Array, Value, None]:
    """Points to look at, one after another, each sent its value, until the simplex is small enough.

    Args:
        start: a corner whose value is known.
        value: its value.
        sides: how far the other corners are from it, one along each coordinate, in its direction.
        box: the lowest and the highest point; others are moved to the nearest inside.
        done: whether the simplex is small enough.
    """
    lowest, highest = box

    def inside(point: Array) -> Array:
        return np.minimum(np.maximum(point, lowest), highest)

    corners = [(value, start)]
    for i, side in enumerate(sides):
        point = start.copy()
        point[i] += side if lowest[i] <= start[i] + side <= highest[i] else -side
        point = inside(point)
        corners.append(((yield point), point))
    while True:
        corners.sort(key=itemgetter(0))
        best, second, (worst_value, worst) = corners[0], corners[-2], corners[-1]
        points = [point for _, point in corners]
        if done(float(np.abs(np.array(points) - best[1]).max()), best[0], worst_value):
            return
        centre = np.add.reduce(points[:-1]) / len(sides)
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


def least(
    function: Callable[[Array], float],
    start: Array,
    sides: Sequence[float],
    box: tuple[Array, Array],
    done: Done[float],
    most_calls: int,
) -> tuple[Array, float]:
    """A local minimum of a function, and its value: the best point of ``nelder_mead``."""
    point, value = start, function(start)
    asked = nelder_mead(start, value, sides, box, done)
    with contextlib.suppress(StopIteration):
        now = next(asked)
        for _ in range(most_calls - 1):
            found = function(now)
            if found < value:
                point, value = now, found
            now = asked.send(found)
    return point, value
