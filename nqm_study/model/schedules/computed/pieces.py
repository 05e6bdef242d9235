"""The fewest steps over schedules of some pieces; optimal.py says how the search goes and why."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nqm_study.model.linear import kernels
from nqm_study.model.linear.fewest_steps import LONGEST, Tuning
from nqm_study.model.linear.members import FIXABLE, Family
from nqm_study.model.linear.risks import search
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.bracket import height, meeting, narrow
from nqm_study.model.numerics.budget import Budget
from nqm_study.model.numerics.refine import ROUNDING, SAFETY, TOLERANCE
from nqm_study.model.optimizers import SGD
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules.computed.least_risk import (
    FULL,
    ROUGH,
    SHORT,
    SIMPLE,
    Effort,
    Minimum,
    Runs,
    by_risk,
    edges,
    equal,
    lifted,
)

FINALISTS = 3
"""The most starts that are followed to the end."""


GAIN = 1e-4
"""Pieces are doubled until yet more of them are expected to save less than this share of steps."""

SLOW = 0.9
"""The largest ratio of the gains of two doublings that is counted on."""

Search = Callable[[Runs, Minimum], tuple[Minimum, Minimum]]
"""From a minimum on, the best at one step less and the fewest steps that are found."""

Make = Callable[[int, Integers, Budget], Runs]
"""The runs on a level of compression, with some pieces, and the work they may take."""


class Settled(NamedTuple):
    """The fewest steps that a search found, and the least risk at one step less.

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
            ahead = _meets(seen[-2], seen[-1], runs.target)
        steps = min(max(2 * steps, math.ceil(min(ahead, 8.0 * steps))), runs.most)


def _meets(one: Minimum, other: Minimum, target: float) -> float:
    """Where the line through two minima, of log L_T against log T, meets the target's."""
    if one.steps == 0:
        return math.inf
    heights = height(one.risk, target), height(other.risk, target)
    return meeting(one.steps, heights[0], other.steps, heights[1])


def _narrowed(
    runs: Runs, below: Minimum, found: Minimum, effort: Effort
) -> tuple[Minimum, Minimum]:
    """Neighbouring T on both sides of the target, from two T on both sides of it."""
    ends = {False: below, True: found}

    def probe(steps: int) -> float:
        missed, met = ends[False], ends[True]
        near = missed if missed.steps > 0 and 2 * steps < missed.steps + met.steps else met
        new = runs.minimise(steps, near.rates, effort)
        ends[new.risk <= runs.target] = new
        return height(new.risk, runs.target)

    heights = {met: height(end.risk, runs.target) for met, end in ends.items() if end.steps > 0}
    narrow(below.steps, found.steps, heights, probe)
    return ends[False], ends[True]


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
        best = best_of_starts(
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


def best_of_starts(runs: Runs, steps: int, others: tuple[Array, ...]) -> Minimum:
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
        found = best_of_starts(runs, steps, (below.rates,))
        if found.risk <= runs.target:
            return found
    return None


def settled(
    problem: Problem,
    make: Make,
    runs: Runs,
    level: int,
    search: Search,
    found: Minimum,
    below: Minimum | None = None,
) -> Settled:
    """The result of a search on a compression that is fine enough, with the error of its risks.

    Another level changes risks by little: what was the best of all starts stays it.

    Args:
        problem: what is compressed.
        make: the runs on a finer level.
        runs: those on the level to begin with.
        level: that level.
        search: on some runs, from a minimum on.
        found: the minimum to search from; with ``below``, what the search came to on these runs.
        below: the best at one step less.
    """
    while True:
        if below is None:
            below, found = search(runs, found)
        error, certain = _certainty(problem, make, runs, level, below, found)
        if certain:
            return Settled(level, runs.cuts, below, found, error)
        level, below = level + 1, None
        runs = make(level, runs.cuts, runs.work)


def _certainty(
    problem: Problem, make: Make, runs: Runs, level: int, below: Minimum, found: Minimum
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
    search: Search,
    now: Settled,
) -> tuple[Settled, float]:
    """The fewest steps of ever more pieces, until these gain little; and what more may still gain.

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
        meets = _meets(runs.minimum(steps - 1, now.rates), now, runs.target)
        if meets < steps:
            steps = max(math.ceil(meets), steps // 2)
    return enclosed(runs, now._replace(steps=steps))


WORK = 5e8
"""The most work at a number of pieces, in units of about a nanosecond."""

FEW, MANY = 4, 50
"""Up to so few pieces, where there are the most local minima, it may be three times that; at more
than the latter less, in proportion."""

FAIR = 1e-2
"""Relative error of the risk that a compression may have for the search to go on with it."""

SHARES = np.geomspace(0.1, 0.98, 10)
NEAR = 4
"""With few pieces L_T goes up and down with T: starts are tried at NEAR smaller T, and the best
of them at these shares of it."""

CONSTANTS = np.union1d(np.geomspace(1e-4, 1.0, 200), np.linspace(0.0, 1.0, 201)[1:])
"""Constant rates to look at, as shares of the largest, where the best of all rates exceeds that."""

ROUGHLY = Effort(1e-3, 30, progress=1e-5, enough=True)
REACH = Effort(1e-6, 150, progress=1e-7, enough=True)
POLISH = Effort(1e-8, 300, progress=1e-10)


def nested(problem: Problem, optimizer: SGD, make: Make, pieces: int) -> Settled:
    """The fewest steps found for a number of pieces, or for fewer that take as many steps.

    Raises:
        NotReachedError: if no schedule that was found reaches the target within the most steps.
    """
    level = problem.spectrum.first_level
    best: Settled | None = None
    for count in _numbers(pieces):
        work = Budget(WORK * (3.0 if count <= FEW else min(1.0, MANY / count)))
        runs = make(level, equal(count), work)
        proved = best.found if best else _constant(problem, optimizer, runs)
        try:
            given = proved or first(runs)
        except NotReachedError:
            if count == pieces:
                raise
            continue
        while True:
            found = _improved(runs, given)
            if level == problem.spectrum.last_level:
                break
            finer = make(level + 1, equal(count), work)
            if finer.difference(found) <= FAIR:
                break
            level, runs = level + 1, finer
        best = settled(problem, make, runs, level, again(proved), found)
        level = best.level
        if best.found.steps <= count:
            break
    assert best is not None  # noqa: S101 (the last number of pieces raises)
    return best


def _numbers(pieces: int) -> list[int]:
    """Numbers of pieces from 1 on, each a multiple of the one before, the smallest factors last."""
    numbers, factor = [pieces], 2
    while numbers[-1] > 1:
        if numbers[-1] % factor == 0:
            numbers.append(numbers[-1] // factor)
        else:
            factor += 1
    return numbers[::-1]


def _constant(problem: Problem, optimizer: SGD, runs: Runs) -> Minimum | None:
    """The best constant rate up to the largest, and its first crossing, if any is in time."""
    family = Family({name: getattr(optimizer, name) for name in FIXABLE})
    best = Tuning(problem, family, runs.target).best()
    if best is None:
        return None
    steps, rate = best[0], family.optimizer(best[1]).learning_rate
    if rate > runs.largest:
        steps = min(runs.most, LONGEST) + 1
        for share in CONSTANTS[::-1]:
            member = dataclasses.replace(optimizer, learning_rate=share * runs.stable)
            found = search(problem, member, runs.target, steps - 1)
            if found.reason == kernels.REACHED:
                steps, rate = found.step, member.learning_rate
    if steps > runs.most:
        return None
    return runs.minimum(steps, runs.fitting(np.array([min(rate, runs.largest)])))


def _improved(runs: Runs, given: Minimum) -> Minimum:
    """The fewest steps found from given ones down, while the work lasts."""
    found: Minimum | None = given
    while found is not None:
        best = lowered(runs, found)
        found = _elsewhere(runs, best)
    return best


def lowered(runs: Runs, found: Minimum) -> Minimum:
    """The fewest steps found by going down in T, each minimum started from the one before."""
    found = found._replace(rates=runs.fitting(found.rates))
    found = min(found, runs.minimise(found.steps, found.rates, REACH), key=by_risk)
    now, failed, stride = found, 0, 1
    while found.steps - failed > 1 and runs.work.left > 0.0:
        steps = (found.steps + failed + 1) // 2 if failed else max(found.steps - stride, 1)
        now = runs.minimise(steps, now.rates, REACH)  # where that failed, it has come further
        if now.risk <= runs.target:
            found, stride = now, 2 * stride
        else:
            failed = steps
    polished = runs.minimise(found.steps, found.rates, POLISH)
    return min(found, polished, key=by_risk)


def _elsewhere(runs: Runs, found: Minimum) -> Minimum | None:
    """Fewer steps that reach the target from other starts."""
    if found.steps == 1 or runs.work.left <= 0.0:
        return None
    below = found.steps - 1
    starts = []
    for steps in np.unique((found.steps * SHARES).astype(int)).tolist():
        if runs.pieces <= SIMPLE and 0 < steps < below and runs.work.left > 0.0:
            scan = runs.starts(steps)
            starts.append((steps, min(scan, key=lambda rates: runs.last_risk(steps, rates)[0])))
    for steps in range(below, max(0, below - (NEAR if runs.pieces <= SIMPLE else 1)), -1):
        if steps == below or runs.work.left > 0.0:
            rivals = (0.5 * found.rates, lifted(found.rates), *runs.starts(steps))
            starts += [(steps, rates) for rates in rivals]
    ends = []
    for steps, rates in starts:
        ends.append(runs.minimise(steps, rates, ROUGHLY))
        if ends[-1].risk <= runs.target:
            return ends[-1]
        if runs.work.left <= 0.0:
            return None
    for end in sorted(ends, key=by_risk)[: FINALISTS if runs.pieces <= SIMPLE else 1]:
        now = runs.minimise(end.steps, end.rates, REACH)
        if now.risk <= runs.target:
            return now
    return None


def again(given: Minimum | None) -> Search:
    """The search on another compression: at most the steps given for fewer pieces."""
    return lambda runs, found: _below(runs, _met(runs, found, given))


def further(runs: Runs, found: Minimum) -> tuple[Minimum, Minimum]:
    """The best at one step less, and the fewest steps that are found from others down."""
    return _below(runs, lowered(runs, found))


def _below(runs: Runs, found: Minimum) -> tuple[Minimum, Minimum]:
    while found.steps > 1:
        below = runs.minimise(found.steps - 1, found.rates, POLISH)
        if below.risk > runs.target:
            return below, found
        found = below
    return Minimum(0, found.rates, math.inf, 0.0), found


def _met(runs: Runs, found: Minimum, given: Minimum | None) -> Minimum:
    """A minimum at the target on these runs, in more steps where this compression needs them."""
    now, stride = runs.minimum(found.steps, runs.fitting(found.rates)), 1
    most = given.steps if given else runs.most
    if now.risk > runs.target:
        now = runs.minimise(now.steps, now.rates, REACH)
    while now.risk > runs.target and now.steps < most:
        now = runs.minimise(min(now.steps + stride, most), now.rates, REACH)
        stride *= 2
    if now.risk > runs.target and given is not None:
        return runs.minimum(given.steps, runs.fitting(given.rates))
    if now.risk > runs.target:
        raise NotReachedError(runs.most, now.risk, runs.target)
    return now
