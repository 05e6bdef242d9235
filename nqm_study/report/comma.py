"""Comma-separated values, as every table of the report is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable


def csv_text(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A line of names, and a line for each row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()
