"""The result table: one row per curve and batch size."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from nqm_study.report import words
from nqm_study.report.captions import scheduled
from nqm_study.report.scaling import Curve, Point

_NONE = "-"
_UNREACHED = "target not reached"
# Shown even where they are fixed, unless at 0: an optimizer is not described without them.
_DEFINING = ("momentum", "beta1", "beta2")
_KEPT = ("learning_rate", *_DEFINING)
_RATIO_OF = re.compile(r"ratio_\d+")  # of a piece of a schedule
_MOST_RATIO_OFS = 3
_TERMINAL = 80  # characters: a wider table has one space between columns in place of two


def table(curves: Sequence[Curve]) -> Table:
    """What was found, by curve and batch size.

    Steps are a count, the learning rate and other hyperparameters are in the user's units. With
    several seeds the median is given, and the range of steps in a column of its own. What all
    curves share (spectrum, target, schedule) is in the title; a spectrum or target that differs has
    a column. More than three ratios of a schedule's pieces are left out, and so is, from a table
    that would be too wide with it, what only some of the curves have.
    """
    names = _hyperparameter_names(curves)
    columns = [*_leading(curves), *_measured(curves, names)]
    if _room(columns) < len(columns) - 1:
        shared = [name for name in names if name in _KEPT or _in_all(name, curves)]
        columns = [*_leading(curves), *_measured(curves, shared)]
    roomy = _room(columns) >= 2 * (len(columns) - 1)
    result = Table(
        title=_title(curves),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1 if roomy else 0, 0, 0),
        pad_edge=False,
    )
    for column in columns:
        justify: JustifyMethod = "left" if column.left else "right"
        # As narrow as its cells, so that most tables fit 80 characters. Where they do not, names
        # are folded, and no number is: half of one is a wrong number.
        least = None if column.left else column.width
        result.add_column(
            column.heading,
            justify=justify,
            min_width=least,
            max_width=column.width,
            overflow="fold",
        )
    ends = list(accumulate(len(_rows(curve)) for curve in curves))
    for i, cells in enumerate(zip(*(column.cells for column in columns), strict=True), start=1):
        result.add_row(*map(Text, cells), end_section=i in ends)
    return result


@dataclass(frozen=True)
class _Column:
    """A heading and its cells, one per row; numbers are set flush right."""

    heading: str
    cells: Sequence[str]
    left: bool = False

    @property
    def width(self) -> int:
        """The longest cell, or word of the heading."""
        return max(len(text) for text in [*self.heading.split(), *self.cells])


def _room(columns: Sequence[_Column]) -> int:
    """Characters that a terminal's line has left for the spaces between columns."""
    return _TERMINAL - sum(column.width for column in columns)


def _in_all(name: str, curves: Sequence[Curve]) -> bool:
    return all(name in point.hyperparameters for curve in curves for point in curve.points)


def _rows(curve: Curve) -> list[tuple[float, Point | None]]:
    """Every batch size of the curve in order; with None where the target was not reached."""
    rows: list[tuple[float, Point | None]] = [(point.batch_size, point) for point in curve.points]
    rows += [(batch_size, None) for batch_size in curve.unreached]
    return sorted(rows, key=lambda row: row[0])


def _leading(curves: Sequence[Curve]) -> list[_Column]:
    """What names a row's curve: the label, and the spectrum and target where they differ."""
    readers: dict[str, Callable[[Curve], str]] = {
        "spectrum": lambda curve: curve.spectrum_text,
        "target": lambda curve: f"{curve.target:g}",
        "optimizer": lambda curve: curve.label,
    }
    return [
        _Column(name, [read(curve) for curve in curves for _ in _rows(curve)], left=True)
        for name, read in readers.items()
        if name == "optimizer" or len({read(curve) for curve in curves}) > 1
    ]


def _measured(curves: Sequence[Curve], names: Sequence[str]) -> list[_Column]:
    rows = [row for curve in curves for row in _rows(curve)]
    points = [point for _, point in rows]

    def column(heading: str, read: Callable[[Point], str], missing: str = _NONE) -> _Column:
        return _Column(heading, [missing if point is None else read(point) for point in points])

    columns = [
        _Column("batch size", [words.typed(batch_size) for batch_size, _ in rows]),
        column("steps", lambda point: words.count(point.steps), missing=_UNREACHED),
    ]
    if any(point.seeds + point.seeds_unreached > 1 for point in points if point):
        columns.append(column("over seeds", _over_seeds))
    columns += [
        column(_heading(name, curves), partial(_hyperparameter, name=name)) for name in names
    ]
    return [
        *columns,
        column("trials", lambda point: words.count(point.trials)),
        column("ratio to Bayes bound", lambda point: _ratio(point.ratio_to_bound)),
        column("ratio to SGD's optimal schedule", lambda point: _ratio(point.ratio_to_optimal)),
    ]


def _title(curves: Sequence[Curve]) -> Text:
    if not curves:
        return Text("no finished trials")
    shared: dict[str, set[str]] = {
        "target loss": {f"{curve.target:g}" for curve in curves},
        "spectrum": {curve.spectrum_text for curve in curves},
        "schedule": {curve.schedule for curve in curves},
    }
    parts = [f"{name} {min(found)}" for name, found in shared.items() if len(found) == 1]
    return Text(", ".join(["Fewest steps", *parts]))


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


def _over_seeds(point: Point) -> str:
    """The range of steps over seeds, and how many seeds reached the target if not all."""
    text = f"{words.count(point.steps_low)} to {words.count(point.steps_high)}"
    if point.seeds == 1:
        text = ""
    if point.seeds_unreached:
        text += f" {point.seeds} of {point.seeds + point.seeds_unreached} reached"
    return text.strip() or _NONE
