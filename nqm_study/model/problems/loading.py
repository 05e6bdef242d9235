"""Features and targets from files: NPZ, CSV and Parquet."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nqm_study.model.problems.data import Examples, Regression
from nqm_study.model.problems.files import arrays_in, attempt, existing, one_line, unreadable

SUFFIXES = (".npz", ".csv", ".parquet")
ARRAYS = ("features", "targets")
_MOST_NAMES = 12

T = TypeVar("T")


class TargetColumnError(ValueError):
    """The column with the targets is not as the file needs it."""


def load_regression(
    path: str | os.PathLike[str],
    *,
    target_column: str | None = None,
    center: bool = False,
    scale: bool = False,
) -> Regression:
    """The regression on the data in a file, kept for the next call while the file is unchanged.

    ``.npz`` holds the arrays ``features`` and ``targets``, as ``numpy.savez`` writes them; others
    are not read, and nothing is unpickled. ``.csv``, whose first row names the columns, and
    ``.parquet`` hold a column for the targets and one for each feature; they are read by pyarrow.

    Args:
        path: the file.
        target_column: name of the targets' column; None for ``.npz``.
        center: as for ``Regression.of``.
        scale: as for ``Regression.of``.

    Raises:
        ValueError: in one line with the file, and what is wrong: the row (in a .csv counted with
            the header, as an editor shows it where no cell has several lines), the column, the
            value and what is allowed.
    """
    return _loaded(_kept, path, target_column, center, scale)


def load_examples(
    path: str | os.PathLike[str],
    *,
    target_column: str | None = None,
    center: bool = False,
    scale: bool = False,
) -> Examples:
    """The examples in a file in H's eigenbasis, read, kept and refused as ``load_regression`` does.

    The arguments are those of ``load_regression``.
    """
    return _loaded(_kept_examples, path, target_column, center, scale)


def _loaded(
    kept: Callable[..., T],
    path: str | os.PathLike[str],
    target_column: str | None,
    center: bool,
    scale: bool,
) -> T:
    file = existing(path, SUFFIXES)
    try:
        state = file.stat()
        mark = (state.st_mtime_ns, state.st_size)
        return kept(file.absolute(), target_column, center, scale, mark)
    except OSError as error:
        raise ValueError(f"{one_line(file)}: {unreadable(error)}") from error
    except TargetColumnError:
        raise
    except ValueError as error:
        raise ValueError(f"{one_line(file)}: {error}") from error


@functools.lru_cache(maxsize=4)
def _kept(
    file: Path, target: str | None, center: bool, scale: bool, _mark: tuple[int, int]
) -> Regression:
    # One regression for all the studies of a call.
    return Regression.of(*_arrays(file, target), center=center, scale=scale)


@functools.lru_cache(maxsize=1)
def _kept_examples(
    file: Path, target: str | None, center: bool, scale: bool, _mark: tuple[int, int]
) -> Examples:
    return Examples.of(*_arrays(file, target), center=center, scale=scale)


def _arrays(file: Path, target: str | None) -> tuple[Any, Any]:
    """Features and targets."""
    return (_archive if file.suffix.lower() == ".npz" else _table)(file, target)


def _archive(file: Path, target: str | None) -> tuple[Any, Any]:
    if target is not None:
        raise TargetColumnError(
            f"target_column={one_line(target)}: must be null with an .npz, which has an array "
            "targets"
        )
    found = arrays_in(file, ARRAYS, _require_arrays)
    return found["features"], found["targets"]


def _require_arrays(names: Sequence[str]) -> None:
    for name in ARRAYS:
        if name not in names:
            raise ValueError(f"array {name}: is missing; there are {_listed(names) or 'none'}")


def _table(file: Path, target: str | None) -> tuple[Any, Any]:
    """The features and targets of a table."""
    try:
        from pyarrow import csv, parquet
    except ImportError:
        raise ValueError("needs pyarrow, which is not installed; an .npz does not") from None
    text = file.suffix.lower() == ".csv"
    whole = f"must be a whole {'CSV' if text else 'Parquet'} file"
    # Parquet is read in batches of rows, and not ahead of them, so that there is one copy of the
    # data in memory. Those of CSV would each guess the types of the columns.
    source = attempt(
        whole,
        lambda: csv.read_csv(file) if text else parquet.ParquetFile(file, pre_buffer=False),
    )
    batches = source.to_batches() if text else source.iter_batches()
    names = list((source.schema if text else source.schema_arrow).names)
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"column {name}: must be there once, it is there {names.count(name)}")
    if target is None or target not in names:
        shown = "null" if target is None else one_line(target)
        raise TargetColumnError(
            f"target_column={shown}: must be a column of {one_line(file.name)}, which has "
            f"{_listed(names)}"
        )
    features = [name for name in names if name != target]
    n = source.num_rows if text else source.metadata.num_rows
    if not features or not n:
        raise ValueError("must have a row for each example and a column for each feature")
    rows, targets = np.empty((n, len(features))), []
    read, remaining = 0, iter(batches)
    while (batch := attempt(whole, lambda: next(remaining, None))) is not None:
        first = read + (2 if text else 0)
        for index, name in enumerate(features):
            rows[read : read + len(batch), index] = _column(name, batch[name], first)
        targets.append(_column(target, batch[target], first, words=True))
        read += len(batch)
    return rows, np.concatenate(targets)


def _column(name: str, column: Any, first: int, *, words: bool = False) -> Any:
    """The values of a column; it refuses what is missing and, unless words will do, no numbers.

    Args:
        name: of the column.
        column: an array of pyarrow's.
        first: the number of the first row.
        words: whether words are values.
    """
    from pyarrow import types

    if types.is_dictionary(column.type):  # as of pandas' categories
        column = column.cast(column.type.value_type)
    if types.is_decimal(column.type):
        column = column.cast("float64")
    kind = column.type
    if column.null_count:
        missing = np.asarray(column.is_null()).argmax()
        raise ValueError(f"row {first + missing}, column {one_line(name)}: is missing")
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    word = types.is_string(kind) or types.is_large_string(kind)
    if not number and not (words and word):
        raise ValueError(
            f"column {one_line(name)}: must be numbers, it is of type {kind}; leave it out, or put "
            "numbers in its place"
        )
    values = np.asarray(column)
    if values.dtype.kind == "f" and not np.all(finite := np.isfinite(values)):
        row = int(np.argmin(finite))
        raise ValueError(
            f"row {first + row}, column {one_line(name)}={values[row]:g}: must be a finite number"
        )
    return values


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(one_line, names[:_MOST_NAMES]))
    return f"{shown} and {len(names) - _MOST_NAMES} others" if names[_MOST_NAMES:] else shown
