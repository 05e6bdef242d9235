"""The result table: one row per curve and batch size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from nqm_study.report.columns import TRIALS, Column, columns_that_fit, rows, shared_trials, spaces
from nqm_study.report.scaling import Curve


def table(curves: Sequence[Curve]) -> Table:
    """What was found, by curve and batch size.

    Steps are a count, the learning rate and other hyperparameters are in the user's units. With
    several seeds the median is given, and the range of steps in a column of its own. What all
    curves share (spectrum, target, schedule) is in the title; a spectrum or target that differs has
    a column. More than three ratios of a schedule's pieces are left out, and so is, from a table
    that would be too wide with it, what ``columns_that_fit`` says.
    """
    columns = columns_that_fit(curves)
    result = Table(
        title=_title(curves, columns),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, spaces(columns) - 1, 0, 0),
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
    ends = list(accumulate(len(rows(curve)) for curve in curves))
    for i, cells in enumerate(zip(*(column.cells for column in columns), strict=True), start=1):
        result.add_row(*map(Text, cells), end_section=i in ends)
    return result


def _title(curves: Sequence[Curve], columns: Sequence[Column]) -> Text:
    if not curves:
        return Text("no finished trials")
    shared: dict[str, set[str]] = {
        "target loss": {f"{curve.target:g}" for curve in curves},
        "spectrum": {curve.spectrum_text for curve in curves},
        "schedule": {curve.schedule for curve in curves},
    }
    parts = [f"{name} {min(found)}" for name, found in shared.items() if len(found) == 1]
    if all(column.heading != TRIALS for column in columns):
        parts.append(f"trials {shared_trials(curves)}")
    return Text(", ".join(["Fewest steps", *parts]))
