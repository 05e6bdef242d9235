"""Steps to a target and risk curves, for every optimizer and schedule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nqm_study.model.linear.risks import converged, is_tabled, linear_crossing, linear_risks
from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.horizon import FAIR, GOOD
from nqm_study.model.numerics.refine import TOLERANCE
from nqm_study.model.numerics.require import require_growth, require_integer, require_number
from nqm_study.model.optimizers import Adam, LinearOptimizer, Optimizer
from nqm_study.model.outcome import MOST_STEPS, PRECISE, Crossing
from nqm_study.model.problems.problem import Problem, require_additive
from nqm_study.model.schedules import (
    BatchOptimal,
    BatchScheduleLike,
    Constant,
    Schedule,
    ScheduleLike,
    as_schedule,
    batched,
)

CONSTANT = Constant()

LAST_RISK_LEVEL = 2
"""Compression of the spectrum in ``last_risk`` under a schedule, if there are finer ones."""

LAST_RISK_STEPPED = 2048
"""The longest run under a schedule that ``last_risk`` steps through: a warm-up of a step or
two shows, which stretches blur."""


def steps_to_target(
    problem: Problem,
    optimizer: Optimizer,
    schedule: ScheduleLike = CONSTANT,
    *,
    target: float = 0.01,
    max_steps: int = 10**9,
    tolerance: float = TOLERANCE,
    max_growth: float | None = None,
    thorough: bool = False,
    batch_schedule: BatchScheduleLike | None = None,
) -> Crossing:
    """The fewest steps after which the expected loss is at most the target.

    Where the learning rate does not depend on the length of the run (``Constant`` and
    ``InverseSqrt``, without a warm-up) it is the first step t >= 0 with L_t <= target. With other
    schedules each number of steps T is a run of its own, and it is the smallest T >= 0 whose last
    risk L_T is at most the target.

    SGD in all its forms is exact at a constant rate, and under a schedule in runs of up to 8192
    steps: the integer is one that the step-by-step recursion over all modes gives. So is every
    optimizer whose coefficients change with the step (``constant`` is False), at a constant rate
    up to some 10^4 steps. Longer runs are extrapolated from stretches of constant rate, or of the
    mean of coefficients between ``knots``. ``Crossing.error`` is the relative error of the risk, by
    that and by the compression of the spectrum.

    L_T may dip below the target and rise again, so that the smallest horizon is certain only where
    every smaller one was excluded. That is done up to 320 steps where it costs little, and
    ``Crossing.smallest`` says whether it was; ``thorough`` goes up to 8192 steps, in a second or
    so, and along the one run of coefficients that change steps through some 10^5. Along a single
    run every step is excluded; beyond 8192 steps that is so only at a constant rate and of
    coefficients that do not change. ``Crossing.tie`` says that rounding may have decided.

    Adam is the conditional closure of ``nqm_study.model.adaptive.closure``. In short runs where it
    may be more than 3 % off the risk is sampled instead, on the same noise at every call, and
    ``Crossing.sampled`` is true; in longer ones, and where more than some thousand modes have to be
    drawn, ``Crossing.error`` says what it may be off by. So it does under ``LeastSquares``, where
    nothing is sampled: with one or two modes and batches of one example steps may be 14 % too few.

    Args:
        problem: spectrum and batch size.
        optimizer: a ``LinearOptimizer``, such as ``SGD``, or ``Adam``.
        schedule: multiplies the learning rate; a schedule, such as ``Cosine()``, or a function from
            the fraction of the run, in [0, 1), to the factor, >= 0.
        target: expected loss to reach, > 0.
        max_steps: the most steps that count, >= 0.
        tolerance: relative error of the risk that a compression of the spectrum may have, from 0 to
            1e-6; 0 computes with every mode. A power law of more than 2^17 modes may miss it where
            it oscillates fast, and ``Crossing.error`` then says by how much.
        max_growth: a run does not count if its expected loss rises above this many times the first
            one before the crossing, >= 1: where it would have reached the target, and no other
            does, the status is ``diverged``. In runs of up to 8192 steps every step is looked at.
            None: any rise counts.
        thorough: under a schedule, look at every horizon in runs of up to 8192 steps; where
            coefficients change, step through one run for a second.
        batch_schedule: how large the batches of a run are beside each other, such as
            ``BatchRamp()``, their mean being the problem's batch size; or a function from the
            fraction of the run to the batch size, which is taken as it is. None: all are the
            problem's. Each number of steps is then a run of its own.

    Returns:
        Steps, status and risk. A target that is met before the first step gives 0 steps.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind.
    """
    target = require_number("target", target, above=0.0)
    max_steps = require_integer("max_steps", max_steps, least=0, most=MOST_STEPS)
    tolerance = _require_tolerance(tolerance)
    max_growth = require_growth(max_growth)
    shape = require_run(problem, optimizer, schedule, batch_schedule)
    if isinstance(optimizer, Adam):
        from nqm_study.model.adaptive.closure import adam_crossing

        level = _adam_level(tolerance)
        return adam_crossing(
            problem, optimizer, target, max_steps, shape, level, max_growth, thorough=thorough
        )
    if shape == CONSTANT and is_tabled(problem, optimizer, tolerance):
        return linear_crossing(problem, optimizer, target, max_steps, tolerance, max_growth)

    from nqm_study.model.linear.scheduled import scheduled_crossing

    return scheduled_crossing(
        problem, optimizer, shape, target, max_steps, tolerance, max_growth, thorough=thorough
    )


def risk_curve(
    problem: Problem,
    optimizer: Optimizer,
    schedule: ScheduleLike = CONSTANT,
    *,
    steps: Sequence[int] | npt.NDArray[np.integer],
    horizon: int | None = None,
    tolerance: float = TOLERANCE,
    precision: float = PRECISE,
    max_growth: float | None = None,
    batch_schedule: BatchScheduleLike | None = None,
) -> Array:
    """The expected loss after each of the given numbers of steps; Adam's is always its closure's.

    Args:
        problem: spectrum and batch size.
        optimizer: a ``LinearOptimizer``, such as ``SGD``, or ``Adam``.
        schedule: multiplies the learning rate, as in ``steps_to_target``.
        steps: numbers of steps >= 0, in any order.
        horizon: the length of the run; no step may lie beyond it. Only a schedule that does not
            depend on it can go without.
        tolerance: relative error that a compression of the spectrum may have, as in
            ``steps_to_target``.
        precision: estimated relative error of a linear optimizer under a schedule, or with
            coefficients that change, in runs so long that their risks are extrapolated, from 1e-6
            to 0.01. 1e-3 takes a tenth of the time or less.
        max_growth: losses are infinite from where one was above this many times the first, >= 1;
            None: they are as they are.
        batch_schedule: as in ``steps_to_target``.

    Returns:
        Array of the risks, in the order of ``steps``.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind, or a power law's finest
            compression does not meet the tolerance.
    """
    shape = require_run(problem, optimizer, schedule, batch_schedule)
    wanted, end = require_steps(steps, horizon, shape)
    tolerance = _require_tolerance(tolerance)
    precision = require_number("precision", precision, least=PRECISE, most=0.01)
    max_growth = require_growth(max_growth)
    ordered, position = np.unique(np.array(wanted, dtype=np.int64), return_inverse=True)
    if ordered.size == 0:
        return np.zeros(0)
    if isinstance(optimizer, Adam):
        from nqm_study.model.adaptive.closure import adam_risks

        level = _adam_level(tolerance)
        risks = adam_risks(problem, optimizer, ordered, shape, end, level, max_growth)
    elif shape == CONSTANT and is_tabled(problem, optimizer, tolerance):
        risks = linear_risks(problem, optimizer, ordered, tolerance, max_growth)
    else:
        from nqm_study.model.linear.scheduled import scheduled_risks

        risks = scheduled_risks(
            problem, optimizer, shape, ordered, end, tolerance, precision, max_growth
        )
    return np.asarray(risks[position])


def require_steps(steps: object, horizon: object, schedule: Schedule) -> tuple[list[int], int]:
    """Numbers of steps of one run, and its length, to the last of them where none is given.

    Raises:
        ValueError: naming what is no integer, beyond the length, or missing.
    """
    if not isinstance(steps, (Sequence, np.ndarray)):
        raise ValueError(f"steps={steps!r}: must be a sequence of integers")
    wanted = [
        require_integer(f"steps[{index}]", step, least=0, most=MOST_STEPS)
        for index, step in enumerate(steps)
    ]
    if horizon is not None:
        end = require_integer("horizon", horizon, least=0, most=MOST_STEPS)
        beyond = max(wanted, default=0)
        if beyond > end:
            raise ValueError(f"steps={beyond}: must be at most horizon={end}")
    elif schedule.needs_horizon:
        raise ValueError("horizon=None: must be given, the schedule depends on it")
    else:
        end = max(wanted, default=0)
    return wanted, end


def last_risk(problem: Problem, optimizer: Optimizer, schedule: Schedule, steps: int) -> float:
    """The expected loss after all steps of a run, quickly, smoothly, and to about a percent.

    It is what a search descends along. The error (compression of the spectrum, stretches of a
    schedule, Adam's rules) is nearly the same share at neighbouring hyperparameters and lengths,
    and it takes a fraction of the time of a search for the steps to a target.

    Args:
        problem: spectrum and batch size.
        optimizer: a ``LinearOptimizer``, such as ``SGD``, or ``Adam``.
        schedule: multiplies the learning rate.
        steps: the length of the run, >= 1.

    Returns:
        The risk; inf or NaN where it overflows.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(optimizer, Adam):
            from nqm_study.model.adaptive.nodes import COMPRESSION_LEVEL, USUAL
            from nqm_study.model.adaptive.run import Closure

            closure = Closure.of(problem, optimizer, schedule, COMPRESSION_LEVEL, USUAL)
            return closure.within(steps, roughly=True).risk_after(steps)
        if schedule == CONSTANT and is_tabled(problem, optimizer):
            ends = np.array((steps,))
            return float(converged(problem, optimizer, ends)[0].risks(ends)[0])

        from nqm_study.model.linear.runs import Runs

        spectrum = problem.spectrum
        level = max(spectrum.first_level, min(LAST_RISK_LEVEL, spectrum.last_level))
        quality = GOOD if steps <= LAST_RISK_STEPPED else FAIR
        return Runs(problem, optimizer, schedule, level).look(steps, quality).risk


def _adam_level(tolerance: float) -> int | None:
    from nqm_study.model.adaptive.nodes import COMPRESSION_LEVEL

    return COMPRESSION_LEVEL if tolerance > 0.0 else None


def _require_tolerance(value: object) -> float:
    return require_number("tolerance", value, least=0.0, most=1e-6)


def require_run(
    problem: object, optimizer: object, schedule: object, batch_schedule: object = None
) -> Schedule:
    """Check the kinds of a run's parts; return the schedule of its rates and batch sizes.

    Raises:
        ValueError: naming the part that is of another kind, or outside its bounds.
    """
    for name, value, kinds, names in (
        ("problem", problem, Problem, "NoisyQuadratic or LeastSquares"),
        ("optimizer", optimizer, (LinearOptimizer, Adam), "LinearOptimizer or Adam"),
    ):
        if not isinstance(value, kinds):
            raise ValueError(f"{name}={value!r}: must be {names}")
    if isinstance(optimizer, LinearOptimizer) and not optimizer.by_rule and problem.follows_loss:  # type: ignore[attr-defined]  # checked above
        raise ValueError(
            f"optimizer={optimizer!r}: must have update() on LeastSquares, whose noise is known at "
            "the point of the gradient only; transition() serves NoisyQuadratic"
        )
    rates, size = as_schedule(schedule), problem.batch_size  # type: ignore[attr-defined]  # checked above
    if not isinstance(batch_schedule, BatchOptimal):
        return batched(rates, batch_schedule, size)
    if not isinstance(optimizer, LinearOptimizer):
        raise ValueError(
            f"batch_schedule={batch_schedule!r}: must be another one with Adam, whose noise is not "
            "additive"
        )
    require_additive(problem, "batch_schedule=BatchOptimal()")  # type: ignore[arg-type]  # checked above
    from nqm_study.model.linear.best_batches import BestBatches

    best = BestBatches(problem, optimizer, rates)  # type: ignore[arg-type]  # checked above
    return batched(rates, batch_schedule, size, best)
