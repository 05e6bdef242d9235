"""A decay that is steep at first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.schedules.base import Shaped, between


@dataclass(frozen=True)
class OneMinusSqrt(Shaped):
    """f + (1 - f) (1 - sqrt(v)): the decay of Haegele et al. 2024 over the whole run.

    Args:
        final_fraction: f >= 0.
        warmup_fraction: w in [0, 1).

    Source: arXiv:2405.18392, where it ends a run at a constant rate; for that see
    ``WarmupStableDecay`` with ``decay="sqrt"``.
    """

    final_fraction: float = 0.0
    warmup_fraction: float = 0.0

    def _body(self, v: Array) -> Array:
        return between(1.0 - np.sqrt(v), self.final_fraction)
