"""Learning-rate schedules: the factor by which the learning rate is multiplied at each step.

| symbol | name in code | meaning |
|---|---|---|
| T | horizon | steps of the whole run |
| t | step | 0, ..., T - 1 |
| u | fraction | t / T |
| w | warmup_fraction | share of the run in which the rate rises from 0 |
| v | | (u - w) / (1 - w), the fraction of what follows the warm-up |
| f | final_fraction | the factor towards the end, over the largest one |

The rate of step t is lr * factor. It is u / w during the warm-up, so that the first rate is 0 as in
optax, and the schedule's own shape at v after it. Names and meanings are optax's where it has them.

A schedule is smooth between its knots: the run's integrals can then be taken from few places. What
is constant between knots shows in its values there.

Here: the factors alone. To import: every name below. Never here: a problem, or a schedule that is
made for one, which are in ``computed``.
"""

from nqm_study.model.schedules.base import (
    Constant,
    Custom,
    Schedule,
    ScheduleLike,
    as_schedule,
    as_steps,
)
from nqm_study.model.schedules.batches import (
    BatchConstant,
    BatchCoupled,
    Batched,
    BatchOptimal,
    BatchPieces,
    BatchRamp,
    BatchSchedule,
    BatchScheduleLike,
    BatchSteps,
    batch_sizes,
    batched,
)
from nqm_study.model.schedules.decays import Cosine, Exponential, InverseSqrt, Linear, Polynomial
from nqm_study.model.schedules.stages import (
    OneCycle,
    PiecewiseConstant,
    StepDecay,
    WarmupStableDecay,
)

__all__ = [
    "BatchConstant",
    "BatchCoupled",
    "BatchOptimal",
    "BatchPieces",
    "BatchRamp",
    "BatchSchedule",
    "BatchScheduleLike",
    "BatchSteps",
    "Batched",
    "Constant",
    "Cosine",
    "Custom",
    "Exponential",
    "InverseSqrt",
    "Linear",
    "OneCycle",
    "PiecewiseConstant",
    "Polynomial",
    "Schedule",
    "ScheduleLike",
    "StepDecay",
    "WarmupStableDecay",
    "as_schedule",
    "as_steps",
    "batch_sizes",
    "batched",
]
