"""Quasi-hyperbolic momentum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers.linear import LinearOptimizer, Update


@dataclass(frozen=True)
class QHM(LinearOptimizer):
    """Plain and momentum steps in shares: u' = b u + (1 - b) g, theta' = theta - lr d.

    d = (1 - v) g + v u'. With v = 1 it is heavy ball at the rate lr (1 - b), and with v = b it is
    Nesterov's momentum at that rate, whose buffers are 1 / (1 - b) times as large.

    Args:
        learning_rate: > 0.
        momentum: b in [0, 1).
        v: the share of the momentum, in [0, 1].

    Raises:
        ValueError: if a value is outside its range.

    Source: Ma and Yarats 2019, arXiv:1810.06801, equations 3 and 4, where v is nu.
    """

    learning_rate: float
    momentum: float = 0.9
    v: float = 0.7

    def __post_init__(self) -> None:
        require_number("learning_rate", self.learning_rate, above=0.0)
        require_number("momentum", self.momentum, least=0.0, below=1.0)
        require_number("v", self.v, least=0.0, most=1.0)

    def update(self, step: Integers, rate: Array) -> Update:
        """The rule at some steps; state (theta, u)."""
        del step  # the same at each, but for the rate
        b, v = self.momentum, self.v
        drift, gain = np.zeros((rate.size, 2, 2)), np.empty((rate.size, 2))
        drift[:, 0, 0], drift[:, 0, 1], drift[:, 1, 1] = 1.0, -rate * v * b, b
        gain[:, 0], gain[:, 1] = -rate * (1.0 - v * b), 1.0 - b
        theta = np.array([1.0, 0.0])
        return Update(drift, gain, theta[None], theta, theta)
