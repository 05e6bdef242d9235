"""Stochastic gradient descent in all its forms.

For a mode of curvature h, with preconditioner P = h^-p, gradient g = h theta + e and learning rate
lr, in PyTorch's conventions:

| optimizer | state z | update |
|---|---|---|
| SGD | (theta) | theta' = theta - lr P g |
| heavy ball | (theta, u) | u' = mu u + P g;  theta' = theta - lr u' |
| Nesterov | (theta, u) | u' = mu u + P g;  theta' = theta - lr (P g + mu u') |
| EMA on top | (theta - e, ..., e) | e' = gamma e + (1 - gamma) theta'; the risk is that of e |

The average is ``Averaged`` around the others, P is ``Preconditioned``; ``SGD`` is a front of all.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers.linear import LinearOptimizer, Update
from nqm_study.model.optimizers.wrappers import Averaged


@dataclass(frozen=True)
class Buffered(LinearOptimizer):
    """u' = mu u + into g and theta' = theta - lr (now g + later u), state (theta, u).

    With x = lr h and d = mu now - into later, the 2 x 2 matrix has the trace 1 + mu - now x and the
    determinant mu - d x, and is stable for x < 2 (1 + mu) / (now + d) (Jury's conditions).
    """

    learning_rate: float
    momentum: float = 0.9

    def __post_init__(self) -> None:
        require_number("learning_rate", self.learning_rate, above=0.0)
        require_number("momentum", self.momentum, least=0.0, below=1.0)

    @property
    @abstractmethod
    def shares(self) -> tuple[float, float, float]:
        """What g and u count in theta', now and later, and what g counts in u': into."""

    def update(self, step: Integers, rate: Array) -> Update:
        """The rule at some steps."""
        del step  # the same at each, but for the rate
        now, later, into = self.shares
        drift = np.zeros((rate.size, 2, 2))
        drift[:, 0, 0], drift[:, 0, 1], drift[:, 1, 1] = 1.0, -rate * later, self.momentum
        gain = np.full((rate.size, 2), into)
        gain[:, 0] = -rate * now
        theta = np.array([1.0, 0.0])
        return Update(drift, gain, theta[None], theta, theta)

    def is_stable(self, curvature: Array) -> bool:
        """Whether the transition's spectral radius is below one at every curvature."""
        with np.errstate(over="ignore"):  # an infinite step is not stable
            return bool(np.all(self.learning_rate * curvature < self.stability_limit(1.0)))

    def stability_limit(self, curvature: float) -> float:
        """The learning rate up to which, not included, a mode is stable; whatever its own rate."""
        (now, later, into), mu = self.shares, self.momentum
        return float(2.0 * (1.0 + mu) / (now + (mu * now - into * later)) / curvature)

    def swing(self, curvature: Array, learning_rate: float | Array) -> Array:
        """Steps from one swing of a mode's square to the next, at each curvature; inf: it does not.

        Complex eigenvalues have the angle arccos(t / (2 sqrt(d))), t the trace and d the
        determinant. A negative one flips its sign at every step, which shows in a square where
        there is another beside it.
        """
        (now, later, into), mu = self.shares, self.momentum
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            x = learning_rate * curvature
            cosine = (1.0 + mu - now * x) / (2.0 * np.sqrt(mu - (mu * now - into * later) * x))
            period = np.pi / np.arccos(np.clip(cosine, -1.0, 1.0))  # NaN where d < 0
            return np.where(cosine >= 1.0, np.inf, np.where(cosine > -1.0, period, 2.0))


@dataclass(frozen=True)
class HeavyBall(Buffered):
    """Heavy ball, as torch.optim.SGD has it: u' = mu u + g, theta' = theta - lr u'.

    Args:
        learning_rate: > 0; multiplies after the momentum buffer.
        momentum: mu in [0, 1).

    Raises:
        ValueError: if a value is outside its range.
    """

    @property
    def shares(self) -> tuple[float, float, float]:
        """The new buffer holds all of g, and mu u."""
        return 1.0, self.momentum, 1.0


@dataclass(frozen=True)
class Nesterov(Buffered):
    """Nesterov's, as torch.optim.SGD has it: u' = mu u + g, theta' = theta - lr (g + mu u').

    The arguments are those of ``HeavyBall``.
    """

    @property
    def shares(self) -> tuple[float, float, float]:
        """The gradient also moves theta by way of the new buffer."""
        return 1.0 + self.momentum, self.momentum**2, 1.0


@dataclass(frozen=True)
class SGD(LinearOptimizer):
    """Stochastic gradient descent as torch.optim.SGD has it.

    Args:
        learning_rate: > 0; multiplies after the momentum buffer.
        momentum: mu in [0, 1); 0 is plain SGD, otherwise heavy ball.
        nesterov: Nesterov's form of the momentum.
        preconditioner_power: p in [0, 1]; gradients are multiplied by h^-p.
        ema_decay: gamma in [0, 1); the risk is that of e' = gamma e + (1 - gamma) theta',
            e_0 = theta_0. 0 is the iterate itself.

    Raises:
        ValueError: if a value is outside its range.
    """

    learning_rate: float
    momentum: float = 0.0
    nesterov: bool = False
    preconditioner_power: float = 0.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        require_number("learning_rate", self.learning_rate, above=0.0)
        require_number("momentum", self.momentum, least=0.0, below=1.0)
        require_number("preconditioner_power", self.preconditioner_power, least=0.0, most=1.0)
        require_number("ema_decay", self.ema_decay, least=0.0, below=1.0)
        if not isinstance(self.nesterov, (bool, np.bool_)):
            raise ValueError(f"nesterov={self.nesterov!r}: must be True or False")

    @functools.cached_property
    def _bare(self) -> HeavyBall | Nesterov:
        """The same without a preconditioner and an average."""
        return (Nesterov if self.nesterov else HeavyBall)(self.learning_rate, self.momentum)

    @functools.cached_property
    def _average(self) -> Averaged:
        return Averaged(replace(self, ema_decay=0.0), self.ema_decay)

    def update(self, step: Integers, rate: Array) -> Update:
        """The rule at some steps."""
        if self.ema_decay > 0.0:
            return self._average.update(step, rate)
        if self.momentum > 0.0:
            return self._bare.update(step, rate)
        one = np.ones(1)
        return Update(one[:, None, None], -rate[:, None], one[:, None], one, one)

    def preconditioner(self, curvature: Array) -> Array:
        """h^-p."""
        p = self.preconditioner_power
        return np.ones(curvature.shape) if p == 0.0 else curvature**-p

    def is_stable(self, curvature: Array) -> bool:
        """Whether the transition's spectral radius is below one at every curvature.

        Averaging adds the eigenvalue gamma < 1.
        """
        return self._bare.is_stable(curvature ** (1.0 - self.preconditioner_power))

    def stability_limit(self, curvature: float) -> float:
        """The learning rate up to which, not included, a mode is stable; whatever its own rate."""
        return self._bare.stability_limit(curvature ** (1.0 - self.preconditioner_power))

    def swing(self, curvature: Array, learning_rate: float | Array) -> Array:
        """Steps from one swing of a mode's square to the next, at each curvature; inf: it does not.

        Without momentum the sign that flips at every step shows beside an average.
        """
        if self.momentum == 0.0 and self.ema_decay == 0.0:
            return np.full_like(curvature, np.inf)
        return self._bare.swing(curvature ** (1.0 - self.preconditioner_power), learning_rate)
