"""The search space: hyperparameters in the user's units, and the coordinates Optuna searches.

| coordinate | of | why |
|---|---|---|
| the hyperparameter itself | most | |
| ``one_minus_<name>`` | a decay such as momentum | its effect is set by its distance from 1 |
| ``effective_learning_rate`` = lr / (1 - momentum) | lr with momentum | it sets the pace, so that the valley of few steps runs along an axis |
| ``rate_to_limit`` = lr / (limit - lr) | lr without momentum | a log scale far below the limit and of the distance from it close by: at large batches the best rate is a share ~ 1/B below it |
| any of these over its guide at the trial's batch size | where the batch size is searched | a best value keeps its place from one batch size to the next |
"""  # noqa: E501 (a table)

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from optuna.distributions import FloatDistribution

from nqm_study.study.definition import BATCH_SIZE, Hyperparameter, Range

Kind = Literal["itself", "one_minus", "effective", "to_limit"]
Table = tuple[tuple[float, float], ...]

_TABLES = ("guide", "limits")
_LEFT_OUT = (*_TABLES, "limit", "integer", "cap")
"""The fields of a coordinate that its JSON values have only where they are in use."""

UNBOUNDED = ("learning_rate", "timescale", "eps", "batch_size")
"""Hyperparameters to which 0 and 1 are values like others."""

AT_EDGE = 0.01
"""A value is at the edge of its range within this share of the range, on the coordinate's scale."""


@dataclass(frozen=True)
class Coordinate:
    """One of the numbers that Optuna searches.

    Attributes:
        hyperparameter: what it decides.
        kind: how it does.
        low, high: its range.
        log: whether it is searched on a log scale.
        open_low, open_high: whether the range could go on there, so that a best value at that end
            shows that the range is too narrow.
        limit: of ``to_limit``, the rate that no value reaches.
        guide: (batch size, value) pairs, ascending: the coordinate is a multiple of the value, as
            it is between them on logarithmic axes; empty where it is the number itself.
        limits: (batch size, limit) pairs of ``to_limit``, in place of the one limit.
        integer: whether its values are rounded.
        cap: the largest learning rate without momentum; with it, it is (1 + momentum) times as
            large, over 1 + 2 momentum with Nesterov's.
    """

    hyperparameter: str
    kind: Kind
    low: float
    high: float
    log: bool = True
    open_low: bool = True
    open_high: bool = True
    limit: float = math.inf
    guide: Table = ()
    limits: Table = ()
    integer: bool = False
    cap: float = math.inf

    @property
    def name(self) -> str:
        """Its name in Optuna."""
        if self.kind == "one_minus":
            return f"one_minus_{self.hyperparameter}"
        if self.kind == "effective":
            return f"effective_{self.hyperparameter}"
        return "rate_to_limit" if self.kind == "to_limit" else self.hyperparameter

    @property
    def distribution(self) -> FloatDistribution:
        """Optuna's distribution."""
        return FloatDistribution(self.low, self.high, log=self.log)

    def value(self, coordinate: float, values: Mapping[str, float]) -> float:
        """The hyperparameter's value, given those that it depends on."""
        value = self._uncapped(coordinate, values)
        return value if math.isinf(self.cap) else min(value, self.capped(values))

    def capped(self, values: Mapping[str, float]) -> float:
        """The largest value, given those that it depends on."""
        momentum = values.get("momentum", 0.0)
        return self.cap * (1.0 + momentum) / (1.0 + 2.0 * momentum * values.get("nesterov", 0.0))

    def _uncapped(self, coordinate: float, values: Mapping[str, float]) -> float:
        if self.guide:
            coordinate *= between(self.guide, values[BATCH_SIZE])
        if self.kind == "one_minus":
            # A multiple of what the guide says may be more than there is.
            return 1.0 - min(coordinate, 1.0) if self.guide else 1.0 - coordinate
        if self.kind == "effective":
            return coordinate * (1.0 - values["momentum"])
        if self.kind == "to_limit":
            return self._limit(values) * (coordinate / (1.0 + coordinate))
        return float(round(coordinate)) if self.integer else coordinate

    def of(self, values: Mapping[str, float]) -> float:
        """The coordinate of hyperparameters, not clipped to its range."""
        number = self._number(values)
        return number / between(self.guide, values[BATCH_SIZE]) if self.guide else number

    def _number(self, values: Mapping[str, float]) -> float:
        value = values[self.hyperparameter]
        if self.kind == "one_minus":
            return 1.0 - value
        if self.kind == "effective":
            gap = 1.0 - values["momentum"]
            return value / gap if gap > 0.0 else math.inf
        if self.kind == "to_limit":
            limit = self._limit(values)
            return value / (limit - value) if value < limit else math.inf
        return value

    def _limit(self, values: Mapping[str, float]) -> float:
        return between(self.limits, values[BATCH_SIZE]) if self.limits else self.limit

    def clipped(self, coordinate: float) -> float:
        """The nearest value inside the range."""
        return min(max(coordinate, self.low), self.high)

    def scaled(self, coordinate: float) -> float:
        """The coordinate on its scale: its logarithm, or in units of a third of the range."""
        if self.log:
            return math.log(coordinate)
        return 3.0 * (coordinate - self.low) / (self.high - self.low)

    def unscaled(self, scaled: float) -> float:
        """The coordinate at a place on its scale, inside the range."""
        if self.log:
            # Nothing overflows on the way to being clipped.
            return self.clipped(math.exp(min(max(scaled, -700.0), 700.0)))
        return self.clipped(self.low + scaled / 3.0 * (self.high - self.low))

    def share(self, coordinate: float) -> float:
        """The place in the range, on its scale: 0 at the low end, 1 at the high one."""
        low, high = self.scaled(self.low), self.scaled(self.high)
        return (self.scaled(self.clipped(coordinate)) - low) / (high - low)


@dataclass(frozen=True)
class SearchSpace:
    """Hyperparameters that are fixed, and the coordinates that decide the others.

    Attributes:
        fixed: hyperparameters that are numbers.
        coordinates: one for each searched hyperparameter; those that others depend on come first.
        names: all hyperparameters, in the order that they are shown in.
    """

    fixed: Mapping[str, float]
    coordinates: tuple[Coordinate, ...]
    names: tuple[str, ...]

    @property
    def distributions(self) -> dict[str, FloatDistribution]:
        """Optuna's distribution of each coordinate."""
        return {each.name: each.distribution for each in self.coordinates}

    def values(self, coordinates: Mapping[str, float]) -> dict[str, float]:
        """Every hyperparameter's value in the user's units, the fixed ones included."""
        values = dict(self.fixed)
        for each in self.coordinates:
            values[each.hyperparameter] = each.value(coordinates[each.name], values)
        return {name: values[name] for name in self.names}

    def point(self, values: Mapping[str, float]) -> dict[str, float]:
        """The coordinates of hyperparameters, each inside its range."""
        return {each.name: each.clipped(each.of(values)) for each in self.coordinates}

    def at_edge(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Hyperparameters at the end of a range that could go on, in words."""
        found = []
        for each in self.coordinates:
            share = each.share(each.of(values))
            low = share < AT_EDGE and each.open_low
            high = share > 1.0 - AT_EDGE and each.open_high
            if low or high:
                # Small values of one minus it are large ones of the hyperparameter.
                end = "high" if high != (each.kind == "one_minus") else "low"
                value = values[each.hyperparameter]
                found.append(f"{each.hyperparameter} {value:.6g}, the {end} end of its range")
        return tuple(found)

    def grid(self, points: int) -> dict[str, list[float]]:
        """Points along each coordinate, evenly spaced on its scale, the ends included."""
        grid = {}
        for each in self.coordinates:
            space = np.geomspace if each.log else np.linspace
            line = space(each.low, each.high, points)
            grid[each.name] = [float(v) for v in np.clip(line, each.low, each.high)]
        return grid

    def to_json(self) -> dict[str, Any]:
        """The space as JSON values; ``from_json`` is its inverse."""
        coordinates = [
            # What is not in use is left out: JSON has no infinity.
            {
                name: value
                for name, value in dataclasses.asdict(each).items()
                if name not in _LEFT_OUT or value != getattr(Coordinate, name)
            }
            for each in self.coordinates
        ]
        return {"fixed": dict(self.fixed), "coordinates": coordinates, "names": list(self.names)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchSpace:
        """The space that ``to_json`` wrote."""
        coordinates = tuple(
            Coordinate(**{**each, **{name: _table(each.get(name, ())) for name in _TABLES}})
            for each in data["coordinates"]
        )
        return cls(dict(data["fixed"]), coordinates, tuple(data["names"]))

    @classmethod
    def of(cls, hyperparameters: Mapping[str, Hyperparameter]) -> SearchSpace:
        """The space of given ranges: each hyperparameter itself, or one minus it.

        Raises:
            ValueError: if a bound is not given.
        """
        ranges = {name: each for name, each in hyperparameters.items() if isinstance(each, Range)}
        fixed: dict[str, Any] = {n: v for n, v in hyperparameters.items() if n not in ranges}
        return cls(fixed, tuple(map(plain, ranges, ranges.values())), tuple(hyperparameters))


@dataclass(frozen=True)
class Search:
    """A search space, and the first trials in it.

    Attributes:
        space: the search space.
        starts: the coordinates of the first trials, each inside the space.
    """

    space: SearchSpace
    starts: tuple[Mapping[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The search as JSON values; ``from_json`` is its inverse."""
        return {"space": self.space.to_json(), "starts": [dict(each) for each in self.starts]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Search:
        """The search that ``to_json`` wrote."""
        return cls(SearchSpace.from_json(data["space"]), tuple(data["starts"]))


def between(table: Table, place: float) -> float:
    """The value at a place of a table of positive numbers: linear on logarithmic axes."""
    places, values = zip(*table, strict=True)
    return math.exp(float(np.interp(math.log(place), np.log(places), np.log(values))))


def _table(pairs: Sequence[Sequence[float]]) -> Table:
    return tuple((float(place), float(value)) for place, value in pairs)


def plain(name: str, each: Range, *, open_low: bool = True, open_high: bool = True) -> Coordinate:
    """The coordinate of a range with both bounds: the hyperparameter itself, or one minus it.

    Raises:
        ValueError: if a bound is missing.
    """
    if each.low is None or each.high is None:
        raise ValueError(f"{name}={each}: must have both bounds")
    # A share or a decay ends there by itself; there is nothing beyond to look at.
    whole = (0.0, 1.0) if name not in UNBOUNDED else ()
    open_low, open_high = open_low and each.low not in whole, open_high and each.high not in whole
    if each.scale == "log_one_minus":
        low, high = 1.0 - each.high, 1.0 - each.low
        return Coordinate(name, "one_minus", low, high, True, open_high, open_low)
    return Coordinate(name, "itself", each.low, each.high, each.scale == "log", open_low, open_high)
