"""Simplex searches from the best trial, which are known by the trials they asked for."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.simplex import nelder_mead
from nqm_study.study.space import Coordinate, SearchSpace
from nqm_study.study.trials import FAILURE, kept

Key = tuple[object, ...]
Value = tuple[float, ...]

PERIOD = 20
"""Trials in which both have their turn."""

SIDE = 0.15
"""Side of the first simplex, on the coordinates' scales: 15 % of a rate."""

LONGER = 1.37 * SIDE
"""The side that follows when halving has come to nothing: other corners than the first."""

DIGITS = 9
"""Points that agree to so many digits after the point, on the coordinates' scales, are one."""

CLOSE = 1e-3
"""A search is done when no corner is further than this from its best, in any coordinate."""

MOST_KNOWN = 20
"""Searches in a row of which all points are known: then there is nothing left to ask."""


def is_local(number: int, share: float) -> bool:
    """Whether a trial of this number is the local search's, which has this share of the trials."""
    return number % PERIOD >= PERIOD - round(PERIOD * share)


def turns(number: int, share: float) -> int:
    """How many trials before that of this number are not the local search's."""
    each = PERIOD - round(PERIOD * share)
    return number // PERIOD * each + min(number % PERIOD, each)


@dataclass(frozen=True)
class _Best:
    """The best trial so far.

    Attributes:
        value: its value.
        whole: all of its choices and coordinates.
        moved: the coordinates that a search moves: those that apply, and on which it does not
            depend what applies.
        point: where these are, on their scales.
    """

    value: Value
    whole: Mapping[str, Any]
    moved: tuple[Coordinate, ...]
    point: Array

    @property
    def box(self) -> tuple[Array, Array]:
        """The ends of what is moved, on the coordinates' scales."""
        low = np.array([each.scaled(each.low) for each in self.moved])
        return low, np.array([each.scaled(each.high) for each in self.moved])

    def sides(self, side: float) -> Array:
        """Sides of a simplex: of integers they come to the next one."""
        found = []
        for each, place in zip(self.moved, self.point.tolist(), strict=True):
            whole = self.whole[each.name]
            beside = whole + (1 if whole < each.high else -1) if each.integer else whole
            found.append(max(side, abs(each.scaled(beside) - place)))
        return np.array(found)


@dataclass
class LocalSearch:
    """Simplex searches from the best trial, one after another.

    A search that is done is followed by one from the best trial, with a side half as long where it
    found nothing better, until that is too short and is long again. Where the sampler found a
    better trial meanwhile, the next turn begins with a search from there. Choices, and what applies
    because of them, stay as the best trial has them.

    Attributes:
        space: the search space.
        seed: of points beside those that others are at work on.
        share: of the trials that it has.
        first: the number of trials before which nothing is asked.
    """

    space: SearchSpace
    seed: int
    share: float
    first: int = 0
    _known: dict[Key, Value] = field(default_factory=dict)
    _next: int = 0
    _waiting: list[int] = field(default_factory=list)
    _best: _Best | None = None
    _overtaken: bool = False
    _begun: _Best | None = None
    _spent: _Best | None = None
    _asked: Generator[Array, Value, None] | None = None
    _point: Array | None = None
    _runs: int = 0
    _side: float = SIDE

    def proposal(self, trials: Sequence[FrozenTrial], number: int) -> dict[str, Any]:
        """The choices and coordinates to look at in the trial of this number.

        Where nothing is left to ask, or nothing to start from, it is a point anywhere: what the
        sampler would say is for its own turn, or a resumed one would lose count of its points.

        Args:
            trials: all trials of the study as points, in the order of their numbers.
            number: that of the trial that is asked for.
        """
        self._waiting = [each for each in self._waiting if not self._learn(trials[each])]
        for each in range(self._next, number):
            # What was asked then decides what is asked now.
            if self._has_turn(each):
                self._ask(new_turn=not self._has_turn(each - 1))
            if not self._learn(trials[each]):
                self._waiting.append(each)
        self._next = number
        point = self._ask(new_turn=not self._has_turn(number - 1))
        if point is None or self._best is None or self._begun is None:
            return self.space.anywhere(np.random.default_rng([self.seed, number]))
        found = self._whole(self._begun, point)
        there = self.space.settled(found)
        others = (trials[each] for each in self._waiting)
        if any(each.params == there for each in others if each.state == TrialState.RUNNING):
            return self._beside(self._best, number)
        return found

    def _has_turn(self, number: int) -> bool:
        return number >= self.first and is_local(number, self.share)

    def _learn(self, trial: FrozenTrial) -> bool:
        """Take in a finished trial; whether there is nothing more to wait for."""
        if FAILURE in trial.user_attrs:  # it is not asked again
            self._known.setdefault(self._key(trial.params), (math.inf, math.inf))
        if trial.state == TrialState.COMPLETE:
            risk = kept(trial).get("risk")
            value = (trial.values[0], math.inf if risk is None else risk)
            self._known.setdefault(self._key(trial.params), value)
            if self._best is None or value < self._best.value:
                self._best = self._at(value, trial.params)
                self._overtaken |= not self._has_turn(trial.number)
        return trial.state.is_finished()

    def _ask(self, *, new_turn: bool) -> Array | None:
        """The next point whose value is not known; None where all are."""
        best = self._best
        if best is None or self._spent is best or not best.moved:
            return None
        if new_turn and self._overtaken:
            self._point = None
        first = self._runs
        while True:
            if self._asked is None or self._point is None or self._begun is None:
                if self._runs - first == MOST_KNOWN:
                    self._spent = best
                    return None
                self._begin(best)
                continue
            asked = self.space.settled(self._whole(self._begun, self._point))
            value = self._known.get(self._key(asked))
            if value is None:
                return self._point
            try:
                self._point = self._asked.send(value)
            except StopIteration:
                self._point = None

    def _begin(self, best: _Best) -> None:
        """Start a search from the best trial."""
        before, shorter = self._begun, self._side / 2.0
        self._side = SIDE
        if before is not None and self._overtaken and before.moved == best.moved:
            # As far as it is from where the search was: it may be a step along the same valley.
            away = float(np.max(np.abs(best.point - before.point)))
            self._side = min(max(away, 2.0 * CLOSE), SIDE)
        elif before is not None and not self._overtaken and not best.value < before.value:
            self._side = shorter if shorter > 2.0 * CLOSE else LONGER
        self._begun, self._overtaken = best, False
        sign = -1.0 if self._runs % 2 else 1.0
        self._runs += 1
        sides = (sign * best.sides(self._side)).tolist()
        self._asked = nelder_mead(
            best.point, best.value, sides, best.box, lambda size, *_: size < CLOSE
        )
        self._point = next(self._asked)

    def _beside(self, best: _Best, number: int) -> dict[str, Any]:
        """A point near the best, while another process looks at the one that comes next."""
        random = np.random.default_rng([self.seed, number])
        point = best.point + 0.5 * best.sides(self._side) * random.standard_normal(best.point.size)
        return self._whole(best, np.clip(point, *best.box))

    def _at(self, value: Value, whole: Mapping[str, Any]) -> _Best:
        moved = tuple(
            each
            for each in self.space.coordinates
            if each.name in whole and each.hyperparameter not in self.space.conditions
        )
        point = np.array([each.scaled(whole[each.name]) for each in moved])
        return _Best(value, whole, moved, point)

    def _whole(self, best: _Best, point: Array) -> dict[str, Any]:
        """The choices and coordinates of a point of a search."""
        pairs = zip(best.moved, point.tolist(), strict=True)
        return {**best.whole, **{each.name: each.unscaled(place) for each, place in pairs}}

    def _key(self, whole: Mapping[str, Any]) -> Key:
        """What the point of a trial is known by: two ways to it may differ in its last digits."""
        places = (
            round(each.scaled(whole[each.name]), DIGITS) if each.name in whole else None
            for each in self.space.coordinates
        )
        return (*(whole.get(name) for name in self.space.choices), *places)
