"""The search for few steps where the state has memory; optimal.py says how it goes and why."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from nqm_study.model.linear import kernels as _kernels
from nqm_study.model.linear.families import FIXABLE, Family
from nqm_study.model.linear.fewest_steps import LONGEST, Tuning
from nqm_study.model.linear.risks import search
from nqm_study.model.optimizers import SGD
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.schedules.computed.least_risk import (
    SIMPLE,
    Effort,
    Minimum,
    Runs,
    Work,
    by_risk,
    equal,
    lifted,
)
from nqm_study.model.schedules.computed.optimal_search import (
    FINALISTS,
    Make,
    NotReachedError,
    Settled,
    certainty,
    first,
)

WORK = 5e8
"""The most work at a number of pieces, in units of about a nanosecond."""

FEW, MANY = 4, 50
"""Up to so few pieces, where there are the most local minima, it may be three times that; at more
than so many less, in proportion."""

FAIR = 1e-2
"""Relative error of the risk that a compression may have for the search to go on with it."""

SHARES = np.geomspace(0.1, 0.98, 10)
NEAR = 4
"""With few pieces L_T goes up and down with T: starts are tried at so many smaller T, and the best
of them at these shares of it."""

CONSTANTS = np.union1d(np.geomspace(1e-4, 1.0, 200), np.linspace(0.0, 1.0, 201)[1:])
"""Constant rates to look at, as shares of the largest, where the best of all rates exceeds that."""

ROUGHLY = Effort(1e-3, 30, progress=1e-5, enough=True)
REACH = Effort(1e-6, 150, progress=1e-7, enough=True)
POLISH = Effort(1e-8, 300, progress=1e-10)


def nested(problem: NoisyQuadratic, optimizer: SGD, make: Make, pieces: int) -> Settled:
    """The fewest steps found for so many pieces, or for fewer where those take as many steps.

    Raises:
        NotReachedError: if no schedule that was found reaches the target within the most steps.
    """
    level = problem.spectrum.first_level
    best: Settled | None = None
    for count in _numbers(pieces):
        work = Work(WORK * (3.0 if count <= FEW else min(1.0, MANY / count)))
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
        best = settled(problem, make, runs, level, found, proved)
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


def _constant(problem: NoisyQuadratic, optimizer: SGD, runs: Runs) -> Minimum | None:
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
            if found.reason == _kernels.REACHED:
                steps, rate = found.step, member.learning_rate
    if steps > runs.most:
        return None
    return runs.minimum(steps, runs.fitting(np.array([min(rate, runs.largest)])))


def _improved(runs: Runs, given: Minimum) -> Minimum:
    """Fewer steps than given ones, if any are found while the work lasts."""
    found: Minimum | None = given
    while found is not None:
        best = lowered(runs, found)
        found = _elsewhere(runs, best)
    return best


def lowered(runs: Runs, found: Minimum) -> Minimum:
    """The fewest steps that are found by going down from some, each minimum from one before."""
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


def settled(
    problem: NoisyQuadratic,
    make: Make,
    runs: Runs,
    level: int,
    found: Minimum,
    given: Minimum | None,
) -> Settled:
    """The same on a compression that is fine enough; at most the steps given for fewer pieces."""
    while True:
        below, found = _below(runs, _met(runs, found, given))
        error, certain = certainty(problem, make, runs, level, below, found)
        if certain:
            return Settled(level, runs.cuts, below, found, error)
        level += 1
        runs = make(level, runs.cuts, runs.work)


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
    """The target reached, in more steps where this compression asks for them."""
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
