"""The best dimension for a compute budget: power-law regression by SGD at its best constant rate.

The whole problem has infinitely many modes, h_i = i^-a with E w*_i^2 = i^-s, and training sees the
first d of them. It spends C = d T B, B examples in each of T steps on d weights. Its expected loss
above that of w* is

    L(d, T) = min over rates of (risk of the d modes after T steps) + R_d,
    2 R_d = sum over i > d of h_i i^-s,

and the modes that are not seen are label noise to the others, sigma^2 + 2 R_d:
``power_law_tail``.

| symbol | name in code | meaning |
|---|---|---|
| a | exponent | decay of the eigenvalues of the inputs' covariance (capacity) |
| s | source | decay of E w*_i^2 |
| sigma^2 | label_noise | variance of the targets' noise, without that of the modes beyond d |
| B | batch_size | examples per step, the same for all budgets |
| C | compute | budget d T B |
| p | | a + s - 1 > 0 |
| m | | max(1, a) |

The exponents of L ~ C^-x and d ~ C^y. A run at the rate lr has learnt the modes of lr h T > 1, the
first k = (lr T)^(1/a); the others are k^-p of loss, and those not seen R_d = d^-p / (2 p). Modes
that are seen and not learnt are of no use, nor is time for modes not seen: the best d is of the
order of k.

1. sigma^2 = 0. The rate is bounded by stability: sum lr h / B is at most a constant, so lr ~ 1 for
   a > 1, where tr H converges, and lr ~ d^(a-1) for a < 1. So d = k takes T = d^a / lr = d^m steps,
   C = d^(1+m), and

       y = 1 / (1 + m),    x = p / (1 + m).

   Noise changes constants alone. What the unseen modes add is in proportion to R_d. SGD's own noise
   is lr / B k^-(2a-1), which for s > m falls slower with k than the signal does; but d modes have a
   smallest curvature, and from T ~ d^m on all of them converge exponentially, at a rate in
   proportion to the limit of stability. That is a factor of log d in T, and nothing in x or y. So
   are the logarithms of tr H at a = 1.
2. sigma^2 > 0. The label noise leaves lr sigma^2 / B in each mode that is learnt, times its h, and
   lr^2 h^2 T sigma^2 / B in the others: for a > 1 lr sigma^2 / B in all, for 1/2 < a < 1
   lr k^(1-a) sigma^2 / B, both k^m sigma^2 / (B T). Against k^-p that is least at T ~ k^(m+p), at a
   rate below the limit of stability, and C = d^(1+m+p):

       y = 1 / (1 + m + p),    x = p / (1 + m + p).

   It takes over from 1 once k^-p falls below the noise at the limit of stability, about
   lr sigma^2 tr H / (4 B): with little label noise, or large batches, late. A rate that decays does
   better for a > 1 (m is 1 then).

Published: in the phases Ia (a > 1, s < 1) and Ib (a < 1, s < 1, a + s > 1) of Paquette et al. 2024
(arXiv:2405.15074; h = j^-2 alpha and w* = j^-beta, so that a = 2 alpha and s = 2 beta) 1 is theirs,
d ~ C^(1/(2 alpha + 1)) and L ~ C^-((2 alpha + 2 beta - 1)/(2 alpha + 1)), and C^(1/2) and
C^-(alpha + beta - 1/2). Beyond s = 1 their random features lose more than the modes cut off, and
their exponents are others. 1 for s > 1, and 2, are derived here alone; label noise at a constant
rate is in functional scaling laws (arXiv:2509.19189) too, with capacity beta = a and source p / a.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nqm_study.model.crossing import risk_curve
from nqm_study.model.linear.stability import stability_limit
from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers import SGD
from nqm_study.model.outcome import MOST_STEPS
from nqm_study.model.problems.least_squares import LeastSquares
from nqm_study.model.problems.power_law import power_law, power_law_tail
from nqm_study.model.problems.problem import Problem
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.recipes import Recipes
from nqm_study.study.records import ComputePoint, ComputeScaling, Exponent

PER_OCTAVE = 4
"""Dimensions that are looked at; between them a parabola finds the best."""

DIMS = sorted({round(2.0 ** (k / PER_OCTAVE)) for k in range(17 * PER_OCTAVE + 1)})

RATE_WIDTH = 1e-3
"""Of the bracket of the best rate, in powers of e: the loss is flat there."""

BUDGETS = tuple(10.0 ** (0.5 * k) for k in range(8, 19))
"""Of studies, over the batch size."""

FINER = tuple(10.0 ** (0.25 * k) for k in range(13, 37))
"""The same for the line of one dimension, from fewer on."""

FEWEST = 3
"""Budgets that an exponent with an interval needs."""


class Dimensions:
    """The least losses of training on the first d modes of one problem, by d and T.

    Args: as of ``compute_optimal``.
    """

    def __init__(
        self, exponent: float, source: float, label_noise: float, batch_size: float
    ) -> None:
        self.exponent, self.source = exponent, source
        self.label_noise, self.batch_size = label_noise, batch_size
        self.seen = functools.cache(self._seen)

    def _seen(self, dim: int) -> tuple[LeastSquares, float]:
        """What training on so many modes sees, and the rate at which it is no longer stable."""
        tail = power_law_tail(dim, self.exponent, self.source)
        spectrum = power_law(dim, self.exponent, source=self.source)
        problem = LeastSquares(spectrum, self.batch_size, self.label_noise + tail)
        return problem, stability_limit(problem, SGD(1.0))

    def least_loss(self, dim: int, steps: float) -> tuple[float, float]:
        """The least loss of the whole problem after some steps, and the rate that leaves it.

        Between whole steps it is interpolated, in its logarithm: so it is smooth in d at equal
        compute. Infinite with less than one step.
        """
        if steps < 1.0:
            return math.inf, math.nan
        problem, limit = self.seen(dim)
        whole = math.floor(steps)
        between = [whole, whole + 1] if whole < steps else [whole]

        def loss(log_share: float) -> float:
            rate = limit * math.exp(log_share)
            ends = np.log(risk_curve(problem, SGD(rate), steps=between))
            return float(ends[0] + (steps - whole) * (ends[-1] - ends[0]))

        log_share, log_risk = _minimum(loss)
        tail = 0.5 * power_law_tail(dim, self.exponent, self.source)
        return math.exp(log_risk) + tail, limit * math.exp(log_share)

    def curve(self, dim: int, budgets: Sequence[float]) -> tuple[tuple[float, float], ...]:
        """The least losses of one dimension, as (compute, loss): of whole steps, from one on."""
        steps = [math.floor(budget / (dim * self.batch_size)) for budget in budgets]
        each = ((n, self.least_loss(dim, n)[0]) for n in sorted({*steps} - {0}))
        return tuple((dim * self.batch_size * n, loss) for n, loss in each)

    def best(self, budget: float, near: int) -> ComputePoint:
        """The best dimension for a budget.

        Args:
            budget: the most compute.
            near: a dimension to start from.

        Raises:
            ValueError: where it is beyond the largest that there can be.
        """
        most = budget / self.batch_size

        @functools.cache
        def loss(place: int) -> float:
            if not 0 <= place < len(DIMS):
                return math.inf
            return self.least_loss(DIMS[place], most / DIMS[place])[0]

        place = int(np.searchsorted(DIMS, min(near, most), side="right")) - 1
        for step in (PER_OCTAVE, 1):
            while loss(to := min((place - step, place + step), key=loss)) < loss(place):
                place = to
        if place == len(DIMS) - 1:
            raise ValueError(
                f"budgets={budget:g}: must be smaller, since the best dimension is above {DIMS[-1]}"
            )
        around = [p for p in (place - 1, place, place + 1) if loss(p) < math.inf]
        dim = DIMS[place]
        if len(around) == 3:
            x, y = np.log([DIMS[p] for p in around]), np.log([loss(p) for p in around])
            bent, slope, _ = np.polyfit(x - x[1], y, 2)
            dim = round(DIMS[place] * math.exp(-0.5 * slope / bent))
        steps = math.floor(most / dim)
        lowest, rate = self.least_loss(dim, steps)
        return ComputePoint(dim * self.batch_size * steps, dim, steps, rate, lowest)


def compute_optimal(
    budgets: Sequence[float],
    *,
    exponent: float,
    source: float,
    label_noise: float = 0.0,
    batch_size: float = 16,
) -> ComputeScaling:
    """The least expected loss for each compute budget d T B, with the dimension that leaves it.

    The loss is that of the whole problem, of infinitely many modes, above that of w*: what SGD at
    its best constant rate leaves in the first d modes, and what those beyond are worth. As a
    function of d it is flat around its least, so that d is good to a few per cent where the loss is
    good to a thousandth.

    Args:
        budgets: three or more, ascending, each at least the batch size.
        exponent: decay a of the eigenvalues, h_i = i^-a, >= 0.
        source: decay s of E w*_i^2 = i^-s, above 1 - a.
        label_noise: the variance of the targets' noise, >= 0; that of the modes beyond d is added.
        batch_size: examples per step, > 0.

    Returns:
        A point for each budget, and the exponents of loss and dimension: fitted, with an interval
        of 95 % by the scatter about the line, and as the module derives them. What bends the line,
        such as noise that takes over along the budgets, is in no such interval.

    Raises:
        ValueError: if a value is outside its range; for budgets whose best dimension is above
            131,072.
    """
    exponent = require_number("exponent", exponent, least=0.0)
    source = require_number("source", source, above=1.0 - exponent)
    label_noise = require_number("label_noise", label_noise, least=0.0)
    size = require_number("batch_size", batch_size, above=0.0)
    most = size * MOST_STEPS
    wanted = [require_number("budgets", each, least=size, most=most) for each in budgets]
    if len(wanted) < FEWEST or wanted != sorted(set(wanted)):
        raise ValueError(f"budgets={wanted}: must be {FEWEST} or more that ascend")
    problem = Dimensions(exponent, source, label_noise, size)
    points: list[ComputePoint] = []
    for budget in wanted:
        points.append(problem.best(budget, points[-1].dim if points else 1))
    loss, dim = derived_exponents(exponent, source, noisy=label_noise > 0.0)
    compute = [point.compute for point in points]
    return ComputeScaling(
        tuple(points),
        _fitted(compute, [point.loss for point in points], loss),
        _fitted(compute, [point.dim for point in points], dim),
    )


def true_compute(
    problem: Problem,
    recipes: Recipes,  # noqa: ARG001 (SGD's, whatever the study's optimizer is)
    definition: StudyDefinition,
) -> ComputeScaling | None:
    """The best dimensions of the law of a study's problem, and its own dimension's least losses.

    The problem is least squares on a power law with a source. None where the best dimension of a
    budget is beyond what can be computed.
    """
    assert isinstance(problem, LeastSquares)  # noqa: S101 (the configuration refuses others)
    names = ("dim", "exponent", "source")
    dim, exponent, source = (float(definition.spectrum_settings[name]) for name in names)
    tail, size = power_law_tail(int(dim), exponent, source), float(problem.batch_size)
    # What training sees has the tail in it; of the difference nine digits are certain.
    own = problem.label_noise - tail
    noise = float(f"{own:.9g}") if own > 1e-9 * tail else 0.0
    budgets = tuple(size * budget for budget in BUDGETS)
    try:
        found = _of_law(budgets, exponent, source, noise, size)
    except ValueError:
        return None
    curve = Dimensions(exponent, source, noise, size).curve(
        int(dim), [size * each for each in FINER]
    )
    return replace(found, curve=curve, rest=0.5 * tail)


@functools.cache
def _of_law(
    budgets: tuple[float, ...], exponent: float, source: float, noise: float, size: float
) -> ComputeScaling:
    """``compute_optimal``; studies that differ in their dimensions share it."""
    return compute_optimal(
        budgets, exponent=exponent, source=source, label_noise=noise, batch_size=size
    )


def derived_exponents(exponent: float, source: float, *, noisy: bool) -> tuple[float, float]:
    """The powers of compute that loss and best dimension go with: see the module.

    Args:
        exponent: a.
        source: s.
        noisy: whether there is label noise beside that of the modes that are not seen.
    """
    p, m = exponent + source - 1.0, max(1.0, exponent)
    total = 1.0 + m + (p if noisy else 0.0)
    return -p / total, 1.0 / total


def _minimum(loss: Callable[[float], float]) -> tuple[float, float]:
    """The least of a function of ln(rate / limit) with one minimum below 0, and where it is."""
    from scipy.optimize import minimize_scalar

    step = math.log(2.0)
    at, least = -step, loss(-step)
    while (below := loss(at - step)) < least:
        at, least = at - step, below
    ends = at - step, min(at + step, -1e-6)
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": RATE_WIDTH})
    return float(found.x), float(found.fun)


def _fitted(compute: Sequence[float], values: Sequence[float], derived: float) -> Exponent:
    """The slope of the line through the logarithms, with Student's interval of 95 %."""
    from scipy.special import stdtrit

    x, y = np.log(compute), np.log(values)
    z = x - x.mean()
    slope = float(z @ y / (z @ z))
    misfit, freedom = y - y.mean() - slope * z, len(x) - 2
    error = math.sqrt(float(misfit @ misfit) / freedom / float(z @ z))
    return Exponent(slope, float(stdtrit(freedom, 0.975)) * error, derived)
