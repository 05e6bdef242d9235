"""Adam's steps to a target and risks, by second moments conditional on the start.

Adam divides by the root of a running mean of squared gradients, so it is not linear and its moments
do not close. Two observations give a closure that agrees with direct simulation: v varies slowly,
so its mean serves as its value; but it follows the realised |theta_0|, so the mean is taken given
theta_0, at the nodes of ``nodes.py``, and the risk is averaged over them.

Per mode and node, with q = h^2 A + c/B (the second moment of the gradient; B is the step's own
batch size, where a schedule changes it):

| symbol | meaning | update |
|---|---|---|
| V | E v | V' = b2 V + (1 - b2) q |
| r | step per unit of m | r = lr / (1 - b1^t) / (sqrt(V' / (1 - b2^t)) + eps) |
| Q | E m^2 | Q' = b1^2 Q + 2 b1 (1 - b1) h D + (1 - b1)^2 q |
| F | E theta m' | F = b1 D + (1 - b1) h A |
| A | E theta^2 | A' = A - 2 r F + r^2 Q' |
| D | E theta m | D' = F - r Q' |

The start is A = theta_0^2 at each node, and Q = D = V = 0.

Weight decay wd pulls theta to its start by w = lr wd of the way, before the step: A and F give way
to w^2 theta_0^2 + 2 w (1 - w) P + (1 - w)^2 A and w U' + (1 - w) F in the last two lines, which
takes two moments more:

| P | E theta theta_0 | P' = w theta_0^2 + (1 - w) P - r U' |
| U | E m theta_0 | U' = b1 U + (1 - b1) h P |

Under least squares q = h^2 A (1 + 1/B) + (c/B) (2 L + label_noise), L being the risk before the
step, so that all modes and nodes are stepped together. Where they are jumped, L is assumed, and
corrected by what it leads to. Each run's own loss follows its own examples; that it is taken as its
mean makes steps too few where a few modes carry it and batches are small (``SPREAD``). Against
simulation (0.9/0.999 and 0.9/0.99, label noise 0 and 1, h = 1/i, targets from 1/2 to 1/100 of the
first loss) they are up to 14 % too few for one or two modes at B = 1 and 7 % at B = 4, and 3 % for
30 to 1000 modes at either; from B = 64 on no difference shows beside the simulation's own error.
The risk at rest agrees with simulation. Nothing is sampled there.

The closure is off where v is a mean of few gradients: in the first steps, and where 1 - b2 is large
(``memory_error``). Where that may be more than 3 % and a run is short, it is sampled instead
(``chains.py``); where a run is long, ``Crossing.error`` says by how much it may be off.

Short runs are stepped through. In longer ones r changes slowly, and with r frozen the moments and V
move by an affine map whose powers are cheap (``kernels.adam_jump``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from nqm_study.model.adaptive.chains import sampled_crossing
from nqm_study.model.adaptive.nodes import COMPRESSION_LEVEL, REFINEMENTS, TINY, USUAL
from nqm_study.model.adaptive.run import DECAYED, STEPPED, Closure, Moments, Rest
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.budget import Budget
from nqm_study.model.numerics.horizon import EVERY, GOOD, ROUGH, THOROUGH, Look, Search, counted
from nqm_study.model.optimizers import Adam
from nqm_study.model.outcome import MOST_STEPS, Crossing, Status
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import Schedule

ALIKE = 2e-3
"""Relative difference of the risks by two rules for the starts below which the finer one does."""

RUNS = 32
"""Runs that a search among horizons takes, about."""

MORE = 16
"""Steps beyond twice the limit to which a search looks, to tell what it would do without one."""

MOST_WORK = 2**26
"""Steps times nodes of a run on finer rules that are worth it."""

SEARCH_WORK = 2**27
"""The same of all runs of a search: about a second. Then its answer is the best that it has."""

COUPLED = 4
"""Times as much is done where modes are coupled, whose jumps are tried two or three times."""

NEAR = 1.25
"""A risk that stays above this times the target is no near miss."""

DOUBT = 0.03
"""Relative error of the risk, or of the steps, above which the closure is not relied on."""

ROUGH_ERROR = 0.02
"""What a run in long stretches may be off by, relative."""

SPREAD = 0.2
"""What steps to a target may be off by under least squares, over the root of the relative variance
of a run's first loss, if that is below 1, over B: about the most that was measured."""

STEEP = 4.0
"""What a loss falls by, relative, over the steps, relative, where that is not known."""

SAMPLED = 0.01
"""What a sampled risk may be off by itself, relative."""


def adam_crossing(
    problem: Problem,
    optimizer: Adam,
    target: float,
    max_steps: int,
    schedule: Schedule,
    level: int | None = COMPRESSION_LEVEL,
    max_growth: float | None = None,
    *,
    thorough: bool = False,
) -> Crossing:
    """The fewest steps to the target, by the closure or, where that is in doubt, by sampling.

    Where the schedule depends on the length of the run it is the smallest horizon whose last risk
    is at most the target, and every horizon that is looked at is a run of its own.
    """
    initial = problem.spectrum.initial_risk
    if initial <= target:
        return Crossing(0, "reached", initial)
    if max_steps == 0:
        return Crossing(None, "max_steps", initial)
    budget = Budget(SEARCH_WORK * (COUPLED if problem.follows_loss else 1))
    case = _Case(problem, optimizer, schedule, level, target, max_growth, thorough, budget)
    # Rates without bounds overflow, which the risk tells.
    with np.errstate(over="ignore", invalid="ignore"):
        crossing, doubtful = case.crossing(max_steps)
        if problem.follows_loss:  # what is sampled is noise that does not
            return crossing
        if crossing.status == "max_steps" and case.missed(crossing):
            # What would be sampled, if there were more steps, is sampled up to the last one.
            _, doubtful = case.crossing(min(2 * max_steps + MORE, MOST_STEPS))
        if not doubtful:
            return crossing
        likely = case.likely(max_steps) if schedule.needs_horizon else None
        return sampled_crossing(
            problem, optimizer, schedule, target, max_steps, crossing, level, max_growth, likely
        )


@dataclass(frozen=True, eq=False)
class _Case:
    """One search by the closure: the problem, the optimizer, the schedule and the target."""

    problem: Problem
    optimizer: Adam
    schedule: Schedule
    level: int | None
    target: float
    max_growth: float | None
    thorough: bool
    budget: Budget

    def likely(self, max_steps: int) -> tuple[int, Iterator[int]]:
        """Horizons at which the target may be reached, ascending, and up to which there are more.

        They are those where the closure, with what it may be off by, says so.
        """
        closure = self._closure(USUAL)
        every = min(max_steps, every_horizon(closure, thorough=self.thorough))
        off = (memory_error(self.optimizer, steps) + DOUBT for steps in range(1, every + 1))
        return every, (
            horizon
            for horizon, error in enumerate(off, start=1)
            if not closure.within(horizon).risk_after(horizon) * (1.0 - error) > self.target
        )

    def crossing(self, max_steps: int) -> tuple[Crossing, bool]:
        """The closure's crossing, and whether it is in doubt."""
        found, error = self._refined(max_steps)
        crossing = found.crossing
        if crossing.steps is None:
            missed = crossing.status == "floor_above_target" and self.missed(crossing, error)
            return replace(crossing, error=math.inf if self.budget.spent else None), missed
        # With half of the work spent, looks were rough.
        error += ROUGH_ERROR if self.budget.low else 0.0
        error += self.memory_error(crossing.steps)
        steepness = crossing.steps * abs(found.change) / max(crossing.risk, TINY)
        if self.problem.follows_loss:
            error += self.spread * (steepness if math.isfinite(steepness) else STEEP)
        doubtful = error > max(DOUBT * min(steepness, 1.0), SAMPLED)
        return replace(crossing, error=error), doubtful

    def missed(self, crossing: Crossing, error: float = 0.0) -> bool:
        """Whether the closure may be further off than it misses the target by."""
        error += self.memory_error(math.inf) + DOUBT
        return crossing.risk * (1.0 - error) <= self.target

    def memory_error(self, steps: float) -> float:
        """``memory_error`` of this problem: the square of an input varies more than a normal's.

        A gradient of B examples is the mean of products of two normal numbers, whose square has the
        relative variance 2 + 6 / B.
        """
        heavier = 1.0 + 3.0 / self.problem.batch_size if self.problem.follows_loss else 1.0
        return heavier * memory_error(self.optimizer, steps)

    @functools.cached_property
    def spread(self) -> float:
        """What the steps may be off by because each run has a loss of its own, relative."""
        spectrum = self.problem.spectrum
        mean, variance = spectrum.initial_mean, spectrum.initial_variance
        squares = 2.0 * variance**2 + 4.0 * mean**2 * variance
        first = 2.0 * spectrum.initial_risk + self.problem.steady_noise
        of_loss = np.sum(spectrum.multiplicity * (spectrum.curvature / first) ** 2 * squares)
        return SPREAD * math.sqrt(min(float(of_loss), 1.0) / self.problem.batch_size)

    def _closure(self, refinement: int) -> Closure:
        closure = Closure.of(self.problem, self.optimizer, self.schedule, self.level, refinement)
        return replace(closure, budget=self.budget)

    def _find(self, refinement: int, max_steps: int) -> Found:
        closure, initial = self._closure(refinement), self.problem.spectrum.initial_risk
        if not self.schedule.needs_horizon:
            return first_step(closure, self.target, max_steps, initial, self.max_growth)
        return shortest_run(
            closure, self.target, max_steps, initial, self.max_growth, thorough=self.thorough
        )

    def _refined(self, max_steps: int) -> tuple[Found, float]:
        """The search on rules so fine that coarser ones hardly differ, and by how much these do."""
        runs = RUNS if self.schedule.needs_horizon else 1
        for fine in range(USUAL, len(REFINEMENTS)):
            found = self._find(fine, max_steps)
            error = self._difference(found.crossing, fine - 1, max_steps)
            work = runs * _work(self._closure(fine), found.crossing.steps or STEPPED)
            if error <= ALIKE or work > MOST_WORK or self.budget.low:
                break
        return found, error

    def _difference(self, crossing: Crossing, coarse: int, max_steps: int) -> float:
        """Relative difference between the risk of a crossing and that on coarser rules.

        It is 0 for long runs, which have forgotten how their starts swung.
        """
        if crossing.steps is not None:
            if crossing.steps > STEPPED and crossing.steps > DECAYED / (1.0 - self.optimizer.beta1):
                return 0.0
            closure = replace(self._closure(coarse), budget=Budget())  # a short run
            other = closure.within(crossing.steps).risk_after(crossing.steps)
        elif crossing.risk > NEAR * self.target or self.budget.low:
            return 0.0  # it does not matter, or costs too much
        else:
            other = self._find(coarse, max_steps).crossing.risk
        return abs(other - crossing.risk) / max(crossing.risk, TINY)


def memory_error(optimizer: Adam, steps: float) -> float:
    """How far the closure may be off because v is random: up to about this much of the risk.

    v is a weighted sum of independent squares, whose relative variance is twice the sum of the
    squared weights, (1 - b2)/(1 + b2) (1 + b2^t)/(1 - b2^t): 1/t in the first steps, 5e-4 in long
    runs with b2 = 0.999, and 0.05 with 0.9. Where m remembers longer than v does, a step divides
    large gradients by the root of later, smaller ones. The sum is returned times
    1 + 2 (1 - b2)/(1 - b1), which is about the most that was measured.
    """
    b1, b2 = optimizer.beta1, optimizer.beta2
    faded = b2**steps
    squares = (1.0 - b2) / (1.0 + b2) * (1.0 + faded) / (1.0 - faded)
    return float(squares * (1.0 + 2.0 * (1.0 - b2) / (1.0 - b1)))


def adam_risks(
    problem: Problem,
    optimizer: Adam,
    ordered: Integers,
    schedule: Schedule,
    horizon: int,
    level: int | None = COMPRESSION_LEVEL,
    max_growth: float | None = None,
) -> Array:
    """Adam's risks after some ascending numbers of steps of one run.

    They are infinite from where one was above ``max_growth`` times the first.
    """
    coarse = np.full(ordered.size, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        for refinement in range(USUAL - 1, len(REFINEMENTS)):
            closure = Closure.of(problem, optimizer, schedule, level, refinement).within(horizon)
            fine, highest = _risks(closure, ordered.tolist())
            alike = np.all((fine == coarse) | (np.abs(fine - coarse) <= ALIKE * fine))
            costly = _work(closure, int(ordered[-1])) > MOST_WORK
            if alike or (refinement >= USUAL and costly):
                break
            coarse = fine
    if max_growth is not None:
        fine[~(highest <= max_growth * problem.spectrum.initial_risk)] = np.inf
    return fine


def _risks(closure: Closure, steps: Sequence[int]) -> tuple[Array, Array]:
    """The risks after ascending numbers of steps, and the highest ones on the way to each."""
    moments = closure.start()
    risks, highest = np.empty(len(steps)), np.empty(len(steps))
    for index, step in enumerate(steps):
        closure.advance(moments, step)
        risks[index], highest[index] = closure.risk(moments), moments.highest
    return risks, highest


def _work(closure: Closure, steps: int) -> int:
    """The cost of a run on twice as many nodes, in steps of a node."""
    return 2 * closure.nodes.curvature.size * min(steps, STEPPED)


STEPS_PER_CHECK = 256
"""Steps between two looks at whether the risk has settled."""

CLOSE_BY = 512
"""The last steps before a crossing, which are stepped through."""

WORK, THOROUGH_WORK = 2**21, 2**26
"""What looking at every horizon may cost, in steps of a node: 20 ms and 0.7 s."""


class Found(NamedTuple):
    """The crossing that a search found, and how steep the risk is there.

    Attributes:
        crossing: its steps, status and risk.
        change: by how much one step more, or a horizon longer by one, changes the risk; 0 where
            the target was not reached.
    """

    crossing: Crossing
    change: float = 0.0


def first_step(
    closure: Closure, target: float, max_steps: int, initial: float, max_growth: float | None = None
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
    """Jump ahead, where that passes no crossing; else to shortly before the crossing.

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
    """The two ends around a dip of the risk within a jump, if the dip may reach the target."""
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
    """The moments half way between two numbers of steps."""
    middle = here.copy()
    closure.jump(middle, (there.steps - here.steps) // 2)
    return middle


def _slope(closure: Closure, moments: Moments) -> float:
    """By how much the next step changes the risk."""
    after = moments.copy()
    closure.step(after, 1)
    return closure.risk(after) - closure.risk(moments)


def every_horizon(closure: Closure, *, thorough: bool) -> int:
    """The longest horizon up to which looking at every one costs little."""
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
    # A pull comes to rest with the noise, as one over the horizon; without one that is sooner seen.
    rest = floor if closure.optimizer.weight_decay else 0.0
    search = Search(look, target, max_steps, rest=rest, above=every)
    found = search.smallest()
    if found.steps is not None and not counts(found.steps):
        found = replace(search, look=counted(look, target, counts)).smallest()
    if found.steps is not None:
        return _found(look, found.steps, initial, smallest=False)
    status: Status = "floor_above_target" if found.settled else "max_steps"
    overflown = not (math.isfinite(found.last) or closure.budget.spent)
    if overflown or any(seen.risk <= target for seen in looks.values()):
        status = "diverged"
    best = min(initial, found.risk)
    return Found(Crossing(None, status, best, smallest=every >= max_steps))


def _found(
    look: Callable[[int, int], Look], horizon: int, initial: float, *, smallest: bool
) -> Found:
    """The crossing at a horizon, and the change of its risk from one step shorter."""
    risk = look(horizon, GOOD).risk
    shorter = look(horizon - 1, GOOD).risk if horizon > 1 else initial
    return Found(Crossing(horizon, "reached", risk, smallest=smallest), risk - shorter)
