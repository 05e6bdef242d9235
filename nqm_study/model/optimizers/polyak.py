"""The Polyak-Ruppert average of an optimizer's iterates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.require import require_integer
from nqm_study.model.optimizers.linear import Update
from nqm_study.model.optimizers.wrappers import Wrapper, averaged
from nqm_study.model.outcome import MOST_STEPS


@dataclass(frozen=True)
class PolyakAverage(Wrapper):
    """The mean of the iterates from a step on: x' = (1 - k) x + k theta', k = 1 / (n + 1).

    n is the number of iterates that are in the mean already, max(t - start, 0): after the step
    ``start`` has been taken, x is theta itself. The risk is that of x, and theta_0 is no part of
    it. torch.optim.swa_utils.AveragedModel is the same mean.

    Args:
        optimizer: a linear one; theta is its readout.
        start: the step, from 0 on, whose iterate is the first of the mean.

    Raises:
        ValueError: if a value is outside its range.

    Source: Polyak and Juditsky 1992, equation 2; Ruppert 1988.
    """

    constant: ClassVar[bool] = False
    start: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("start", self.start, least=0, most=MOST_STEPS)

    @property
    def knots(self) -> tuple[int, ...]:
        """The inner optimizer's, and the start of the mean."""
        return tuple(sorted({*self.optimizer.knots, self.start} - {0}))

    def update(self, step: Integers, rate: Array) -> Update:
        """The inner optimizer's rule at some steps, with the mean as one more component."""
        in_mean = np.maximum(step - self.start, 0)
        return averaged(self.optimizer.update(step, rate), in_mean / (in_mean + 1.0))
