"""Families of linear optimizers: what is tuned, and the coordinates it is tuned in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nqm_study.model.optimizers import SGD

Point = tuple[float, float]
"""log(effective rate) and log(1 - decay)."""

FIXABLE = ("momentum", "nesterov", "preconditioner_power", "ema_decay")
"""Hyperparameters that may be held at a value."""


@dataclass(frozen=True)
class Family:
    """Linear optimizers that differ in their learning rate and in one decay.

    The effective rate is lr / (1 - momentum) where momentum is free, and lr elsewhere. In it and in
    1 - decay, on log scales, the valley of few steps is straight: at small batch sizes its floor is
    at 1 - momentum ~ B, far from where a grid of momentum would look.

    Attributes:
        fixed: the hyperparameters that all have in common.
        decay: the name of the decay that is free, ``momentum`` or ``ema_decay``, or None.
    """

    fixed: Mapping[str, float] = field(default_factory=dict)
    decay: str | None = None

    def optimizer(self, point: Point) -> SGD:
        """The optimizer at a point."""
        log_rate, log_gap = point
        gap = math.exp(log_gap)
        free = {self.decay: 1.0 - gap} if self.decay else {}
        scale = gap if self.decay == "momentum" else 1.0
        return SGD(math.exp(log_rate) * scale, **free, **self.fixed)  # type: ignore[arg-type]  # nesterov is a bool

    def holding(self, fixed: Mapping[str, float]) -> Family:
        """The members that have these values.

        Raises:
            ValueError: naming a value that is out of range, or that cannot be fixed.
        """
        for name in fixed:
            if name not in FIXABLE:
                raise ValueError(f"{name}: cannot be fixed; {', '.join(FIXABLE)} can")
        both = {**self.fixed, **fixed}
        SGD(1.0, **both)  # type: ignore[arg-type]  # refuses values out of range
        return Family(both, None if self.decay in fixed else self.decay)


FAMILIES: Mapping[str, Family] = {
    "sgd": Family(),
    "momentum": Family(decay="momentum"),
    "nesterov": Family({"nesterov": True}, "momentum"),
    "ema": Family(decay="ema_decay"),
    "preconditioned": Family({"preconditioner_power": 0.5}),
}
"""The families, by the names of their configurations."""
