"""The pace of a linear optimizer: how its rule turns a learning rate into progress, beside SGD's.

It is found from the rule alone, so that ranges and first trials fit an optimizer of a user's own.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nqm_study.study.definition import Choices, Hyperparameter, Range, Searched, applying
from nqm_study.study.recipes import Recipe

LATE = 2**20
"""Steps after which a slow mode is looked at, and those whose coefficients are taken."""

SLOW = 1e-9
"""The curvature of a mode that is slow at the rate 1."""

MOST_SEARCHED = 4
"""Hyperparameters whose ends are looked at."""

FASTEST = 4.0
"""No form of SGD is stable at this learning rate times the curvature."""

NEAR = 1e-3
"""Relative difference within which two paces are one."""


@dataclass(frozen=True)
class Pace:
    """How the members of a family move.

    Args:
        recipe: how they are made.
        given: their hyperparameters, as a study's definition has them.
        guess: values of what is searched that it is looked at beside; else the middle of ranges.
    """

    recipe: Recipe
    given: Mapping[str, Hyperparameter]
    guess: Mapping[str, float] = field(default_factory=dict)

    @functools.cached_property
    def heavy(self) -> bool:
        """Whether slow modes move as those of SGD at the rate lr / (1 - momentum)."""
        found = self.given.get("momentum")
        if isinstance(found, Searched) and found.when:
            return False  # it does not always apply
        return "momentum" in self.recipe.names and all(
            math.isclose(self.gain(momentum=mu) * (1.0 - mu), 1.0, rel_tol=NEAR)
            for mu in (0.5, 0.9)
        )

    @functools.cached_property
    def tight(self) -> bool:
        """Whether momentum makes the limit of stability smaller, as Nesterov's does."""
        return self.heavy and self.limit(momentum=0.9) < self.limit(momentum=0.0)

    @functools.cached_property
    def plain(self) -> bool:
        """Whether slow modes move, and fast ones are stable, as those of SGD."""
        return all(
            math.isclose(self.gain(**each), 1.0, rel_tol=NEAR)
            and math.isclose(self.limit(**each), 2.0, rel_tol=NEAR)
            for each in self.corners()
        )

    @functools.cached_property
    def constant(self) -> bool:
        """Whether the members have rules, and the same at each step."""
        made = self._made({})
        return bool(made.by_rule and made.constant)

    def as_sgd(self, decay: str = "") -> bool:
        """Whether the members move as SGD's do, also where a decay that is free is 0.

        Slow modes then move at the effective rate, fast ones are stable below a rate of 4 / h at
        most, and all have one preconditioner.
        """
        values = (0.0, 0.5, 0.9) if decay else (0.0,)
        given = [{decay: each} if decay else {} for each in values]
        try:
            made = [self._made(each) for each in given]
        except ValueError:  # a decay of 0 is out of its range
            return False
        where = np.array([1e-3, 1.0, 1e3])
        scales = [each.preconditioner(where).tolist() for each in made]
        paces = self.heavy if decay == "momentum" else self.heavy or self.plain
        limits = [self.limit(**each) for each in given]
        return paces and max(limits) <= FASTEST and scales == scales[:1] * len(scales)

    @functools.cached_property
    def power(self) -> float:
        """P of the preconditioner h^-p, the smallest where it is searched."""
        scale = self._made({}, share=0.0).preconditioner(np.array([1.0, 2.0]))
        return round(-math.log2(scale[1] / scale[0]), 9) + 0.0

    def gain(self, **values: float) -> float:
        """The rate of SGD at which a slow mode moves as it does here at the rate 1."""
        made = self._made(values)
        if made.by_rule:
            update = made.update(np.array([LATE]), np.ones(1))
            matrix = update.drift[0] + SLOW * np.outer(update.gain[0], update.point[0])
        else:
            update = made.transition(np.array([SLOW]), LATE)
            matrix = update.matrix[:, :, 0]
        with np.errstate(over="ignore", invalid="ignore"):  # a state that grows has no pace
            after = update.readout @ np.linalg.matrix_power(matrix, LATE) @ update.start
        share = float(after / (update.readout @ update.start))
        return -math.log(share) / (LATE * SLOW) if 0.0 < share < 1.0 else math.nan

    def limit(self, **values: Any) -> float:
        """The rate up to which a mode of curvature 1 is stable."""
        key = tuple(sorted((n, v) for n, v in values.items() if n in self._own))
        if key not in self._limits:
            self._limits[key] = float(self._made(dict(key)).stability_limit(1.0))
        return self._limits[key]

    @functools.cached_property
    def _limits(self) -> dict[tuple[tuple[str, Any], ...], float]:
        return {}

    def corners(self) -> Iterator[dict[str, Any]]:
        """The ends of what is searched beside the rate, each with each."""
        names = [n for n, v in self._own.items() if isinstance(v, Searched)][:MOST_SEARCHED]
        for shares in itertools.product((0.0, 1.0), repeat=len(names)):
            yield {n: _inside(self._own[n], each) for n, each in zip(names, shares, strict=True)}

    @functools.cached_property
    def _own(self) -> dict[str, Hyperparameter]:
        names = self.recipe.names
        return {n: v for n, v in self.given.items() if n in names and n != "learning_rate"}

    def _made(self, values: Mapping[str, float], *, share: float = 0.5) -> Any:
        """The member with some values, the others from the guess or the middle of their ranges."""
        found = {name: _inside(each, share) for name, each in self._own.items()}
        known = {**found, **self.guess, **values}
        return self.recipe({**applying(self._own, known), "learning_rate": 1.0})


def _inside(each: Hyperparameter, share: float) -> Any:
    """A value at a share of what is searched, from 0, its low end, to 1."""
    if isinstance(each, Choices):
        return each.values[round(share * (len(each.values) - 1))]
    if not isinstance(each, Range):
        return each
    if each.low is None or each.high is None:
        # 0, 0.9 and 0.99 of a decay.
        return 1.0 - 0.01**share if each.scale == "log_one_minus" else each.low or 0.0
    if share in (0.0, 1.0):
        found = each.high if share else each.low
    elif each.scale == "log":
        found = each.low * (each.high / each.low) ** share
    elif each.scale == "log_one_minus":
        found = 1.0 - (1.0 - each.low) * ((1.0 - each.high) / (1.0 - each.low)) ** share
    else:
        found = each.low + share * (each.high - each.low)
    return round(found) if each.integer else found
