"""The true optimum of a family of optimizers: the yardstick of every search.

What follows is for the linear ones at a constant rate; for Adam and under schedules, where a risk
costs more and is smooth only nearly, see optimum/dense_search.py.

The fewest steps of a family are the smallest T for which some hyperparameters theta give a risk
L_T(theta) at most the target: the first crossing of theta is then at T or before it, and no theta
crosses earlier. Steps to target, as a function of theta, is made of plateaus and cliffs (a cliff is
where a dip of an oscillating risk just misses the target); L_T(theta) at a given T is smooth. So:

1. Start densely: first crossings over a grid of rates and decays, which spans all that can reach
   the target, each search cut off at a multiple of the best found so far.
2. Descend: from the best point, find the smallest T at which the minimum of L_T over theta is at
   most the target.
3. Look elsewhere: at T - 1, make the grid finer around its points of least risk, minimise from the
   local minima of the finest one (but not where the risk rises around them by less than what is
   missing), and descend from any that reaches the target; until none does.

Points are ranked, and minima placed, on coarse compressions of the spectrum; whether a member
reaches the target, and when, is always said by the search that ``steps_to_target`` is.
"""

from __future__ import annotations

from dataclasses import dataclass

from nqm_study.model.crossing import steps_to_target
from nqm_study.model.linear.fewest_steps import LONGEST, Tuning
from nqm_study.model.linear.members import FAMILIES, Family
from nqm_study.model.numerics.require import require_growth, require_integer, require_number
from nqm_study.model.optimizers import Optimizer
from nqm_study.model.outcome import MAX_GROWTH
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.schedules import Constant, Schedule, ScheduleLike, as_schedule
from nqm_study.optimum.dense_search import MOST_EVALUATIONS
from nqm_study.optimum.families import ADAM_FAMILIES, AdamFamily, DenseTuning, ShapeFamily

CONSTANT = Constant()


@dataclass(frozen=True)
class Tuned:
    """The optimum of a family.

    Attributes:
        steps: the fewest steps to the target; None where no member reaches it within max_steps.
        optimizer: a member that takes them; None as well.
        schedule: the schedule under which it does; None as well.
        exact: whether each local optimum is exact to the step, as for linear families at a constant
            rate; False: the best of a dense search.
        evaluations: risks and crossings that the dense search computed; None without one.
        complete: False where the dense search was ended by its limit.
    """

    steps: int | None
    optimizer: Optimizer | None
    schedule: Schedule | None = None
    exact: bool = True
    evaluations: int | None = None
    complete: bool = True


def tuned(
    problem: NoisyQuadratic,
    family: str,
    *,
    schedule: ScheduleLike | ShapeFamily = CONSTANT,
    target: float = 0.01,
    max_steps: int = 10**9,
    most_evaluations: int = MOST_EVALUATIONS,
    max_growth: float | None = MAX_GROWTH,
    **fixed: float,
) -> Tuned:
    """The fewest steps to a target over all hyperparameters of a family.

    Learning rates are free, and momentum (``momentum``, ``nesterov``), ema_decay (``ema``) or beta1
    and beta2 (``adam_full``); the rest is as in the family's configuration: ``sgd``, ``momentum``,
    ``nesterov``, ``ema``, ``preconditioned``, which is SGD with preconditioner_power 0.5, ``adam``,
    ``rmsprop`` and ``adam_full``. The shape of a schedule is free where it is a ``ShapeFamily``.

    For linear families at a constant rate the result is the best of all local optima found from a
    dense start, each exact to the step. Else it is the best of a dense search. Both are proved only
    as far as they are dense; the tests compare them with wide random searches. Under a schedule the
    largest rate is searched up to 0.9998 of the limit of stability at a constant rate.

    Args:
        problem: spectrum and batch size.
        family: one of these names.
        schedule: multiplies the learning rate; one whose shape is fixed, or a family of shapes.
        target: expected loss to reach, > 0.
        max_steps: the most steps that count, >= 0.
        most_evaluations: a limit on the work of a dense search, >= 1.
        max_growth: members count only if their expected loss does not rise above this many times
            the first one on the way, as in ``steps_to_target``.
        **fixed: hyperparameters of ``SGD`` or ``Adam`` but the learning rate, to be held at these
            values: ``tuned(problem, "momentum", momentum=0.9)`` is the best rate for that momentum.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind.
    """
    if not isinstance(problem, NoisyQuadratic):
        raise ValueError(f"problem={problem!r}: must be NoisyQuadratic")
    families: dict[str, Family | AdamFamily] = {**FAMILIES, **ADAM_FAMILIES}
    if not isinstance(family, str) or family not in families:
        raise ValueError(f"family={family!r}: must be one of {', '.join(families)}")
    shape = schedule if isinstance(schedule, ShapeFamily) else as_schedule(schedule)
    target = require_number("target", target, above=0.0)
    max_steps = require_integer("max_steps", max_steps, least=0, most=LONGEST)
    most_evaluations = require_integer("most_evaluations", most_evaluations, least=1)
    max_growth = require_growth(max_growth)
    members = families[family].holding(fixed)
    exact = isinstance(members, Family) and shape == CONSTANT
    if problem.spectrum.initial_risk <= target:  # any member will do
        ends = shape.ends[0] if isinstance(shape, ShapeFamily) else shape
        return Tuned(0, _any(members), ends, exact)
    if isinstance(members, Family) and shape == CONSTANT:
        best = Tuning(problem, members, target, max_steps).best()
        if best is None:
            return Tuned(None, None)
        steps, point = best
        member = members.optimizer(point)
        run = steps_to_target(
            problem, member, target=target, max_steps=steps, max_growth=max_growth
        )
        if run.status != "diverged":
            return Tuned(steps, member, CONSTANT)
    # The fewest steps of all grow too much: what is left is searched densely.
    search = DenseTuning(problem, members, shape, target, max_growth)
    found = search.best(max_steps, most_evaluations)
    if found is None:
        return Tuned(None, None, exact=False)
    work = found.evaluations + found.looks
    if found.values is None:
        return Tuned(None, None, None, False, work, found.complete)
    optimizer, best_shape = search.optimizer(found.values), search.schedule(found.values)
    return Tuned(found.steps, optimizer, best_shape, False, work, found.complete)


def _any(members: Family | AdamFamily) -> Optimizer:
    """One of the members."""
    return members.optimizer((0.0, 0.0)) if isinstance(members, Family) else members.optimizer({})
