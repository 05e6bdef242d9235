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

Runs of up to 2048 steps are stepped through. In longer ones r changes slowly, and with r frozen the
moments and V move by an affine map whose powers are cheap (``_adam_kernel.adam_jump``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nqm_study.model.adam_chains import sampled_crossing
from nqm_study.model.adam_nodes import COMPRESSION_LEVEL, REFINEMENTS, USUAL
from nqm_study.model.adam_run import DECAYED, STEPPED, Closure
from nqm_study.model.adam_search import Found, first_step, shortest_run
from nqm_study.model.optimizers import Adam
from nqm_study.model.outcome import Crossing
from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.schedules import Schedule

Array = npt.NDArray[np.float64]

ALIKE = 2e-3
"""Relative difference of the risks by two rules for the starts below which the finer one does."""

MOST_WORK = 2**26
"""Steps times nodes of a run on finer rules that are worth it."""

NEAR = 1.25
"""A risk that stays above this times the target is no near miss."""

TINY = 1e-300
"""Keeps a risk of 0 from dividing."""

DOUBT = 0.03
"""Relative error of the risk, or of the steps, above which the closure is not relied on."""


def adam_crossing(
    problem: NoisyQuadratic,
    optimizer: Adam,
    target: float,
    max_steps: int,
    schedule: Schedule,
    level: int | None = COMPRESSION_LEVEL,
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

    @functools.cache
    def closures(refinement: int) -> Closure:
        return Closure.of(problem, optimizer, schedule, level, refinement)

    search = shortest_run if schedule.needs_horizon else first_step

    def find(refinement: int) -> Found:
        return search(closures(refinement), target, max_steps, initial)

    found, error = _refined(closures, find, target)
    crossing = found.crossing
    if crossing.steps is None:
        # Unless the closure is further off than it misses the target by.
        error += memory_error(optimizer.beta2, math.inf)
        missed = crossing.status == "floor_above_target"
        doubtful = missed and crossing.risk * (1.0 - error - DOUBT) <= target
    else:
        error += memory_error(optimizer.beta2, crossing.steps)
        steepness = crossing.steps * abs(found.change) / max(crossing.risk, TINY)
        crossing = replace(crossing, error=error)
        doubtful = error > DOUBT * min(steepness, 1.0)
    if not doubtful:
        return crossing
    return sampled_crossing(problem, optimizer, schedule, target, max_steps, crossing, level)


def memory_error(beta2: float, steps: float) -> float:
    """How far the closure may be off because v is random: about this much of the risk.

    v is a weighted sum of independent squares, whose relative variance is twice the sum of the
    squared weights, (1 - b2)/(1 + b2) (1 + b2^t)/(1 - b2^t). That sum is returned: 1/t in the first
    steps, 5e-4 in long runs with b2 = 0.999, and 0.05 with 0.9.
    """
    faded = beta2**steps
    return float((1.0 - beta2) / (1.0 + beta2) * (1.0 + faded) / (1.0 - faded))


def _refined(
    closures: Callable[[int], Closure], find: Callable[[int], Found], target: float
) -> tuple[Found, float]:
    """The search on rules so fine that coarser ones hardly differ, and by how much these do."""
    for fine in range(USUAL, len(REFINEMENTS)):
        found = find(fine)
        coarser = functools.partial(find, fine - 1)
        error = _difference(found.crossing, closures(fine - 1), coarser, target)
        work = _work(closures(fine), found.crossing.steps or STEPPED)
        if error <= ALIKE or work > MOST_WORK:
            break
    return found, error


def _difference(
    crossing: Crossing, coarse: Closure, find_coarse: Callable[[], Found], target: float
) -> float:
    """Relative difference between the risk of a crossing and that on coarser rules.

    It is 0 for long runs, which have forgotten how their starts swung.
    """
    if crossing.steps is not None:
        if crossing.steps > STEPPED and crossing.steps > DECAYED / (1.0 - coarse.optimizer.beta1):
            return 0.0
        other = coarse.within(crossing.steps).risk_after(crossing.steps)
    elif crossing.risk > NEAR * target:
        return 0.0  # it does not matter
    else:
        other = find_coarse().crossing.risk
    return abs(other - crossing.risk) / max(crossing.risk, TINY)


def adam_risks(
    problem: NoisyQuadratic,
    optimizer: Adam,
    steps: Sequence[int],
    schedule: Schedule,
    horizon: int,
    level: int | None = COMPRESSION_LEVEL,
) -> Array:
    """Adam's risks after the given numbers of steps of one run, in the order given."""
    ordered, position = np.unique(np.asarray(steps, dtype=np.int64), return_inverse=True)
    last = int(ordered[-1]) if ordered.size else 0
    coarse = np.empty(0)
    for refinement in range(USUAL - 1, len(REFINEMENTS)):
        closure = Closure.of(problem, optimizer, schedule, level, refinement).within(horizon)
        fine = _risks(closure, ordered.tolist())
        alike = coarse.size and np.all(np.abs(fine - coarse) <= ALIKE * fine)
        if alike or (refinement >= USUAL and _work(closure, last) > MOST_WORK):
            break
        coarse = fine
    return np.asarray(fine[position])


def _risks(closure: Closure, steps: Sequence[int]) -> Array:
    """The risks after ascending numbers of steps."""
    moments = closure.start()
    risks = np.empty(len(steps))
    for index, step in enumerate(steps):
        closure.advance(moments, step)
        risks[index] = closure.risk(moments)
    return risks


def _work(closure: Closure, steps: int) -> int:
    """Steps times nodes of a run on twice as many nodes."""
    return 2 * closure.nodes.curvature.size * min(steps, STEPPED)
