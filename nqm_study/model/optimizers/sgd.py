"""Stochastic gradient descent in all its forms.

For a mode of curvature h, with preconditioner P = h^-p, gradient g = h theta + e and learning rate
lr, in PyTorch's conventions:

| optimizer | state z | update |
|---|---|---|
| SGD | (theta) | theta' = theta - lr P g |
| heavy ball | (theta, u) | u' = mu u + P g;  theta' = theta - lr u' |
| Nesterov | (theta, u) | u' = mu u + P g;  theta' = theta - lr (P g + mu u') |
| EMA on top | (theta - e, ..., e) | e' = gamma e + (1 - gamma) theta'; the risk is that of e |

The average is ``Averaged`` around the others, P is ``Preconditioned``; ``SGD`` is a front of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers.linear import LinearOptimizer, Transition, Update
from nqm_study.model.optimizers.wrappers import Averaged, averaged

THETA = {k: np.eye(k)[0] for k in (1, 2)}
"""theta among k components, the first: where a state starts, and what is read of it."""


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

    def update(self, step: npt.NDArray[np.int64], rate: Array) -> Update:
        """The rule at some steps."""
        if self.ema_decay > 0.0:
            return self._average.update(step, rate)
        mu, fixed = self.momentum, np.ones(1)
        if mu == 0.0:
            return Update(fixed[:, None, None], -rate[:, None], fixed[:, None], fixed, fixed)
        # With Nesterov's momentum the gradient also moves theta by way of the new buffer.
        now, later = (1.0 + mu, mu**2) if self.nesterov else (1.0, mu)
        drift = np.zeros((rate.size, 2, 2))
        drift[:, 0, 0], drift[:, 0, 1], drift[:, 1, 1] = 1.0, -rate * later, mu
        gain = np.stack((-rate * now, np.ones_like(rate)), axis=1)
        theta = np.array([1.0, 0.0])
        return Update(drift, gain, theta[None], theta, theta)

    def preconditioner(self, curvature: Array) -> Array:
        """h^-p."""
        if self.preconditioner_power == 0.0:
            return np.ones_like(curvature)
        return curvature**-self.preconditioner_power

    def transition(self, curvature: Array, step: int = 0) -> Transition:
        """The transition at each curvature, at the optimizer's own rate.

        It is that of ``update``, in a third of the time: a search for a tuned rate asks for
        thousands.
        """
        del step  # the same at each
        lr, mu = self.learning_rate, self.momentum
        p = self.preconditioner(curvature)
        ph = curvature if self.preconditioner_power == 0.0 else p * curvature
        if mu == 0.0:
            matrix = (1.0 - lr * ph)[None, None]
            noise = (-lr * p)[None]
        else:
            # With Nesterov's momentum the gradient also moves theta by way of the new buffer.
            now, later = (1.0 + mu, mu**2) if self.nesterov else (1.0, mu)
            matrix = np.empty((2, 2, curvature.size))
            matrix[0, 0] = 1.0 - (lr * now) * ph
            matrix[0, 1] = -lr * later
            matrix[1, 0] = ph
            matrix[1, 1] = mu
            noise = np.empty((2, curvature.size))
            noise[0] = (-lr * now) * p
            noise[1] = p
        theta = THETA[len(noise)]
        made = Transition(matrix, noise, theta, theta)
        return averaged(made, self.ema_decay) if self.ema_decay > 0.0 else made

    def affine(self, curvature: Array) -> tuple[Transition, Transition]:
        """The two parts of the transition, as ``LinearOptimizer.affine`` has them."""
        if self.ema_decay > 0.0:
            return self._average.affine(curvature)
        return super().affine(curvature)

    @property
    def _average(self) -> Averaged:
        """The same, as the average of an optimizer's iterates."""
        return Averaged(replace(self, ema_decay=0.0), self.ema_decay)

    @property
    def _limit(self) -> float:
        """Up to here, not included, x = lr h^(1-p) is stable, whatever the optimizer's own rate.

        2 (1 + mu) for heavy ball (mu = 0: SGD) and 2 (1 + mu) / (1 + 2 mu) for Nesterov (Jury's
        conditions on the 2 x 2 matrix); averaging adds the eigenvalue gamma < 1.
        """
        mu = self.momentum
        return 2.0 * (1.0 + mu) / (1.0 + 2.0 * mu if self.nesterov else 1.0)

    def is_stable(self, curvature: Array) -> bool:
        """Whether the transition's spectral radius is below one at every curvature."""
        with np.errstate(over="ignore"):  # an infinite step is not stable
            x = self.learning_rate * curvature ** (1.0 - self.preconditioner_power)
        return bool(np.all(x < self._limit))

    def stability_limit(self, curvature: float) -> float:
        """The learning rate up to which, not included, a mode is stable; whatever its own rate."""
        return float(self._limit / curvature ** (1.0 - self.preconditioner_power))

    def swing(self, curvature: Array, learning_rate: float | Array) -> Array:
        """Steps from one swing of a mode's square to the next, at each curvature; inf: it does not.

        With x = lr h^(1-p) and the trace t and determinant d of the 2 x 2 matrix (heavy ball:
        t = 1 + mu - x, d = mu; Nesterov: t = (1 + mu) (1 - x), d = mu (1 - x)), complex eigenvalues
        have the angle arccos(t / (2 sqrt(d))). A negative eigenvalue flips its sign at every step,
        which shows in a square where there is another beside it.
        """
        mu = self.momentum
        if mu == 0.0 and self.ema_decay == 0.0:
            return np.full_like(curvature, np.inf)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            x = learning_rate * curvature ** (1.0 - self.preconditioner_power)
            if mu == 0.0:
                return np.where(x > 1.0, 2.0, np.inf)
            if self.nesterov:
                trace, determinant = (1.0 + mu) * (1.0 - x), mu * (1.0 - x)
            else:
                trace, determinant = 1.0 + mu - x, np.full_like(x, mu)
            cosine = trace / (2.0 * np.sqrt(determinant))  # NaN where d < 0
            period = np.pi / np.arccos(np.clip(cosine, -1.0, 1.0))
            return np.where(cosine >= 1.0, np.inf, np.where(cosine > -1.0, period, 2.0))
