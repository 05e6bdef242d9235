"""The steps to a target of the linear optimizers under a learning-rate schedule.

Where the rate does not depend on the length of the run, there is one run, and it is stepped through
to its first crossing; a long one whose coefficients change with the step is looked at along its
stretches. Else every number of steps T is a run of its own, and the smallest T whose last risk is
at most the target is wanted. L_T need not fall with T, so

1. every horizon up to ``EVERY`` is looked at, as long as that costs little. A part of the modes
   mostly shows that the risk is above the target;
2. beyond, ``horizon.Search`` brackets the target. What it finds is not proved to be the smallest.

Both begin on a coarse compression of the spectrum. The first asks a finer one about horizons from 1
to the last one, and looks closer at all that are within the difference; the second is repeated
where the finer one differs.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from nqm_study.model.linear import kernels
from nqm_study.model.linear.risks import Found, fine_enough, refined
from nqm_study.model.linear.runs import (
    CERTAINLY,
    CHEAP,
    LONGEST_KNOWN,
    MOST_WORK,
    STEPPED,
    Runs,
)
from nqm_study.model.linear.schedule_kernel import BLOCK
from nqm_study.model.linear.stability import is_stable, resting_risk
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.budget import Budget
from nqm_study.model.numerics.horizon import (
    EVERY,
    FAIR,
    GOOD,
    LARGEST,
    MARGIN,
    MOST,
    PER_OCTAVE,
    THOROUGH,
    Along,
    Horizon,
    Search,
    counted,
)
from nqm_study.model.numerics.refine import SAFETY, agreeing, difference, require_met, rounding
from nqm_study.model.optimizers import LinearOptimizer
from nqm_study.model.outcome import PRECISE, Crossing, Status
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import Constant, Schedule

WORK, THOROUGH_WORK = 2**19, 2**25
"""What looking at every horizon may cost, in units of ``Runs.work``: 15 ms and a second."""

LAST_WORK = 2**24
"""Work (see ``Runs.work``) that the steps of the run that was found are worth, where its error is
not known: 0.3 s."""

STEPPER_WORK = 2**25
"""Work of stepping through a run on the finest compression that is asked: a second."""

CHANGING_WORK = 2**21
"""The same where coefficients change with the step, and no thorough search is asked for: 30 ms."""

COUPLED_WORK = 2**23
"""The same where the noise follows the loss: 0.2 s."""

DIVERGES = 4.0
"""A risk above the first one that grows by this in the second half of a run diverges: noise that
gathers, with nothing to hold it, grows by 2."""

SAMPLED = 8
"""So many horizons tell how far off a compression is."""

COARSE = 0.01
"""Relative error of the risks of a compression by which most horizons can be excluded."""

CHUNK = 64
"""The first horizons that are looked at together; twice as many come next, and so on."""

TOGETHER = 2**20
"""The most steps, about, of horizons that are looked at together: their rules take 8 to 100 MB."""

WALKED, FEWEST = 2**13, 25
"""The most looks of a walk times ``Runs.work``, and their number: a walk through an octave takes
a fourth of a second at most, and mostly some milliseconds."""

KNOWN, FAR = 32, 100.0
"""How many times longer a search along a run by one rule looks next, where its end costs what it is
long; and how many times the target a risk is that no compression takes below it."""

MOST_JITTER = 30
"""The most horizons that are looked at for what jumps in a schedule."""


def scheduled_crossing(
    problem: Problem,
    optimizer: LinearOptimizer,
    schedule: Schedule,
    target: float,
    max_steps: int,
    tolerance: float,
    max_growth: float | None = None,
    *,
    thorough: bool = False,
) -> Crossing:
    """The fewest steps whose risk is at most the target.

    Args:
        problem: spectrum and batch size.
        optimizer: its rate is multiplied by the schedule.
        schedule: not the constant one.
        target: risk to reach.
        max_steps: the most steps that count.
        tolerance: relative error that a compression may have.
        max_growth: a run whose risk on the way is above this times the first one does not count.
        thorough: look at every horizon in longer runs, too.
    """
    initial = problem.spectrum.initial_risk
    if initial <= target:
        return Crossing(0, "reached", initial, 0.0)
    if max_steps == 0:
        return Crossing(None, "max_steps", initial, 0.0)
    # Rates without bounds overflow, which the risk tells.
    with np.errstate(over="ignore", invalid="ignore"):
        case = _Case(problem, optimizer, schedule, target, max_steps, tolerance, max_growth)
        first = (case.every_horizon if schedule.needs_horizon else case.one_run)(thorough)
        return first.crossing or case.beyond(first)


class _Looked(NamedTuple):
    """The longest run up to which no crossing was found, or the crossing.

    Attributes:
        last: none up to this horizon reaches the target.
        tie: whether rounding may have decided so.
        crossing: unless this one does.
    """

    last: int
    tie: bool
    crossing: Crossing | None = None


@dataclass(frozen=True, eq=False)
class _Case:
    """One search for the fewest steps: its target, and the runs on each compression."""

    problem: Problem
    optimizer: LinearOptimizer
    schedule: Schedule
    target: float
    max_steps: int
    tolerance: float
    max_growth: float | None
    budget: Budget = field(default_factory=lambda: Budget(MOST_WORK))
    grown: dict[tuple[int, int], bool] = field(default_factory=dict)

    @property
    def last_level(self) -> int:
        """The finest level of compression."""
        return self.problem.spectrum.last_level

    @property
    def first_level(self) -> int:
        """The coarsest level worth taking at this tolerance."""
        return self.problem.spectrum.first_level if self.tolerance > 0.0 else self.last_level

    @functools.cache  # noqa: B019 (it lives as long as the search)
    def runs(self, level: int) -> Runs:
        """The runs on a level of compression."""
        return Runs(self.problem, self.optimizer, self.schedule, level, self.budget)

    def grows(self, level: int, horizon: int) -> bool:
        """Whether the risk on the way through a run rises above ``max_growth`` times the first."""
        if self.max_growth is None:
            return False
        if (level, horizon) not in self.grown:
            growth = self.runs(level).growth(np.array([horizon]), horizon)
            self.grown[level, horizon] = bool(growth[0] > self.max_growth)
        return self.grown[level, horizon]

    @property
    def changes(self) -> bool:
        """Whether coefficients, or the noise, change with the step."""
        return not self.optimizer.constant or self.problem.follows_loss

    @property
    def along(self) -> bool:
        """Whether there is one run, and its risks are seen together."""
        return self.changes and not self.schedule.needs_horizon

    def affordable(self, work: int) -> int:
        """The longest run whose steps, on two compressions, take some work."""
        finer = self.runs(min(self.first_level + 1, self.last_level)).work
        return max(STEPPED[GOOD], work // finer)

    def one_run(self, thorough: bool) -> _Looked:
        """The first crossing of the one run that there is, as far as it is stepped through."""
        work = self.runs(self.first_level).work
        longest = max(STEPPED[GOOD], CHEAP // work)
        if self.changes:
            usual = COUPLED_WORK if self.problem.follows_loss else CHANGING_WORK
            longest = self.affordable(STEPPER_WORK if thorough else usual)
        most = min(self.max_steps, longest)
        if self.problem.follows_loss:
            if self.runs(self.first_level).is_known(1):
                most = self.max_steps
            most = min(most, LONGEST_KNOWN)
            most = most if thorough else self._worth_stepping(most)
        stepper = functools.cache(lambda level: _Stepper(self.runs(level), self.lost))
        finest = self.first_level
        worth = min(most, longest)
        while finest < self.last_level and worth * self.runs(finest + 1).work <= STEPPER_WORK:
            finest += 1
        found = refined(
            self.problem.spectrum, stepper, self.target, most, self.tolerance, last_level=finest
        )
        if found.reason == kernels.OVERFLOW:
            crossing = Crossing(None, "diverged", found.risk, found.error, False, True, found.tie)
            return _Looked(most, found.tie, crossing)
        if found.reason != kernels.REACHED:
            if self._stays_above(most):
                stable = is_stable(self.problem, self.optimizer)
                why: Status = "floor_above_target" if stable else "diverged"
                return _Looked(
                    most, found.tie,
                    Crossing(None, why, found.risk, found.error, False, True, found.tie),
                )  # fmt: skip
            middle, last = stepper(found.level).risks(np.array([most // 2, most]))
            if not self.changes or (most < self.max_steps and last < LARGEST):
                return _Looked(most, found.tie)
            risen = not last <= max(self.problem.spectrum.initial_risk, DIVERGES * middle)
            status: Status = "diverged" if risen else "max_steps"
            every = most == self.max_steps
            return _Looked(
                most, found.tie,
                Crossing(None, status, found.risk, found.error, False, every, found.tie),
            )  # fmt: skip
        if self.grows(found.level, found.step):
            crossing = Crossing(None, "diverged", found.risk, found.error, tie=found.tie)
        else:
            crossing = Crossing(found.step, "reached", found.risk, found.error, tie=found.tie)
        return _Looked(most, found.tie, crossing)

    @functools.cached_property
    def rest(self) -> float:
        """The risk that one run by one rule of noise that follows the loss comes to rest at.

        It is infinite where the run is not stable, and 0 of other runs.
        """
        one_rule = self.optimizer.constant and isinstance(self.schedule, Constant)
        if not (self.problem.follows_loss and one_rule):
            return 0.0
        return resting_risk(self.problem, self.optimizer)

    @functools.cached_property
    def lost(self) -> float:
        """The risk above which it is certain that a run diverges, or does not count."""
        if self.rest < math.inf or self.max_growth is None:
            return math.inf
        return self.max_growth * self.problem.spectrum.initial_risk

    def _worth_stepping(self, most: int) -> int:
        """The steps of a run that are worth stepping through where the noise follows the loss.

        That is up to where stretches say that the risk comes near the target, or noise alone takes
        it above for good. If that is beyond ``most``, it is the first ones. These always are: what
        swings may dip below the target between the steps that are looked at.
        """
        runs = self.runs(self.first_level)
        known = runs.is_known(most)
        rests_above = self.target < self.rest
        gathers = rests_above and self.problem.steady_noise > 0.0
        if most <= STEPPED[GOOD] or (known and not gathers):
            return most
        steps = np.unique(np.geomspace(1, most, most.bit_length() * PER_OCTAVE).astype(np.int64))
        near = np.zeros(steps.size, dtype=np.bool_)
        if not known:
            near |= np.array([look.risk for look in runs.along(steps, FAIR)]) <= (
                MARGIN * self.target
            )
        if gathers:
            least = runs.gathered(steps, MARGIN * self.target)
            near[: least.size] |= least > MARGIN * self.target
        end = int(1.1 * steps[np.argmax(near)]) if near.any() else 0
        return min(max(end, STEPPED[GOOD]), most)

    def _stays_above(self, steps: int) -> bool:
        """Whether noise alone keeps the risk above the target after a number of steps."""
        if not self.target < self.rest:
            return False
        left = self.runs(self.first_level).gathered(np.array([steps]))
        return bool(np.any(left > CERTAINLY * self.target))

    def every_horizon(self, thorough: bool) -> _Looked:
        """The smallest of the horizons that are all looked at."""
        every, work = (THOROUGH, THOROUGH_WORK) if thorough else (EVERY, WORK)
        last = min(self.max_steps, every)
        return self._between(self._excluded(last), last, work)

    def _between(self, looked: int, last: int, left: int) -> _Looked:
        """The smallest horizon above one and up to another, as far as the work goes."""
        if looked == last:
            return _Looked(last, tie=False)
        level, error = self._screen(last, left)
        if not error <= COARSE:
            return _Looked(looked, tie=False)
        enough = (1.0 + SAFETY * error + rounding(last)) * self.target
        tie, size = False, CHUNK
        while looked < last:
            end = min(looked + size, last)
            found, looked, work = self.runs(level).first_horizon(looked + 1, end, enough, left)
            left -= work
            if found is not None:
                risk, off, at = self._settled(level, found)
                tie = tie or self._ties(risk, found)
                if risk <= self.target and not self.grows(at, found):
                    return _Looked(found, tie, Crossing(found, "reached", risk, off, tie=tie))
            elif looked < end:
                break  # the work is done
            else:
                size = min(2 * size, max(TOGETHER // looked, 1))
        return _Looked(looked, tie)

    def _excluded(self, last: int) -> int:
        """The longest run of up to ``last`` steps that a bound excludes with all shorter ones."""
        runs = self.runs(self.first_level)
        if runs.excludes(last, self.target):
            return last
        low, high = 0, last
        while high - low > max(1, high // 16):
            middle = (low + high) // 2
            low, high = (middle, high) if runs.excludes(middle, self.target) else (low, middle)
        return low

    def _screen(self, last: int, work: int) -> tuple[int, float]:
        """The coarsest level whose risks are good enough to exclude most horizons; their error."""
        samples = np.unique(np.geomspace(1, last, SAMPLED).astype(np.int64)).tolist()

        def risks(level: int) -> Array:
            return np.array([self.runs(level).look(sample, GOOD).risk for sample in samples])

        level, error = agreeing(
            risks, difference, self.first_level, self.last_level,
            lambda finer, error: error <= COARSE or sum(samples) * self.runs(finer).work > work,
        )  # fmt: skip
        return level, error if level < self.last_level else 0.0

    def _settled(self, level: int, horizon: int) -> tuple[float, float, int]:
        """The last risk of a run, its relative error, and the level of compression it is from."""
        look = self.runs(level).look(horizon, GOOD)
        error = 0.0
        while level < self.last_level:
            finer = self.runs(level + 1).look(horizon, GOOD)
            error = difference(np.array([look.risk]), np.array([finer.risk]))
            off = abs(finer.risk - self.target)
            level, look = level + 1, finer
            if error <= self.tolerance and off > (rounding(horizon) + SAFETY * error) * self.target:
                break
            if 2 * horizon * self.runs(level).work > self.budget.share:
                break
        else:
            error = self._at_last(horizon)
        return look.risk, error + look.error, level

    def _at_last(self, horizon: int) -> float:
        """The relative error of a risk on the last level: a law has no finer one."""
        if self.problem.spectrum.law is None:
            return 0.0
        pair = (self.runs(self.last_level - step).look(horizon, FAIR).risk for step in (0, 1))
        return difference(*(np.array([risk]) for risk in pair))

    def _agreeing(self, level: int, horizon: int) -> tuple[int, float]:
        """The coarsest level, from one on, that agrees with the next; and their difference.

        They agree on the last risks of a run and of one a step shorter. What the compression does
        shows in looks of any quality, if it is the same.
        """
        steps = min(horizon, STEPPED[GOOD])
        ends = [max(1, horizon), max(1, horizon - 1)]

        def risks(level: int) -> Array:
            return np.array([self.runs(level).look(end, FAIR).risk for end in ends])

        def enough(finer: int, error: float) -> bool:
            dear = steps * self.runs(finer).work > self.budget.share
            return error <= self.tolerance or dear

        return agreeing(risks, difference, level, self.last_level, enough)

    def beyond(self, first: _Looked) -> Crossing:
        """The smallest horizon that a search finds beyond those that were looked at."""
        level, found, error = self._found(first.last, limited=False)
        if found.steps is not None and self.grows(level, found.steps):
            if self.along:
                return Crossing(None, "diverged", found.risk, found.error + error, tie=first.tie)
            # Growth is costly to look at, and few runs grow: now it is looked at everywhere.
            level, found, error = self._found(found.steps, limited=True)
        elif found.steps is not None and found.steps <= THOROUGH and self.schedule.needs_horizon:
            first = self._before(first, found.steps)
        if first.crossing is not None:
            return first.crossing
        error += self._unsettled(level, found)
        proved = first.last >= (found.steps or self.max_steps + 1) - 1
        tie = first.tie or self._ties(found.risk, found.at)
        if found.steps is not None:
            return Crossing(found.steps, "reached", found.risk, error, False, proved, tie)
        risk = min(self.problem.spectrum.initial_risk, found.risk)
        return Crossing(None, self._status(level, found), risk, error, False, proved, tie)

    def _unsettled(self, level: int, found: Horizon) -> float:
        """The relative error of a risk, by stretches; where these tell little, by the steps."""
        runs = self.runs(level)
        if found.error <= COARSE or found.at * runs.work > LAST_WORK:
            return found.error
        off = difference(np.array([found.risk]), np.array([runs.stepped(found.at).risk]))
        return off / (1.0 - off) if off < 1.0 else math.inf

    def _before(self, first: _Looked, steps: int) -> _Looked:
        """The result of looking at every shorter run than one found, if that costs little."""
        excluded = max(first.last, self._excluded(steps - 1))
        runs = self.runs(self.first_level)
        if (steps - excluded) * steps * runs.work > WORK:
            return first
        looked = self._between(excluded, steps - 1, WORK)
        return looked._replace(tie=first.tie or looked.tie)

    def _ties(self, risk: float, horizon: int) -> bool:
        """Whether rounding may decide on which side of the target a risk lies."""
        return bool(abs(risk - self.target) <= rounding(horizon) * self.target)

    def _found(self, above: int, *, limited: bool) -> tuple[int, Horizon, float]:
        """The level that is fine enough, the horizon a search finds there, and its error."""
        level = searched = self.first_level
        found = self._search(level, above, limited=limited).smallest()
        while True:
            level, error = self._agreeing(level, found.at)
            if level == self.last_level:
                error = self._at_last(found.at)
            if level == searched or found.steps is None:
                return level, found, error
            searched = level
            found = self._search(level, above, limited=limited).around(found.steps)

    def _search(self, level: int, above: int, *, limited: bool) -> Search | Along:
        runs = self.runs(level)
        if self.along:
            return Along(runs.along, self.target, self.max_steps, above)

        def counts(horizon: int) -> bool:
            return not self.grows(level, horizon)

        look = counted(runs.look, self.target, counts) if limited else runs.look
        # Where growth decides, what swings is not walked through.
        swinging = None if limited else runs.swinging
        knots = self.schedule.knots
        jitter = 0 if knots is None else min(2 * len(knots) + 1, MOST_JITTER)
        rests = _shows(self.schedule)

        def most_walked() -> int:
            return min(max(WALKED // runs.work, FEWEST), MOST) if self.budget.share else 0

        return Search(
            look, self.target, self.max_steps, swinging, runs.swings, jitter, rests, above,
            most_walked,
        )  # fmt: skip

    def _status(self, level: int, found: Horizon) -> Status:
        """Why no horizon reaches the target."""
        if found.settled:
            return "floor_above_target"
        if any(self.grown.values()):
            return "diverged"
        fastest = self.optimizer.with_rate(self.runs(level).largest_rate)
        stable = is_stable(self.problem, fastest)
        risen = not found.last <= self.problem.spectrum.initial_risk
        return "diverged" if risen and not stable else "max_steps"


class _Stepper:
    """The steps of one run, as a search for its first crossing takes them.

    It ends as well where a risk is above ``lost``.
    """

    def __init__(self, runs: Runs, lost: float) -> None:
        self._runs, self._lost = runs, lost

    def risks(self, steps: Integers) -> Array:
        """The risk after each of some numbers of steps."""
        last = int(steps[-1])
        curve = self._runs.curve(last, last)
        return np.where(steps < curve.size, curve[np.minimum(steps, curve.size - 1)], np.nan)

    def search(self, target: float, max_steps: int, _: int = 0) -> Found:
        """The first crossing; every step is looked at, whatever the work."""
        length = min(max(4 * CHUNK, self._runs.curve_end), max_steps)
        while True:
            risks = self._runs.curve(length, length, target, self._lost)
            below = np.flatnonzero(risks <= target)
            lost = not below.size and (risks.size <= length or bool(np.any(risks > self._lost)))
            if below.size or lost or length == max_steps:
                break
            long = length >= STEPPED[FAIR] and self._runs.is_known(max_steps)
            length = min((KNOWN if long else 4) * length, max_steps)
        stop = int(below[0]) if below.size else risks.size - 1
        passed = risks[:stop] if below.size else risks
        passed = np.where(np.isnan(passed), np.inf, passed)
        starts = [2**i for i in range(stop.bit_length()) if 2**i < passed.size]
        nearest = [start + int(np.argmin(passed[start : 2 * start])) for start in starts]
        at = stop
        if not below.size:  # what is far above the target is so on any compression
            at = stop = int(np.argmin(passed))
            nearest = [each for each in nearest if passed[each] <= max(passed[at], FAR * target)]
        reason = kernels.OVERFLOW if lost else kernels.MAX_STEPS
        return Found(
            kernels.REACHED if below.size else reason, stop, float(risks[at]), at,
            np.array(nearest, dtype=np.int64), risks.size * self._runs.work * (BLOCK // 4),
            float(passed.min(initial=np.inf)),
        )  # fmt: skip


def _shows(schedule: Schedule) -> int:
    """A horizon in which each part of a schedule has some steps, as far as its parts are known."""
    ends = (0.0, *(schedule.knots or ()), 1.0)
    shortest = min(after - before for before, after in itertools.pairwise(ends) if after > before)
    return int(min(max(1024.0, 8.0 / shortest), 2.0**40))


def scheduled_risks(
    problem: Problem,
    optimizer: LinearOptimizer,
    schedule: Schedule,
    ordered: Integers,
    horizon: int,
    tolerance: float,
    precision: float = PRECISE,
    max_growth: float | None = None,
    power: int = 0,
) -> Array:
    """The risks after some ascending numbers of steps of one run.

    They are infinite from where one was above ``max_growth`` times the first. With a power they
    are what ``Runs`` sees with it.

    Raises:
        ValueError: if a law's finest level does not meet the tolerance.
    """
    budget = Budget(MOST_WORK)

    @functools.cache
    def runs(level: int) -> Runs:
        return Runs(problem, optimizer, schedule, level, budget, power)

    def risks(level: int) -> Array:
        return runs(level).risks(ordered, horizon, precision)

    def worth(level: int) -> bool:
        return runs(level).least_work(int(ordered[-1])) <= budget.share

    spectrum = problem.spectrum
    with np.errstate(over="ignore", invalid="ignore"):
        level, found, error = fine_enough(spectrum, risks, tolerance, worth)
        if level == spectrum.last_level:
            require_met(tolerance, error)
        if max_growth is not None:
            found[runs(level).growth(ordered, horizon) > max_growth] = np.inf
    found[np.isnan(found)] = np.inf
    return found
