"""Tables as comma-separated values."""

from __future__ import annotations

from typing import Any

from pandas import DataFrame

_COUNTS = ("batch_size", "examples", "steps")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def csv_bytes(table: DataFrame) -> bytes:
    """Comma-separated values in full; counts that are whole are written without a point.

    A text that a spreadsheet would take for a formula has an apostrophe before it.
    """
    for name in {*_COUNTS} & {*table}:
        whole = [int(n) if n % 1 == 0 else n for n in table[name].tolist()]
        table = table.assign(**{name: DataFrame({name: whole}, dtype=object)[name].to_numpy()})
    table = table.map(_no_formula).rename(columns=_no_formula)
    text: str = table.to_csv(index=False, lineterminator="\n")
    return text.encode()


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULAS) else value
