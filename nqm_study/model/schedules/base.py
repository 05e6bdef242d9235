"""The base classes of schedules, and the constant one."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, overload

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.require import require_number


class Schedule:
    """Factors of the learning rate at each step of a run; the base class of all schedules.

    A subclass, a frozen dataclass, has ``factor``, or ``factor_at`` where a step's factor does not
    depend on the length of the run. ``knots`` saves it time in long runs.
    """

    def factor(self, fraction: Array) -> Array:
        """The factors, >= 0, at fractions t / T of the run, in [0, 1); arrays of shape (n,)."""
        raise NotImplementedError

    def factor_at(self, step: Array) -> Array:
        """The factors, >= 0, at some steps, which need not be integers; arrays of shape (n,)."""
        raise NotImplementedError

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        cls._of_steps = cls.factor_at is not Schedule.factor_at

    _of_steps: ClassVar[bool] = False

    @classmethod
    def has_factors(cls) -> bool:
        """Whether a class has one of the methods that make it a schedule."""
        own = (cls.factor, cls.factor_at, cls.at_steps)
        return own != (Schedule.factor, Schedule.factor_at, Schedule.at_steps)

    @property
    def needs_horizon(self) -> bool:
        """Whether a step's factor depends on the length of the run."""
        return not self._of_steps

    @property
    def knots(self) -> tuple[float, ...] | None:
        """Fractions of the run, ascending, between which the factor is smooth; None: unknown."""
        return None

    def at_steps(self, steps: Array, horizon: float | Array) -> Array:
        """The factors at some steps of a run; the steps need not be integers.

        Args:
            steps: shape (n,), each in [0, horizon).
            horizon: steps of the whole run; of each, where the steps are of several runs.

        Raises:
            ValueError: where they are not as many finite numbers of at least 0.
        """
        given = self.factor_at(steps) if self._of_steps else self.factor(steps / horizon)
        factors = np.asarray(given, dtype=np.float64)
        if factors.shape != steps.shape:
            raise ValueError(
                f"{type(self).__name__}: has factors of shape {factors.shape} for {steps.size} "
                "steps: must be one for each"
            )
        wrong = ~((factors >= 0.0) & (factors < math.inf))
        if np.any(wrong):
            at = int(np.argmax(wrong))
            raise ValueError(
                f"{type(self).__name__}: has the factor {factors[at]:g} at step {steps[at]:g}: "
                "must be a finite number of at least 0"
            )
        return factors

    def noise(self, steps: Array, horizon: float | Array) -> Array:
        """The variance of a gradient's noise at some steps, over what it is at the problem's batch.

        It is batch_size / B_t, with B_t the batch size of step t; one entry where all are 1.

        Args:
            steps: shape (n,), each in [0, horizon).
            horizon: steps of the whole run; of each, where the steps are of several runs.
        """
        return np.ones(1)

    @property
    def steady(self) -> bool:
        """Whether the batch size is the problem's at every step."""
        return True


class Shaped(Schedule, ABC):
    """A schedule that depends on the fraction of the run alone. Calling it gives the factor."""

    warmup_fraction: float
    _final_is = "least"  # the kind of bound, 0, of a final_fraction

    @abstractmethod
    def _body(self, v: Array) -> Array:
        """The factor at fractions of what follows the warm-up."""

    @property
    def _body_knots(self) -> tuple[float, ...]:
        """The knots of the body, as fractions of what follows the warm-up."""
        return ()

    def __post_init__(self) -> None:
        require_number("warmup_fraction", self.warmup_fraction, least=0.0, below=1.0)
        if hasattr(self, "final_fraction"):
            require_number("final_fraction", self.final_fraction, **{self._final_is: 0.0})

    @property
    def needs_horizon(self) -> bool:
        """Whether a step's factor depends on the length of the run: it does."""
        return True

    @functools.cached_property
    def knots(self) -> tuple[float, ...]:
        """The end of the warm-up and the body's own knots."""
        w = self.warmup_fraction
        body = tuple(w + (1.0 - w) * knot for knot in self._body_knots)
        return (w, *body) if w > 0.0 else body

    def at_steps(self, steps: Array, horizon: float | Array) -> Array:
        """The factors at some steps of a run."""
        return self.factor(steps / horizon)

    @overload
    def __call__(self, fraction: float) -> float: ...
    @overload
    def __call__(self, fraction: Array) -> Array: ...
    def __call__(self, fraction: float | Array) -> float | Array:
        """The factor at fractions of the run, from 0 to 1."""
        factor = self.factor(np.atleast_1d(np.asarray(fraction, dtype=np.float64)))
        return float(factor[0]) if np.ndim(fraction) == 0 else factor

    def factor(self, fraction: Array) -> Array:
        """The factors at fractions of the run."""
        u, w = fraction, self.warmup_fraction
        if w == 0.0:
            return self._body(u)
        v = np.clip((u - w) / (1.0 - w), 0.0, 1.0)
        # Not u / w, which may overflow where it is not taken.
        return np.where(u < w, np.minimum(u, w) / w, self._body(v))


@dataclass(frozen=True)
class Constant(Shaped):
    """The factor 1 after the warm-up. Without one, it needs no horizon.

    Args:
        warmup_fraction: w in [0, 1).
    """

    warmup_fraction: float = 0.0

    @property
    def needs_horizon(self) -> bool:
        """Only with a warm-up."""
        return self.warmup_fraction > 0.0

    def _body(self, v: Array) -> Array:
        return np.ones_like(v)


def between(down: Array, final: float) -> Array:
    """A decay from 1 to 0, stretched to end at the final fraction."""
    return np.asarray(final + (1.0 - final) * down)


def half_wave(v: Array) -> Array:
    """Half a cosine wave from 1 at 0 to 0 at 1."""
    return np.asarray(0.5 * (1.0 + np.cos(math.pi * v)))


@dataclass(frozen=True)
class OfSteps(Schedule):
    """A function of the number of steps, such as a schedule of optax.

    Args:
        function: steps -> factor >= 0.
    """

    function: Callable[[Array], Any]

    def factor_at(self, step: Array) -> Array:
        """The factors at some steps."""
        return np.array([float(self.function(each)) for each in step.tolist()])


@dataclass(frozen=True)
class Custom(Schedule):
    """A function of the fraction of the run, about whose smoothness nothing is known.

    Args:
        function: fraction in [0, 1) -> factor >= 0.
    """

    function: Callable[[float], float]

    @property
    def needs_horizon(self) -> bool:
        """Always, since nothing is known of the function."""
        return True

    @property
    def knots(self) -> None:
        """Unknown."""

    def at_steps(self, steps: Array, horizon: float | Array) -> Array:
        """The factors at some steps of a run.

        Raises:
            ValueError: where the function returns no number, or one that is negative or infinite.
        """
        fractions = (steps / horizon).tolist()
        return np.array([self._factor(fraction) for fraction in fractions], dtype=np.float64)

    def _factor(self, fraction: float) -> float:
        try:
            factor = float(self.function(fraction))
        except (TypeError, ValueError) as error:
            raise ValueError(f"schedule({fraction:g}): must return a number: {error}") from error
        if not (0.0 <= factor < math.inf):
            raise ValueError(
                f"schedule({fraction:g})={factor:g}: must be a finite number of at least 0"
            )
        return factor


ScheduleLike = Schedule | Callable[[float], float]
"""A schedule, or any function from the fraction of the run to the factor."""


def as_steps(value: object) -> Schedule:
    """The value, if it is a schedule, or that of a function of the number of steps.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(value, Schedule):
        return value
    if callable(value):
        return OfSteps(value)
    raise ValueError(f"schedule={value!r}: must be a schedule, or a function of the steps")


def as_schedule(value: object) -> Schedule:
    """The value, if it is a schedule, or the schedule that a function stands for.

    A function is one of the fraction of the run, but those of optax, which are of the steps.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(value, Schedule):
        return value
    if callable(value) and not isinstance(value, type):
        of_steps = str(getattr(value, "__module__", "")).partition(".")[0] == "optax"
        return OfSteps(value) if of_steps else Custom(value)
    raise ValueError(
        f"schedule={value!r}: must be a schedule, such as Cosine(), or a function from the "
        "fraction of the run to the factor"
    )
