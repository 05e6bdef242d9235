"""Two averages of the gradient, a fast and a slow one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers.guide import Guide
from nqm_study.model.optimizers.linear import LinearOptimizer, Update
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.small_batch import joined

LEAST_GAP = 1e-12
"""1 - beta3 stays above this."""


@dataclass(frozen=True)
class TwoAverages(LinearOptimizer):
    """AdEMAMix without the root: theta' = theta - lr (m1' + alpha m2').

    The averages are m1' = b1 m1 + (1 - b1) g and m2' = b3 m2 + (1 - b3) g, both from 0 and without
    bias correction. Slow modes move as those of SGD at the rate (1 + alpha) lr.

    Args:
        learning_rate: > 0.
        beta1: b1 in [0, 1), decay of the fast average.
        beta3: b3 in [0, 1), decay of the slow one.
        alpha: >= 0, the weight of the slow one.

    Raises:
        ValueError: if a value is outside its range.

    Source: Pagliardini, Ablin and Grangier 2024, arXiv:2409.03137, equation AdEMAMix, whose
    schedules of alpha and b3 are left out.
    """

    learning_rate: float
    beta1: float = 0.9
    beta3: float = 0.999
    alpha: float = 5.0

    def __post_init__(self) -> None:
        require_number("learning_rate", self.learning_rate, above=0.0)
        require_number("beta1", self.beta1, least=0.0, below=1.0)
        require_number("beta3", self.beta3, least=0.0, below=1.0)
        require_number("alpha", self.alpha, least=0.0)

    def update(self, step: Integers, rate: Array) -> Update:
        """The rule at some steps; the state is (theta, m1, m2)."""
        del step  # the same at each, but for the rate
        decays, weights = np.array([self.beta1, self.beta3]), np.array([1.0, self.alpha])
        drift = np.zeros((rate.size, 3, 3))
        drift[:, 0, 0], drift[:, 0, 1:] = 1.0, -np.outer(rate, weights * decays)
        drift[:, [1, 2], [1, 2]] = decays
        gain = np.empty((rate.size, 3))
        gain[:, 0], gain[:, 1:] = -rate * (weights @ (1.0 - decays)), 1.0 - decays
        theta = np.array([1.0, 0.0, 0.0])
        return Update(drift, gain, theta[None], theta, theta)

    def is_stable(self, curvature: Array) -> bool:
        """Whether the transition's spectral radius is below one at every curvature."""
        with np.errstate(over="ignore"):  # an infinite step is not stable
            return bool(np.all(self.learning_rate * curvature < self.stability_limit(1.0)))

    def stability_limit(self, curvature: float) -> float:
        """The learning rate up to which, not included, a mode is stable; whatever its own rate.

        With x = lr h the matrix has the characteristic polynomial
        (z - 1)(z - b1)(z - b3) + x z ((1 - b1)(z - b3) + alpha (1 - b3)(z - b1)), of which the
        first root to leave the unit circle does so at -1 (Jury's conditions).
        """
        b1, b3, alpha = self.beta1, self.beta3, self.alpha
        return 2.0 / ((1.0 - b1) / (1.0 + b1) + alpha * (1.0 - b3) / (1.0 + b3)) / curvature

    @classmethod
    def first_guess(
        cls, problem: Problem, target: float, given: Mapping[str, Any]
    ) -> Mapping[str, float]:
        """The slow average has heavy ball's memory, and slow modes move twice as fast as SGD's."""
        guide = Guide.of(problem, target, given.get("power", 0.0))
        known = {"beta1": 0.9, "alpha": 5.0, "beta3": 1.0 - max(guide.gap, LEAST_GAP), **given}
        decays = {name: known[name] for name in ("beta1", "alpha", "beta3")}
        limit = cls(1.0, **decays).stability_limit(guide.speed)
        rate = joined(2.0 * guide.rate / (1.0 + known["alpha"]), 0.9 * limit)
        return {"learning_rate": rate, "beta3": known["beta3"]}
