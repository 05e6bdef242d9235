"""How the optimizer and the schedule of a trial are made of its hyperparameters.

beta2 is the weight of the past in Adam's average of the squared gradient: a gradient loses half its
weight in ln(1/2) / ln(beta2) steps, which are that many times B examples. The policy ``fixed`` has
the same beta2 at every batch size. The policy ``half_life`` has the same half-life in examples: the
beta2 given is that at one batch size B_0, and at B it is beta2^(B / B_0).
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers import Adam
from nqm_study.model.schedules import Constant, PiecewiseConstant
from nqm_study.study.definition import Value

if TYPE_CHECKING:
    from nqm_study.model.problems.data import Examples

_COMPUTED = "nqm_study.model.schedules.computed."
"""What the modules' names begin with that compute a schedule's rates."""


@dataclass(frozen=True)
class Recipe:
    """A class, or a function, and what its arguments are taken from.

    Attributes:
        make: the class or function; all of its arguments have names.
        inner: the recipe of its argument ``optimizer``, where it wraps one: the hyperparameters
            of both are given side by side.
        code: what its code is known by; empty for what this package brings.
    """

    make: Callable[..., Any]
    inner: Recipe | None = None
    code: str = ""

    @functools.cached_property
    def own(self) -> Mapping[str, inspect.Parameter]:
        """The arguments by name, less the optimizer that it wraps."""
        found = inspect.signature(self.make).parameters
        return {n: each for n, each in found.items() if self.inner is None or n != "optimizer"}

    @property
    def chain(self) -> tuple[Recipe, ...]:
        """Its own recipe, and those of what it wraps."""
        return (self, *(self.inner.chain if self.inner is not None else ()))

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all hyperparameters."""
        return (*self.own, *(self.inner.names if self.inner is not None else ()))

    @property
    def adaptive(self) -> bool:
        """Whether it makes an Adam."""
        return isinstance(self.make, type) and issubclass(self.make, Adam)

    @property
    def computed(self) -> str:
        """``optimal`` or ``greedy`` for what computes a schedule's rates, and empty for others."""
        module = str(self.make.__module__)
        return module.removeprefix(_COMPUTED) if module.startswith(_COMPUTED) else ""

    def __call__(self, values: Mapping[str, Value]) -> Any:
        """What is made of some hyperparameters, which must be its own.

        Raises:
            TypeError, ValueError: naming what is missing, unknown, or out of range.
        """
        if self.inner is None:
            return self.make(**values)
        inner = self.inner({n: v for n, v in values.items() if n in self.inner.names})
        rest = {n: v for n, v in values.items() if n not in self.inner.names}
        return self.make(optimizer=inner, **rest)


@dataclass(frozen=True)
class Recipes:
    """How a study's optimizer and its schedule are made, and what else is not the plain one.

    Attributes:
        optimizer, schedule: how they are made.
        sampler: how it is made, if it is a user's own.
        batch_schedule: how it is made, if batch sizes change.
        problem: the class of the problem, which is made already.
    """

    optimizer: Recipe
    schedule: Recipe
    sampler: Recipe | None = None
    batch_schedule: Recipe | None = None
    problem: Recipe | None = None

    @property
    def constant(self) -> bool:
        """Whether rate and batch size are the same at every step, after a warm-up if any."""
        return self.schedule.make is Constant and self.batch_schedule is None

    @property
    def resumes(self) -> str:
        """One line where a resumed study may end otherwise than an unbroken one; else empty."""
        if self.sampler is None:
            return ""
        made: Any = self.sampler.make
        counts = any(each.__name__ == "QMCSampler" for each in made.__mro__)
        if "seed" in self.sampler.names and not counts:
            return ""
        return (
            f"sampler: {made.__name__} {'counts its points' if counts else 'takes no seed'}, so "
            "that a study that is resumed need not end as an unbroken one"
        )

    @property
    def versioned(self) -> tuple[str, ...]:
        """The groups whose classes have a version of their own."""
        return tuple(
            group
            for group, recipe in vars(self).items()
            if recipe and all(hasattr(e.make, "version") for e in recipe.chain if e.code)
        )


@dataclass(frozen=True)
class Checking:
    """What a study's best trial is run on, and how often.

    Attributes:
        load: reads the examples.
        n_runs: runs with examples of their own.
    """

    load: Callable[[], Examples]
    n_runs: int


CONSTANT = Recipe(Constant)
"""The schedule that leaves the rate as it is."""


def made(sampler: Recipe, seed: int, options: Mapping[str, Any]) -> Any:
    """A sampler with some options, and a seed where it takes one."""
    return sampler.make(**options, **({"seed": seed} if "seed" in sampler.names else {}))


def set_by_policy(
    values: Mapping[str, Any], settings: Mapping[str, float | str], batch_size: float
) -> dict[str, float]:
    """The hyperparameters that the policy changes at this batch size: beta2, or none.

    beta2 is 0 where the power is too small to be told from it: Adam then keeps no average of the
    squares, which at such a batch size is what the half-life asks for.
    """
    if settings.get("beta2_policy") != "half_life":
        return {}
    return {"beta2": values["beta2"] ** (batch_size / float(settings["beta2_batch_size"]))}


def piecewise_constant(
    *, pieces: int, warmup_fraction: float = 0.0, **given: float
) -> PiecewiseConstant:
    """Equal pieces of a run, each with a rate of its own.

    Args:
        pieces: how many.
        warmup_fraction: share of the run in which the rate rises from 0.
        **given: ``ratio_2``, ``ratio_3``, ...: the rate of a piece over that of the piece before.

    Raises:
        ValueError: naming a value that is out of range.
    """
    given = {key: given[key] for key in ratios(pieces)}
    for key, value in given.items():
        require_number(key, value, least=0.0)
    factors = tuple(itertools.accumulate((1.0, *given.values()), operator.mul))
    for ratio, factor in zip(given, factors[1:], strict=True):
        if factor == math.inf > given[ratio]:
            raise ValueError(
                f"{ratio}={given[ratio]:g}: must be less, the rate of its piece is infinite"
            )
    return PiecewiseConstant(factors, warmup_fraction=warmup_fraction)


def ratios(pieces: int) -> tuple[str, ...]:
    """The names of the ratios of the second, third, ... piece."""
    return tuple(f"ratio_{piece}" for piece in range(2, pieces + 1))
