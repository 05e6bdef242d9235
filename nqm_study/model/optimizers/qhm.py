"""Quasi-hyperbolic momentum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers.guide import Guide
from nqm_study.model.optimizers.sgd import Buffered
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.small_batch import joined

LEAST_GAP, LEAST_PLAIN = 1e-12, 5e-3
"""1 - momentum and 1 - v of a first guess are above these."""


@dataclass(frozen=True)
class QHM(Buffered):
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

    v: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("v", self.v, least=0.0, most=1.0)

    @property
    def shares(self) -> tuple[float, float, float]:
        """The buffer is an average, of which v counts beside 1 - v of the gradient."""
        later = self.v * self.momentum
        return 1.0 - later, later, 1.0 - self.momentum

    @classmethod
    def first_guess(
        cls, problem: Problem, target: float, given: Mapping[str, Any]
    ) -> Mapping[str, float]:
        """Heavy ball's memory; at small batches twice SGD's pace and a plain share of 0.18."""
        guide = Guide.of(problem, target, given.get("power", 0.0))
        gap = max(guide.gap, LEAST_GAP)
        plain = max(0.18 * max(1.0 - gap / guide.large_gap, 0.0) ** 2, LEAST_PLAIN)
        known = {"momentum": 1.0 - gap, "v": 1.0 - plain, **given}
        limit = cls(1.0, known["momentum"], known["v"]).stability_limit(guide.speed)
        return {
            "learning_rate": joined(2.05 * guide.rate, 0.9 * limit),
            "momentum": known["momentum"],
            "v": known["v"],
        }
