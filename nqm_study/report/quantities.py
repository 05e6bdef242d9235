"""What can be on the axes of the interactive report, and how a point says it in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from nqm_study.report import words
from nqm_study.report.curves import Curve, Point, scheduled
from nqm_study.study.records import OPTIMAL

Spread = tuple[float, float, float]
"""A value, and the lowest and highest over seeds; nan where it is not known."""

_UNKNOWN: Spread = (math.nan, math.nan, math.nan)
# Set by their distance from one, and told apart only by its logarithm.
_NEAR_ONE = ("momentum", "beta1", "beta2", "ema_decay")
_X = ("batch_size", "steps", "examples", "learning_rate")


@dataclass(frozen=True)
class Quantity:
    """A number that every point has, or may have.

    Attributes:
        name: identifies it.
        title: what stands at its axis, with the unit.
        scale: logarithmic with ticks at powers of two, logarithmic, or linear.
        read: its value at a point.
    """

    name: str
    title: str
    scale: Literal["powers", "log", "linear"]
    read: Callable[[Point], Spread]

    @property
    def for_x(self) -> bool:
        """Whether it may be on the horizontal axis."""
        return self.name in _X

    @property
    def for_y(self) -> bool:
        """Whether it may be on the vertical axis."""
        return self.name != "batch_size"


def quantities(curves: Sequence[Curve]) -> list[Quantity]:
    """Those that at least one point of the curves has.

    The effective rate is left out where no optimizer has momentum: it is the learning rate there.
    """
    points = [point for curve in curves for point in curve.points]
    found = []
    for quantity in [*_measured(curves), *_searched(curves)]:
        values = [value for p in points for value in quantity.read(p) if not math.isnan(value)]
        if not values:
            continue
        if quantity.name == "effective_rate" and all(_plain(point) for point in points):
            continue
        linear = quantity.scale == "log" and min(values) <= 0.0
        found.append(
            Quantity(quantity.name, quantity.title, "linear", quantity.read) if linear else quantity
        )
    return found


def value_lines(point: Point) -> list[str]:
    """A point's values, a line each, in plain text."""
    lines = [
        f"batch size {words.typed(point.batch_size)}",
        f"{words.count(point.steps)} steps",
        f"{words.count(point.examples)} examples",
    ]
    names = [name for name in point.hyperparameters if name != "learning_rate"]
    for name in ("learning_rate", *names):
        value = point.hyperparameters.get(name, math.nan)
        if not math.isnan(value):
            lines.append(f"{name.replace('_', ' ')} {words.hyperparameter(value)}")
    if not _plain(point):
        lines.append(f"lr / (1 - momentum) {words.hyperparameter(point.effective_rate)}")
    if not math.isnan(point.ratio_to_bound):
        lines.append(f"{words.ratio(point.ratio_to_bound)} times the Bayes bound")
    if not math.isnan(point.ratio_to_optimal):
        lines.append(f"{words.ratio(point.ratio_to_optimal)} times {OPTIMAL}")
    return lines


def search_lines(point: Point) -> list[str]:
    """What the search of a point took and how well it ended, a line each, in plain text."""
    lines = []
    if point.excess is not None:
        exact = point.optimum is not None and point.optimum.exact
        over = "the true optimum" if exact else "the best of a dense search"
        lines.append(f"{words.percent(point.excess)} over {over}")
    seeds = point.seeds + point.seeds_unreached
    lines.append(f"{words.count(point.trials)} trials, {seeds} seed{'s' if seeds > 1 else ''}")
    if point.seeds > 1:
        low, high = words.count(point.steps_low), words.count(point.steps_high)
        lines.append(f"{low} to {high} steps over seeds")
    if point.seeds_unreached:
        lines.append(f"{point.seeds} of {seeds} seeds reached the target")
    return lines


def _measured(curves: Sequence[Curve]) -> Iterator[Quantity]:
    best = "best peak learning rate" if scheduled(curves) else "best learning rate"
    momentum = "lr / (1 - momentum)"
    yield Quantity("batch_size", "batch size, B (examples)", "powers", _batch_size)
    yield Quantity("steps", "steps to target, T (optimizer steps)", "powers", _steps)
    yield Quantity("examples", "examples to target, T B", "powers", _examples)
    yield Quantity("learning_rate", f"{best} (as in PyTorch)", "log", _rate)
    yield Quantity("effective_rate", f"best effective rate, {momentum}", "log", _effective)
    yield Quantity("excess", "steps over the true optimum (%)", "linear", _excess)
    yield Quantity("ratio", "steps / Bayes bound", "log", _ratio)
    yield Quantity("ratio_to_optimal", f"steps / {OPTIMAL}", "log", _ratio_to_optimal)


def _searched(curves: Sequence[Curve]) -> Iterator[Quantity]:
    for name in dict.fromkeys(name for curve in curves for name in curve.searched):
        if name != "learning_rate":
            near_one = name in _NEAR_ONE
            title = f"best {name.replace('_', ' ')}"
            title = f"1 - {title}" if near_one else title
            read = partial(_hyperparameter, name=name, near_one=near_one)
            yield Quantity(f"hyperparameter {name}", title, "log", read)


def _plain(point: Point) -> bool:
    return point.hyperparameters.get("momentum", 0.0) == 0.0


def _batch_size(point: Point) -> Spread:
    return point.batch_size, point.batch_size, point.batch_size


def _steps(point: Point) -> Spread:
    return point.steps, point.steps_low, point.steps_high


def _examples(point: Point) -> Spread:
    value, low, high = _steps(point)
    return value * point.batch_size, low * point.batch_size, high * point.batch_size


def _rate(point: Point) -> Spread:
    return _hyperparameter(point, "learning_rate", near_one=False)


def _effective(point: Point) -> Spread:
    return point.effective_rate, *point.effective_rate_range


def _excess(point: Point) -> Spread:
    value, low, high = _over(_steps(point), point.optimum.steps if point.optimum else None)
    return 100.0 * (value - 1.0), 100.0 * (low - 1.0), 100.0 * (high - 1.0)


def _ratio(point: Point) -> Spread:
    return _over(_steps(point), point.bayes_bound)


def _ratio_to_optimal(point: Point) -> Spread:
    return _over(_steps(point), point.optimal_steps)


def _hyperparameter(point: Point, name: str, *, near_one: bool) -> Spread:
    value = point.hyperparameters.get(name, math.nan)
    low, high = point.hyperparameter_ranges.get(name, (value, value))
    return (1.0 - value, 1.0 - high, 1.0 - low) if near_one else (value, low, high)


def _over(spread: Spread, steps: int | None) -> Spread:
    if not steps:
        return _UNKNOWN
    value, low, high = spread
    return value / steps, low / steps, high / steps
