"""The fewest steps of a linear family at a constant rate; optimum/tuned.py says how and why."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import numpy as np

from nqm_study.model.linear import kernels
from nqm_study.model.linear.members import LEAST_LOG_GAP, OVERFLOW, RANKED, Family, Members, Point
from nqm_study.model.linear.risks import Found, search
from nqm_study.model.problems.problem import Problem

RATE = math.log(1.12)
"""Distance of neighbouring rates of the grid."""

GAP = math.log(1.3)
"""Distance of neighbouring values of 1 - decay of the grid."""

HIGHER = 2.5
"""The grid goes up to this times the largest rate of plain SGD; heavy ball is stable up to 2."""

COARSE = 27
"""Distance of neighbours in the coarse grid, in units of the finest one's."""

SPACINGS = (9, 3, 1)
"""Distances of the finer grids, in the same units."""

REFINED = 150
"""The most points around which a finer grid is made."""

WORSE = 1.3
"""Searches on the coarse grid are cut off at this times the best."""

SLOWER = 8.0
"""The grid goes down to the best rate of plain SGD divided by this."""

MEMORY = 30.0
"""The grid goes up to a memory 1 / (1 - decay) of this times the best steps so far."""

HOPELESS = 8
"""So many neighbouring rates in a row whose noise alone exceeds the target: larger ones do too."""

POLISHED = 50
"""The most points of the grid that are polished at a time."""

LONGEST = 10**15
"""The most steps of any search."""

Place = tuple[int, int]
"""A point in units of the finest grid's distances."""


class Tuning:
    """One search for a family's fewest steps: its grid, and the best member so far."""

    def __init__(
        self, problem: Problem, family: Family, target: float, max_steps: int = LONGEST
    ) -> None:
        self.problem, self.family, self.target = problem, family, target
        self.max_steps = max_steps
        self.members = Members(problem, family, target)
        self.steps = LONGEST + 1
        self.point: Point | None = None
        self.bottom = 0.0
        self.grid: dict[Place, int] = {}
        """Steps by place, in units of the finest distance."""

    def best(self) -> tuple[int, Point] | None:
        """The fewest steps and where they are taken; None where no member takes few enough."""
        self._fill()
        if self.point is None or self.max_steps == 0:
            return None
        self._descend(self.point, self.steps)
        improved = True
        while improved and self._fewer > 0:
            before = self.steps
            for start in self._promising(self.point, self._fewer):
                point, excess = self.members.least(start, self._fewer)
                if excess <= 0.0 and (steps := self._reached(point, self._fewer)) is not None:
                    self._descend(point, steps)
            improved = self.steps < before
        return (self.steps, self.point) if self.steps <= self.max_steps else None

    @property
    def _fewer(self) -> int:
        """The most steps that are better than the best so far."""
        return min(self.steps - 1, self.max_steps)

    def _fill(self) -> None:
        """Find the best member without the decay, then search the lines of the grid."""
        top = math.log(HIGHER * largest_rate(self.problem, self.family, self.target))
        self._line(((top - i * RATE, 0.0) for i in itertools.count()), downwards=True)
        if self.point is None or self.family.decay is None:
            return
        self.bottom = self.point[0] - math.log(SLOWER)
        self.grid.clear()  # the coming lines are counted from here
        for j in itertools.count():
            if j * GAP > min(math.log(MEMORY * self.steps), -LEAST_LOG_GAP):
                return
            highest = top + (j * GAP if self.family.decay == "momentum" else 0.0)
            number = math.ceil((highest - self.bottom) / RATE)
            self._line(self._at((i * COARSE, -j * COARSE)) for i in range(number))

    def _line(self, points: Iterable[Point], *, downwards: bool = False) -> None:
        """Search the members along a line of the grid, until none further on can be better."""
        most_steps = min(math.ceil(WORSE * self.steps), LONGEST)
        level = self.problem.spectrum.first_level
        bench = self.members.bench(level)
        found: dict[Point, Found] = {}
        in_vain, most = 0, most_steps
        for point in points:
            now = found[point] = bench.search(point, most)
            if now.reason == kernels.REACHED:
                most = min(most, math.ceil(WORSE * now.step))
            # Going down, what ends a line is that it takes too long; going up, that the noise alone
            # exceeds the target.
            too_long = now.reason == kernels.MAX_STEPS
            ends = too_long == downwards and now.reason != kernels.REACHED
            in_vain = in_vain + 1 if ends else 0
            if in_vain == HOPELESS:
                break
        self._settle(found, level, most_steps)

    def _settle(self, found: dict[Point, Found], level: int, most_steps: int) -> None:
        """Search again those members whom a finer compression changes, and keep the best.

        Errors that are small enough for ranking are let be; the best is searched for certain.
        """
        unsure = found
        while level < self.members.last_level and unsure:
            # One step tells: the crossing, or else that of the smallest risk.
            steps = [now.risk_step for now in unsure.values()]
            finer = self.members.excesses(list(unsure), steps, level + 1)
            level += 1
            ours = np.array([now.risk for now in unsure.values()])
            with np.errstate(divide="ignore"):
                ours = np.clip(np.log(ours / self.target), -OVERFLOW, OVERFLOW)
            unsure = {
                point: found[point]
                for point, error in zip(unsure, np.abs(ours - finer), strict=True)
                if error > RANKED
            }
            if unsure:
                bench = self.members.bench(level)
            for point in unsure:
                unsure[point] = found[point] = bench.search(point, most_steps)
        reached = {p: now.step for p, now in found.items() if now.reason == kernels.REACHED}
        for point, taken in reached.items():
            self.grid[self._place(point)] = taken
        for point in sorted(reached, key=lambda point: reached[point]):
            if reached[point] >= self.steps:
                break
            certain = self._reached(point, self.steps)
            if certain is not None:
                self._keep(point, certain)

    def _reached(self, point: Point, most_steps: int) -> int | None:
        """The first crossing of a member, for certain; None where it takes more steps."""
        optimizer = self.family.optimizer(point)
        found = search(self.problem, optimizer, self.target, min(most_steps, LONGEST))
        return found.step if found.reason == kernels.REACHED else None

    def _keep(self, point: Point, steps: int) -> None:
        if steps < self.steps:
            self.point, self.steps = point, steps

    def _at(self, place: Place) -> Point:
        i, j = place
        return self.bottom + i * RATE / COARSE, j * GAP / COARSE

    def _inside(self, place: Place) -> bool:
        _, log_gap = self._at(place)
        return place[1] == 0 or LEAST_LOG_GAP <= log_gap < 0.0

    def _around(self, place: Place, spacing: int) -> Iterator[Place]:
        """The place and its neighbours, along the rates alone where there is no decay."""
        i, j = place
        decays = (j - spacing, j, j + spacing) if self.family.decay is not None else (j,)
        return itertools.product((i - spacing, i, i + spacing), decays)

    def _place(self, point: Point) -> Place:
        return round((point[0] - self.bottom) * COARSE / RATE), round(point[1] * COARSE / GAP)

    def _promising(self, best: Point, steps: int) -> list[Point]:
        """Points from which a descent may reach the target within a number of steps.

        Whoever can reach it shows a low risk there: these are local minima of the risk on a grid
        that is made finer around its lowest points.
        """
        level = self.members.level(best, steps, RANKED)
        near = [place for place, taken in self.grid.items() if taken <= WORSE * self.steps]
        near.append(self._place(best))
        risks: dict[Place, float] = {}
        self._look(risks, near, steps, level)
        for spacing in SPACINGS:
            lowest = sorted(risks, key=lambda place: (risks[place], place))[:REFINED]
            around = {each for centre in lowest for each in self._around(centre, spacing)}
            self._look(risks, filter(self._inside, around - risks.keys()), steps, level)
        finest = SPACINGS[-1]
        minima = []
        for place, risk in risks.items():
            rises = [risks.get(each, math.inf) - risk for each in self._around(place, finest)]
            # Where it rises by less than what is missing, no dip between can make up for it.
            if min(rises) >= 0.0 and risk <= max(rises):
                minima.append((risk, place))
        return [self._at(place) for _, place in sorted(minima)[:POLISHED]]

    def _look(
        self, risks: dict[Place, float], places: Iterable[Place], steps: int, level: int
    ) -> None:
        """Add the logarithms of the risks at some places."""
        new = list(places)
        found = self.members.excesses([self._at(place) for place in new], steps, level)
        risks.update(zip(new, found.tolist(), strict=True))

    def _descend(self, point: Point, steps: int) -> None:
        """Find the smallest T at which the least risk, from a point on, is at most the target."""
        self._keep(point, steps)
        below: tuple[int, float] | None = None  # where the target is missed, and by how much
        above: tuple[int, float] | None = None  # where it is met
        stride, trials = 0.02, 0
        while steps - (below[0] if below else 0) > 1:
            if below is None:  # longer strides as long as they succeed
                trial = min(max(steps - max(1, round(stride * steps)), 1), self.max_steps)
                stride *= 2.0
            else:
                trials += 1
                trial = _between(below, above, steps, bisect=trials % 3 == 0)
            moved, excess = self.members.least(point, trial)
            reached = self._reached(moved, trial) if excess <= 0.0 else None
            if reached is None:
                if trial == self.max_steps:  # what lies above does not count
                    return
                below = trial, max(excess, 0.0)
                continue
            above, point, steps = (trial, excess), moved, reached
            self._keep(point, steps)


def _between(
    below: tuple[int, float], above: tuple[int, float] | None, steps: int, *, bisect: bool
) -> int:
    """The next number of steps to try between those that fail and those that succeed.

    The least risk is nearly linear over a few steps, so it is where the target is met by that, or
    else in the middle.
    """
    failed, missed = below
    if bisect or above is None or missed - above[1] <= 0.0 or abs(missed) == OVERFLOW:
        return (steps + failed + 1) // 2
    crossing = failed + (above[0] - failed) * missed / (missed - above[1])
    return min(max(math.ceil(crossing), failed + 1), steps - 1)


def largest_rate(problem: Problem, family: Family, target: float) -> float:
    """A rate above which no member can reach the target, of plain SGD with this preconditioner.

    A mode at x = lr P h > 2 grows, by (1 - x)^2 in the first step: with weight w in the signal
    its part of the risk is above the target from then on unless w (1 - x)^2 <= target.
    """
    modes = problem.spectrum.signal
    scale = family.optimizer((0.0, 0.0)).preconditioner(modes.curvature)
    with np.errstate(over="ignore"):
        most = np.maximum(2.0, 1.0 + np.sqrt(target / modes.weight))
    return float(np.min(most / (scale * modes.curvature)))
