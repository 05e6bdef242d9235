"""The stability of a linear optimizer on a problem, and where its risk comes to rest.

Where the noise does not depend on the state, a run is stable if every mode's transition is. Where
it falls with the loss, modes feed their own noise and, through the risk, each other's. Let X be the
covariance that a mode keeps by noise of variance 1: X = A X A^T + G G^T, and k = p.X p that at the
gradient's point. With P the preconditioner a mode then multiplies what comes in by 1 / (1 - s), s =
(P h)^2 k / B, and all of them return

    r = sum m h P^2 c k / (B (1 - s))

of the noise's part that follows the loss. Second moments move by a map that keeps positive
matrices positive, so the run is stable if and only if all A are, every s < 1, and r < 1. Of SGD at
the rate lr and c = h, s < 1 is lr h (1 + 1/B) < 2, and r is sum m lr h / (B (2 - lr h (1 + 1/B))).
At rest f = v / (1 - r) is what the noise is, in units of c / B, v what it has of it at no loss.
"""

from __future__ import annotations

import math

import numpy as np

from nqm_study.model.linear.modes import Modes
from nqm_study.model.numerics.arrays import Array
from nqm_study.model.optimizers import LinearOptimizer
from nqm_study.model.optimizers.linear import LATE
from nqm_study.model.problems.problem import Problem

BELOW_LIMIT = 0.9998
"""The largest rate of a schedule, as a share of the limit of stability: the choice of the paper,
2 / (h_1 + h_d + 1e-4), to its digits."""

LEVEL = 3
"""Compression of the spectrum for what the modes return to each other: good to ten digits."""


def stability_limit(problem: Problem, optimizer: LinearOptimizer) -> float:
    """The rate at which a run is no longer stable.

    Of SGD it is 2 (1 + mu) / h^(1-p), with Nesterov's momentum 2 (1 + mu) / (1 + 2 mu) / h^(1-p), h
    the largest curvature that has signal or noise; whatever the optimizer's own rate. On
    ``LeastSquares`` it falls with the batch size, and is found to 12 digits.
    """
    parts = (problem.spectrum.signal, problem.spectrum.gradient_noise)
    steepest = max(float(part.curvature.max(initial=0.0)) for part in parts)
    limit = optimizer.stability_limit(steepest)
    if not problem.follows_loss or not math.isfinite(limit):
        return limit
    low, high = 0.0, limit
    while low == 0.0 or high - low > 1e-12 * high:
        middle = 0.5 * (low + high)
        if middle == 0.0:
            return 0.0
        if is_stable(problem, optimizer.with_rate(middle)):
            low = middle
        else:
            high = middle
    return high


def largest_peak(problem: Problem, optimizer: LinearOptimizer) -> float:
    """The largest rate that a schedule one would train with has."""
    return BELOW_LIMIT * stability_limit(problem, optimizer)


def is_stable(problem: Problem, optimizer: LinearOptimizer) -> bool:
    """Whether a run is stable at the optimizer's own rate, late where its coefficients change."""
    # Modes with neither signal nor noise never move, whatever their transition.
    moving = (problem.spectrum.signal, problem.spectrum.gradient_noise)
    if not all(optimizer.is_stable(measure.curvature) for measure in moving):
        return False
    return not problem.follows_loss or _rest(problem, optimizer)[0] < 1.0


def resting_risk(problem: Problem, optimizer: LinearOptimizer) -> float:
    """The risk that a run of a problem whose noise falls with the loss comes to rest at.

    It is infinite where the run is not stable.
    """
    if not is_stable(problem, optimizer):
        return math.inf
    returned, risk = _rest(problem, optimizer)
    return risk / (1.0 - returned)


def _rest(problem: Problem, optimizer: LinearOptimizer) -> tuple[float, float]:
    """What all modes return of the noise, r, infinite where one s >= 1; and the risk at f = v."""
    modes = Modes.of(problem, optimizer, LEVEL)
    weight = np.zeros(modes.curvature.size)
    weight[modes.first_noise :][: modes.noise_weight.size] = modes.noise_weight
    made = optimizer.rule(np.array([LATE]), np.array([float(optimizer.learning_rate)]))
    # 1 - A, with all digits where A is nearly 1.
    slope = np.outer(made.gain[0], made.point[0])
    left = np.eye(slope.shape[0]) - made.drift[0] - slope * modes.curvature[:, None, None]
    still = ~left.any(axis=(0, 2)) & (made.gain[0] == 0.0)
    left, gain = left[:, ~still][:, :, ~still], made.gain[0, ~still]
    kept = _kept(left, gain)
    point, readout = made.point[0, ~still], made.readout[~still]
    at_point, at_readout = (np.einsum("i,nij,j->n", p, kept, p) for p in (point, readout))
    fed = modes.curvature**2 * at_point / problem.batch_size
    if not np.all(fed < 1.0):
        return math.inf, math.inf
    noise = weight / (1.0 - fed)
    return float(2.0 * noise @ at_point), float(problem.steady_noise * noise @ at_readout)


def _kept(left: Array, gain: Array) -> Array:
    """X = A X A^T + G G^T of each stable A, shape (n, k, k), from E = 1 - A.

    E X + X E^T - E X E^T = G G^T is solved for X over the largest entry of each column: these are
    small, and exact to the last digit of themselves, where a mode hardly moves. Where it does not
    move at all to the computer, X is 0.
    """
    n, k, _ = left.shape
    ones = np.broadcast_to(np.eye(k), left.shape)
    terms = ((left, ones), (ones, left), (left, -left))
    both = sum(np.einsum("nij,nkl->nikjl", *pair) for pair in terms)
    both = both.reshape(n, k * k, k * k)
    scale = np.abs(both).max(axis=1)
    both /= np.where(scale > 0.0, scale, 1.0)[:, None, :]
    both += np.where(scale > 0.0, 0.0, 1.0)[:, None, :] * np.eye(k * k)
    square = np.broadcast_to(np.outer(gain, gain).ravel(), scale.shape)
    solved = np.linalg.solve(both, square[:, :, None])[:, :, 0]
    kept = np.divide(solved, scale, out=np.zeros_like(solved), where=scale > 0.0)
    return np.asarray(kept.reshape(n, k, k))
