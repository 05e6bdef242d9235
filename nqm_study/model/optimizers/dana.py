"""Dimension-adapted Nesterov acceleration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers.guide import Guide
from nqm_study.model.optimizers.linear import LATE, LinearOptimizer, Update
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.small_batch import joined

WIDE = 30.0
"""Rates are searched up to this many times the first guess, and down to its square below."""

MOST, MOST_DECAY = 1e300, 4.0
"""A first g3 is at most this, whatever g1 is; and the power that it is guessed for."""


@dataclass(frozen=True)
class DANA(LinearOptimizer):
    """Momentum whose memory grows with the steps, beside a plain step.

    y' = (1 - delta / (1 + t)) y + g1 g,  theta' = theta - g2 g - g3 (1 + t)^-power y',  with g2 the
    learning rate. A schedule multiplies the whole step, g3 as well as g2.

    The source has curvatures j^-(2 a) of j = 1..d. DANA-constant is power = 0 with g3 / g2 ~ B / d,
    DANA-decaying is power = 1 / (2 a) with g3 / g2 a constant. The public package power_law_rf has
    g3 / g2 = 0.2 B / d and 0.2, and (1 + t / delta)^-1 in place of delta / (1 + t), with a delta of
    4 + (a + b) / a, where the starts w* fall as j^-b. For the curvatures 1 / j of the paper's
    problem, 1 / (2 a) is 1. Here power does not depend on the batch size.

    Args:
        learning_rate: g2 > 0.
        g1: > 0, what a gradient counts in y.
        g3: >= 0, what y counts in the first step; 0 is SGD.
        delta: >= 0; the memory is about t / delta steps.
        power: >= 0, of the decay of g3.

    Raises:
        ValueError: if a value is outside its range.

    Source: Ferbach, Everett, Gidel, Paquette and Paquette 2025, arXiv:2505.16098.
    """

    constant: ClassVar[bool] = False
    learning_rate: float
    g1: float = 1.0
    g3: float = 0.01
    delta: float = 8.0
    power: float = 0.0

    def __post_init__(self) -> None:
        require_number("learning_rate", self.learning_rate, above=0.0)
        require_number("g1", self.g1, above=0.0)
        require_number("g3", self.g3, least=0.0)
        require_number("delta", self.delta, least=0.0)
        require_number("power", self.power, least=0.0)

    def update(self, step: Integers, rate: Array) -> Update:
        """The rule at some steps; the state is (theta, y)."""
        kept = 1.0 - self.delta / (1.0 + step)
        g3 = self.g3 * (1.0 + step) ** -self.power * (rate / self.learning_rate)
        drift = np.zeros((rate.size, 2, 2))
        drift[:, 0, 0], drift[:, 0, 1], drift[:, 1, 1] = 1.0, -g3 * kept, kept
        gain = np.full((rate.size, 2), self.g1)
        gain[:, 0] = -rate - g3 * self.g1
        theta = np.array([1.0, 0.0])
        return Update(drift, gain, theta[None], theta, theta)

    def is_stable(self, curvature: Array) -> bool:
        """Whether the transition's spectral radius is below one late, at every curvature."""
        most = float(np.max(curvature, initial=0.0))
        return most == 0.0 or self.learning_rate < self.stability_limit(most)

    def stability_limit(self, curvature: float) -> float:
        """The g2 up to which, not included, a mode is stable late; 0 where g3 is too large.

        Late y keeps all but nothing, and the matrix has the trace 2 - (g2 + g1 g3) h and the
        determinant 1 - g2 h: it is stable for 0 < g2 h < 2 - g1 g3 h / 2 (Jury's conditions).
        """
        late = self.g3 * (1.0 + LATE) ** -self.power
        return float(max(2.0 / curvature - 0.5 * self.g1 * late, 0.0))

    @classmethod
    def coordinates(
        cls, problem: Problem, target: float, given: Mapping[str, Any]
    ) -> Mapping[str, tuple[float, float, str]]:
        """Ranges around the first guess, up to where steep modes are unstable at once."""
        guess = cls.first_guess(problem, target, given)
        speed = Guide.of(problem, target).speed
        rate, g3 = guess["learning_rate"], guess["g3"]
        return {
            "learning_rate": (rate / WIDE**2, min(rate * WIDE, 2.0 / speed), "log"),
            "g3": (g3 / WIDE**2, min(g3 * WIDE, 4.0 / speed / given.get("g1", 1.0), MOST), "log"),
        }

    @classmethod
    def first_guess(
        cls, problem: Problem, target: float, given: Mapping[str, Any]
    ) -> Mapping[str, float]:
        """At small batches g2 ~ B and g3 ~ B^(2 - power); at large ones g3 h is 1.7."""
        guide, g1 = Guide.of(problem, target), given.get("g1", 1.0)
        decay = min(given.get("power", 0.0), MOST_DECAY)
        g3 = joined(18.0 * guide.rate * guide.share ** (1.0 - decay), 1.7 / guide.speed)
        g2 = min(joined(0.45 * guide.rate, 1.0 / guide.speed), 1.5 / guide.speed - 0.8 * g3)
        return {"learning_rate": g2, "g3": min(g3 / g1, MOST)}
