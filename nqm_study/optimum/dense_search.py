"""The fewest steps over a box of hyperparameters: the best of a dense search, by any evaluation.

Steps to target, as a function of hyperparameters, is made of plateaus and cliffs, and says nothing
where the target is missed. The risk L_T after T steps is smooth, or nearly so; without a quick way
to it, the smallest risk of an evaluation that is cut off at T stands in. So:

1. Start: points that fill the box evenly (a Sobol sequence; equal distances on a line), a few of
   them in runs of 16, 64, 256, ... steps, until one reaches the target; then all of them, each cut
   off one step before the best so far.
2. Descend: from the best point, to the point of least L_T at its own T steps, which takes fewer,
   and again from there, until the steps stay the same.
3. Look elsewhere: one step before the best, descend from the lowest local minima among the points;
   then from those of clouds of points around the best, ever closer ones; until none gets below the
   target.

Nothing is random: the same call finds the same optimum. It is proved only as far as it is dense.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.require import require_integer, require_number
from nqm_study.model.outcome import Crossing
from nqm_study.optimum.coordinates import Coordinate, Scale, as_coordinates
from nqm_study.optimum.descent import HOPELESS, Descent, Evaluate, Risk, SpentError

Array = npt.NDArray[np.float64]

ALONG_A_LINE = 0.12
"""The most distance of neighbours, on a log scale, where there is one coordinate."""

POINTS = {2: 10, 3: 10}
"""Binary logarithms of the number of points by dimension."""

MOST_POINTS = 11
"""The same in more dimensions."""

FIRST = 64
"""So many of the points, or a quarter if that is less, are run in ever longer runs."""

SHORTEST, LONGER = 16, 4
"""The first of these runs, and times as long as each the next one is."""

MINIMA = 12
"""The most local minima among all points from which one descends."""

CLOUD = 4
"""Binary logarithm of the points of a cloud, for one coordinate; one more for each other, up to"""

MOST_OF_CLOUD = 6

AROUND = 4
"""The most local minima of a cloud from which one descends."""

CLOUDS = (0.2, 0.06, 0.02, 0.006)
"""Half the widths of the clouds, as fractions of the ranges."""


@dataclass(frozen=True)
class Optimum:
    """The best of a dense search.

    Attributes:
        steps: the fewest steps found; None where nothing reached the target.
        values: where they are taken, by the names of the coordinates; None as well.
        crossing: what the evaluation there said; None as well.
        evaluations: how many evaluations it took.
        looks: how many quick risks it took besides.
        complete: False where the limit on evaluations ended it.
    """

    steps: int | None
    values: Mapping[str, float] | None
    crossing: Crossing | None
    evaluations: int
    looks: int
    complete: bool


def dense_search(
    evaluate: Evaluate,
    coordinates: Mapping[str, tuple[float, float, Scale]] | Iterable[Coordinate],
    *,
    target: float,
    risk: Risk | None = None,
    max_steps: int = 10**9,
    most_evaluations: int = 100_000,
) -> Optimum:
    """The fewest steps to a target over a box of values.

    Args:
        evaluate: values by name and the most steps that count -> the crossing. The same arguments
            must give the same answer; where the target is not reached in time, the crossing's risk
            should be the smallest seen.
        coordinates: the free values: ``Coordinate``, or name -> (low, high, scale).
        target: expected loss that a crossing means, > 0.
        risk: values by name and a number of steps T >= 1 -> about the risk after T of T steps. It
            must be smooth and may be a few percent off, as ``last_risk`` is; it saves most
            evaluations.
        max_steps: the most steps that count, >= 0.
        most_evaluations: give up after so many evaluations and quick risks, >= 1, with the best.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind.
    """
    if not callable(evaluate):
        raise ValueError(f"evaluate={evaluate!r}: must be a function")
    if risk is not None and not callable(risk):
        raise ValueError(f"risk={risk!r}: must be a function or None")
    box = as_coordinates(coordinates)
    target = require_number("target", target, above=0.0)
    max_steps = require_integer("max_steps", max_steps, least=0)
    most = require_integer("most_evaluations", most_evaluations, least=1)
    state = Descent(evaluate, box, target, risk, max_steps, most)
    complete = True
    try:
        _search(state)
    except SpentError:
        complete = False
    values = None if state.place is None else state.values(state.place)
    steps = None if state.crossing is None else state.crossing.steps
    return Optimum(steps, values, state.crossing, state.evaluations, state.looks, complete)


def _search(state: Descent) -> None:
    dimension = len(state.coordinates)
    logarithm = POINTS.get(dimension, MOST_POINTS)
    if dimension == 1:
        distance = state.steps[0] * ALONG_A_LINE / 0.2
        logarithm = max(4, math.ceil(math.log2(1.0 / distance)))
    points = fill(dimension, logarithm)
    if not _reach(state, points):
        return
    lowest = [(state.look(place), index) for index, place in enumerate(points)]
    state.descend(_best(state))
    # The best is better now; what was low before is seen again.
    lowest = sorted(lowest)[: max(len(points) // 4, 8)]
    excess = np.full(len(points), HOPELESS)
    for _, index in lowest:
        excess[index] = state.look(points[index])
    size = 0.5 * len(points) ** (-1.0 / dimension) / float(np.max(state.steps))
    for place in _minima(points, excess, dimension)[:MINIMA]:
        _try(state, place, max(size, 1.0))
    cloud = fill(dimension, min(CLOUD + dimension - 1, MOST_OF_CLOUD))
    improved = True
    while improved and state.limit > 0:
        before = state.limit
        for width in CLOUDS:
            around = np.clip(_best(state) + width * (2.0 * cloud - 1.0), 0.0, 1.0)
            seen = np.array([state.look(place) for place in around])
            for place in _minima(around, seen, dimension)[:AROUND]:
                _try(state, place, max(0.3 * width / float(np.max(state.steps)), 0.05))
        improved = state.limit < before


def _reach(state: Descent, points: Array) -> bool:
    """Whether some point reaches the target; the runs get longer until one does."""
    first = points[: max(min(FIRST, len(points) // 4), 8)]
    steps = min(SHORTEST, state.max_steps)
    while state.crossing is None:
        last = steps == state.max_steps
        for place in points if last else first:
            if state.hopeless(place):
                continue
            limit = min(steps, state.limit)
            if limit < 1 or (state.excess(place, limit) <= 0.0 and state.crossing is None):
                state.evaluate(place, limit)
        if last:
            break
        steps = min(LONGER * steps, state.max_steps)
    if state.crossing is None and state.max_steps > 0:
        # No point does, but there may be a way down from the lowest ones.
        seen = sorted((state.excess(place, steps), index) for index, place in enumerate(points))
        for _, index in seen[:AROUND]:
            place, excess = state.least(points[index], steps, 1.0)
            if excess <= 0.0 and state.evaluate(place, steps).steps is not None:
                break
    return state.crossing is not None


def _try(state: Descent, start: Array, size: float) -> None:
    """Descend from a place if there is a way below the best."""
    steps = state.limit
    if steps < 1:
        return
    place, excess = state.least(start, steps, size)
    if excess > 0.0:
        return
    state.evaluate(place, steps)
    if state.limit < steps:
        state.descend(_best(state), 0.3)


def _best(state: Descent) -> Array:
    if state.place is None:
        raise RuntimeError("nothing reached the target")
    return state.place


def _minima(points: Array, excess: Array, dimension: int) -> list[Array]:
    """Places none of whose nearest neighbours is lower, the lowest first."""
    minima = []
    for index in np.argsort(excess, kind="stable").tolist():
        if excess[index] >= HOPELESS:
            break
        distance = np.sum((points - points[index]) ** 2, axis=1)
        near = np.argsort(distance, kind="stable")[: 2 * dimension + 1]
        if excess[index] <= excess[near].min():
            minima.append(points[index])
    return minima


def fill(dimension: int, logarithm: int) -> Array:
    """2^logarithm points that fill the unit cube evenly, each prefix as well as it can.

    A Sobol sequence without scrambling, moved by half its resolution from the lower ends.
    """
    import scipy.stats.qmc

    sequence = scipy.stats.qmc.Sobol(dimension, scramble=False)
    points = sequence.random_base2(logarithm)
    return np.asarray(points + 0.5 / len(points))
