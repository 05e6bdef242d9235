"""Optimizers and schedules by the names that study definitions have for them.

beta2 is the weight of the past in Adam's average of the squared gradient: a gradient loses half its
weight in ln(1/2) / ln(beta2) steps, which are that many times B examples. The policy ``fixed`` has
the same beta2 at every batch size. The policy ``half_life`` has the same half-life in examples: the
beta2 given is that at one batch size B_0, and at B it is beta2^(B / B_0).
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping

from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers import SGD, Adam, Optimizer
from nqm_study.model.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    PiecewiseConstant,
    Polynomial,
    Schedule,
    StepDecay,
    WarmupStableDecay,
)

ALGORITHMS: Mapping[str, type[SGD] | type[Adam]] = {"SGD": SGD, "Adam": Adam}
"""The optimizers' classes, by name."""

FAMILIES: Mapping[str, type[Schedule]] = {
    "constant": Constant,
    "linear": Linear,
    "cosine": Cosine,
    "polynomial": Polynomial,
    "exponential": Exponential,
    "inverse_sqrt": InverseSqrt,
    "piecewise_constant": PiecewiseConstant,
    "step_decay": StepDecay,
    "warmup_stable_decay": WarmupStableDecay,
    "one_cycle": OneCycle,
}
"""The schedules whose shape is given or searched, by the names of their configurations."""

COMPUTED = ("optimal", "greedy")
"""The schedules whose rates are computed."""


def make_optimizer(algorithm: str, values: Mapping[str, float]) -> Optimizer:
    """Make the optimizer with these hyperparameters."""
    return ALGORITHMS[algorithm](**values)  # type: ignore[arg-type]  # nesterov is a bool


def set_by_policy(
    values: Mapping[str, float], settings: Mapping[str, float | str], batch_size: float
) -> dict[str, float]:
    """The hyperparameters that the policy changes at this batch size: beta2, or none.

    beta2 is 0 where the power is too small to be told from it: Adam then keeps no average of the
    squares, which at such a batch size is what the half-life asks for.
    """
    if settings.get("beta2_policy") != "half_life":
        return {}
    return {"beta2": values["beta2"] ** (batch_size / float(settings["beta2_batch_size"]))}


def make_schedule(
    name: str, values: Mapping[str, float], settings: Mapping[str, float | str]
) -> Schedule:
    """Make the schedule of a family, with the values of its own hyperparameters.

    Raises:
        ValueError: naming a value that is out of range.
    """
    if name != "piecewise_constant":
        return FAMILIES[name](**values, **settings)
    given = {key: values[key] for key in ratios(int(settings["pieces"]))}
    for key, value in given.items():
        require_number(key, value, least=0.0)
    factors = tuple(itertools.accumulate((1.0, *given.values()), operator.mul))
    for ratio, factor in zip(given, factors[1:], strict=True):
        if factor == math.inf > given[ratio]:
            raise ValueError(
                f"{ratio}={given[ratio]:g}: must be less, the rate of its piece is infinite"
            )
    return PiecewiseConstant(factors, warmup_fraction=values.get("warmup_fraction", 0.0))


def ratios(pieces: int) -> tuple[str, ...]:
    """The names of the ratios of the second, third, ... piece."""
    return tuple(f"ratio_{piece}" for piece in range(2, pieces + 1))
