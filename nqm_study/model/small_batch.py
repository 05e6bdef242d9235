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

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from nqm_study.model.require import require_number
from nqm_study.model.spectrum import Spectrum

Array = npt.NDArray[np.float64]

LONGEST = 1e4
"""Times are looked at up to this many of the time that gradients without noise need."""

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
) -> SmallBatch | None:
    """The constants of perfect scaling at a constant learning rate.

    Args:
        spectrum: curvatures, noise and starts.
        preconditioner: the power p of SGD with P = h^-p, from 0 to 1; or ``adam``, where modes
            without noise are left out: what Adam does to them is no matter of the noise.
        target: expected loss to reach, > 0.

    Returns:
        The constants; None where the initial risk is at most the target.

    Raises:
        ValueError: if a value is outside its range.
    """
    target = require_number("target", target, above=0.0)
    noise = spectrum.noise
    if preconditioner == "adam":
        kept = noise > 0.0
        scale = np.where(kept, noise, 1.0) ** -0.5
    else:
        power = require_number("preconditioner", preconditioner, least=0.0, most=1.0)
        kept = np.ones(noise.shape, dtype=np.bool_)
        scale = spectrum.curvature**-power
    kept &= spectrum.multiplicity > 0.0
    speed = (spectrum.curvature * scale)[kept]
    signal = (0.5 * spectrum.multiplicity * spectrum.curvature * spectrum.second_moment)[kept]
    diffusion = (0.25 * spectrum.multiplicity * noise * scale)[kept]

    def remaining(time: float) -> float:
        return float(signal @ np.exp(-2.0 * speed * time))

    if not remaining(0.0) > target:
        return None

    # Doubling, then bisection on log time.
    high = 1.0 / float(speed.max())
    while remaining(high) > target:
        high *= 2.0
    low = high / 2.0
    while remaining(low) <= target:
        low /= 2.0
    for _ in range(40):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if remaining(middle) > target else (low, middle)
    least_time = high

    def examples(time: float) -> float:
        """T B of a run of this time; infinite where it cannot reach the target."""
        room = target - remaining(time)
        return (
            time * float(diffusion @ -np.expm1(-2.0 * speed * time)) / room if room > 0 else np.inf
        )

    low, high = least_time, least_time * LONGEST
    for _ in range(ROUNDS):
        times = np.geomspace(low, high, POINTS)
        best = int(np.argmin([examples(time) for time in times]))
        low, high = times[max(best - 1, 0)], times[min(best + 1, POINTS - 1)]
    time = float(times[best])
    least = examples(time)
    rate = time / least if least > 0.0 else np.inf
    return SmallBatch(least, rate, time, least_time, float(speed.max()))
