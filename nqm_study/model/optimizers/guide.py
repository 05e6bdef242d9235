"""Where SGD and heavy ball are fast at a batch size: what first guesses of others are made from.

| | small batches | large batches |
|---|---|---|
| rate of SGD | rate B | above 1 / x |
| 1 - momentum of heavy ball | 11.3 B / examples | 4.8 / sqrt(least time x) |

The numbers are those of the paper's problem, in units of SGD's constants of small batches.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.small_batch import SmallBatch, joined, small_batch
from nqm_study.model.problems.spectrum import Spectrum


@dataclass(frozen=True)
class Guide:
    """The scales of a problem for gradients that are multiplied by h^-power.

    Attributes:
        rate: the rate of SGD at small batches; infinite without noise.
        share: B / examples, about one over the steps at small batches; infinite without noise.
        speed: the largest x = h^(1 - power); SGD is stable below 2 / speed.
        large_gap: 1 - momentum of heavy ball at large batches.
    """

    rate: float
    share: float
    speed: float
    large_gap: float

    @classmethod
    def of(cls, problem: Problem, target: float, power: float = 0.0) -> Guide:
        """The scales of reaching a target."""
        known = _small_batch(problem.spectrum, power, target)
        if known is None or not known.examples > 0.0:
            speed = float(problem.spectrum.curvature.max()) ** (1.0 - power)
            return cls(math.inf, math.inf, speed, 1.0)
        large = min(4.8 / math.sqrt(max(known.least_time * known.speed, 1.0)), 1.0)
        size = problem.batch_size
        return cls(known.rate * size, size / known.examples, known.speed, large)

    @property
    def gap(self) -> float:
        """1 - momentum of heavy ball."""
        return joined(11.3 * self.share, self.large_gap)


@functools.lru_cache(maxsize=32)
def _small_batch(spectrum: Spectrum, power: float, target: float) -> SmallBatch | None:
    # All batch sizes of a call share it.
    return small_batch(spectrum, power, target=target)
