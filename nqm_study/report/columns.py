"""The columns of the result table, and which of them a terminal has room for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from nqm_study.report import words
from nqm_study.report.captions import scheduled
from nqm_study.report.point import Point
from nqm_study.report.scaling import Curve
from nqm_study.study.records import OPTIMAL

_NONE = "-"
_UNREACHED = "target not reached"
# Shown even where they are fixed, unless at 0: an optimizer is not described without them.
_DEFINING = ("momentum", "beta1", "beta2")
_KEPT = ("learning_rate", *_DEFINING)
_RATIO_OF = re.compile(r"ratio_\d+")  # of a piece of a schedule
_MOST_RATIO_OFS = 3
_TERMINAL = 80  # characters
TRIALS = "trials"
_SEEDS, _BOUND = "over seeds", "ratio to Bayes bound"


@dataclass(frozen=True)
class Column:
    """A heading and its cells, one per row; numbers are set flush right."""

    heading: str
    cells: Sequence[str]
    left: bool = False

    @property
    def width(self) -> int:
        """The longest cell, or word of the heading."""
        return max(len(text) for text in [*self.heading.split(), *self.cells])


def columns_that_fit(curves: Sequence[Curve]) -> list[Column]:
    """As many columns as a terminal has room for, of those that say something.

    What a reader misses least goes first: the number of trials where it is the same in all rows, as
    the title has it then; hyperparameters that only some of the curves have; the ratio to the Bayes
    bound where the true optimum tells how good the steps are; the range over seeds where all of
    them reached the target.
    """
    tries = list(_attempts(curves))
    # Two spaces between columns read better than one. That is worth the first step and no more.
    roomy = [columns for columns in tries[:2] if spaces(columns) > 1]
    fitting = [columns for columns in tries if _room(columns) >= len(columns) - 1]
    return [*roomy, *fitting, tries[-1]][0]


def all_columns(curves: Sequence[Curve]) -> list[Column]:
    """Every column that has something to say, for a page without a terminal's limits."""
    return [*_leading(curves), *_measured(curves, _hyperparameter_names(curves))]


def _attempts(curves: Sequence[Curve]) -> Iterator[list[Column]]:
    points = [point for curve in curves for _, point in rows(curve)]
    names = _hyperparameter_names(curves)
    known = any(point.excess is not None for point in points if point)
    missed = any(point.seeds_unreached for point in points if point)
    shared = {name for name in names if name in _KEPT or _in_all(name, curves)}
    others = {_heading(name, curves) for name in names if name not in shared}
    trials = {TRIALS} if shared_trials(curves) is not None else set()
    bound = {_BOUND} if known else set()
    seeds = set() if missed else {_SEEDS}
    columns = all_columns(curves)
    few = trials | others
    for dropped in (set(), trials, few, few | bound, few | seeds, few | bound | seeds):
        yield [column for column in columns if column.heading not in dropped]


def spaces(columns: Sequence[Column]) -> int:
    """Two between columns, or one where a line of a terminal has no room for two."""
    return 2 if _room(columns) >= 2 * (len(columns) - 1) else 1


def shared_trials(curves: Sequence[Curve]) -> int | None:
    """The number of trials that all rows have in common; None where they differ or are unknown."""
    numbers = {None if point is None else point.trials for c in curves for _, point in rows(c)}
    return numbers.pop() if len(numbers) == 1 else None


def _room(columns: Sequence[Column]) -> int:
    """Characters that a terminal's line has left for the spaces between columns."""
    return _TERMINAL - sum(column.width for column in columns)


def _in_all(name: str, curves: Sequence[Curve]) -> bool:
    return all(name in point.hyperparameters for curve in curves for point in curve.points)


def rows(curve: Curve) -> list[tuple[float, Point | None]]:
    """Every batch size of the curve in order; with None where the target was not reached."""
    found: list[tuple[float, Point | None]] = [(point.batch_size, point) for point in curve.points]
    found += [(batch_size, None) for batch_size in curve.unreached]
    return sorted(found, key=lambda row: row[0])


def _leading(curves: Sequence[Curve]) -> list[Column]:
    """What names a row's curve: the label, and the spectrum and target where they differ."""
    readers: dict[str, Callable[[Curve], str]] = {
        "spectrum": lambda curve: curve.spectrum_text,
        "target": lambda curve: f"{curve.target:g}",
        "optimizer": lambda curve: curve.label,
    }
    return [
        Column(name, [read(curve) for curve in curves for _ in rows(curve)], left=True)
        for name, read in readers.items()
        if name == "optimizer" or len({read(curve) for curve in curves}) > 1
    ]


def _measured(curves: Sequence[Curve], names: Sequence[str]) -> list[Column]:
    all_rows = [row for curve in curves for row in rows(curve)]
    points = [point for _, point in all_rows]

    def column(heading: str, read: Callable[[Point], str], missing: str = _NONE) -> Column:
        return Column(heading, [missing if point is None else read(point) for point in points])

    columns = [
        Column("batch size", [words.typed(batch_size) for batch_size, _ in all_rows]),
        column("steps", lambda point: words.count(point.steps), missing=_UNREACHED),
    ]
    if any(point.seeds + point.seeds_unreached > 1 for point in points if point):
        columns.append(column(_SEEDS, _over_seeds))
    if any(point.excess is not None for point in points if point):
        columns.append(column("over optimum", _excess))
    columns += [
        column(_heading(name, curves), partial(_hyperparameter, name=name)) for name in names
    ]
    return [
        *columns,
        column(TRIALS, lambda point: words.count(point.trials)),
        column(_BOUND, lambda point: _ratio(point.ratio_to_bound)),
        column(f"ratio to {OPTIMAL}", lambda point: _ratio(point.ratio_to_optimal)),
    ]


def _hyperparameter_names(curves: Sequence[Curve]) -> list[str]:
    searched = [name for curve in curves for name in curve.searched]
    values = [point.hyperparameters for curve in curves for point in curve.points]
    defining = [name for name in _DEFINING if any(value.get(name) for value in values)]
    names = list(dict.fromkeys(["learning_rate", *defining, *searched]))
    if sum(_RATIO_OF.fullmatch(name) is not None for name in names) > _MOST_RATIO_OFS:
        names = [name for name in names if not _RATIO_OF.fullmatch(name)]
    return names


def _heading(name: str, curves: Sequence[Curve]) -> str:
    if name == "learning_rate" and scheduled(curves):
        return "peak learning rate"
    return name.replace("_", " ")


def _hyperparameter(point: Point, name: str) -> str:
    value = point.hyperparameters.get(name)
    return _NONE if value is None else words.hyperparameter(value)


def _ratio(value: float) -> str:
    return _NONE if math.isnan(value) else words.ratio(value)


def _excess(point: Point) -> str:
    return _NONE if point.excess is None else words.percent(point.excess)


def _over_seeds(point: Point) -> str:
    """The range of steps over seeds, and how many seeds reached the target if not all."""
    text = f"{words.count(point.steps_low)} to {words.count(point.steps_high)}"
    if point.seeds == 1:
        text = ""
    if point.seeds_unreached:
        text += f" {point.seeds} of {point.seeds + point.seeds_unreached} reached"
    return text.strip() or _NONE
