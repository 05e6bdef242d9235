"""Schedules that go down smoothly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.require import require_number
from nqm_study.model.schedules.base import Schedule, Shaped, between, half_wave


@dataclass(frozen=True)
class Linear(Shaped):
    """1 - (1 - f) v, as optax.linear_schedule.

    Args:
        final_fraction: f >= 0.
        warmup_fraction: w in [0, 1).
    """

    final_fraction: float = 0.0
    warmup_fraction: float = 0.0

    def _body(self, v: Array) -> Array:
        return between(1.0 - v, self.final_fraction)


@dataclass(frozen=True)
class Polynomial(Shaped):
    """f + (1 - f) (1 - v)^power, as optax.polynomial_schedule; the default is linear, as torch's.

    Args:
        final_fraction: f >= 0.
        warmup_fraction: w in [0, 1).
        power: > 0.
    """

    final_fraction: float = 0.0
    warmup_fraction: float = 0.0
    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("power", self.power, above=0.0)

    def _body(self, v: Array) -> Array:
        return between((1.0 - v) ** self.power, self.final_fraction)


@dataclass(frozen=True)
class Cosine(Shaped):
    """f + (1 - f) (1/2 (1 + cos(pi v)))^exponent, as optax.cosine_decay_schedule, whose alpha is f.

    torch's CosineAnnealingLR has eta_min = f * lr, an absolute rate.

    Args:
        final_fraction: f >= 0.
        warmup_fraction: w in [0, 1).
        exponent: > 0.
    """

    final_fraction: float = 0.0
    warmup_fraction: float = 0.0
    exponent: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("exponent", self.exponent, above=0.0)

    def _body(self, v: Array) -> Array:
        return between(half_wave(v) ** self.exponent, self.final_fraction)


@dataclass(frozen=True)
class Exponential(Shaped):
    """f^v: the same ratio from each step to the next, down to f.

    With optax.exponential_decay it is transition_steps = T, decay_rate = f.

    Args:
        final_fraction: f > 0.
        warmup_fraction: w in [0, 1).
    """

    final_fraction: float = 0.01
    warmup_fraction: float = 0.0

    _final_is = "above"

    def _body(self, v: Array) -> Array:
        return np.asarray(self.final_fraction**v)


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """sqrt(timescale / (timescale + t)), t the steps since the warm-up.

    Without a warm-up it needs no horizon: the steps to a target are a first crossing.

    Args:
        timescale: steps after which the factor is sqrt(1/2), > 0.
        warmup_fraction: w in [0, 1).
    """

    timescale: float = 10_000.0
    warmup_fraction: float = 0.0

    def __post_init__(self) -> None:
        require_number("timescale", self.timescale, above=0.0)
        require_number("warmup_fraction", self.warmup_fraction, least=0.0, below=1.0)

    @property
    def needs_horizon(self) -> bool:
        """Only with a warm-up."""
        return self.warmup_fraction > 0.0

    @property
    def knots(self) -> tuple[float, ...]:
        """The end of the warm-up."""
        return (self.warmup_fraction,) if self.warmup_fraction > 0.0 else ()

    def at_steps(self, steps: Array, horizon: float | Array) -> Array:
        """The factors at some steps of a run."""
        warm = self.warmup_fraction * np.asarray(horizon)
        after = np.maximum(steps - warm, 0.0)
        body = np.sqrt(self.timescale / (self.timescale + after))
        if not np.any(warm):
            return np.asarray(body)
        rising = np.minimum(steps, warm) / warm
        return np.where(steps / horizon < self.warmup_fraction, rising, body)
