"""The limit of small batches, where steps and learning rates are constants times powers of B.

| symbol | name | meaning |
|---|---|---|
| P | preconditioner | h^-p for SGD; c^-1/2 for Adam, whose v is c / B where noise dominates |
| x = h P | speed | decay of a mode per unit of time |
| tau = lr T | time | learning rate times steps |
| rho = lr / B | rate | learning rate per example |

For lr x << 1 the risk depends on tau and rho only (model.md, section 3):

    L = S(tau) + rho N(tau),    S = sum 1/2 m h (a^2 + s) e^(-2 x tau),
                                N = sum 1/4 m c P (1 - e^(-2 x tau)),

so that reaching the target C at tau needs rho = (C - S) / N, and T B = tau / rho. The least T B
over tau, and the rho that goes with it, are the constants of perfect scaling: T = examples / B and
lr = rate B. Adam's update divides by sqrt(c / B), so its lr is rate sqrt(B).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nqm_study.model.numerics.products import plain, product
from nqm_study.model.numerics.require import require_number
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.spectrum import Spectrum

LONGEST = 1e4
"""Times are looked at up to this many of the time that gradients without noise need."""

TIMES = (1e-300, 1e300)
"""Between these is the time that gradients without noise need."""

POINTS = 24
"""Times that are looked at in one round, evenly spaced by their logarithms."""

ROUNDS = 5
"""Each round looks between the neighbours of the best of the one before."""


@dataclass(frozen=True)
class SmallBatch:
    """The constants of perfect scaling, T = examples / B and lr = rate B.

    Attributes:
        examples: the least T B, in examples; 0 without noise, where small batches are no limit.
        rate: lr / B of SGD, lr / sqrt(B) of Adam; infinite without noise.
        time: lr T at that rate.
        least_time: the lr T that gradients without noise need.
        speed: the largest x; SGD is stable for lr < 2 / speed.
    """

    examples: float
    rate: float
    time: float
    least_time: float
    speed: float


def small_batch(
    spectrum: Spectrum,
    preconditioner: float | Literal["adam"] = 0.0,
    *,
    target: float = 0.01,
    noise_factor: float = 1.0,
) -> SmallBatch | None:
    """The constants of perfect scaling at a constant learning rate.

    Args:
        spectrum: curvatures, noise and starts.
        preconditioner: the power p of SGD with P = h^-p, from 0 to 1; or ``adam``, where modes
            without noise are left out: what Adam does to them is no matter of the noise.
        target: expected loss to reach, > 0.
        noise_factor: what the noise is multiplied by, >= 0. On ``LeastSquares`` it is nearly
            label_noise + 2 target for most of a run's end: see ``noise_at_target``.

    Returns:
        The constants; None where the initial risk is at most the target.

    Raises:
        ValueError: if a value is outside its range, or no float can hold a constant.
    """
    target = require_number("target", target, above=0.0)
    noise = noise_factor * spectrum.noise
    if preconditioner == "adam":
        kept = noise > 0.0
        root = np.where(kept, noise, 1.0) ** -0.25
    else:
        power = require_number("preconditioner", preconditioner, least=0.0, most=1.0)
        kept = np.ones(noise.shape, dtype=np.bool_)
        root = spectrum.curvature ** (-0.5 * power)
    kept &= spectrum.multiplicity > 0.0
    signal = (spectrum.weight * spectrum.second_moment)[kept]
    if not float(signal @ np.ones(signal.size)) > target:
        return None
    # P as two roots, which floats can hold.
    speed = plain(*product((spectrum.curvature, root, root)))[kept]
    diffusion = plain(*product((0.25, spectrum.multiplicity, noise, root, root)))[kept]
    fastest, noiseless = float(speed.max()), not np.any(noise[kept])
    refusal = ValueError(
        f"target={target:g}: must be reached in a time, at a speed and with examples that floats "
        "can hold"
    )
    if not 0.0 < fastest < np.inf:
        raise refusal

    def remaining(time: float) -> float:
        with np.errstate(over="ignore"):
            return float(signal @ np.exp(-2.0 * speed * time))

    # Bisection on log time.
    low, high = TIMES
    for _ in range(60):
        middle = float(np.sqrt(low) * np.sqrt(high))
        low, high = (middle, high) if remaining(middle) > target else (low, middle)
    least_time = high
    if least_time in TIMES:
        raise refusal

    def examples(time: float) -> float:
        """T B of a run of this time; infinite where it cannot reach the target."""
        room = target - remaining(time)
        if not room > 0.0:
            return np.inf
        with np.errstate(over="ignore"):
            added = diffusion @ -np.expm1(-2.0 * speed * time)
        return float(plain(*product((time, added), (room,))))

    low, high = least_time, least_time * LONGEST
    for _ in range(ROUNDS):
        times = np.geomspace(low, high, POINTS)
        best = int(np.argmin([examples(time) for time in times]))
        low, high = times[max(best - 1, 0)], times[min(best + 1, POINTS - 1)]
    time = float(times[best])
    least = examples(time)
    rate = np.inf if noiseless else float(plain(*product((time,), (least or np.nan,))))
    if not noiseless and not (0.0 < least < np.inf and 0.0 < rate < np.inf):
        raise refusal
    return SmallBatch(least, rate, time, least_time, fastest)


def noise_at_target(problem: Problem, target: float) -> float:
    """What multiplies c / B in the noise of gradients where the risk is at the target.

    Where the noise falls with the loss it is v + 2 C at the end of a run. With that all along the
    constants of small batches are right to a third, for label noise of 1 to some percent.
    """
    return problem.steady_noise + (2.0 * target if problem.follows_loss else 0.0)


def joined(small: float, large: float) -> float:
    """About the smaller of two: joins the law of small batches to that of large ones."""
    ratio = small / large if large > 0.0 else math.inf
    return large if math.isinf(ratio) else small / math.hypot(1.0, ratio)
