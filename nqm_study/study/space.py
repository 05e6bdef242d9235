"""The search space: hyperparameters in the user's units, and the coordinates they are searched in.

What Optuna stores are the hyperparameters. Its samplers are shown the coordinates:

| coordinate | of | why |
|---|---|---|
| the hyperparameter itself | most | |
| ``one_minus_<name>`` | a decay such as momentum | its effect is set by its distance from 1 |
| ``effective_learning_rate`` = lr / (1 - momentum) | lr with momentum | it sets the pace, so that the valley of few steps runs along an axis |
| ``rate_to_limit`` = lr / (limit - lr) | lr without momentum | a log scale far below the limit and of the distance from it close by: at large batches the best rate is a share ~ 1/B below it |
| ``rate_of_limit`` = lr / limit | lr of another rule | the limit of stability beside the other values straightens the valley |
| any of these over its guide at the trial's batch size | where the batch size is searched | a best value keeps its place from one batch size to the next |
"""  # noqa: E501 (a table)

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from nqm_study.study.definition import (
    BATCH_SIZE,
    Choices,
    Hyperparameter,
    Range,
    Searched,
    Value,
    hyperparameter_of,
    searched_json,
)

Kind = Literal["itself", "one_minus", "effective", "to_limit", "of_limit"]
Table = tuple[tuple[float, float], ...]

_TABLES = ("guide", "limits")
_LEFT_OUT = (*_TABLES, "limit", "integer", "cap", "tight", "when", "limit_at")
"""The fields of a coordinate that its JSON values have only where they are in use."""

UNBOUNDED = ("learning_rate", "timescale", "eps", "batch_size")
"""Hyperparameters to which 0 and 1 are values like others."""

AT_EDGE = 0.01
"""A value is at the edge of its range within this share of the range, on the coordinate's scale."""


@dataclass(frozen=True)
class Coordinate:
    """One of the numbers that a sampler searches.

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
        integer: whether its values are whole numbers.
        when: the values of others under which alone it applies; empty: always.
        cap: the largest learning rate without momentum; with it, it is (1 + momentum) times as
            large, over 1 + 2 momentum with Nesterov's.
        tight: whether the momentum is Nesterov's, where no hyperparameter says so.
        limit_at: of ``of_limit``, the limit beside other values; it is no part of what is stored.
            ``limits`` then has the least and the largest of those that may come.
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
    tight: bool = False
    when: Mapping[str, Value] = field(default_factory=dict, hash=False)
    limit_at: Callable[[Mapping[str, Any]], float] | None = field(
        default=None, compare=False, repr=False
    )

    @property
    def name(self) -> str:
        """Its name, which a sampler sees."""
        if self.kind == "one_minus":
            return f"one_minus_{self.hyperparameter}"
        if self.kind == "effective":
            return f"effective_{self.hyperparameter}"
        if self.kind == "of_limit":
            return "rate_of_limit"
        return "rate_to_limit" if self.kind == "to_limit" else self.hyperparameter

    @property
    def distribution(self) -> BaseDistribution:
        """Optuna's distribution of the coordinate."""
        return _numbers(self.low, self.high, log=self.log, integer=self.integer)

    def ends(self, boxes: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
        """The least and the largest value, those that it depends on being inside boxes."""
        low, high = self.low, self.high
        if self.guide:
            multiples = [value for _, value in self.guide]
            low, high = low * min(multiples), high * max(multiples)
        if self.kind == "one_minus":
            low, high = (1.0 - (min(end, 1.0) if self.guide else end) for end in (high, low))
        elif self.kind == "effective":
            least, most = boxes.get("momentum", (0.0, 0.0))
            low, high = low * (1.0 - most), high * (1.0 - least)
        elif self.kind == "of_limit":
            low, high = low * self.limits[0][1], high * self.limits[-1][1]
        elif self.kind == "to_limit":
            limits = [limit for _, limit in self.limits] or [self.limit]
            low, high = min(limits) * (low / (1.0 + low)), max(limits) * (high / (1.0 + high))
        if math.isfinite(self.cap):
            names = ("momentum", "nesterov")
            corners = itertools.product(*(boxes.get(name, (0.0, 0.0)) for name in names))
            caps = [self.capped(dict(zip(names, corner, strict=True))) for corner in corners]
            low, high = min(low, *caps), min(high, max(caps))
        return low, high

    def value(self, coordinate: float, values: Mapping[str, float]) -> float:
        """The hyperparameter's value, given those that it depends on."""
        value = self._uncapped(coordinate, values)
        return value if math.isinf(self.cap) else min(value, self.capped(values))

    def capped(self, values: Mapping[str, float]) -> float:
        """The largest value, given those that it depends on."""
        momentum = values.get("momentum", 0.0)
        tight = self.tight or values.get("nesterov", 0.0)
        return self.cap * (1.0 + momentum) / (1.0 + 2.0 * momentum * tight)

    def _uncapped(self, coordinate: float, values: Mapping[str, float]) -> float:
        if self.guide:
            coordinate *= between(self.guide, values[BATCH_SIZE])
        if self.kind == "one_minus":
            # A multiple of what the guide says may be more than there is.
            return 1.0 - min(coordinate, 1.0) if self.guide else 1.0 - coordinate
        if self.kind == "effective":
            return coordinate * (1.0 - values.get("momentum", 0.0))
        if self.kind == "of_limit":
            return self._limit(values) * coordinate
        if self.kind == "to_limit":
            return self._limit(values) * (coordinate / (1.0 + coordinate))
        return round(coordinate) if self.integer else coordinate

    def of(self, values: Mapping[str, float]) -> float:
        """The coordinate of hyperparameters, not clipped to its range."""
        number = self._number(values)
        return number / between(self.guide, values[BATCH_SIZE]) if self.guide else number

    def _number(self, values: Mapping[str, float]) -> float:
        value = values[self.hyperparameter]
        if self.kind == "one_minus":
            return 1.0 - value
        if self.kind == "effective":
            gap = 1.0 - values.get("momentum", 0.0)
            return value / gap if gap > 0.0 else math.inf
        if self.kind == "of_limit":
            return value / self._limit(values)
        if self.kind == "to_limit":
            limit = self._limit(values)
            return value / (limit - value) if value < limit else math.inf
        return value

    def _limit(self, values: Mapping[str, float]) -> float:
        if self.limit_at is not None:
            return self.limit_at(values)
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
    """Hyperparameters that are fixed, and the choices and coordinates that decide the others.

    Attributes:
        fixed: hyperparameters that have one value.
        coordinates: one for each searched number; those that others depend on come first.
        names: all hyperparameters, in the order that they are shown in.
        choices: the searched hyperparameters without an order, by name; each is its own coordinate.

    Raises:
        ValueError: if one applies under the values of others that are not decided before it: what
            is fixed, then the choices, then the coordinates.
    """

    fixed: Mapping[str, Value]
    coordinates: tuple[Coordinate, ...]
    names: tuple[str, ...]
    choices: Mapping[str, Choices] = field(default_factory=dict)

    def __post_init__(self) -> None:
        decided = set(self.fixed)
        for name, when in self._order:
            if missing := sorted(set(when) - decided):
                raise ValueError(
                    f"{name}.when.{missing[0]}: must be a fixed hyperparameter, or one that is "
                    "searched and comes before; choices come before numbers"
                )
            decided.add(name)

    @functools.cached_property
    def _order(self) -> list[tuple[str, Mapping[str, Value]]]:
        """What is searched, each with its condition, in the order that it is decided in."""
        choices = [(name, each.when) for name, each in self.choices.items()]
        return [*choices, *((each.hyperparameter, each.when) for each in self.coordinates)]

    @functools.cached_property
    def _places(self) -> dict[str, Coordinate]:
        return {each.hyperparameter: each for each in self.coordinates}

    @functools.cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions of what is searched, in the user's units: all that may come."""
        boxes = {n: (v, v) for n, v in self.fixed.items() if not isinstance(v, str)}
        found: dict[str, BaseDistribution] = {}
        for name, choice in self.choices.items():
            found[name] = CategoricalDistribution(tuple(choice.values))
            numbers = [value for value in choice.values if not isinstance(value, str)]
            if len(numbers) == len(choice.values):
                boxes[name] = min(numbers), max(numbers)
        for each in self.coordinates:
            boxes[each.hyperparameter] = low, high = each.ends(boxes)
            log = each.log and each.kind != "one_minus"
            found[each.hyperparameter] = _numbers(low, high, log=log, integer=each.integer)
        return found

    @functools.cached_property
    def coordinate_distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions of choices and coordinates, which a sampler is shown."""
        choices = {name: self.distributions[name] for name in self.choices}
        return {**choices, **{each.name: each.distribution for each in self.coordinates}}

    @functools.cached_property
    def conditional(self) -> frozenset[str]:
        """The names of choices and coordinates that do not always apply."""
        names = zip(self.coordinate_distributions, self._order, strict=True)
        return frozenset(name for name, (_, when) in names if when)

    @functools.cached_property
    def conditions(self) -> frozenset[str]:
        """The hyperparameters that others apply under values of."""
        return frozenset(name for _, when in self._order for name in when)

    def decided(self, ask: Callable[[str, Mapping[str, Any]], Any]) -> dict[str, Any]:
        """Every hyperparameter that applies, in the user's units, the fixed ones included.

        Args:
            ask: called with the name of each that is searched and applies, and with the values of
                those before it; its value in the user's units.
        """
        values: dict[str, Any] = dict(self.fixed)
        for name, when in self._order:
            if not when or Searched(when=when).applies(values):
                values[name] = ask(name, values)
        return {name: values[name] for name in self.names if name in values}

    def values(
        self, coordinates: Mapping[str, Any] | Callable[[str, BaseDistribution], Any]
    ) -> dict[str, Any]:
        """Every hyperparameter that applies, in the user's units, the fixed ones included.

        Args:
            coordinates: their values by name, or what is asked for that of each that applies.
        """

        def value(name: str, values: Mapping[str, Any]) -> Any:
            place = self._places.get(name)
            key = name if place is None else place.name
            if callable(coordinates):
                found = coordinates(key, self.coordinate_distributions[key])
            else:
                found = coordinates[key]
            # Rounding must not leave the box that Optuna knows.
            return found if place is None else self._inside(name, place.value(found, values))

        return self.decided(value)

    def _inside(self, name: str, value: float) -> float:
        box: Any = self.distributions[name]
        return min(max(value, box.low), box.high)  # type: ignore[no-any-return]

    def point(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The choices and coordinates of hyperparameters, each inside its range."""
        chosen = {name: values[name] for name in self.choices if name in values}
        places = (each for each in self.coordinates if each.hyperparameter in values)
        return {**chosen, **{each.name: each.clipped(each.of(values)) for each in places}}

    def settled(self, coordinates: Mapping[str, Any]) -> dict[str, Any]:
        """A point as it comes back from a trial: of what applies only, and rounded.

        It may differ in the last digits, and what comes back from there may differ once more.
        """
        return self.point(self.values(coordinates))

    def anywhere(self, random: np.random.Generator) -> dict[str, Any]:
        """A point drawn evenly on the coordinates' scales."""
        found: dict[str, Any] = {
            name: each.values[int(random.integers(len(each.values)))]
            for name, each in self.choices.items()
        }
        for each in self.coordinates:
            low, high = each.scaled(each.low), each.scaled(each.high)
            found[each.name] = each.unscaled(float(random.uniform(low, high)))
        return found

    def at_edge(self, values: Mapping[str, float]) -> tuple[str, ...]:
        """Hyperparameters at the end of a range that could go on, in words."""
        found = []
        for each in self.coordinates:
            unknown = each.kind == "of_limit" and each.limit_at is None
            if each.hyperparameter not in values or unknown:
                continue
            share = each.share(each.of(values))
            low = share < AT_EDGE and each.open_low
            high = share > 1.0 - AT_EDGE and each.open_high
            if low or high:
                # Small values of one minus it are large ones of the hyperparameter.
                end = "high" if high != (each.kind == "one_minus") else "low"
                value = values[each.hyperparameter]
                found.append(f"{each.hyperparameter} {value:.6g}, the {end} end of its range")
        return tuple(found)

    def grid(self, points: int) -> list[dict[str, Any]]:
        """Each point of a grid once: so many values of each coordinate, evenly spaced on its scale.

        The ends are included, of integers and choices there are as many as there are.
        """
        axes: dict[str, Sequence[Any]] = {name: each.values for name, each in self.choices.items()}
        for each in self.coordinates:
            space = np.geomspace if each.log else np.linspace
            line = np.clip(space(each.low, each.high, points), each.low, each.high)
            axes[each.name] = [float(value) for value in line]
        every = (dict(zip(axes, each, strict=True)) for each in itertools.product(*axes.values()))
        return list({point_key(self.settled(each)): each for each in every}.values())

    def to_json(self) -> dict[str, Any]:
        """The space as JSON values; ``from_json`` is its inverse."""
        coordinates = [
            # What is not in use is left out: JSON has no infinity.
            {
                name: value
                for name, value in dataclasses.asdict(
                    dataclasses.replace(each, limit_at=None)
                ).items()
                if name not in _LEFT_OUT or value != getattr(Coordinate, name, {})
            }
            for each in self.coordinates
        ]
        choices = {name: searched_json(each) for name, each in self.choices.items()}
        space = {"fixed": dict(self.fixed), "coordinates": coordinates, "names": list(self.names)}
        return {**space, "choices": choices} if choices else space

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchSpace:
        """The space that ``to_json`` wrote."""
        coordinates = tuple(
            Coordinate(**{**each, **{name: _table(each.get(name, ())) for name in _TABLES}})
            for each in data["coordinates"]
        )
        choices: dict[str, Any] = {
            n: hyperparameter_of(v) for n, v in data.get("choices", {}).items()
        }
        return cls(dict(data["fixed"]), coordinates, tuple(data["names"]), choices)

    @classmethod
    def of(cls, hyperparameters: Mapping[str, Hyperparameter]) -> SearchSpace:
        """The space of what is given: of ranges, each hyperparameter itself, or one minus it.

        Raises:
            ValueError: if a bound is not given, or a condition makes no sense.
        """
        fixed = {n: v for n, v in hyperparameters.items() if not isinstance(v, Searched)}
        choices = {n: v for n, v in hyperparameters.items() if isinstance(v, Choices)}
        ranges = {n: v for n, v in hyperparameters.items() if isinstance(v, Range)}
        coordinates = tuple(map(plain, ranges, ranges.values()))
        return cls(fixed, coordinates, tuple(hyperparameters), choices)


@dataclass(frozen=True)
class Search:
    """A search space, and the first trials in it.

    Attributes:
        space: the search space.
        starts: choices and coordinates of the first trials, each inside the space.
    """

    space: SearchSpace
    starts: tuple[Mapping[str, Any], ...] = ()

    def with_limits(self, other: Search) -> Search:
        """The same with the limits of another search, which are not stored."""
        limits = {each.name: each.limit_at for each in other.space.coordinates}
        coordinates = tuple(
            dataclasses.replace(each, limit_at=limits.get(each.name))
            for each in self.space.coordinates
        )
        return Search(dataclasses.replace(self.space, coordinates=coordinates), self.starts)

    def to_json(self) -> dict[str, Any]:
        """The search as JSON values; ``from_json`` is its inverse, but for the limits."""
        return {"space": self.space.to_json(), "starts": [dict(each) for each in self.starts]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Search:
        """The search that ``to_json`` wrote."""
        return cls(SearchSpace.from_json(data["space"]), tuple(data["starts"]))


def point_key(point: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """What tells a point from others."""
    return tuple(sorted(point.items()))


def _numbers(low: float, high: float, *, log: bool, integer: bool) -> BaseDistribution:
    if integer:
        return IntDistribution(round(low), round(high), log=log)
    # An extreme rate times an extreme share may be 0, which has no logarithm.
    return FloatDistribution(max(low, sys.float_info.min) if log else low, high, log=log)


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
    options: dict[str, Any] = {"integer": each.integer, "when": each.when}
    if each.scale == "log_one_minus":
        low, high = 1.0 - each.high, 1.0 - each.low
        return Coordinate(name, "one_minus", low, high, True, open_high, open_low, **options)
    log = each.scale == "log"
    return Coordinate(name, "itself", each.low, each.high, log, open_low, open_high, **options)
