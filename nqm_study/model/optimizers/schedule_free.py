"""Schedule-free SGD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers.guide import Guide
from nqm_study.model.optimizers.linear import LinearOptimizer, Update
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.small_batch import joined


@dataclass(frozen=True)
class ScheduleFree(LinearOptimizer):
    """Gradients between an iterate and its mean: y = (1 - b) z + b x, z' = z - lr g(y).

    x' = (1 - k) x + k z' with k = 1 / (t + 1) is the mean of the iterates z, and the risk is that
    of x. With b = 0 it is the Polyak-Ruppert average of SGD, with b = 1 primal averaging. The
    weights are those of the package ``schedulefree`` at a constant rate; under a schedule they are
    still equal, as with its weight_lr_power=0.

    Args:
        learning_rate: > 0.
        beta: b in [0, 1], the package's momentum.

    Raises:
        ValueError: if a value is outside its range.

    Source: Defazio et al. 2024, arXiv:2405.15682, equations 2 to 4.
    """

    constant: ClassVar[bool] = False
    learning_rate: float
    beta: float = 0.9

    def __post_init__(self) -> None:
        require_number("learning_rate", self.learning_rate, above=0.0)
        require_number("beta", self.beta, least=0.0, most=1.0)

    def update(self, step: Integers, rate: Array) -> Update:
        """The rule at some steps; the state is (z, x)."""
        k = 1.0 / (step + 1.0)
        drift = np.zeros((rate.size, 2, 2))
        drift[:, 0, 0], drift[:, 1, 0], drift[:, 1, 1] = 1.0, k, 1.0 - k
        gain = np.stack((-rate, -k * rate), axis=1)
        point = np.array([[1.0 - self.beta, self.beta]])
        return Update(drift, gain, point, np.ones(2), np.array([0.0, 1.0]))

    @classmethod
    def first_guess(
        cls, problem: Problem, target: float, given: Mapping[str, Any]
    ) -> Mapping[str, float]:
        """Thirteen times SGD's rate at small batches, and a beta beside which it is just stable.

        At large batches the rate is one at which the loss does not yet rise a thousandfold on the
        way, as it does while the mean is young.
        """
        guide = Guide.of(problem, target, given.get("power", 0.0))
        small, large = 13.0 * guide.rate, 9.3 / guide.speed
        rate = joined(small, large)
        moved = 0.4 + 1.5 / (1.0 + (0.5 * small / large) ** 2)
        beta = given.get("beta", 1.0 - min(moved / (rate * guide.speed), 0.5))
        if beta < 1.0:
            rate = min(rate, 1.8 / (1.0 - beta) / guide.speed)
        return {"learning_rate": rate, "beta": beta}
