"""Schedules of the batch size: ramps, and a learning-rate schedule together with one.

A batch schedule says how large the batches of a run are beside each other: B_t = s f_t, with f_t
its factor at t / T. The scale s is such that the mean batch size of the T steps is the problem's:

    sum_t B_t = T batch_size,

so that a run of T steps takes as many examples as at that batch size throughout. With bounds it is
B_t = min(max(s f_t, min), max), with the s of the same mean. With ``integer`` every B_t is rounded
to the next whole number of at least 1, and the mean is as it comes.

The variance of the gradient's noise is c / B_t; nothing else of a run depends on its batch sizes.
So the engine is given ``Batched``: the rates of a schedule, and the noise of B_t.

Sources: growing batches in place of falling rates, arXiv:1711.00489 (Smith et al.) and
arXiv:2510.14717 (Seesaw).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nqm_study.model.numerics.arrays import Array, shown
from nqm_study.model.numerics.require import require_integer, require_number
from nqm_study.model.schedules.base import Constant, Schedule, ScheduleLike, as_schedule
from nqm_study.model.schedules.stages import MOST_DROPS, PiecewiseConstant
from nqm_study.model.schedules.stretches import stretched

Curve = Literal["geometric", "linear"]

CURVES: tuple[Curve, ...] = ("geometric", "linear")
"""How a ramp goes from its first to its last batch size."""

SUMMED = 2**13
"""Runs of up to so many steps have their batch sizes added up; of longer ones stretches are."""

STRETCHES = 2**10
"""Stretches for each smooth part of a longer run: the mean of its batch sizes is off by 1e-9."""

HALVINGS = 60
"""Steps of the search for a scale within bounds, which find it to rounding."""

MOST_LOG = 600.0
"""The last batch size over the first is at most e to this power, which floats still hold."""

LEAST_RATE = 1e-6
"""A rate below this share of the largest counts as that share: at 0 a batch would be infinite."""

SAMPLES = 1024
"""Fractions of a run among which the largest rate is looked for."""

LONG = 2**20
"""A horizon at which the shape of any schedule shows, and up to which batch sizes are added up one
by one that are rounded, or whose smooth parts are unknown."""

CONSTANT = Constant()


@dataclass(frozen=True, kw_only=True)
class BatchSchedule(Schedule):
    """How large the batches of a run are beside each other; the base class of batch schedules.

    A subclass, a frozen dataclass, has ``factor`` and, where it is smooth between some fractions,
    ``knots``, as a ``Schedule`` has; its factors must be above 0.

    Args:
        min: the smallest batch size, > 0, at most the problem's; None: no bound.
        max: the largest batch size, at least the problem's; None: no bound.
        integer: whether batch sizes are rounded to whole numbers of at least 1.
    """

    min: float | None = None
    max: float | None = None
    integer: bool = False

    def __post_init__(self) -> None:
        for name in ("min", "max"):
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name), above=0.0)
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min={self.min:g}: must be at most max={self.max:g}")
        if not isinstance(self.integer, bool):
            raise ValueError(f"integer={self.integer!r}: must be true or false")

    @classmethod
    def has_factors(cls) -> bool:
        """Whether a class has one of the methods that make it a schedule."""
        return super().has_factors() or cls.beside is not BatchSchedule.beside

    def beside(self, schedule: Schedule) -> Schedule:  # noqa: ARG002 (for others)
        """The factors beside a learning-rate schedule: its own, for most."""
        return self

    def require(self, batch_size: float) -> None:
        """Check that batches within the bounds can have a mean.

        Raises:
            ValueError: naming the bound that it is outside of.
        """
        if self.min is not None and batch_size < self.min:
            raise ValueError(
                f"min={self.min:g}: must be at most batch_size={batch_size:g}, the mean"
            )
        if self.max is not None and batch_size > self.max:
            raise ValueError(
                f"max={self.max:g}: must be at least batch_size={batch_size:g}, the mean"
            )


@dataclass(frozen=True)
class BatchConstant(BatchSchedule):
    """The same batch size at every step."""

    @property
    def knots(self) -> tuple[float, ...]:
        """None."""
        return ()

    def factor(self, fraction: Array) -> Array:
        """Ones."""
        return np.ones_like(fraction)


@dataclass(frozen=True)
class BatchRamp(BatchSchedule):
    """A ramp from one batch size to another.

    With v = u^power at the fraction u of the run it is

        start (end / start)^v, geometric, or start + (end - start) v, linear.

    Only the ratio of end and start matters, since the mean is the problem's batch size.

    Args:
        start: the first batch size beside ``end``, > 0.
        end: the last one, > 0.
        power: > 0; above 1 most of the growth is towards the end.
        curve: ``geometric`` or ``linear``.
    """

    start: float = 1.0
    end: float = 10.0
    power: float = 1.0
    curve: Curve = "geometric"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("start", "end", "power"):
            require_number(name, getattr(self, name), above=0.0)
        if self.curve not in CURVES:
            raise ValueError(f"curve={self.curve!r}: must be one of {', '.join(CURVES)}")

    @property
    def knots(self) -> tuple[float, ...]:
        """None: it is smooth."""
        return ()

    def factor(self, fraction: Array) -> Array:
        """The batch sizes at fractions of the run, before they are scaled."""
        v = fraction**self.power
        if self.curve == "geometric":
            return np.asarray(self.start * (self.end / self.start) ** v)
        return np.asarray(self.start + (self.end - self.start) * v)


@dataclass(frozen=True)
class BatchSteps(BatchSchedule):
    """Equal stages, in each of which the batch size is ``growth`` times that of the one before.

    Args:
        growth: > 0; 2 doubles.
        stages: how many, an integer of at least 1.
    """

    growth: float = 2.0
    stages: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("growth", self.growth, above=0.0)
        stages = require_integer("stages", self.stages, least=1, most=MOST_DROPS)
        most = math.exp(MOST_LOG / max(stages - 1, 1))
        if not 1.0 / most <= self.growth <= most:
            raise ValueError(
                f"growth={self.growth:g}: must be from {1.0 / most:.3g} to {most:.3g} with "
                f"stages={stages}, since batch sizes are not finite to the computer"
            )

    @property
    def knots(self) -> tuple[float, ...]:
        """Where stages begin."""
        return tuple((np.arange(1, self.stages) / self.stages).tolist())

    def factor(self, fraction: Array) -> Array:
        """The batch sizes at fractions of the run, before they are scaled."""
        return np.asarray(self.growth ** np.searchsorted(self.knots, fraction, side="right"))


@dataclass(frozen=True)
class BatchPieces(BatchSchedule):
    """Batch sizes that hold on pieces of the run, such as those of an optimum.

    Args:
        factors: the batch size of each piece beside the others, > 0.
        boundaries: as in ``PiecewiseConstant``: fractions at which the second, third, ... piece
            begins; equal pieces where not given.
    """

    factors: tuple[float, ...]
    boundaries: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        return f"<BatchPieces: factors {shown(self.factors)}>"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "factors", self._pieces.factors)
        for index, factor in enumerate(self.factors):
            require_number(f"factors[{index}]", factor, above=0.0)

    @functools.cached_property
    def _pieces(self) -> PiecewiseConstant:
        return PiecewiseConstant(self.factors, self.boundaries)

    @property
    def knots(self) -> tuple[float, ...]:
        """Where pieces begin."""
        return self._pieces.knots

    def factor(self, fraction: Array) -> Array:
        """The batch sizes at fractions of the run, before they are scaled."""
        return self._pieces.factor(fraction)


@dataclass(frozen=True)
class BatchCoupled(BatchSchedule):
    """Batches that grow where the rate falls: f_t = (largest rate / rate_t)^power.

    Up to the largest rate, as in a warm-up, they are the same. With power 1 the product of batch
    size and rate is constant; a rate that falls by sqrt(a) where the batch grows by a, Seesaw's
    equivalence, has power 2.

    Args:
        power: > 0.
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("power", self.power, above=0.0)

    def beside(self, schedule: Schedule) -> Schedule:
        """The factors beside a learning-rate schedule."""
        return _Coupled(schedule, self.power)


@dataclass(frozen=True)
class BatchOptimal(BatchSchedule):
    """The batch sizes that bring the last risk lowest beside the rates, at the mean of the run.

    They are in proportion to sqrt(N_t), with N_t what the noise of step t adds to the last risk at
    a batch size of 1, and depend on the spectrum, the optimizer and its rates. Only of linear
    optimizers, whose noise is additive.
    """

    @classmethod
    def has_factors(cls) -> bool:
        """It has: those of the run that it is beside."""
        return True


@dataclass(frozen=True)
class _Coupled(Schedule):
    """The factors of ``BatchCoupled`` beside a schedule."""

    schedule: Schedule
    power: float

    @functools.cached_property
    def _peak(self) -> tuple[float, float]:
        """The fraction at which the rate is largest for the first time, and the factor there."""
        grid = np.linspace(0.0, 1.0, SAMPLES, endpoint=False)
        grid = np.unique(np.concatenate((grid, self.schedule.knots or ())))
        factors = self.schedule.at_steps(grid * LONG, LONG)
        best = int(np.argmax(factors))
        return float(grid[best]), float(factors[best])

    @property
    def knots(self) -> tuple[float, ...] | None:
        """Those of the schedule, and where its largest rate is."""
        own = self.schedule.knots
        return None if own is None else _merged(own, (self._peak[0],))

    def at_steps(self, steps: Array, horizon: float | Array) -> Array:
        """The factors at some steps of a run."""
        where, peak = self._peak
        if not peak > 0.0:
            return np.ones_like(steps)
        share = np.clip(self.schedule.at_steps(steps, horizon) / peak, LEAST_RATE, 1.0)
        return np.where(steps / horizon < where, 1.0, share**-self.power)


@dataclass(frozen=True)
class BatchSizes(BatchSchedule):
    """The batch sizes that a function of the fraction of the run gives, as they are.

    Args:
        function: fraction in [0, 1) -> batch size > 0.
    """

    function: Callable[[float], float]

    @property
    def knots(self) -> None:
        """Unknown."""

    def at_steps(self, steps: Array, horizon: float | Array) -> Array:
        """The batch sizes at some steps of a run.

        Raises:
            ValueError: where the function returns no finite number above 0.
        """
        sizes = []
        for fraction in (steps / horizon).tolist():
            size = self.function(fraction)
            sizes.append(require_number(f"batch_schedule({fraction:g})", size, above=0.0))
        return np.array(sizes)


def _merged(*knots: tuple[float, ...]) -> tuple[float, ...]:
    """Ascending knots inside a run, each once."""
    return tuple(sorted({each for some in knots for each in some if 0.0 < each < 1.0}))


BatchScheduleLike = BatchSchedule | Callable[[float], float]
"""A batch schedule, or any function from the fraction of the run to the batch size."""


@dataclass(frozen=True)
class Batched(Schedule):
    """The rates of a learning-rate schedule, and the batch sizes of a batch schedule.

    Args:
        schedule: gives the rates.
        batches: gives the batch sizes.
        batch_size: the problem's.
        given: the factors of the batch size; None: those that the batch schedule has.
    """

    schedule: Schedule
    batches: BatchSchedule
    batch_size: float
    given: Schedule | None = None

    @property
    def needs_horizon(self) -> bool:
        """It does, since a step's batch size depends on the length of the run."""
        return True

    @property
    def steady(self) -> bool:
        """It is not."""
        return False

    @functools.cached_property
    def shape(self) -> Schedule:
        """The batch sizes before they are scaled."""
        return self.given or self.batches.beside(self.schedule)

    @functools.cached_property
    def knots(self) -> tuple[float, ...] | None:
        """Those of both; unknown where batch sizes are rounded, at any step."""
        rates, sizes = self.schedule.knots, self.shape.knots
        if self.batches.integer or rates is None or sizes is None:
            return None
        return _merged(rates, sizes)

    def at_steps(self, steps: Array, horizon: float | Array) -> Array:
        """The factors of the rate at some steps of a run."""
        return self.schedule.at_steps(steps, horizon)

    def noise(self, steps: Array, horizon: float | Array) -> Array:
        """The variance of a gradient's noise at some steps, over what it is at the problem's batch.

        Raises:
            ValueError: where a batch size is no finite number above 0.
        """
        return np.asarray(self.batch_size / self.sizes(steps, horizon))

    def sizes(self, steps: Array, horizon: float | Array) -> Array:
        """The batch sizes at some steps of a run, which need not be integers.

        Raises:
            ValueError: where one is no finite number above 0.
        """
        sizes = self._positive(steps, horizon)
        if not isinstance(self.batches, BatchSizes):
            sizes = self._scales_of(horizon) * sizes
        return self._rounded(self._within(sizes))

    def _scales_of(self, horizon: float | Array) -> float | Array:
        if np.ndim(horizon) == 0:
            return self._scale(int(horizon))
        lengths, place = np.unique(np.asarray(horizon), return_inverse=True)
        return np.array([self._scale(int(each)) for each in lengths])[place]

    def examples(self, horizon: int) -> float:
        """The sum of all batch sizes of a run of some steps."""
        if not (self.batches.integer or isinstance(self.batches, BatchSizes)):
            return horizon * self.batch_size
        return self.total(horizon, lambda sizes: sizes)

    def total(self, horizon: int, cost: Callable[[Array], Array]) -> float:
        """The sum of what the steps of a run cost.

        Args:
            horizon: the length of the run, >= 1.
            cost: batch sizes -> what a step with each of them costs.
        """
        if self.batches.integer and horizon <= LONG:
            # Where they are rounded is at any step.
            return float(np.sum(cost(self.sizes(np.arange(float(horizon)), horizon))))
        scale = 1.0 if isinstance(self.batches, BatchSizes) else self._scale(horizon)
        counts, factors = self._counted(horizon)
        return float(counts @ cost(self._rounded(self._within(scale * factors))))

    def _positive(self, steps: Array, horizon: float | Array) -> Array:
        factors = self.shape.at_steps(steps, horizon)
        if not np.all(factors > 0.0):
            at = int(np.argmin(factors))
            raise ValueError(
                f"{type(self.batches).__name__}: has the factor {factors[at]:g} at step "
                f"{steps[at]:g}: must be above 0"
            )
        return factors

    def _within(self, sizes: Array) -> Array:
        low, high = self.batches.min, self.batches.max
        return sizes if low is None and high is None else np.clip(sizes, low, high)

    def _rounded(self, sizes: Array) -> Array:
        return np.maximum(np.rint(sizes), 1.0) if self.batches.integer else sizes

    def _counted(self, horizon: int) -> tuple[Array, Array]:
        """Factors of the batch size in a run, and for how many steps each stands."""
        if horizon <= (SUMMED if self.shape.knots is not None else LONG):
            steps = np.arange(horizon, dtype=np.float64)
            return np.ones(horizon), self._positive(steps, horizon)
        run = stretched(self.shape, horizon, STRETCHES)
        return run.lengths.astype(np.float64), run.factors[0]

    def _scale(self, horizon: int) -> float:
        """What the factors of a run are multiplied by to have the mean."""
        if horizon not in self._scales:
            counts, factors = self._counted(horizon)
            scale = horizon * self.batch_size / float(counts @ factors)
            if self.batches.min is not None or self.batches.max is not None:
                # At these ends no batch is above the mean, and none is below it.
                low, high = self.batch_size / factors.max(), self.batch_size / factors.min()
                for _ in range(HALVINGS):
                    scale = math.sqrt(low * high)
                    less = counts @ self._within(scale * factors) < horizon * self.batch_size
                    low, high = (scale, high) if less else (low, scale)
            self._scales[horizon] = scale
        return self._scales[horizon]

    @functools.cached_property
    def _scales(self) -> dict[int, float]:
        """The scales of runs that were asked for."""
        return {}


def batched(
    schedule: Schedule, batches: object, batch_size: float, given: Schedule | None = None
) -> Schedule:
    """A learning-rate schedule together with a batch schedule, if that is not the constant one.

    Args:
        schedule: gives the rates.
        batches: a ``BatchSchedule``, a function from the fraction of the run to the batch size, or
            None for the problem's batch size at every step.
        batch_size: the problem's, the mean of the run.
        given: the factors of a ``BatchOptimal``.

    Raises:
        ValueError: if it is none of these, or its bounds exclude the mean.
    """
    if batches is None or type(batches) is BatchConstant:
        return schedule
    if callable(batches) and not isinstance(batches, (type, BatchSchedule)):
        return Batched(schedule, BatchSizes(batches), batch_size)
    if not isinstance(batches, BatchSchedule):
        raise ValueError(
            f"batch_schedule={batches!r}: must be a batch schedule, such as BatchRamp(), or a "
            "function from the fraction of the run to the batch size"
        )
    batches.require(batch_size)
    return Batched(schedule, batches, batch_size, given)


def batch_sizes(
    batch_schedule: BatchScheduleLike,
    steps: int,
    batch_size: float,
    schedule: ScheduleLike = CONSTANT,
) -> Array:
    """The batch size of every step of a run.

    Args:
        batch_schedule: says how large they are beside each other.
        steps: the length T of the run, >= 1.
        batch_size: the mean.
        schedule: that of the learning rate, which ``BatchCoupled`` follows.

    Returns:
        Shape (T,).

    Raises:
        ValueError: if a value is outside its range or of the wrong kind.
    """
    steps = require_integer("steps", steps, least=1)
    size = require_number("batch_size", batch_size, above=0.0)
    found = batched(as_schedule(schedule), batch_schedule, size)
    if not isinstance(found, Batched):
        return np.full(steps, size)
    return found.sizes(np.arange(float(steps)), steps)
