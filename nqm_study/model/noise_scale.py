"""The gradient noise scale along a run: the batch size at which noise and signal are alike.

| symbol | name | meaning |
|---|---|---|
| Sigma | | covariance of the gradient of one example, diagonal here, with entries c |
| G | | the true gradient, with entries h theta |
| B_simple | ``"simple"`` | tr(Sigma) / E |G|^2 = sum m c / sum m h^2 E theta^2 |
| B_noise | ``"hessian"`` | tr(H Sigma) / E G^T H G = sum m h c / sum m h^3 E theta^2 |

A mode moves in the same way however many modes there are of its kind, and the risk is
1/2 sum m h E theta^2. So the sums below are twice the risk of a spectrum with other multiplicities,
m h and m h^2, and they are as exact as the risk is.

Source: McCandlish, Kaplan, Amodei 2018, arXiv:1812.06162, equations 2.8 and 2.9.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from nqm_study.model.crossing import CONSTANT, require_run, risk_curve
from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.products import plain, product
from nqm_study.model.numerics.refine import TOLERANCE
from nqm_study.model.optimizers import LinearOptimizer, Optimizer
from nqm_study.model.outcome import PRECISE
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.spectrum import Spectrum
from nqm_study.model.schedules import ScheduleLike, as_schedule

Weighting = Literal["simple", "hessian"]

WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)
"""The noise scales: that of the gradient itself, and that weighted by the Hessian."""


def gradient_noise_scale(
    problem: Problem,
    optimizer: Optimizer,
    schedule: ScheduleLike = CONSTANT,
    *,
    steps: Sequence[int] | npt.NDArray[np.integer],
    horizon: int | None = None,
    weighting: Weighting = "simple",
    tolerance: float = TOLERANCE,
    precision: float = PRECISE,
) -> Array:
    """The gradient noise scale, in examples, after each of the given numbers of steps.

    B_simple = tr(Sigma) / E |G|^2 is the batch size at which the noise of a batch's gradient has
    the length of the true gradient G. It grows as the loss falls: G shrinks, the noise does not.
    With ``weighting="hessian"`` it is B_noise = tr(H Sigma) / E G^T H G, at which the noise costs
    half of what a step of SGD gains at best. The expectations are over runs, each of its own.

    With ``ema_decay`` it is G at the averaged iterate, whose loss ``risk_curve`` gives, and not at
    the iterate where the optimizer takes its gradients.

    Args:
        problem: spectrum and batch size.
        optimizer: a ``LinearOptimizer``, such as ``SGD``, or ``Adam``.
        schedule: multiplies the learning rate, as in ``steps_to_target``.
        steps: numbers of steps >= 0, in any order.
        horizon: the length of the run, as in ``risk_curve``.
        weighting: ``"simple"`` or ``"hessian"``.
        tolerance: as in ``risk_curve``.
        precision: as in ``risk_curve``.

    Returns:
        Array of noise scales, in the order of ``steps``: 0 where there is no noise, and where a
        diverged run's gradient is infinite; infinite where there is noise and no gradient.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind, or a power law's finest
            compression does not meet the tolerance.

    Source: McCandlish et al. 2018, arXiv:1812.06162, equations 2.8 and 2.9.
    """
    require_run(problem, optimizer, schedule)
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting={weighting!r}: must be one of {', '.join(WEIGHTINGS)}")
    power = 1 + WEIGHTINGS.index(weighting)
    spectrum = problem.spectrum
    if problem.follows_loss:
        return _following(problem, optimizer, schedule, steps, horizon, power, precision)
    weighted = replace(problem, spectrum=spectrum.weighted(power))
    risk = risk_curve(
        weighted,
        optimizer,
        schedule,
        steps=steps,
        horizon=horizon,
        tolerance=tolerance,
        precision=precision,
    )
    return noise_over(risk, spectrum, power)


def _following(
    problem: Problem,
    optimizer: Optimizer,
    schedule: ScheduleLike,
    steps: Sequence[int] | npt.NDArray[np.integer],
    horizon: int | None,
    power: int,
    precision: float,
) -> Array:
    """The noise scale where the noise is c (v + 2 L) + h^2 E theta^2.

    The last part, over the squared gradient, is 1 by either weighting.
    """
    if not isinstance(optimizer, LinearOptimizer):
        raise ValueError(
            f"optimizer={optimizer!r}: must be a LinearOptimizer on LeastSquares, where the "
            "gradient noise scale of others is not known"
        )
    from nqm_study.model.linear.scheduled import scheduled_risks

    risk = risk_curve(
        problem, optimizer, schedule, steps=steps, horizon=horizon, precision=precision
    )
    ordered, position = np.unique(np.asarray(steps, dtype=np.int64), return_inverse=True)
    end = int(ordered[-1]) if horizon is None else horizon
    gradient = scheduled_risks(
        problem, optimizer, as_schedule(schedule), ordered, end, TOLERANCE, precision, power=power
    )[position]
    finite = np.isfinite(gradient)
    level = problem.steady_noise + 2.0 * np.where(finite, risk, 0.0)
    return np.where(finite, 1.0 + level * noise_over(gradient, problem.spectrum, power), 0.0)


def noise_over(risk: Array, spectrum: Spectrum, power: int = 1) -> Array:
    """The sum of m h^(power - 1) c over that of m h^(power + 1) E theta^2; 0 without noise.

    Args:
        risk: 1/2 the sum of m h (h / h_1)^power E theta^2, as of ``spectrum.weighted(power)``.
        spectrum: curvatures h, the largest of them h_1, multiplicities m and noise c.
        power: 1 for the gradient itself, 2 weighs it by the Hessian.
    """
    largest = np.max(spectrum.curvature)
    ratio = (spectrum.curvature / largest) ** (power - 1)
    x, e = product((0.5, spectrum.multiplicity, ratio, spectrum.noise), (largest,))
    if not np.any(x):
        return np.zeros_like(risk)
    top = np.max(e[x > 0.0])
    noise = np.sum(plain(x, e - top))
    finite = np.isfinite(risk) & (risk > 0.0)
    y, f = product((noise,), (np.where(finite, risk, 1.0),))
    return np.where(finite, plain(y, f + top), np.where(risk > 0.0, 0.0, np.inf))
