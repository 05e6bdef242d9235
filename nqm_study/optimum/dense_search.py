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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nqm_study.model.numerics import simplex
from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.require import require_integer, require_number
from nqm_study.model.outcome import Crossing

Scale = Literal["linear", "log", "log_one_minus"]

SCALES: tuple[Scale, ...] = ("linear", "log", "log_one_minus")
"""The value itself, its logarithm, and the logarithm of 1 - value."""


@dataclass(frozen=True)
class Coordinate:
    """One free value and its range, both ends included.

    Args:
        name: what it is called among the values.
        low: the smallest value; > 0 where the scale is ``log``.
        high: the largest value, > low; < 1 where the scale is ``log_one_minus``.
        scale: on which a search takes even steps: ``linear``, ``log`` or ``log_one_minus``.

    Raises:
        ValueError: if a value is outside its range.
    """

    name: str
    low: float
    high: float
    scale: Scale = "log"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name={self.name!r}: must be a string that is not empty")
        if self.scale not in SCALES:
            raise ValueError(
                f"{self.name}.scale={self.scale!r}: must be one of {', '.join(SCALES)}"
            )
        above = 0.0 if self.scale == "log" else None
        below = 1.0 if self.scale == "log_one_minus" else None
        low = require_number(f"{self.name}.low", self.low, above=above)
        require_number(f"{self.name}.high", self.high, above=low, below=below)

    @property
    def span(self) -> float:
        """The length of the range on its scale."""
        return abs(self._scaled(self.high) - self._scaled(self.low))

    def at(self, fraction: float) -> float:
        """The value at a fraction of the range, from 0 (low) to 1 (high)."""
        if fraction <= 0.0:
            return float(self.low)
        if fraction >= 1.0:
            return float(self.high)
        first, last = self._scaled(self.low), self._scaled(self.high)
        scaled = first + fraction * (last - first)
        value = scaled
        if self.scale == "log":
            value = math.exp(scaled)
        elif self.scale == "log_one_minus":
            value = -math.expm1(scaled)
        return min(max(value, float(self.low)), float(self.high))

    def fraction(self, value: float) -> float:
        """The fraction of the range at which a value is; the inverse of ``at``."""
        first, last = self._scaled(self.low), self._scaled(self.high)
        inside = min(max(value, float(self.low)), float(self.high))
        return (self._scaled(inside) - first) / (last - first)

    def _scaled(self, value: float) -> float:
        if self.scale == "log":
            return math.log(value)
        return math.log1p(-value) if self.scale == "log_one_minus" else float(value)


def as_coordinates(
    given: Mapping[str, tuple[float, float, Scale]] | Iterable[Coordinate],
) -> tuple[Coordinate, ...]:
    """Coordinates from themselves, or from name -> (low, high, scale).

    Raises:
        ValueError: if there is none, two share a name, or one is outside its range.
    """
    if isinstance(given, Mapping):
        try:
            given = [
                Coordinate(name, low, high, scale) for name, (low, high, scale) in given.items()
            ]
        except TypeError as error:
            raise ValueError(
                f"coordinates={given!r}: must map names to (low, high, scale)"
            ) from error
    coordinates = tuple(given)
    if not coordinates:
        raise ValueError("coordinates=(): must have at least one")
    for index, each in enumerate(coordinates):
        if not isinstance(each, Coordinate):
            raise ValueError(f"coordinates[{index}]={each!r}: must be a Coordinate")
    names = [each.name for each in coordinates]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"coordinates: {name} must be given once, not {names.count(name)} times"
            )
    return coordinates


Evaluate = Callable[[Mapping[str, float], int], Crossing]
"""Values and the most steps that count -> the crossing."""

Risk = Callable[[Mapping[str, float], int], float]
"""Values and a number of steps -> about the risk after them."""

HOPELESS = 1e3
"""Stands for the logarithm of a risk that is no number."""

BARRED = 1.0
"""The excess where the loss grows too much on the way."""

CALLS = 60
"""The most probes of one simplex, for each coordinate."""

STEP = 0.2
"""Size of the first simplex of a descent, on a log scale; 1/16 of the range on a linear one."""

ROUGH, FLAT = 1e-3, 0.01
"""A simplex is done where its values are as near in the logarithm of the risk: roughly, and for the
end, times 1 / T, so that a small part of a step is left."""

SMALL = 3e-3
"""And where it is as small, as a share of the ranges."""

FAR = 20.0
"""A simplex is given up where it misses the target by so many times its values' difference."""

ANEW = 30.0
"""A descent's simplex begins anew while so many times that near are gained."""

CLOSE = 0.01
"""Share of the steps from which on a descent is for the end."""


class SpentError(Exception):
    """The limit on evaluations and quick risks is used up."""


class Descent:
    """The best values so far, as fractions of their ranges, and descents from a place."""

    def __init__(
        self,
        evaluate: Evaluate,
        coordinates: tuple[Coordinate, ...],
        target: float,
        risk: Risk | None,
        max_steps: int,
        most_evaluations: int,
    ) -> None:
        self._evaluate, self._risk = evaluate, risk
        self.coordinates, self.target, self.max_steps = coordinates, target, max_steps
        self._most = most_evaluations
        self.evaluations = self.looks = 0
        self.place: Array | None = None
        self.crossing: Crossing | None = None
        self._share = 0.0  # log of what the quick risk is off by, at the best place
        self._hopeless: set[bytes] = set()
        steps = [STEP / each.span if each.scale != "linear" else 1.0 / 16.0 for each in coordinates]
        self.steps = np.minimum(steps, 0.25)

    @property
    def limit(self) -> int:
        """The most steps that are better than the best."""
        best = None if self.crossing is None else self.crossing.steps
        return self.max_steps if best is None else min(best - 1, self.max_steps)

    def values(self, place: Array) -> dict[str, float]:
        """The values at a place."""
        pairs = zip(self.coordinates, place.tolist(), strict=True)
        return {each.name: each.at(fraction) for each, fraction in pairs}

    def place_of(self, values: Mapping[str, float]) -> Array:
        """The place of some values, inside the box."""
        return np.array([each.fraction(values[each.name]) for each in self.coordinates])

    def hopeless(self, place: Array) -> bool:
        """Whether an evaluation or an overflow there showed that no number of steps will do."""
        return place.tobytes() in self._hopeless

    def evaluate(self, place: Array, most_steps: int) -> Crossing:
        """The crossing at a place within ``most_steps``, which is kept if it is the best."""
        self._spend()
        self.evaluations += 1
        found = self._evaluate(self.values(place), most_steps)
        if found.status in ("diverged", "floor_above_target"):
            self._hopeless.add(place.tobytes())
        if found.steps is not None and found.steps <= min(self.limit, most_steps):
            self.place, self.crossing = place.copy(), found
            if self._risk is not None and found.steps > 0:
                self._share = 0.0
                off = self._log_risk(place, found.steps) - _log(found.risk)
                self._share = off if abs(off) < 1.0 else 0.0
        return found

    def excess(self, place: Array, steps: int) -> float:
        """log(L_T / target) at a place after ``steps``; at most 0 where the target is reached.

        By evaluation, where there is no quick risk. What is evaluated and reaches the target early
        is the lower the earlier, and of two alike, the lower the last risk.
        """
        if self._risk is not None:
            found = self._log_risk(place, steps) - math.log(self.target)
            if found >= HOPELESS:
                self._hopeless.add(place.tobytes())
            return min(found, HOPELESS)
        crossing = self.evaluate(place, steps)
        over = _log(crossing.risk) - math.log(self.target)
        if crossing.steps is None:
            return max(over, 1e-12)
        part = min(1.0, -over * crossing.steps) if over < 0.0 else 0.0
        return math.log(max(crossing.steps - part, 0.5) / (steps + 1))

    def look(self, place: Array) -> float:
        """The excess one step before the best; what seems to be better is evaluated."""
        return self.certain(place, self.limit)

    def certain(self, place: Array, steps: int) -> float:
        """The excess after ``steps``, above 0 where an evaluation shows that it is missed."""
        excess = self.excess(place, steps) if steps > 0 else HOPELESS
        if excess <= 0.0 and self._risk is not None:
            found = self.evaluate(place, steps)
            if found.steps is None:
                return BARRED if found.status == "diverged" else 1e-9
        return excess

    def descend(self, place: Array, size: float = 1.0) -> None:
        """From a place at the target, go to the least steps around.

        The place of least risk after T steps reaches the target in fewer; from there again, and
        roughly as long as that gains much. Where that place does not count, since the loss grows on
        the way there, the way is along where it begins to.
        """
        rough, excess = True, self.excess
        while (before := self.limit) > 0:
            near = ROUGH if rough else FLAT / before
            found = self.least(place, before, size, near, excess)[0]
            status = self.evaluate(found, before).status
            if self.limit < before:
                place, size = found, min(size, 0.3)
                rough = rough and self.limit < (1.0 - CLOSE) * before
            elif status == "diverged" and excess != self.certain:
                excess = self.certain
            elif rough:
                rough = False
            else:
                return

    def least(
        self,
        start: Array,
        steps: int,
        size: float,
        near: float,
        excess: Callable[[Array, int], float],
        *,
        below: bool = False,
    ) -> tuple[Array, float]:
        """A local minimum of the excess after ``steps``, and its value.

        Args:
            start: where the simplex begins.
            steps: the length of the runs.
            size: of the simplex, in units of ``steps``.
            near: how near its values are in the end.
            excess: ``excess`` or ``certain``.
            below: whether only what is at most 0 counts.
        """
        place, value = start, math.inf
        box = np.zeros(start.size), np.ones(start.size)
        while True:
            # Away from the nearer end of each range, so that the simplex is not flat.
            sides = size * np.where(place + size * self.steps > 1.0, -self.steps, self.steps)
            found, least = simplex.least(
                lambda x: excess(x, steps), place, sides.tolist(), box,
                lambda size, least, most: (
                    (size <= SMALL and most - least <= near)
                    or (below and least > FAR * (most - least))
                ),
                CALLS * start.size,
            )  # fmt: skip
            gained = value - least
            if gained > 0.0:
                place, value = found, least
            if below or gained <= ANEW * near or start.size == 1:
                return place, value
            size *= 0.5

    def _log_risk(self, place: Array, steps: int) -> float:
        self._spend()
        self.looks += 1
        risk = self._risk(self.values(place), steps)  # type: ignore[misc]  # asked where there is one
        return _log(risk) - self._share

    def _spend(self) -> None:
        if self.evaluations + self.looks >= self._most:
            raise SpentError


def _log(risk: float) -> float:
    """log(risk), kept within what can be compared; no number is worst."""
    if not risk < math.inf:
        return 2.0 * HOPELESS
    return max(math.log(risk), -HOPELESS) if risk > 0.0 else -HOPELESS


MOST_EVALUATIONS = 100_000
"""The most evaluations and quick risks of a search, where no other limit is given."""

ALONG_A_LINE = 0.12
"""The most distance of neighbours, on a log scale, where there is one coordinate."""

POINTS = {2: 8, 3: 9, 4: 9}
"""Binary logarithms of the number of points by dimension."""

MOST_POINTS = 10
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


CREEP = 5e-4
"""The clouds are drawn again while that gains such a share of the steps."""


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
    starts: Iterable[Mapping[str, float]] = (),
    max_steps: int = 10**9,
    most_evaluations: int = MOST_EVALUATIONS,
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
        starts: values that are likely to be near the best; the search begins with them.
        max_steps: the most steps that count, >= 0.
        most_evaluations: the most evaluations and quick risks, >= 1; the best so far counts.

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
        for start in starts:
            state.evaluate(state.place_of(start), state.limit)
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
    state.descend(_best(state))
    before = state.limit
    excess = np.array([state.look(place) for place in points])
    if state.limit < before:
        state.descend(_best(state))
        # The best is better now; what was low before is seen again.
        lowest = np.argsort(excess, kind="stable")[: max(len(points) // 4, 8)]
        excess = np.full(len(points), HOPELESS)
        for index in lowest.tolist():
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
        improved = before - state.limit >= max(1.0, CREEP * before)


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
            place, excess = state.least(points[index], steps, 1.0, ROUGH, state.excess)
            if excess <= 0.0 and state.evaluate(place, steps).steps is not None:
                break
    return state.crossing is not None


def _try(state: Descent, start: Array, size: float) -> None:
    """Descend from a place if there is a way below the best."""
    steps = state.limit
    if steps < 1:
        return
    place, excess = state.least(start, steps, size, FLAT / steps, state.excess, below=True)
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
