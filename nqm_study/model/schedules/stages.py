"""Schedules of several parts."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nqm_study.model.numerics.arrays import Array, shown
from nqm_study.model.numerics.require import require_integer, require_number
from nqm_study.model.schedules.base import Shaped, between, half_wave

Decay = Literal["linear", "cosine", "sqrt"]

DECAYS: tuple[Decay, ...] = ("linear", "cosine", "sqrt")
"""Ways down of a warmup-stable-decay schedule."""

MOST_DROPS = 100_000
"""More drops than this are no schedule that anyone would write down."""

LARGEST_LOG = 709.0
"""Floats end shortly above e to this power."""


@dataclass(frozen=True)
class PiecewiseConstant(Shaped):
    """Factors that hold on pieces of the run.

    Args:
        factors: one for each piece, each >= 0, at least one.
        boundaries: fractions of what follows the warm-up at which the second, third, ... piece
            begins, ascending in (0, 1); equal pieces where not given. A step that falls on a
            boundary belongs to the later piece, so the lengths of equal pieces differ by at most
            one step.
        warmup_fraction: w in [0, 1).
    """

    factors: tuple[float, ...]
    boundaries: tuple[float, ...] | None = None
    warmup_fraction: float = 0.0

    def __repr__(self) -> str:
        pieces = "" if self.boundaries is None else f", boundaries {shown(self.boundaries)}"
        return (
            f"<PiecewiseConstant: factors {shown(self.factors)}{pieces}, "
            f"warmup_fraction {self.warmup_fraction:g}>"
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "factors", _numbers("factors", self.factors))
        if not self.factors:
            raise ValueError("factors=(): must have at least one factor")
        for index, factor in enumerate(self.factors):
            require_number(f"factors[{index}]", factor, least=0.0)
        if self.boundaries is None:
            return
        object.__setattr__(self, "boundaries", _numbers("boundaries", self.boundaries))
        if len(self.boundaries) != len(self.factors) - 1:
            raise ValueError(
                f"boundaries={self.boundaries}: must be {len(self.factors) - 1}, one less than the "
                "factors"
            )
        ends = (0.0, *self.boundaries, 1.0)
        if any(second <= first for first, second in itertools.pairwise(ends)):
            raise ValueError(f"boundaries={self.boundaries}: must ascend, inside 0 to 1")

    @property
    def _body_knots(self) -> tuple[float, ...]:
        if self.boundaries is not None:
            return self.boundaries
        return _equal(len(self.factors))

    def _body(self, v: Array) -> Array:
        piece = np.searchsorted(self._body_knots, v, side="right")
        return np.asarray(self.factors, dtype=np.float64)[piece]


@dataclass(frozen=True)
class StepDecay(Shaped):
    """decay_rate^k in the k-th of drops + 1 equal parts, k = 0, 1, ...

    It is optax.exponential_decay with staircase=True, and torch's StepLR, whose gamma is the
    decay_rate.

    Args:
        decay_rate: the factor of each drop, > 0; the last factor, decay_rate^drops, is finite.
        drops: how many, an integer of at least 1.
        warmup_fraction: w in [0, 1).
    """

    decay_rate: float = 0.1
    drops: int = 3
    warmup_fraction: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("decay_rate", self.decay_rate, above=0.0)
        drops = require_integer("drops", self.drops, least=1, most=MOST_DROPS)
        if drops * math.log(self.decay_rate) > LARGEST_LOG:
            raise ValueError(
                f"decay_rate={self.decay_rate:g}: must be at most {math.exp(LARGEST_LOG / drops):g}"
                f" with drops={drops}, since the last factor is infinite to the computer"
            )

    @property
    def _body_knots(self) -> tuple[float, ...]:
        return _equal(self.drops + 1)

    def _body(self, v: Array) -> Array:
        dropped = np.searchsorted(_equal_ends(self.drops + 1), v, side="right")
        return np.asarray(float(self.decay_rate) ** dropped)


@dataclass(frozen=True)
class WarmupStableDecay(Shaped):
    """1 until the last part of the run, the decay, which goes down to f.

    With x the fraction of the decay: ``linear`` is 1 - (1 - f) x, ``cosine`` the half wave of
    ``Cosine``, and ``sqrt`` 1 - (1 - f) sqrt(x) (Haegele et al. 2024, arXiv:2405.18392).

    Args:
        final_fraction: f >= 0.
        warmup_fraction: w in [0, 1).
        decay_fraction: share of the decay in what follows the warm-up, in (0, 1].
        decay: ``linear``, ``cosine`` or ``sqrt``.
    """

    final_fraction: float = 0.0
    warmup_fraction: float = 0.0
    decay_fraction: float = 0.2
    decay: Decay = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("decay_fraction", self.decay_fraction, above=0.0, most=1.0)
        if self.decay not in DECAYS:
            raise ValueError(f"decay={self.decay!r}: must be one of {', '.join(DECAYS)}")

    @property
    def _body_knots(self) -> tuple[float, ...]:
        start = 1.0 - self.decay_fraction
        return (start,) if start > 0.0 else ()

    def _body(self, v: Array) -> Array:
        ahead = np.maximum(v - (1.0 - self.decay_fraction), 0.0)
        x = np.minimum(ahead / self.decay_fraction, 1.0)
        down = {"linear": 1.0 - x, "cosine": half_wave(x), "sqrt": 1.0 - np.sqrt(x)}
        return between(down[self.decay], self.final_fraction)


@dataclass(frozen=True)
class OneCycle(Shaped):
    """Half a wave up from 1 / div_factor to 1 at pct_start, then half a wave down to f.

    As optax.cosine_onecycle_schedule and torch's OneCycleLR, whose final rate is lr / (div_factor
    final_div_factor). Both rise from 1 / div_factor by themselves; a warm-up comes before that.

    Args:
        final_fraction: f >= 0.
        warmup_fraction: w in [0, 1).
        pct_start: where the largest rate is, as a fraction of what follows the warm-up, in (0, 1).
        div_factor: the largest rate over the first one, >= 1.
    """

    final_fraction: float = 0.0
    warmup_fraction: float = 0.0
    pct_start: float = 0.3
    div_factor: float = 25.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("pct_start", self.pct_start, above=0.0, below=1.0)
        require_number("div_factor", self.div_factor, least=1.0)

    @property
    def _body_knots(self) -> tuple[float, ...]:
        return (self.pct_start,)

    def _body(self, v: Array) -> Array:
        before = np.minimum(v, self.pct_start) / self.pct_start
        up = between(half_wave(1.0 - before), 1.0 / self.div_factor)
        after = np.maximum(v - self.pct_start, 0.0) / (1.0 - self.pct_start)
        return np.where(v < self.pct_start, up, between(half_wave(after), self.final_fraction))


@functools.lru_cache(maxsize=8)
def _equal(parts: int) -> tuple[float, ...]:
    """Where equal parts end, but for the last."""
    return tuple(part / parts for part in range(1, parts))


@functools.lru_cache(maxsize=8)
def _equal_ends(parts: int) -> Array:
    """The same as an array: many parts take long to be made one."""
    return np.array(_equal(parts))


def _numbers(name: str, values: object) -> tuple[float, ...]:
    """A tuple of what should be numbers, which are checked one by one elsewhere."""
    try:
        return tuple(values)  # type: ignore[arg-type]  # the TypeError says so
    except TypeError as error:
        raise ValueError(f"{name}={values!r}: must be a sequence of numbers") from error
