"""The analyses in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from nqm_study.report.analysis import Analysis
from nqm_study.report.analysis_columns import AnalysisColumn, Section, sections

_TERMINAL = 80  # characters
_LONGEST = 14  # of a label's line, at least
_LEAST_MISSED = ("hyperbola_largest", "product", "perfect_scaling", "hyperbola_steps")
BOTH = "both"


def analysis_table(analyses: Sequence[Analysis]) -> Group:
    """Three tables below each other, each with a row for each analysis.

    What was found has no row of its own where it says the same as the exact optima: the row is of
    both. Columns that a line has no room for are left out, the least missed first; the files have
    all.
    """
    tables = [_table(section) for section in sections(analyses)]
    tables[-1].caption = Text("What the columns mean: analysis.md, beside the figures.")
    return Group(*(part for table in tables for part in (Text(), table)))


def _table(section: Section) -> Table:
    columns = _fitting(section.columns)
    spaces = 2 if _room(columns) >= 2 * (len(columns) - 1) else 1
    result = Table(
        title=Text(f"{section.title}: {section.brief}"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, spaces - 1, 0, 0),
        pad_edge=False,
    )
    for column in columns:
        # Names are folded where they must be, and no number is: half of one is a wrong number.
        result.add_column(
            column.heading,
            justify="left" if column.kind == "name" else "right",
            min_width=_least(column),
            overflow="fold",
        )
    rows = zip(*([cell.text for cell in column.cells] for column in columns), strict=True)
    for row in _merged([list(row) for row in rows]):
        result.add_row(*map(Text, row))
    return result


def _fitting(columns: Sequence[AnalysisColumn]) -> list[AnalysisColumn]:
    kept = list(columns)
    for name in _LEAST_MISSED:
        if _room(kept) >= len(kept) - 1:
            break
        kept = [column for column in kept if column.name != name]
    return kept


def _room(columns: Sequence[AnalysisColumn]) -> int:
    """Characters that a terminal's line has left for the spaces between columns."""
    return _TERMINAL - sum(map(_least, columns))


def _least(column: AnalysisColumn) -> int:
    """Characters that a column needs: those of its longest cell, or of a long label's words."""
    texts = [cell.text for cell in column.cells]
    if column.name == "curve":
        words = [len(word) for text in texts for word in text.split()]
        return min(_LONGEST, max(words))
    return max(len(text) for text in (column.heading, *texts))


def _merged(rows: Sequence[list[str]]) -> list[list[str]]:
    """The rows, with two that differ in their source only as one."""
    merged: list[list[str]] = []
    for row in rows:
        if merged and [*merged[-1][:1], *merged[-1][2:]] == [*row[:1], *row[2:]]:
            merged[-1][1] = BOTH
        else:
            merged.append(row)
    return merged
