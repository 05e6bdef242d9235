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
    """The risk that a stable run of a problem whose noise falls with the loss comes to rest at."""
    returned, risk = _rest(problem, optimizer)
    return risk / (1.0 - returned) if returned < 1.0 else math.inf


def _rest(problem: Problem, optimizer: LinearOptimizer) -> tuple[float, float]:
    """What all modes return of the noise, r, infinite where one s >= 1; and the risk at f = v."""
    modes = Modes.of(problem, optimizer, LEVEL)
    weights = np.zeros((2, modes.curvature.size))
    weights[0, : modes.signal_weight.size] = modes.signal_weight
    weights[1, modes.first_noise :][: modes.noise_weight.size] = modes.noise_weight
    made = optimizer.rule(np.array([LATE]), np.array([float(optimizer.learning_rate)]))
    matrix = made.matrices(modes.curvature)
    still = np.all(matrix == np.eye(matrix.shape[1]), axis=(0, 2)) & (made.gain[0] == 0.0)
    matrix, gain = matrix[:, ~still][:, :, ~still], made.gain[0, ~still]
    kept = _kept(matrix, gain)
    point, readout = made.point[0, ~still], made.readout[~still]
    at_point, at_readout = (np.einsum("i,nij,j->n", p, kept, p) for p in (point, readout))
    fed = modes.curvature**2 * at_point / problem.batch_size
    if not np.all(fed < 1.0):
        return math.inf, math.inf
    noise = weights[1] / (1.0 - fed)
    return float(2.0 * noise @ at_point), float(problem.steady_noise * noise @ at_readout)


def _kept(matrix: Array, gain: Array) -> Array:
    """X = A X A^T + G G^T of each stable A, shape (n, k, k)."""
    n, k, _ = matrix.shape
    both = np.einsum("nij,nkl->nikjl", matrix, matrix).reshape(n, k * k, k * k)
    square = np.outer(gain, gain).ravel()
    solved = np.linalg.solve(np.eye(k * k) - both, np.broadcast_to(square, (n, k * k))[:, :, None])
    return np.asarray(solved[:, :, 0].reshape(n, k, k))
