"""The search for the fewest steps; optimal.py says how it goes and why."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nqm_study.model.linear.risks import ROUNDING, SAFETY, TOLERANCE
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.schedules.computed.least_risk import (
    FULL,
    ROUGH,
    SHORT,
    Array,
    Effort,
    Integers,
    Minimum,
    Runs,
    Work,
    by_risk,
    edges,
    lifted,
)

FINALISTS = 3
"""Of all the starts, so many are followed to the end."""


GAIN = 1e-4
"""Pieces are doubled until yet more of them are expected to save less than this share of steps."""

SLOW = 0.9
"""The largest ratio of the gains of two doublings that is counted on."""

Make = Callable[[int, Integers, Work], Runs]
"""The runs on a level of compression, with some pieces, and the work they may take."""


class Settled(NamedTuple):
    """A result of a search: the fewest steps, and the best at one step less.

    Attributes:
        level: compression of the spectrum.
        cuts: where pieces begin, as in ``Runs``.
        below, found: the neighbouring T on both sides of the target.
        error: relative error of their risks by the compression.
    """

    level: int
    cuts: Integers
    below: Minimum
    found: Minimum
    error: float


class NotReachedError(ValueError):
    """No schedule that was found reaches the target within the most steps.

    Attributes:
        risk: the smallest last risk found.
    """

    def __init__(self, most: int, risk: float, target: float) -> None:
        super().__init__(
            f"max_steps={most}: must be more, since the smallest risk after as many is {risk:g}, "
            f"above target={target:g}"
        )
        self.risk = risk


def first(runs: Runs) -> Minimum:
    """Rates that reach the target in about the fewest steps, roughly minimised.

    Raises:
        NotReachedError: if they are not found within the most steps.
    """
    steps = min(runs.pieces, runs.most)
    seen = [Minimum(0, np.full(1, runs.stable), math.inf, 0.0)]
    while True:
        start = seen[-1].rates
        if len(seen) == 1:
            start = min(runs.starts(steps), key=lambda rates: runs.last_risk(steps, rates)[0])
        found = runs.minimise(steps, start, ROUGH)
        if found.risk > runs.target and steps == runs.most:
            every = (found.rates, *runs.starts(steps))
            found = min((runs.minimise(steps, rates) for rates in every), key=by_risk)
        if found.risk <= runs.target:
            return _narrowed(runs, seen[-1], found, ROUGH)[1]
        if steps == runs.most:
            raise NotReachedError(runs.most, found.risk, runs.target)
        seen.append(found)
        ahead = 4.0 * steps
        if len(seen) > 2:
            ahead = _secant(seen[-2], seen[-1], runs.target)
        steps = min(max(2 * steps, math.ceil(min(ahead, 8.0 * steps))), runs.most)


def _secant(one: Minimum, other: Minimum, target: float) -> float:
    """Where the line through two points of log L_T against log T meets the target's."""
    if one.steps == 0 or other.steps == 0 or not 0.0 < other.risk < one.risk < math.inf:
        return math.inf
    slope = math.log(one.risk / other.risk) / math.log(one.steps / other.steps)
    exponent = math.log(target / other.risk) / slope
    return other.steps * math.exp(min(exponent, 100.0))


def _narrowed(
    runs: Runs, below: Minimum, found: Minimum, effort: Effort
) -> tuple[Minimum, Minimum]:
    """Neighbouring T on both sides of the target, from two T on both sides of it."""
    nearest = sorted((below, found), key=lambda each: each.steps)
    width = found.steps - below.steps
    since = 0
    while found.steps - below.steps > 1:
        meets = _secant(nearest[0], nearest[1], runs.target)
        if since >= 2 or not meets < math.inf:
            meets, since = 0.5 * (below.steps + found.steps), 0
        steps = min(max(math.ceil(meets), below.steps + 1), found.steps - 1)
        near = below if below.steps > 0 and steps - below.steps < found.steps - steps else found
        new = runs.minimise(steps, near.rates, effort)
        if new.risk <= runs.target:
            found = new
        else:
            below = new
        if 2 * (found.steps - below.steps) > width:
            since += 1
        else:
            width, since = found.steps - below.steps, 0
        nearest = sorted(
            sorted((*nearest, new), key=lambda each: _distance(each, runs.target))[:2],
            key=lambda each: each.steps,
        )
    return below, found


def _distance(found: Minimum, target: float) -> float:
    """How far a risk is from the target, in its logarithm."""
    return abs(math.log(found.risk / target)) if found.risk > 0.0 else math.inf


def enclosed(runs: Runs, start: Minimum) -> tuple[Minimum, Minimum]:
    """Neighbouring T on both sides of the target, by growing strides from one T on."""
    now = runs.minimise(start.steps, start.rates)
    stride = 1
    if now.risk <= runs.target:
        while True:
            found, steps = now, max(0, now.steps - stride)
            if steps == 0:
                now = Minimum(0, found.rates, math.inf, 0.0)
            else:
                now = runs.minimise(steps, found.rates)
            if now.risk > runs.target:
                return _narrowed(runs, now, found, FULL)
            stride *= 2
    while True:
        below, steps = now, min(now.steps + stride, runs.most)
        now = runs.minimise(steps, below.rates)
        if now.risk <= runs.target:
            return _narrowed(runs, below, now, FULL)
        if steps == runs.most:
            raise NotReachedError(runs.most, now.risk, runs.target)
        stride *= 2


def proved(runs: Runs, start: Minimum) -> tuple[Minimum, Minimum]:
    """The fewest steps, and the best at one step less, which no start brings to the target."""
    while True:
        below, found = enclosed(runs, start)
        if below.steps == 0:
            return below, found
        best = _best_of_starts(
            runs, below.steps, (0.5 * below.rates, lifted(below.rates), found.rates)
        )
        if best.risk < below.risk * (1.0 - TOLERANCE):
            below = best
            # What is better at T - 1 is likely so at T.
            found = min(found, runs.minimise(found.steps, best.rates), key=by_risk)
        if below.risk > runs.target:
            sooner = _sooner(runs, below)
            if sooner is None:
                return below, found
            below = sooner
        start = below


def _best_of_starts(runs: Runs, steps: int, others: tuple[Array, ...]) -> Minimum:
    """The least risk that is found from all starts, and some others."""
    rivals = (*runs.starts(steps), *others)
    rough = sorted((runs.minimise(steps, rates, ROUGH) for rates in rivals), key=by_risk)
    most = FINALISTS if len(rough[0].rates) > 1 else len(rough)
    found = min((runs.minimise(steps, each.rates) for each in rough[:most]), key=by_risk)
    freed = lifted(found.rates)
    if np.any(freed > found.rates):
        found = min(found, runs.minimise(steps, freed), key=by_risk)
    return found


def _sooner(runs: Runs, below: Minimum) -> Minimum | None:
    """The fewest of few steps that reach the target, where any fewer than these do."""
    if below.steps > SHORT:
        return None
    for steps in range(1, below.steps):
        found = _best_of_starts(runs, steps, (below.rates,))
        if found.risk <= runs.target:
            return found
    return None


def refined(problem: NoisyQuadratic, make: Make, now: Settled) -> Settled:
    """The same on a compression that is fine enough, with the error of its risks."""
    level, cuts, below, found, _ = now
    runs = make(level, cuts, Work())
    while True:
        error, certain = certainty(problem, make, runs, level, below, found)
        if certain:
            return Settled(level, cuts, below, found, error)
        # Another level changes risks by little: what was the best of all starts stays it.
        level += 1
        runs = make(level, cuts, Work())
        below, found = enclosed(runs, found)


def certainty(
    problem: NoisyQuadratic, make: Make, runs: Runs, level: int, below: Minimum, found: Minimum
) -> tuple[float, bool]:
    """The error of two risks by the compression, and whether no finer one can tell any more."""
    last = problem.spectrum.last_level
    if level == last and problem.spectrum.law is None:
        return 0.0, True
    # A law has no finer level than its last; a coarser one then tells more than the error.
    other = make(level + 1 if level < last else level - 1, runs.cuts, runs.work)
    pair = [each for each in (below, found) if each.steps > 0]
    error = max(other.difference(each) for each in pair)
    margin = min(abs(each.risk - runs.target) for each in pair)
    clear = margin > (ROUNDING + SAFETY * error) * runs.target
    return error, level == last or (error <= TOLERANCE and clear)


def doubled(
    runs_of: Callable[[Integers], Runs],
    search: Callable[[Runs, Minimum], tuple[Minimum, Minimum]],
    now: Settled,
) -> tuple[Settled, float]:
    """More and more pieces, until these gain little; and what yet more may gain, relative.

    Each doubling starts from the one before. By how much it shortens the run tells, with the one
    before, what all further ones can: they fall off as a geometric series. Neighbours at the
    largest rate stay one piece, except next to a smaller rate: nothing is gained within.
    """
    gains: list[float] = []
    real, left = _real(now, runs_of(now.cuts).target), math.inf
    while True:
        runs = runs_of(now.cuts)
        cuts, rates = _halved(now, runs.largest)
        if cuts is now.cuts:  # each step has its own rate, or is among equal ones
            return now, 0.0
        if (left < GAIN and len(gains) > 1) or (gains and runs.work.left <= 0.0):
            return now, 1.0 - math.ceil(real * (1.0 - left)) / now.found.steps
        below, found = search(runs_of(cuts), now.found._replace(rates=rates))
        now = Settled(now.level, cuts, below, found, now.error)
        last, real = real, _real(now, runs.target)
        gains.append(max(0.0, 1.0 - real / last))
        ratio = min(gains[-1] / gains[-2], SLOW) if len(gains) > 1 and gains[-2] > 0.0 else 0.0
        left = min(1.0, gains[-1] * max(1.0, ratio / (1.0 - ratio)))


def _halved(now: Settled, largest: float) -> tuple[Integers, Array]:
    """Where pieces begin, at a doubled precision, with those of some steps halved; their rates.

    Of pieces at the largest rate only those beside a smaller one are, or at the end of the run;
    the others become one.
    """
    capped = np.concatenate(([True], now.found.rates >= largest, [False]))
    inner = capped[:-2] & capped[1:-1] & capped[2:]
    begins = 2 * now.cuts[:-1][~(inner & np.concatenate(([False], inner[:-1])))]
    several = np.diff(edges(now.found.steps, now.cuts)) > 1
    middles = (now.cuts[:-1] + now.cuts[1:])[several & ~inner]
    if middles.size == 0:
        return now.cuts, now.found.rates
    cuts = np.sort(np.concatenate((begins, middles)))
    rates = now.found.rates[np.searchsorted(2 * now.cuts, cuts, side="right") - 1]
    return np.append(cuts, 2 * now.cuts[-1]), rates


def _real(now: Settled, target: float) -> float:
    """Where between two T the least risk meets the target, by its logarithm."""
    low, high = now.found.risk, now.below.risk
    if not 0.0 < low < high < math.inf:
        return float(now.found.steps)
    return now.found.steps - math.log(target / low) / math.log(high / low)


def ahead(runs: Runs, start: Minimum) -> tuple[Minimum, Minimum]:
    """Neighbouring T on both sides of the target, from one that reaches it with fewer pieces."""
    now, steps = runs.minimise(start.steps, start.rates), start.steps
    if steps > 1:
        meets = _secant(runs.minimum(steps - 1, now.rates), now, runs.target)
        if meets < steps:
            steps = max(math.ceil(meets), steps // 2)
    return enclosed(runs, now._replace(steps=steps))
