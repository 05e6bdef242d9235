"""Linear optimizers made of others: averages of iterates, and preconditioned gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers.linear import LinearOptimizer, Transition, Update, settled


@dataclass(frozen=True)
class Wrapper(LinearOptimizer):
    """What goes around another linear optimizer, and is as that is in all it does not say."""

    optimizer: LinearOptimizer

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, LinearOptimizer):
            raise ValueError(f"optimizer={self.optimizer!r}: must be a LinearOptimizer")

    @property
    def learning_rate(self) -> float:  # type: ignore[override]  # it is the inner one's
        """The inner optimizer's."""
        return self.optimizer.learning_rate

    @property
    def constant(self) -> bool:  # type: ignore[override]  # it is the inner one's
        """Whether the inner optimizer's coefficients are the same at each step."""
        return self.optimizer.constant

    @property
    def knots(self) -> tuple[int, ...]:
        """The inner optimizer's."""
        return self.optimizer.knots

    @property
    def by_rule(self) -> bool:
        """Whether the inner optimizer has a rule."""
        return self.optimizer.by_rule

    def with_rate(self, learning_rate: float) -> Self:
        """The same optimizer with another learning rate."""
        return replace(self, optimizer=self.optimizer.with_rate(learning_rate))

    def preconditioner(self, curvature: Array) -> Array:
        """What gradients are multiplied by at each curvature."""
        return self.optimizer.preconditioner(curvature)


@dataclass(frozen=True)
class Preconditioned(Wrapper):
    """An optimizer that takes its gradients times h^-power.

    Args:
        optimizer: a linear one.
        power: p in [0, 1].

    Raises:
        ValueError: if a value is outside its range.
    """

    power: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("power", self.power, least=0.0, most=1.0)

    def update(self, step: Integers, rate: Array) -> Update:
        """The inner optimizer's rule: no curvature stands in it."""
        return self.optimizer.update(step, rate)

    def preconditioner(self, curvature: Array) -> Array:
        """What gradients are multiplied by at each curvature."""
        inner = self.optimizer.preconditioner(curvature)
        return inner if self.power == 0.0 else curvature**-self.power * inner


@dataclass(frozen=True)
class Averaged(Wrapper):
    """The average e' = gamma e + (1 - gamma) theta' of an optimizer's iterates; e_0 = theta_0.

    Args:
        optimizer: a linear one; theta is its readout.
        ema_decay: gamma in [0, 1).

    Raises:
        ValueError: if a value is outside its range.
    """

    ema_decay: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("ema_decay", self.ema_decay, least=0.0, below=1.0)

    def update(self, step: Integers, rate: Array) -> Update:
        """The inner optimizer's rule, with the average as one more component."""
        return averaged(self.optimizer.update(step, rate), np.array([self.ema_decay]))

    def transition(self, curvature: Array, step: int = 0) -> Transition:
        """The transition at each curvature, at the optimizer's own rate."""
        if self.by_rule:
            return super().transition(curvature, step)
        inner = self.optimizer.transition(curvature, step)
        return Transition.of(averaged(inner.rows, np.array([self.ema_decay])))


def averaged(update: Update, gamma: Array) -> Update:
    """The same rule with e' = gamma e + (1 - gamma) theta' as one more component.

    theta is held as theta - e, which is small where the average keeps up: e then moves slowly by
    itself, and the bounds of the search, which take each component alone, stay tight.

    Args:
        update: the rule; theta is its readout, and e begins at theta_0.
        gamma: of each step, shape (T,) or (1,).
    """
    inner = settled(update)
    k, r = inner.start.size, inner.component
    # Steps lie next to each other: loops over them, not over components, are the inner ones.
    drift, gain = (
        np.zeros((max(len(part), gamma.size), *(n + 1 for n in part.shape[1:])), order="F")
        for part in (inner.drift, inner.gain)
    )
    point = np.zeros((len(inner.point), k + 1))
    drift[:, :k, :k], drift[:, :k, k] = inner.drift, inner.drift[:, :, r]  # theta = (theta - e) + e
    gain[:, :k], point[:, :k], point[:, k] = inner.gain, inner.point, inner.point[:, r]
    start, e = np.zeros((2, k + 1))
    start[:k], start[r], start[k], e[k] = inner.start, 0.0, inner.start[r], 1.0
    for rows, last, share in ((drift, e, gamma[:, None]), (gain, 0.0, gamma)):
        # The share of e in theta' - e is -last.
        ahead = rows[:, r] - last
        rows[:, k] = (1.0 - share) * ahead + last
        rows[:, r] = share * ahead
    return Update(drift, gain, point, start, e)
