"""Linear optimizers made of others: averages of iterates, and preconditioned gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers.linear import LinearOptimizer, Transition, Update, settled


@dataclass(frozen=True)
class _Wrapper(LinearOptimizer):
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

    def with_rate(self, learning_rate: float) -> _Wrapper:
        """The same optimizer with another learning rate."""
        return replace(self, optimizer=self.optimizer.with_rate(learning_rate))

    def preconditioner(self, curvature: Array) -> Array:
        """What gradients are multiplied by at each curvature."""
        return self.optimizer.preconditioner(curvature)


@dataclass(frozen=True)
class Preconditioned(_Wrapper):
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
class Averaged(_Wrapper):
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
        return _averaged(self.optimizer.update(step, rate), self.ema_decay)

    def transition(self, curvature: Array, step: int = 0) -> Transition:
        """The transition at each curvature, at the optimizer's own rate."""
        if self.by_rule:
            return super().transition(curvature, step)
        inner = self.optimizer.transition(curvature, step)
        return Transition.of(_averaged(inner.rows, self.ema_decay))


def _averaged(update: Update, gamma: float) -> Update:
    """The same rule with e' = gamma e + (1 - gamma) theta' as one more component.

    theta is held as theta - e, which is small where the average keeps up: e then moves slowly by
    itself, and the bounds of the search, which take each component alone, stay tight.
    """
    inner = settled(update)
    k, r = inner.start.size, inner.component

    def wide(rows: Array, last: Array | float) -> Array:
        """Rows of theta - e and of e, from those of theta and the share of e in theta' - e."""
        ahead = rows[:, r] + last
        rows[:, k] = (1.0 - gamma) * ahead - last
        rows[:, r] = gamma * ahead
        return rows

    drift = np.zeros((len(inner.drift), k + 1, k + 1))
    drift[:, :k, :k], drift[:, :k, k] = inner.drift, inner.drift[:, :, r]  # theta = (theta - e) + e
    gain, point = (np.zeros((len(part), k + 1)) for part in (inner.gain, inner.point))
    gain[:, :k], point[:, :k], point[:, k] = inner.gain, inner.point, inner.point[:, r]
    start, e = np.zeros((2, k + 1))
    start[:k], start[r], start[k], e[k] = inner.start, 0.0, inner.start[r], 1.0
    return Update(wide(drift, -e), wide(gain, 0.0), point, start, e)
