"""The largest stable learning rate of a linear optimizer on a problem."""

from __future__ import annotations

from nqm_study.model.optimizers import LinearOptimizer
from nqm_study.model.problems.problem import Problem

BELOW_LIMIT = 0.9998
"""The largest rate of a schedule, as a share of the limit of stability: the choice of the paper,
2 / (h_1 + h_d + 1e-4), to its digits."""


def stability_limit(problem: Problem, optimizer: LinearOptimizer) -> float:
    """The rate at which the steepest mode that has signal or noise is no longer stable.

    Of SGD it is 2 (1 + mu) / h^(1-p), with Nesterov's momentum 2 (1 + mu) / (1 + 2 mu) / h^(1-p), h
    the largest curvature; whatever the optimizer's own rate.
    """
    parts = (problem.spectrum.signal, problem.spectrum.gradient_noise)
    steepest = max(float(part.curvature.max(initial=0.0)) for part in parts)
    return optimizer.stability_limit(steepest)


def largest_peak(problem: Problem, optimizer: LinearOptimizer) -> float:
    """The largest rate that a schedule one would train with has."""
    return BELOW_LIMIT * stability_limit(problem, optimizer)
