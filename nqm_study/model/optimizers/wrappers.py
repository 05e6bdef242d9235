"""Linear optimizers made of others: averages of iterates, and preconditioned gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.arrays import Array
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

    def update(self, step: npt.NDArray[np.int64], rate: Array) -> Update:
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

    def update(self, step: npt.NDArray[np.int64], rate: Array) -> Update:
        """The inner optimizer's rule, with the average as one more component."""
        inner, gamma = self.optimizer.update(step, rate), self.ema_decay
        ahead = (1.0 - gamma) * inner.readout
        k = inner.start.size
        drift = np.zeros((len(inner.drift), k + 1, k + 1))
        drift[:, :k, :k], drift[:, k, :k] = inner.drift, ahead @ inner.drift
        drift[:, k, k] = gamma
        gain = np.concatenate((inner.gain, (inner.gain @ ahead)[:, None]), axis=1)
        point = np.concatenate((inner.point, np.zeros((len(inner.point), 1))), axis=1)
        start = np.append(inner.start, inner.readout @ inner.start)
        return Update(drift, gain, point, start, np.eye(k + 1)[k])

    def transition(self, curvature: Array, step: int = 0) -> Transition:
        """The transition at each curvature, at the optimizer's own rate."""
        return averaged(self.optimizer.transition(curvature, step), self.ema_decay)

    def affine(self, curvature: Array) -> tuple[Transition, Transition]:
        """The two parts of the transition, as ``LinearOptimizer.affine`` has them."""
        base, slope = self.optimizer.affine(curvature)
        return (
            averaged(base, self.ema_decay),
            averaged(slope, self.ema_decay, constant=False),
        )


def averaged(transition: Transition, gamma: float, *, constant: bool = True) -> Transition:
    """The same transition with e' = gamma e + (1 - gamma) theta' as one more component.

    theta is held as theta - e, which is small where the average keeps up: e then moves slowly by
    itself, and the bounds of the search, which take each component alone, stay tight.

    Args:
        transition: of theta, its readout.
        gamma: the average's decay.
        constant: whether it is a transition, or the part of one that multiplies the rate.
    """
    inner = settled(transition)
    matrix, noise, r = inner.matrix, inner.noise, inner.component
    k, _, n = matrix.shape
    wide = np.zeros((k + 1, k + 1, n))
    wide[:k, :k] = matrix
    wide[:k, k] = matrix[:, r]  # theta = (theta - e) + e
    ahead = wide[r].copy()
    if constant:
        ahead[k] -= 1.0  # theta' - e
    wide[r] = gamma * ahead
    wide[k] = (1.0 - gamma) * ahead
    if constant:
        wide[k, k] += 1.0
    entering = np.empty((k + 1, n))
    entering[:k] = noise
    entering[k] = (1.0 - gamma) * noise[r]
    entering[r] *= gamma
    start, last = np.zeros((2, k + 1))
    start[:k], start[k], start[r] = inner.start, inner.start[r], 0.0
    last[k] = 1.0
    return Transition(wide, entering, start, last)
