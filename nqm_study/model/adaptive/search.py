"""Searches along runs of Adam's closure: the first step, or the smallest horizon, at the target."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from nqm_study.model.adaptive.rest import Rest
from nqm_study.model.adaptive.run import Closure, Moments
from nqm_study.model.numerics.horizon import EVERY, GOOD, ROUGH, THOROUGH, Look, Search, counted
from nqm_study.model.outcome import Crossing, Status

STEPS_PER_CHECK = 256
"""Steps between two looks at whether the risk has settled."""

CLOSE_BY = 512
"""The last steps before a crossing, which are stepped through."""

WORK, THOROUGH_WORK = 2**21, 2**26
"""What looking at every horizon may cost, in steps of a node: 20 ms and 0.7 s."""


class Found(NamedTuple):
    """What a search came to.

    Attributes:
        crossing: its steps, status and risk.
        change: by how much one step more, or a horizon longer by one, changes the risk; 0 where
            the target was not reached.
    """

    crossing: Crossing
    change: float = 0.0


def first_step(
    closure: Closure,
    target: float,
    max_steps: int,
    initial: float,
    max_growth: float | None = None,
) -> Found:
    """The first step of a run whose risk is at most the target."""
    closure = closure.within(max_steps)
    here, best, rest = closure.start(), initial, None
    stepped = True
    while here.steps < max_steps and not closure.budget.spent:
        length = closure.stretch(here, max_steps)
        stepped = stepped and length == 0
        count = min(STEPS_PER_CHECK, max_steps - here.steps)
        if length > 0:
            here, count = _onwards(closure, here, length, target, max_steps)
        reached, least = closure.step(here, count, target)
        risk = closure.risk(here)
        best = min(best, least, risk)
        if reached or risk <= target:
            if max_growth is not None and not here.highest <= max_growth * initial:
                return Found(Crossing(None, "diverged", risk))
            crossing = Crossing(here.steps, "reached", risk, smallest=stepped)
            return Found(crossing, _slope(closure, here))
        if not here.finite:
            return Found(Crossing(None, "diverged", best, smallest=stepped))
        rest = rest or Rest.of(closure)
        if rest.above(target, here):
            return Found(Crossing(None, "floor_above_target", best, smallest=stepped))
    return Found(Crossing(None, "max_steps", best, smallest=stepped))


def _onwards(
    closure: Closure, here: Moments, length: int, target: float, max_steps: int
) -> tuple[Moments, int]:
    """Jump so far where no crossing is passed; where it is, to shortly before it.

    Where the work is spent it is to the first step that is known to be at the target.

    Returns:
        Where one comes to, and how many of the next steps may hold the crossing.
    """
    there = here.copy()
    closure.jump(there, length)
    if not closure.risk(there) <= target:
        dip = _dip(closure, here, there, target)
        if dip is None:
            return there, 0
        here, there = dip
    while there.steps - here.steps > CLOSE_BY:
        if closure.budget.spent:
            return there, 0
        middle = _between(closure, here, there)
        if closure.risk(middle) <= target:
            there = middle
        else:
            here = middle
    # A jump and as many steps differ in some of the last digits.
    return here, min(there.steps + CLOSE_BY, max_steps) - here.steps


def _dip(
    closure: Closure, here: Moments, there: Moments, target: float
) -> tuple[Moments, Moments] | None:
    """Where the risk falls first and rises then: the way to its least value, if that may do."""
    first, last = _slope(closure, here), _slope(closure, there)
    if closure.budget.spent or not first < 0.0 < last:
        return None
    low, high = closure.risk(here), closure.risk(there)
    # Between the tangents at both ends a curve without a turning point cannot go lower than where
    # they meet.
    length = there.steps - here.steps
    meeting = (high - low - last * length) / (first - last)
    if low + first * meeting > target:
        return None
    start = here
    while there.steps - here.steps > CLOSE_BY:
        if closure.budget.spent:
            return None
        middle = _between(closure, here, there)
        if closure.risk(middle) <= target:
            return start, middle
        if _slope(closure, middle) < 0.0:
            here = middle
        else:
            there = middle
    return here, there


def _between(closure: Closure, here: Moments, there: Moments) -> Moments:
    """Half way from one to the other."""
    middle = here.copy()
    closure.jump(middle, (there.steps - here.steps) // 2)
    return middle


def _slope(closure: Closure, moments: Moments) -> float:
    """By how much the next step changes the risk."""
    after = moments.copy()
    closure.step(after, 1)
    return closure.risk(after) - closure.risk(moments)


def every_horizon(closure: Closure, *, thorough: bool) -> int:
    """Up to which horizon it costs little to look at every one."""
    most, work = (THOROUGH, THOROUGH_WORK) if thorough else (EVERY, WORK)
    return min(most, math.isqrt(2 * work // closure.nodes.curvature.size))


def shortest_run(
    closure: Closure,
    target: float,
    max_steps: int,
    initial: float,
    max_growth: float | None = None,
    *,
    thorough: bool = False,
) -> Found:
    """The smallest horizon whose last risk is at most the target."""
    floor = Rest.of(closure).floor
    looks: dict[tuple[int, bool], Look] = {}

    def look(horizon: int, quality: int) -> Look:
        # With half of the work spent, rough looks have to do.
        roughly = (quality == ROUGH or closure.budget.low) and horizon > closure.stepped
        if (horizon, not roughly) in looks and closure.budget.spent:
            roughly = not roughly
        if (horizon, roughly) not in looks:
            run = closure.within(horizon, roughly=roughly)
            moments = run.after(horizon)
            risk = run.risk(moments)
            looks[horizon, roughly] = Look(risk, risk, 0.0, floor)
            grown[horizon, roughly] = not moments.highest <= limit
        return looks[horizon, roughly]

    def counts(horizon: int) -> bool:
        look(horizon, GOOD)
        return not grown.get((horizon, False), grown.get((horizon, True), True))

    grown: dict[tuple[int, bool], bool] = {}
    limit = math.inf if max_growth is None else max_growth * initial
    every = min(max_steps, every_horizon(closure, thorough=thorough))
    for horizon in range(1, every + 1):
        if look(horizon, GOOD).risk <= target and counts(horizon):
            return _found(look, horizon, initial, smallest=True)
    search = Search(look, target, max_steps, above=every)
    found = search.smallest()
    if found.steps is not None and not counts(found.steps):
        found = Search(counted(look, target, counts), target, max_steps, above=every).smallest()
    if found.steps is not None:
        return _found(look, found.steps, initial, smallest=False)
    status: Status = "floor_above_target" if found.settled else "max_steps"
    if any(seen.risk <= target for seen in looks.values()):
        status = "diverged"
    best = min(initial, found.risk)
    return Found(Crossing(None, status, best, smallest=every >= max_steps))


def _found(
    look: Callable[[int, int], Look], horizon: int, initial: float, *, smallest: bool
) -> Found:
    """What a search came to that found a horizon."""
    risk = look(horizon, GOOD).risk
    shorter = look(horizon - 1, GOOD).risk if horizon > 1 else initial
    return Found(Crossing(horizon, "reached", risk, smallest=smallest), risk - shorter)
