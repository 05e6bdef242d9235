"""Ranges and first trials that fit a problem: from its scales, without looking at its optimum.

Three scales of a problem are known before any trial: the constants of small batches (steps T B and
rate lr / B, ``model.small_batch``), the largest stable rate, and the steps that gradients without
noise need at that rate. Ranges are powers of ten around them, so that the optimum is inside at
every batch size and in every unit of the loss. The first trial is at the values below, where the
ends of two laws are joined by ``joined``. Their numbers were fitted to the true optima of the
paper's problem, where the first trial of SGD and of momentum is within 3 % of the fewest steps at
most batch sizes; elsewhere they are a guess that the search goes on from.

| | small batches | large batches |
|---|---|---|
| lr of SGD | rate B | as ``scales`` has it, just below the limit 2 / x |
| lr / (1 - momentum) | rate B | 0.9 of 2 (1 + momentum) / x, the limit, over 1 - momentum |
| the same, for Nesterov | rate B | 0.975 of that limit over 1 + 2 momentum |
| 1 - momentum | 11.3 B / examples | 4.8 / sqrt(least time x), for Nesterov 2.5 in place of 4.8 |
| lr of the average of iterates | 10 rate B | as SGD's without noise |
| 1 - ema_decay | 24 B / examples | 1/2: it hardly matters |
| lr of Adam | rate sqrt(B) | the spread of the starts |

Adam's weight decay begins at 0, and is searched up to where the pull to the start keeps the risk
from the target at any rate.

Under a schedule the largest rate is searched up to 0.9998 of the limit of stability of a constant
one: beyond, the loss rises on the way, and only the end of the decay hides it. The noise of large
rates is averaged out at the end, as the average of iterates does it: rates begin at 10 rate B as
well, and 1 - momentum is as large as that allows, down to its value for large batches.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nqm_study.model.linear.stability import BELOW_LIMIT
from nqm_study.model.optimizers import LinearOptimizer
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.small_batch import joined
from nqm_study.model.schedules import Constant
from nqm_study.search.pace import Pace
from nqm_study.search.scales import Scales, scales_of
from nqm_study.study.definition import (
    BATCH_SIZE,
    Choices,
    Hyperparameter,
    Range,
    Searched,
    StudyDefinition,
    Value,
    applying,
)
from nqm_study.study.evaluation import parts_of_run
from nqm_study.study.recipes import CONSTANT, Recipe, Recipes
from nqm_study.study.space import Coordinate, Search, SearchSpace, plain

WIDE = 30.0
"""Rates are searched within this factor of the first trial's."""

SHAPES: tuple[Mapping[str, float], ...] = (
    {
        "decay_fraction": 0.9,
        "warmup_fraction": 0.005,
        "ratio": 0.4,
        "batch_end": 5.0,
        "batch_power": 1.5,
        "batch_growth": 1.4,
    },
    {
        "batch_end": 25.0,
        "batch_power": 1.5,
        "batch_growth": 1.9,
        "decay_fraction": 0.4,
        "warmup_fraction": 0.02,
        "final_fraction": 0.07,
        "decay_rate": 0.4,
        "ratio": 0.7,
    },
    {
        "batch_end": 50.0,
        "batch_power": 2.0,
        "batch_growth": 2.2,
        "decay_fraction": 0.07,
        "warmup_fraction": 0.005,
        "final_fraction": 0.9,
        "decay_rate": 0.95,
        "power": 0.3,
        "ratio": 0.97,
    },
)
"""Where the search of a schedule's shape begins: the decay is long and deep at small batches, short
and next to nothing at large ones, with local optima between. A value in none of them begins in the
middle, and ``ratio`` is that of every piece."""

BEYOND = 2.5
"""Where the limit of stability depends on what is searched: rates are searched up to this many
times the limit."""

MOST_CHOICES = 4
"""The most choices that the first trials are made for."""

BEYOND_SHARE = 1.2
"""Rates of other rules are searched up to this many times their own limit of stability."""

STARTS = 5
"""Number of batch sizes across the range that the first trials are at."""

HIGHER = 4.0
"""Multiples of the rule's values are searched up to this many times ``WIDE``."""

LEAST_GAP = 1e-12
"""1 - decay stays above this, where a decay still differs from 1 in four digits of it."""


def fit(problem: Problem, recipes: Recipes, definition: StudyDefinition) -> Search:
    """Fit the search space of a study to its problem, and choose the first trials.

    Where the batch size is searched, a hyperparameter without bounds is searched as a multiple of
    its guide, the rule's value at the trial's batch size. The first trials are then the rule's at
    batch sizes across the range.

    Args:
        problem: spectrum and batch size, which does not matter where it is searched.
        recipes: how the study's optimizer and its schedule are made.
        definition: the study's.

    Raises:
        ValueError: naming a bound that was given and that the fitted one contradicts, or a value
            that is enqueued and not inside its range.
    """
    if isinstance(definition.batch_size, Range):
        return _fit_sizes(problem, recipes, definition, definition.batch_size)
    own, guess = _by_class(problem, recipes.optimizer, definition)
    scales = scales_of(problem, recipes, own)
    pace = Pace(recipes.optimizer, own.hyperparameters, guess)
    start = {**_start(scales, pace, recipes, own), **guess}
    hyperparameters: Mapping[str, Any] = own.hyperparameters
    coordinates = tuple(
        _coordinate(name, hyperparameters[name], scales, start, pace, recipes, own)
        for name in _in_order(hyperparameters)
    )
    fixed: dict[str, Any] = definition.given
    choices = {name: v for name, v in hyperparameters.items() if isinstance(v, Choices)}
    middle = {
        each.hyperparameter: each.value(each.unscaled(_middle(each)), start)
        for each in coordinates
        if each.hyperparameter not in start
    }
    chosen = [dict(zip(choices, each, strict=True)) for each in _every_choice(choices)]
    firsts = [
        applying(
            hyperparameters,
            {
                **{name: shape.get(_kind(name), v) for name, v in middle.items()},
                **start, **fixed, **choice,
            },
        )
        for choice in chosen
        for shape in SHAPES
    ]  # fmt: skip
    asked = [{**firsts[0], **given} for given in definition.enqueued]
    for values in asked:
        _require_run(problem, recipes, definition, values)
        coordinates = tuple(_widened(each, values, definition) for each in coordinates)
    space = SearchSpace(fixed, coordinates, tuple(hyperparameters), choices)
    starts = _with_starts(space, asked, firsts, definition).starts
    # Equal points once: all are equal where no shape is searched.
    return Search(space, tuple(p for i, p in enumerate(starts) if p not in starts[:i]))


def _by_class(
    problem: Problem, recipe: Recipe, definition: StudyDefinition
) -> tuple[StudyDefinition, dict[str, float]]:
    """The definition with the ranges that classes fit themselves, and their first guess."""
    hyperparameters, guess = dict(definition.hyperparameters), {}
    for make in (each.make for each in recipe.chain):
        if not (isinstance(make, type) and issubclass(make, LinearOptimizer)):
            continue
        given = problem, definition.target, definition.given
        for name, found in _said(make, "coordinates", hyperparameters, *given):
            each = hyperparameters[name]
            if isinstance(each, Range) and each.fitted:
                fitted = _said_range(make, name, found)
                scaled = replace(each, scale=fitted.scale)
                hyperparameters[name] = _bounded(name, scaled, found[:2], definition)
        for name, value in _said(make, "first_guess", hyperparameters, *given):
            if not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ValueError(f"{make.__name__}.first_guess(): {name}={value}: must be a number")
            if isinstance(hyperparameters[name], Range):
                guess[name] = float(value)
    return replace(definition, hyperparameters=hyperparameters), guess


def _said(
    make: type, method: str, known: Mapping[str, Hyperparameter], *given: Any
) -> list[tuple[str, Any]]:
    """What a class says of its hyperparameters: one line if it raises, or names another one."""
    place = f"{make.__name__}.{method}()"
    try:
        found = dict(getattr(make, method)(*given))
    except Exception as error:
        raise ValueError(f"{place}: {type(error).__name__}: {error}") from error
    if unknown := found.keys() - known:
        names = ", ".join(known)
        raise ValueError(f"{place}: {min(unknown)}: must be one of the hyperparameters {names}")
    return list(found.items())


def _said_range(make: type, name: str, found: Any) -> Range:
    """The range that a class says."""
    try:
        low, high, scale = found
        return Range(low, high, scale)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{make.__name__}.coordinates(): {name}={found}: {error}") from error


def _in_order(hyperparameters: Mapping[str, Hyperparameter]) -> list[str]:
    """The names of ranges, each after those it applies under; the rate depends on momentum."""
    left = [name for name, each in hyperparameters.items() if isinstance(each, Range)]
    left.sort(key=lambda name: name == "learning_rate")
    found: list[str] = []
    while left:
        # Where they wait for each other, the space says so.
        ready = (name for name in left if not set(_when(hyperparameters[name])) & set(left))
        found.append(next(ready, left[0]))
        left.remove(found[-1])
    return found


def _one(each: Hyperparameter) -> Any:
    """The range or the value that stands for a hyperparameter: of choices the largest."""
    if not isinstance(each, Choices):
        return each
    return max((v for v in each.values if not isinstance(v, str)), default=0.0)


def _when(each: Hyperparameter) -> Mapping[str, Value]:
    return each.when if isinstance(each, Searched) else {}


def _every_choice(choices: Mapping[str, Choices]) -> list[tuple[Value, ...]]:
    """All choices, each with each; of many, those of the first one."""
    every = list(itertools.product(*(each.values for each in choices.values())))
    if len(every) <= MOST_CHOICES:
        return every
    rest = [each.values[0] for each in choices.values()][1:]
    return [(value, *rest) for value in next(iter(choices.values())).values][:MOST_CHOICES]


def _with_starts(
    space: SearchSpace,
    asked: Sequence[Mapping[str, float]],
    firsts: Iterable[Mapping[str, float]],
    definition: StudyDefinition,
) -> Search:
    """The search of a space with its first trials: those that are asked for, then the rule's.

    Args:
        space: the search space.
        asked: every hyperparameter of each trial that is enqueued.
        firsts: every hyperparameter of the rule's trials.
        definition: the study's.

    Raises:
        ValueError: naming an enqueued value that is not inside its range, or that a grid ignores.
    """
    grid = definition.sampler["name"] == "grid"
    if definition.enqueued and grid:
        raise ValueError("study.enqueue: must be empty with sampler=grid, whose points are its own")
    starts = [
        _enqueued_point(space, values, given)
        for values, given in zip(asked, definition.enqueued, strict=True)
    ]
    if definition.warm_start and space.coordinates and not grid:
        starts += [space.point(first) for first in firsts]
    return Search(space, tuple(starts))


def _fit_sizes(
    problem: Problem, recipes: Recipes, definition: StudyDefinition, sizes: Range
) -> Search:
    """The search of a study whose batch size is searched in a range."""
    for name, each in definition.hyperparameters.items():
        if isinstance(each, Choices) or _when(each):
            raise ValueError(f"{_key(name)}={each}: must be a range where batch_size is searched")
    batch_size = replace(plain(BATCH_SIZE, sizes, open_low=False, open_high=False), integer=True)
    fits = {size: _fit_one(problem, recipes, definition, size) for size in sizes_across(sizes)}
    first = next(iter(fits.values())).space
    coordinates = (
        batch_size,
        *(
            _guided(
                {size: each.space.coordinates[i] for size, each in fits.items()},
                {size: each.starts[-1][coordinate.name] for size, each in fits.items()},
                definition,
            )
            for i, coordinate in enumerate(first.coordinates)
        ),
    )
    space = SearchSpace(first.fixed, coordinates, (BATCH_SIZE, *first.names))

    def rule(size: float) -> dict[str, float]:
        """The rule's values at a batch size; the middle of ranges where it says nothing."""
        middle = {
            each.name: 1.0 if each.guide else each.unscaled(_middle(each)) for each in coordinates
        }
        return space.values({**middle, BATCH_SIZE: batch_size.clipped(size)})

    middle = batch_size.unscaled(_middle(batch_size))
    asked = [{**rule(given.get(BATCH_SIZE, middle)), **given} for given in definition.enqueued]
    low, high = (batch_size.scaled(end) for end in (batch_size.low, batch_size.high))
    places = (low + (high - low) * k / (STARTS - 1) for k in range(STARTS))
    firsts = (rule(batch_size.unscaled(place)) for place in places)
    return _with_starts(space, asked, firsts, definition)


def sizes_across(sizes: Range) -> list[int]:
    """The powers of two in a range of batch sizes, and its ends."""
    low, high = int(sizes.low or 1), int(sizes.high or 1)
    powers = (2**k for k in range(low.bit_length(), high.bit_length()))
    return sorted({low, *(power for power in powers if low < power < high), high})


def _fit_one(problem: Problem, recipes: Recipes, definition: StudyDefinition, size: int) -> Search:
    """The search that fits one batch size, with the rule's point as its first trial."""
    alone = replace(
        definition,
        batch_size=float(size),
        warm_start=True,
        enqueued=(),
        sampler={"name": "random"},
    )
    return fit(replace(problem, batch_size=size), recipes, alone)


def _guided(
    by_size: Mapping[int, Coordinate], starts: Mapping[int, float], definition: StudyDefinition
) -> Coordinate:
    """A coordinate over all batch sizes, from those at some and the first trials there."""
    first = next(iter(by_size.values()))
    given = definition.hyperparameters[first.hyperparameter]
    open_ends = isinstance(given, Range) and given.low is None and given.high is None
    if not (open_ends and first.log):
        return replace(
            first,
            low=min(each.low for each in by_size.values()),
            high=max(each.high for each in by_size.values()),
        )
    low = min(each.low / starts[size] for size, each in by_size.items())
    high = max(each.high / starts[size] for size, each in by_size.items())
    if first.hyperparameter != "timescale":
        low, high = max(low, 1.0 / WIDE), min(high, HIGHER * WIDE)
    return replace(
        first,
        low=low,
        high=high,
        log=True,
        limit=math.inf,
        guide=tuple((float(size), start) for size, start in starts.items()),
        limits=tuple((float(size), each.limit) for size, each in by_size.items())
        if first.kind == "to_limit"
        else (),
    )


def _start(
    scales: Scales, pace: Pace, recipes: Recipes, definition: StudyDefinition
) -> dict[str, float]:
    """The rule's values of the hyperparameters that it knows: where the first trial is."""
    given = {name: _one(each) for name, each in definition.hyperparameters.items()}
    scheduled = not recipes.constant
    first = {"learning_rate": scales.rate, "timescale": scales.steps}
    if recipes.optimizer.adaptive:
        return {**first, "weight_decay": 0.0}
    decays = recipes.schedule.make is not Constant
    small_rate = (10.0 if decays else 1.5 if scheduled else 1.0) * scales.small_rate
    momentum = given.get("momentum", 0.0)
    gap = 1.0 if isinstance(momentum, Range) else 1.0 - momentum
    if isinstance(momentum, Range):
        large = min((2.5 if pace.tight else 4.8) / scales.root, 1.0)
        gap = joined(11.3 * scales.batch_share, large)
        if scheduled:
            gap = min(max(_most(gap, pace) / scales.speed / small_rate, large), max(large, 0.5))
        gap = max(gap, LEAST_GAP)
        # What the rate is stable beside is the momentum that is inside the range.
        gap = max(gap, 1.0 - momentum.high) if momentum.high is not None else gap
        gap = min(gap, 1.0 - momentum.low) if momentum.low is not None else gap
        first["momentum"] = 1.0 - gap
    if gap < 1.0 and pace.heavy:
        first["learning_rate"] = joined(small_rate * gap, _most(gap, pace) / scales.speed)
    elif not pace.plain:
        at = {"momentum": 1.0 - gap} if gap < 1.0 else {}
        gain = pace.gain(**at)
        slow = small_rate / gain if gain > 0.0 else math.inf
        first["learning_rate"] = joined(slow, 0.9 * pace.limit(**at) / scales.speed)
    elif scheduled:
        first["learning_rate"] = joined(small_rate, scales.noiseless)
    if isinstance(given.get("ema_decay"), Range):
        first["ema_decay"] = 1.0 - max(min(24.0 * scales.batch_share, 0.5), LEAST_GAP)
        if gap == 1.0 and pace.plain:
            first["learning_rate"] = joined(10.0 * scales.small_rate, scales.noiseless)
    return first


def _most(gap: float, pace: Pace) -> float:
    """A rate times x that is stable beside a momentum of 1 - gap, close to the largest."""
    return (0.975 if pace.tight else 0.9) * pace.limit(momentum=1.0 - gap)


def _coordinate(
    name: str,
    each: Range,
    scales: Scales,
    start: Mapping[str, float],
    pace: Pace,
    recipes: Recipes,
    definition: StudyDefinition,
) -> Coordinate:
    given = definition.hyperparameters
    if not each.fitted:
        return plain(name, each)
    linear = not recipes.optimizer.adaptive
    if name == "learning_rate" and each.low is None and each.high is None and linear:
        return _rate(scales, start, pace, recipes, definition)
    if name == "learning_rate":
        gap = 1.0 - start.get("momentum", 0.0)
        low, high = min(scales.rate * gap, start[name]) / WIDE, start[name] * WIDE
        if linear:
            alone = recipes.constant and not given.get("momentum", 0.0)
            cap = _cap(scales, recipes, definition)
            # Heavy ball is stable below 2 (1 + momentum) / x.
            beyond = 2.0 * min(cap, BEYOND * (2.0 / scales.speed))
            high = scales.limit if alone else beyond
        fitted = low, high, True, True
    elif name == "timescale":
        fitted = max(scales.steps * 1e-4, 1.0), 100.0 * scales.steps, False, True
    elif name == "weight_decay" and not linear:
        fitted = 0.0, scales.decay, False, False
    elif name == "momentum":
        gap = 1.0 - start[name]
        least, most = max(gap * 1e-2, LEAST_GAP), min(gap * 1e3, 1.0)
        fitted = 1.0 - most, 1.0 - least, most < 1.0, True
    elif each.scale == "log_one_minus":
        fitted = 0.0, 1.0 - max(1.0 / max(scales.steps, 2.0), LEAST_GAP), False, True
    else:
        raise ValueError(f"{_key(name)}={each}: must have both bounds")
    low, high, open_low, open_high = fitted
    return plain(
        name,
        _bounded(name, each, (low, high), definition),
        open_low=open_low or each.low is not None,
        open_high=open_high or each.high is not None,
    )


def _bounded(
    name: str, each: Range, fitted: tuple[float, float], definition: StudyDefinition
) -> Range:
    """A range with bounds that fit the problem where its own are open."""
    low = each.low if each.low is not None else fitted[0]
    high = each.high if each.high is not None else fitted[1]
    if not low < high:
        end, bound = ("low", low) if each.low is not None else ("high", high)
        other, limit = ("below", fitted[1]) if end == "low" else ("above", fitted[0])
        raise ValueError(
            f"{_key(name)}.{end}={bound:g}: must be {other} {limit:.3g}, which fits "
            f"the problem at batch_size={definition.batch_text}; or give both bounds"
        )
    try:
        return replace(each, low=low, high=high)
    except ValueError as error:
        raise ValueError(f"{_key(name)}.{error}") from error


def _rate(
    scales: Scales,
    start: Mapping[str, float],
    pace: Pace,
    recipes: Recipes,
    definition: StudyDefinition,
) -> Coordinate:
    """The coordinate of SGD's learning rate, where no bound is given."""
    scheduled = not recipes.constant
    momentum = _one(definition.hyperparameters.get("momentum", 0.0))
    if not pace.plain and not pace.heavy:
        return _own_rate(scales, start, pace, recipes, definition)
    if momentum != 0.0 and pace.heavy:
        gap = 1.0 - (start["momentum"] if isinstance(momentum, Range) else momentum)
        effective = start["learning_rate"] / gap
        cap = _cap(scales, recipes, definition)
        tight = pace.tight and math.isfinite(cap) and "nesterov" not in pace.recipe.names
        return Coordinate(
            "learning_rate", "effective", effective / WIDE, effective * WIDE, cap=cap, tight=tight
        )
    cap = _cap(scales, recipes, definition)
    if math.isfinite(cap):
        return Coordinate(
            "learning_rate", "itself", scales.rate / WIDE, cap, open_high=False, cap=cap
        )
    if scheduled or isinstance(definition.hyperparameters.get("preconditioner_power"), Range):
        high = BEYOND * max(scales.limit, 2.0 / scales.speed)
        return Coordinate("learning_rate", "itself", scales.rate / WIDE, high)
    low, limit = scales.rate / WIDE, scales.limit
    # Far below the limit, what is close to it is of no use, and would take half of the range.
    most = start["learning_rate"] if start["learning_rate"] < 0.25 * limit else scales.noiseless
    return Coordinate(
        "learning_rate",
        "to_limit",
        low / (limit - low),
        WIDE * max(most / max(limit - most, 1e-6 * limit), low / (limit - low)),
        limit=limit,
    )


def _own_rate(
    scales: Scales,
    start: Mapping[str, float],
    pace: Pace,
    recipes: Recipes,
    definition: StudyDefinition,
) -> Coordinate:
    """The coordinate of a learning rate whose pace is neither SGD's nor heavy ball's.

    It is a share of the limit of stability beside the other values: at most 0.9998 of it under a
    schedule, and at a constant rate a little more than all.
    """
    known = {name: v for name, v in start.items() if name in definition.searched}
    share = known.pop("learning_rate") / (pace.limit(**known) / scales.speed)
    ends = [pace.limit(**{**each, **known}) for each in pace.corners()]
    limits = [limit / scales.speed for limit in (*ends, pace.limit(**known))]
    least, most = min(limits), max(limits)
    if not most * scales.speed > LEAST_GAP:
        raise ValueError(f"optimizer={definition.optimizer}: is unstable at any learning rate")
    constant = recipes.constant
    # Where coefficients change each step is taken, and lower rates take ever more of them.
    below = WIDE**2 if pace.constant else WIDE
    return Coordinate(
        "learning_rate",
        "of_limit",
        min(share, 1.0) / below,
        BEYOND_SHARE if constant else BELOW_LIMIT,
        open_high=False,
        limits=((1.0, 0.1 * least), (2.0, WIDE * most)),
        limit_at=functools.partial(_limit_at, pace, scales.speed),
    )


def _limit_at(pace: Pace, speed: float, values: Mapping[str, Any]) -> float:
    """The limit of stability beside some values."""
    return pace.limit(**values) / speed


def _cap(scales: Scales, recipes: Recipes, definition: StudyDefinition) -> float:
    """The largest rate of a schedule that plain SGD would be trained with; infinite: no cap.

    It depends on the preconditioner, so that there is none where the power is searched.
    """
    searched = isinstance(definition.hyperparameters.get("preconditioner_power"), Range)
    if recipes.constant or searched:
        return math.inf
    return BELOW_LIMIT * 2.0 / scales.speed


def _require_run(
    problem: Problem,
    recipes: Recipes,
    definition: StudyDefinition,
    values: Mapping[str, float],
) -> None:
    """Refuse values that no run can have, by what an optimizer or a schedule says of them."""
    known = {name: v for name, v in values.items() if name in definition.hyperparameters}
    if recipes.schedule.computed:
        known = {"learning_rate": 1.0, **known}
        definition = replace(definition, schedule_settings={})
        recipes = replace(recipes, schedule=CONSTANT)
    try:
        parts_of_run(problem, recipes, definition, known)
    except (TypeError, ValueError) as error:
        raise ValueError(f"study.enqueue.{error}") from error


def _widened(
    each: Coordinate, values: Mapping[str, float], definition: StudyDefinition
) -> Coordinate:
    """The coordinate with a value of the user's inside its range, at ends that are fitted."""
    given = definition.hyperparameters[each.hyperparameter]
    if each.hyperparameter not in values:
        return each
    coordinate = each.of(values)
    if not isinstance(given, Range) or not math.isfinite(coordinate) or coordinate <= 0.0:
        return each
    ends = (given.high, given.low) if each.kind == "one_minus" else (given.low, given.high)
    above = math.isfinite(each.cap) and values[each.hyperparameter] > each.capped(values)
    return replace(
        each,
        cap=math.inf if above else each.cap,
        low=min(each.low, coordinate) if ends[0] is None else each.low,
        high=max(each.high, coordinate) if ends[1] is None else each.high,
    )


def _enqueued_point(
    space: SearchSpace, values: Mapping[str, float], given: Mapping[str, float]
) -> dict[str, float]:
    """The coordinates of a trial that the user asks for.

    Raises:
        ValueError: naming a value that is not inside its range, or that is not searched.
    """
    searched = {each.hyperparameter for each in space.coordinates}
    for name, value in given.items():
        if name not in searched:
            raise ValueError(
                f"study.enqueue.{name}={value:g}: must be one of what is searched, "
                f"{', '.join(sorted(searched)) or 'nothing'}"
            )
    for each in space.coordinates:
        if each.hyperparameter not in values:
            continue
        low, high = (each.value(end, values) for end in (each.low, each.high))
        low, high = min(low, high), max(low, high)
        value = values[each.hyperparameter]
        if each.hyperparameter in given and not low <= value <= high:
            raise ValueError(
                f"study.enqueue.{each.hyperparameter}={value:g}: must be in the range that is "
                f"searched, {low:.6g} to {high:.6g}"
            )
    return space.point(values)


def _middle(each: Coordinate) -> float:
    """The middle of a coordinate's range, on its scale."""
    return 0.5 * (each.scaled(each.low) + each.scaled(each.high))


def _kind(name: str) -> str:
    """``ratio`` for ``ratio_2``, ``ratio_3``, ...; other names as they are."""
    return "ratio" if name.startswith("ratio_") else name


def _key(name: str) -> str:
    return f"schedule.{name}" if name == "timescale" else f"optimizer.{name}"
