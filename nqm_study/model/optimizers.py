"""Optimizers as data, and the linear ones as transitions of a mode's state.

For a mode of curvature h, with preconditioner P = h^-p, gradient g = h theta + e and learning rate
lr, in PyTorch's conventions:

| optimizer | state z | update |
|---|---|---|
| SGD | (theta) | theta' = theta - lr P g |
| heavy ball | (theta, u) | u' = mu u + P g;  theta' = theta - lr u' |
| Nesterov | (theta, u) | u' = mu u + P g;  theta' = theta - lr (P g + mu u') |
| EMA on top | (theta - e, ..., e) | e' = gamma e + (1 - gamma) theta'; the risk is that of e |

Each is z' = A z + b e with a matrix A and a vector b, so a new linear optimizer is one more pair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.require import require_number


@dataclass(frozen=True)
class SGD:
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


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction and eps outside the root, as torch.optim.Adam has it.

    Args:
        learning_rate: > 0.
        beta1: decay of the gradient's mean, in [0, 1).
        beta2: decay of the gradient's square, in [0, 1).
        eps: >= 0, added to the root of the corrected second moment.

    Raises:
        ValueError: if a value is outside its range.
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        require_number("learning_rate", self.learning_rate, above=0.0)
        require_number("beta1", self.beta1, least=0.0, below=1.0)
        require_number("beta2", self.beta2, least=0.0, below=1.0)
        require_number("eps", self.eps, least=0.0)


Optimizer = SGD | Adam


@dataclass(frozen=True, eq=False)
class Transition:
    """The affine map z' = A z + b e of every mode's state; e is a noise of variance c / B.

    Attributes:
        matrix: A, shape (k, k, n): k state components, n modes.
        noise: b, shape (k, n).
        start: z_0 for theta_0 = 1, shape (k,).
        readout: index of the component whose square is the risk.
    """

    matrix: Array
    noise: Array
    start: Array
    readout: int


def transition(optimizer: SGD, curvature: Array) -> Transition:
    """The transition of a linear optimizer at each curvature."""
    lr, mu = optimizer.learning_rate, optimizer.momentum
    power = optimizer.preconditioner_power
    if power == 0.0:
        p, ph = np.ones_like(curvature), curvature
    else:
        p = curvature**-power
        ph = p * curvature
    if mu == 0.0:
        matrix = (1.0 - lr * ph)[None, None]
        noise = (-lr * p)[None]
    else:
        # With Nesterov's momentum the gradient also moves theta by way of the new buffer.
        now, later = (1.0 + mu, mu**2) if optimizer.nesterov else (1.0, mu)
        matrix = np.empty((2, 2, curvature.size))
        matrix[0, 0] = 1.0 - (lr * now) * ph
        matrix[0, 1] = -lr * later
        matrix[1, 0] = ph
        matrix[1, 1] = mu
        noise = np.empty((2, curvature.size))
        noise[0] = (-lr * now) * p
        noise[1] = p
    if optimizer.ema_decay > 0.0:
        matrix, noise = _average(matrix, noise, optimizer.ema_decay)
        return Transition(matrix, noise, LAST[len(noise)], readout=len(noise) - 1)
    return Transition(matrix, noise, FIRST[len(noise)], readout=0)


def affine_transition(optimizer: SGD, curvature: Array) -> tuple[Transition, Transition]:
    """Two parts of the transition, which at the rate r is the first plus r times the second.

    The optimizer's own rate does not matter. The first is the transition at a rate of next to
    nothing. The second is the transition over the rate at a vast one, where the first is lost in
    rounding; a difference at common rates would lose the second's digits instead.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        base, vast = (
            transition(replace(optimizer, learning_rate=rate), curvature)
            for rate in (2.0**-900, 2.0**500)
        )
        slope = replace(vast, matrix=vast.matrix / 2.0**500, noise=vast.noise / 2.0**500)
    return base, slope


FIRST = {k: np.eye(k)[0] for k in (1, 2)}
LAST = {k: np.eye(k)[-1] for k in (2, 3)}
"""Starts of k components: theta_0 = 1 in the first; e_0 = theta_0 = 1, held as the last."""


def _average(matrix: Array, noise: Array, gamma: float) -> tuple[Array, Array]:
    """The same transition with e' = gamma e + (1 - gamma) theta' as one more component.

    theta is held as theta - e, which is small where the average keeps up: e then moves slowly by
    itself, and the bounds of the search, which take each component alone, stay tight.
    """
    k, _, n = matrix.shape
    wide = np.zeros((k + 1, k + 1, n))
    wide[:k, :k] = matrix
    wide[:k, k] = matrix[:, 0]  # theta = (theta - e) + e
    ahead = wide[0].copy()
    ahead[k] -= 1.0  # theta' - e
    wide[0] = gamma * ahead
    wide[k] = (1.0 - gamma) * ahead
    wide[k, k] += 1.0
    return wide, np.concatenate((gamma * noise[:1], noise[1:], (1.0 - gamma) * noise[:1]))


def stability_limit(optimizer: SGD) -> float:
    """Up to here, not included, x = lr h^(1-p) is stable, whatever the optimizer's own rate.

    2 (1 + mu) for heavy ball (mu = 0: SGD) and 2 (1 + mu) / (1 + 2 mu) for Nesterov (Jury's
    conditions on the 2 x 2 matrix); averaging adds the eigenvalue gamma < 1.
    """
    mu = optimizer.momentum
    return 2.0 * (1.0 + mu) / (1.0 + 2.0 * mu if optimizer.nesterov else 1.0)


def is_stable(optimizer: SGD, curvature: Array) -> bool:
    """Whether the transition's spectral radius is below one at every curvature."""
    with np.errstate(over="ignore"):  # an infinite step is not stable
        x = optimizer.learning_rate * curvature ** (1.0 - optimizer.preconditioner_power)
    return bool(np.all(x < stability_limit(optimizer)))


def swing(optimizer: SGD, curvature: Array, learning_rate: float | Array) -> Array:
    """Steps from one swing of a mode's square to the next, at each curvature; inf: it does not.

    With x = lr h^(1-p) and the trace t and determinant d of the 2 x 2 matrix (heavy ball:
    t = 1 + mu - x, d = mu; Nesterov: t = (1 + mu) (1 - x), d = mu (1 - x)), complex eigenvalues
    have the angle arccos(t / (2 sqrt(d))). A negative eigenvalue flips its sign at every step,
    which shows in a square where there is another beside it.
    """
    mu = optimizer.momentum
    if mu == 0.0 and optimizer.ema_decay == 0.0:
        return np.full_like(curvature, np.inf)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        x = learning_rate * curvature ** (1.0 - optimizer.preconditioner_power)
        if mu == 0.0:
            return np.where(x > 1.0, 2.0, np.inf)
        if optimizer.nesterov:
            trace, determinant = (1.0 + mu) * (1.0 - x), mu * (1.0 - x)
        else:
            trace, determinant = 1.0 + mu - x, np.full_like(x, mu)
        cosine = trace / (2.0 * np.sqrt(determinant))  # NaN where d < 0
        period = np.pi / np.arccos(np.clip(cosine, -1.0, 1.0))
        return np.where(cosine >= 1.0, np.inf, np.where(cosine > -1.0, period, 2.0))
