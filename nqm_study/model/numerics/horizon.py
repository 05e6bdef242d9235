"""The smallest horizon whose last risk is at most a target.

With a schedule, every number of steps T is a run of its own, and L_T its last risk. L_T need not
fall with T: it may dip below the target and rise again; with under-damped momentum it swings; and
where the schedule jumps, it jitters by what one step more or less in a part of the run makes. What
is smooth is its lower bound by the modes that do not swing. So:

1. Look at horizons 1, 2, 4, ... until one is at most the target. Where three in a row show a dip
   near the target, look for its bottom. Where modes swing, and the others alone allow the target,
   walk on through the octave in steps that resolve the fastest swing; or, where the modes that
   swing slowest keep L_T far above the target by themselves, that of these.
2. Narrow the bracket, with better and better looks, to two neighbours: L_T is at most the target,
   and L_(T-1) above it.
3. Where the schedule jumps, look at some horizons before.

What can be missed is a dip that is no swing, deep, and narrower than an octave of horizons, and a
swing's dip that only just reaches the target. So the horizon found is not proved the smallest; up
to ``above`` others have looked at every one.

Where the length of a run changes nothing else, it is one run, and ``Along`` looks along it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from nqm_study.model.numerics.arrays import Integers
from nqm_study.model.numerics.bracket import height, narrow

ROUGH, FAIR, GOOD = 0, 1, 2
"""How good a look is: a percent, about 1e-4, and as good as it gets."""

PRECISION = {ROUGH: 0.05, FAIR: 1e-4, GOOD: 0.0}
"""Width of the narrowest bracket that is worth finding with such looks, over its upper end."""

LARGEST = 1e290
"""A risk that has no use any more."""

CLOSE = 1e-6
"""Relative difference of the errors of fair looks at neighbours."""

NEAR = 2.0
"""A dip whose bottom may be below the target has a look within this times the target."""

PER_SWING = 8
"""Looks for each swing of a walk."""

WALKED = 512
"""Up to this horizon, where modes swing, every octave is walked through."""

MOST = 400
"""The most looks of a walk."""

PROBES, FAR = 8, 30.0
"""A walk is worth its cost where one of this many looks is within this times the target."""

EVERY, THOROUGH = 320, 8192
"""Up to these horizons every one is looked at before a search: as long as that costs little, and
where a thorough search is asked for."""

MARGIN = 1.1
"""On a walk, what seems to be within this times the target is looked at as it is."""

PER_OCTAVE, AHEAD, TOGETHER = 16, 4, 32
"""Looks for each octave along one run, the octaves that are looked at together, and the steps."""

SETTLED = 1e-6
"""A risk that changes by less over two octaves does not change any more."""

RESTING = 1e-3
"""The same along a run whose coefficients come to rest as 1 / t: they leave as much, at most."""

ALMOST = 1e-3
"""What is not noise in a risk at rest is less than this share of it."""


class Look(NamedTuple):
    """The last risk of a run of some length, as a look shows it.

    Attributes:
        risk: L_T.
        steady: the part of it that is smooth in T, a lower bound.
        error: relative error of the risk, as estimated.
        floor: the part of it that longer runs do not take away: that of the noise.
    """

    risk: float
    steady: float
    error: float
    floor: float


class Horizon(NamedTuple):
    """The end of a search among horizons: the smallest at the target, or the least risk.

    Attributes:
        steps: the smallest horizon; None where there is none.
        risk: the last risk there; with none, the smallest risk seen.
        error: the relative error of that risk.
        at: the horizon of that risk.
        settled: whether longer runs do not change the risk any more; only where there is none.
        last: the last risk of the longest run looked at.
    """

    steps: int | None
    risk: float
    error: float
    at: int
    settled: bool
    last: float


Seen = list[tuple[int, Look]]


@dataclass(frozen=True)
class Search:
    """A search among the horizons from 1 to max_steps.

    Attributes:
        look: horizon and how good -> what is seen; asked again, it should know.
        target: the risk to reach.
        max_steps: the longest horizon.
        swinging: horizon, and whether the slowest swings alone count -> the part of L_T that is not
            steady, perhaps a little off; None: 0.
        swings: horizons from one of the fastest swings of it to the next; and so of the slowest.
        jitter: horizons over which what jumps in the schedule makes L_T jitter.
        rests: in runs this long every part of the schedule shows; a risk can be at rest from there.
        above: up to this horizon none reaches the target, as is known.
        most_walked: gives the most looks of the next walk through an octave; its steps grow where
            swings would ask for more, and an eighth as many dips are looked into.
        rest: where the risk of long runs comes to rest, however slowly; 0 where that is not known.
    """

    look: Callable[[int, int], Look]
    target: float
    max_steps: int
    swinging: Callable[[int, bool], float] | None = None
    swings: tuple[float, float] = (math.inf, math.inf)
    jitter: int = 0
    rests: int = 1024
    above: int = 0
    most_walked: Callable[[], int] = lambda: MOST
    rest: float = 0.0

    def smallest(self) -> Horizon:
        """The smallest horizon whose last risk is at most the target."""
        seen: Seen = []
        horizon = 1
        while True:
            found = self.look(horizon, ROUGH)
            seen.append((horizon, found))
            if horizon > self.above:
                narrowed = self._bracketed(seen)
                if narrowed is not None:
                    return narrowed
            late = seen[-3:][0][0] >= self.rests
            settled = late and (_settled(seen[-3:]) or self._rests_above(seen[-3:]))
            if horizon == self.max_steps or settled or _diverged(seen[-3:]):
                return self._given_up(seen, settled=settled)
            horizon = min(2 * horizon, self.max_steps)

    def _rests_above(self, last: Seen) -> bool:
        """Whether the last looks are nearly at a rest above the target, and nearer than it is."""
        near = min(ALMOST * self.rest, self.rest - self.target)
        return all(abs(each.risk - self.rest) < near for _, each in last)

    def _bracketed(self, seen: Seen) -> Horizon | None:
        """The horizon of a bracket that the last looks show, if they do."""
        walked = self._walk(seen[-2:])
        if walked is not None:
            return self._narrow(*walked, FAIR)
        dip = self._dip([(t, each.risk) for t, each in seen[-3:]])
        if dip is not None and dip > self.above:
            low = max((t for t, _ in seen if t < dip), default=0)
            return self._narrow(max(low, self.above), dip, FAIR)
        horizon, found = seen[-1]
        if found.risk <= self.target:
            low = seen[-2][0] if len(seen) > 1 else 0
            return self._narrow(max(low, self.above), horizon, ROUGH)
        return None

    def _given_up(self, seen: Seen, *, settled: bool) -> Horizon:
        """No horizon; unless a better look at the best one, or at the last one, finds it so."""
        at, _ = min(seen, key=lambda each: _order(each[1].risk))
        for horizon in sorted({at, seen[-1][0]}):
            if horizon > self.above and self.look(horizon, GOOD).risk <= self.target:
                low = max((t for t, _ in seen if t < horizon), default=0)
                return self._narrow(max(low, self.above), horizon, FAIR)
        best = self.look(at, GOOD)
        return Horizon(None, best.risk, best.error, at, settled, seen[-1][1].risk)

    def around(self, steps: int) -> Horizon:
        """The horizon that good looks find where others found it."""
        return self._narrow(steps - 1, steps, FAIR)

    def _walk(self, octave: Seen) -> tuple[int, int] | None:
        """The first neighbours on a walk between which L_T gets below the target, if it does."""
        swinging, most = self.swinging, self.most_walked()
        if swinging is None or len(octave) < 2 or most == 0:
            return None
        (low, start), (high, end) = octave
        if low < self.above:
            low, start = self.above, self.look(self.above, FAIR)
        if max(each.risk - each.steady for each in (start, end)) <= SETTLED * self.target:
            return None
        seems = self._seeming(low, high, swinging)
        if seems is None:
            return None
        fast, leap = (int(min(swing, float(high)) / PER_SWING) for swing in self.swings)
        stride = max(1, fast, (high - low) // most)
        leap -= leap % stride
        dips = most // PER_SWING
        tried = self._allowed(low, high, stride)
        passed = [(tried, start.risk if tried == low else self.look(tried, FAIR).risk)]
        while passed[-1][0] < high:
            at, place = passed[-1][0], min(passed[-1][0] + stride, high)
            if leap > stride and at >= tried:
                tried = min(at + leap, high)
                if min(seems(at, True), seems(tried, True)) > NEAR * self.target:
                    passed = [*passed[-2:], (tried, math.inf)]
                    continue
            passed = [*passed[-2:], (place, seems(place, False))]
            below = None
            if dips > 0 and _shows_dip(passed, self.target):
                below, dips = self._dip(passed), dips - 1
            if passed[-1][1] <= MARGIN * self.target and below is None:
                below = place if self.look(place, FAIR).risk <= self.target else None
            if below is not None:
                return max(t for t, _ in passed if t < below), below
        return None

    def _allowed(self, low: int, high: int, stride: int) -> int:
        """The last place of a walk up to which the steady part alone is above the target."""

        def rise(place: int) -> float:
            return height(self.look(place, FAIR).steady, self.target)

        middle = (low + high) // 2
        above, below = (low, middle) if rise(middle) <= 0.0 else (middle, high)
        if rise(low) <= 0.0 or high - low <= PER_SWING * stride:
            return low
        heights = {False: rise(above), True: rise(below)}
        last, _ = narrow(above, below, heights, rise, stride / below)
        return last - (last - low) % stride

    def _seeming(
        self, low: int, high: int, swinging: Callable[[int, bool], float]
    ) -> Callable[[int, bool], float] | None:
        """What L_T seems to be, at least, within an octave; None: it is above the target there."""
        swings = functools.cache(swinging)
        probes = range(high, low, -max(1, (high - low) // PROBES))

        def is_far(seems: Callable[[int, bool], float]) -> bool:
            return high > WALKED and all(seems(at, False) > FAR * self.target for at in probes)

        places = sorted({low, (low + high) // 2, high})
        roughly = min(self.look(place, ROUGH).steady for place in places)
        if roughly > MARGIN * self.target or is_far(swings):
            return None
        # What is smooth needs few looks; what swings is cheap to see.
        steady = [self.look(place, FAIR).steady for place in places]

        def seems(place: int, slowest: bool) -> float:
            return swings(place, slowest) + float(np.interp(place, places, steady))

        return None if min(steady) > self.target or is_far(seems) else seems

    def _dip(self, last: list[tuple[int, float]]) -> int | None:
        """A horizon below the target in a dip that three risks show, if there is one."""
        if not _shows_dip(last, self.target):
            return None
        (low, _), (middle, least), (high, _) = last
        while high - low > 2 and high > 1.001 * low:
            # The wider side is halved; the three always show the dip.
            right_side = high - middle > middle - low
            probe = (middle + high) // 2 if right_side else (low + middle) // 2
            if probe in (low, middle, high):
                break
            risk = self.look(probe, FAIR).risk
            if risk <= self.target:
                return probe
            if risk < least:
                low, middle, high = (middle, probe, high) if right_side else (low, probe, middle)
                least = risk
            elif right_side:
                high = probe
            else:
                low = probe
        return None

    def _narrow(self, low: int, high: int, quality: int) -> Horizon:
        """The horizon between low, above the target, and high, at most it, to such looks."""
        if quality == ROUGH:
            low, high = self._halve(low, high, ROUGH)
            low, high = self._move(low, high, FAIR)
        low, high = self._halve(low, high, FAIR)
        # A fair look is off by nearly the same share at neighbours: one good look tells it.
        good, fair = self.look(high, GOOD), self.look(high, FAIR)
        if good != fair and 0.0 < good.risk < LARGEST and 0.0 < fair.risk < LARGEST:
            aiming = replace(self, target=self.target * fair.risk / good.risk)
            low, high = aiming._move(low, high, FAIR)
            low, high = aiming._halve(low, high, FAIR, 0.0)
        low, high = self._move(low, high, GOOD)
        low, high = self._halve(low, high, GOOD, 0.1 * self._doubt(high))
        if self._doubt(high) * high > 1.0:
            return self._at(high)
        # Neighbours share the error of a fair look, which the one just above the target tells.
        share, fair_risk = 1.0, self.look(low, FAIR).risk if low > 0 else 0.0
        if 0.0 < fair_risk < LARGEST:
            share = self.look(low, GOOD).risk / fair_risk
        for before in range(max(1 + self.above, low - self.jitter), low):
            near = share * self.look(before, FAIR).risk <= (1.0 + CLOSE) * self.target
            if near and self.look(before, GOOD).risk <= self.target:
                return self._at(before)
        return self._at(high)

    def _at(self, horizon: int) -> Horizon:
        there = self.look(horizon, GOOD)
        # Only max_steps can have kept a bracket from growing until it held a crossing.
        steps = horizon if there.risk <= self.target else None
        return Horizon(steps, there.risk, there.error, horizon, settled=False, last=there.risk)

    def _move(self, low: int, high: int, quality: int) -> tuple[int, int]:
        """The bracket, moved and widened until such looks agree that it is one."""
        doubt = self._doubt(high) if quality == GOOD else 0.0
        width = max(1, high - low, int(doubt * high))
        while high < self.max_steps and not self.look(high, quality).risk <= self.target:
            low, high = high, min(high + width, self.max_steps)
            width *= 2
        width = max(1, high - low, int(doubt * high))
        while low > self.above and self.look(low, quality).risk <= self.target:
            low, high = max(low - width, self.above), low
            width *= 2
        return low, high

    def _doubt(self, horizon: int) -> float:
        """Share of a horizon, about, within which a good look does not tell one from the next."""
        return min(self.look(horizon, GOOD).error, CLOSE)

    def _halve(
        self, low: int, high: int, quality: int, share: float | None = None
    ) -> tuple[int, int]:
        """A bracket that is a share of its upper end wide, or one step; as narrow as looks allow.

        By the secant of ln L over ln T, and by halves where that does not get ahead.
        """

        def look(at: int) -> float:
            return height(self.look(at, quality).risk, self.target)

        heights = {True: look(high)} if low == 0 else {True: look(high), False: look(low)}
        return narrow(low, high, heights, look, PRECISION[quality] if share is None else share)


@dataclass(frozen=True)
class Along:
    """A search among the steps of one run, of which many are looked at together.

    In each octave the risk is looked at ``PER_OCTAVE`` times, and closer where it gets to the
    target or shows a dip that may. What can be missed is a dip that is narrower.

    Attributes:
        looks: ascending steps and how good -> what is seen after each.
        target: the risk to reach.
        max_steps: the most steps that count.
        above: up to this step, > 0, none reaches the target, as is known.
        rests: in runs this long every part of the schedule shows; a risk can be at rest from there.
    """

    looks: Callable[[Integers, int], list[Look]]
    target: float
    max_steps: int
    above: int
    rests: int = 1024

    def smallest(self) -> Horizon:
        """The first step whose risk is at most the target."""
        seen: Seen = []
        dips = PER_OCTAVE
        while True:
            ahead = np.arange(0.0 if not seen else 1.0, AHEAD * PER_OCTAVE + 1.0) / PER_OCTAVE
            low, new = seen[-1][0] if seen else self.above, max(1, len(seen) - 1)
            ends = np.unique(np.minimum(low * 2.0**ahead, self.max_steps).astype(np.int64))
            seen += zip(ends.tolist(), self.looks(ends, FAIR), strict=True)
            for at in range(new, len(seen)):
                last = [(step, each.risk) for step, each in seen[at - 1 : at + 2]]
                dip = dips > 0 and _shows_dip(last, self.target)
                dips -= dip
                if last[1][1] <= self.target or dip:
                    found = self._within(last[0][0], last[2 if dip else 1][0])
                    if found is not None:
                        return found
            octaves = seen[-1 : -2 * PER_OCTAVE - 2 : -PER_OCTAVE]
            settled = octaves[-1][0] >= self.rests and _settled(octaves, RESTING)
            if seen[-1][0] == self.max_steps or settled or _diverged(seen[-3:]):
                return self._given_up(seen, settled=settled)

    def around(self, steps: int) -> Horizon:
        """The step that good looks find where others found it."""
        return self._first(steps, steps // PER_OCTAVE) or self.smallest()

    def _given_up(self, seen: Seen, *, settled: bool) -> Horizon:
        """No step; unless a better look at the least risk finds one."""
        at = min(seen, key=lambda each: _order(each[1].risk))[0]
        found = self._first(at, at // PER_OCTAVE)
        if found is not None:
            return found
        best = self.looks(np.array([at]), GOOD)[0]
        return Horizon(None, best.risk, best.error, at, settled, seen[-1][1].risk)

    def _within(self, low: int, high: int) -> Horizon | None:
        """The first step at the target above ``low`` and up to ``high``, if there is one."""
        span = high - low
        while high - low > max(TOGETHER, CLOSE * high):
            points = np.unique(np.linspace(low, high, TOGETHER + 1).astype(np.int64))
            risks = [each.risk for each in self.looks(points[1:], FAIR)]
            least = min(range(len(risks)), key=risks.__getitem__)
            below = next((at for at, risk in enumerate(risks) if risk <= self.target), least)
            end = below + (risks[below] > self.target)  # a dip's bottom may be on either side
            if end == len(risks) or not risks[below] <= MARGIN * self.target:
                return None
            low, high = int(points[below]), int(points[end + 1])
        return self._first(high, span)

    def _first(self, near: int, reach: int) -> Horizon | None:
        """The first step at the target, by good looks, within ``reach`` of one."""
        aside = np.unique(np.geomspace(1, max(reach, 1), TOGETHER // 2).astype(np.int64))
        points = np.concatenate((near - aside[::-1], [near], near + aside))
        points = points[(points > self.above) & (points <= self.max_steps)]
        low, found = self.above, None
        while True:
            each = self.looks(points, GOOD)
            below = next((at for at, look in enumerate(each) if look.risk <= self.target), None)
            if below is None:
                return found
            low, high = int(points[below - 1]) if below else low, int(points[below])
            look = each[below]
            found = Horizon(high, look.risk, look.error, high, settled=False, last=look.risk)
            if high - low <= max(1.0, min(look.error, CLOSE) * high):
                return found
            points = np.unique(np.linspace(low, high, TOGETHER + 1).astype(np.int64))[1:]


def _shows_dip(last: list[tuple[int, float]], target: float) -> bool:
    """Whether three risks show a dip that may go down to the target."""
    if len(last) < 3:
        return False
    left, least, right = (risk for _, risk in last)
    return least < left and least < right and least < NEAR * target


def counted(
    look: Callable[[int, int], Look], target: float, counts: Callable[[int], bool]
) -> Callable[[int, int], Look]:
    """The same looks, where a horizon at the target that does not count is far above it."""

    def counting(horizon: int, quality: int) -> Look:
        seen = look(horizon, quality)
        if seen.risk <= target and not counts(horizon):
            return seen._replace(risk=math.inf)
        return seen

    return counting


def _order(risk: float) -> float:
    return risk if math.isfinite(risk) else math.inf


def _diverged(last: Seen) -> bool:
    """Whether the last three looks saw no finite risk."""
    return len(last) == 3 and not any(each.risk < LARGEST for _, each in last)


def _settled(last: Seen, within: float = SETTLED) -> bool:
    """Whether the last three looks saw the same risk, with nothing but noise left in it."""
    first = last[0][1].risk
    seen = [each for _, each in last]
    return len(last) == 3 and all(
        abs(each.risk - first) <= within * first < LARGEST
        and abs(each.risk - each.floor) <= ALMOST * first
        for each in seen
    )
