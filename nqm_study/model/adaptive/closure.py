"""Adam's expected risk, by second moments conditional on the start.

Adam divides by the root of a running mean of squared gradients, so it is not linear and its moments
do not close. Two observations give a closure that agrees with direct simulation: v varies slowly,
so its mean serves as its value; but it follows the realised |theta_0|, so the mean is taken given
theta_0, at the nodes of ``adam_nodes``, and the risk is averaged over them.

Per mode and node, with q = h^2 A + c/B (the second moment of the gradient):

| symbol | meaning | update |
|---|---|---|
| V | E v | V' = b2 V + (1 - b2) q |
| r | step per unit of m | r = lr / (1 - b1^t) / (sqrt(V' / (1 - b2^t)) + eps) |
| Q | E m^2 | Q' = b1^2 Q + 2 b1 (1 - b1) h D + (1 - b1)^2 q |
| F | E theta m' | F = b1 D + (1 - b1) h A |
| A | E theta^2 | A' = A - 2 r F + r^2 Q' |
| D | E theta m | D' = F - r Q' |

The start is A = theta_0^2 at each node, and Q = D = V = 0.

The closure is off where v is a mean of few gradients: in the first steps, and where 1 - b2 is large
(``memory_error``). Where that may be more than 3 % and a run is short, it is sampled instead
(``adam_chains``); where a run is long, ``Crossing.error`` says by how much it may be off.

Short runs are stepped through. In longer ones r changes slowly, and with r frozen the moments and V
move by an affine map whose powers are cheap (``_adam_kernel.adam_jump``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nqm_study.model.adaptive.chains import sampled_crossing
from nqm_study.model.adaptive.nodes import COMPRESSION_LEVEL, REFINEMENTS, TINY, USUAL
from nqm_study.model.adaptive.run import DECAYED, STEPPED, Closure
from nqm_study.model.adaptive.search import Found, every_horizon, first_step, shortest_run
from nqm_study.model.numerics.budget import Budget
from nqm_study.model.optimizers import Adam
from nqm_study.model.outcome import MOST_STEPS, Crossing
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.schedules import Schedule

Array = npt.NDArray[np.float64]

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

NEAR = 1.25
"""A risk that stays above this times the target is no near miss."""

DOUBT = 0.03
"""Relative error of the risk, or of the steps, above which the closure is not relied on."""

ROUGH_ERROR = 0.02
"""What a run in long stretches may be off by, relative."""

SAMPLED = 0.01
"""What a sampled risk may be off by itself, relative."""


def adam_crossing(
    problem: NoisyQuadratic,
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
    budget = Budget(SEARCH_WORK)
    case = _Case(problem, optimizer, schedule, level, target, max_growth, thorough, budget)
    # Rates without bounds overflow, which the risk tells.
    with np.errstate(over="ignore", invalid="ignore"):
        crossing, doubtful = case.crossing(max_steps)
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
    """A search by the closure: on what, for what."""

    problem: NoisyQuadratic
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
        error += memory_error(self.optimizer, crossing.steps)
        steepness = crossing.steps * abs(found.change) / max(crossing.risk, TINY)
        doubtful = error > max(DOUBT * min(steepness, 1.0), SAMPLED)
        return replace(crossing, error=error), doubtful

    def missed(self, crossing: Crossing, error: float = 0.0) -> bool:
        """Whether the closure may be further off than it misses the target by."""
        error += memory_error(self.optimizer, math.inf) + DOUBT
        return crossing.risk * (1.0 - error) <= self.target

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
    problem: NoisyQuadratic,
    optimizer: Adam,
    steps: Sequence[int],
    schedule: Schedule,
    horizon: int,
    level: int | None = COMPRESSION_LEVEL,
    max_growth: float | None = None,
) -> Array:
    """Adam's risks after the given numbers of steps of one run, in the order given.

    They are infinite from where one was above ``max_growth`` times the first.
    """
    if len(steps) == 0:
        return np.empty(0)
    ordered, position = np.unique(np.asarray(steps, dtype=np.int64), return_inverse=True)
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
    return np.asarray(fine[position])


def _risks(closure: Closure, steps: Sequence[int]) -> tuple[Array, Array]:
    """The risks after ascending numbers of steps, and the highest ones on the way to each."""
    moments = closure.start()
    risks, highest = np.empty(len(steps)), np.empty(len(steps))
    for index, step in enumerate(steps):
        closure.advance(moments, step)
        risks[index], highest[index] = closure.risk(moments), moments.highest
    return risks, highest


def _work(closure: Closure, steps: int) -> int:
    """Steps times nodes of a run on twice as many nodes."""
    return 2 * closure.nodes.curvature.size * min(steps, STEPPED)
