"""Spectra from files: CSV and NPZ with the columns of a ``Spectrum``."""

from __future__ import annotations

import csv
import functools
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.problems.density import rescaled
from nqm_study.model.problems.spectrum import Spectrum

COLUMNS = ("curvature", "noise", "multiplicity", "initial_mean", "initial_variance")
"""The columns a file may have; all but the first are optional."""

_MOST_SHOWN = 12  # characters of a value: whatever file this is, its contents are not for a log
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


def load_spectrum(path: str | os.PathLike[str]) -> Spectrum:
    """The spectrum in a file, by its columns; what is not given is as in ``Spectrum``.

    Columns: curvature (each > 0), noise, multiplicity, initial_variance (each >= 0), initial_mean.

    ``.csv`` is UTF-8 text, separated by commas, whose first row names the columns in any order.
    Empty lines and lines that start with # are skipped. One column of numbers without a name is the
    list of curvatures. Numbers are written as in Python, without underscores: 0.5, -2, 1e-3.

    ``.npz`` holds one array for each column, as ``numpy.savez`` writes them. A single number is the
    value at every mode. Nothing is ever unpickled.

    Raises:
        ValueError: in one line with the file; the row (in a .csv the line that an editor shows, in
            an .npz the index); the column; the value; and what is allowed.
    """
    file = existing(path)
    try:
        return _loaded(file)
    except ValueError as error:
        raise ValueError(f"{one_line(file)}: {error}") from error


def loaded(path: str | os.PathLike[str], *, rescale: bool = False) -> tuple[Spectrum, float]:
    """The spectrum in a file and its scale, kept for the next call while the file is unchanged.

    Args:
        path: as for ``load_spectrum``.
        rescale: multiply the loss by the scale k = 1 / h_1, so that the largest curvature is 1;
            else the scale is 1.0.

    Raises:
        ValueError: as ``load_spectrum``; where the rescaled numbers are too large or too small.
    """
    file = existing(path)
    try:
        state = file.stat()
        return _kept(file.absolute(), rescale, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise ValueError(f"{one_line(file)}: {unreadable(error)}") from error
    except ValueError as error:
        raise ValueError(f"{one_line(file)}: {error}") from error


@functools.lru_cache(maxsize=8)
def _kept(file: Path, rescale: bool, _mtime_ns: int, _size: int) -> tuple[Spectrum, float]:
    # One spectrum for all the studies of a call: its compressions are kept on it.
    spectrum = _loaded(file)
    return rescaled(spectrum) if rescale else (spectrum, 1.0)


def _loaded(file: Path) -> Spectrum:
    try:
        columns = (_csv_columns if file.suffix.lower() == ".csv" else _npz_columns)(file)
    except OSError as error:
        raise ValueError(unreadable(error)) from error
    return Spectrum(**columns)


def existing(path: object, suffixes: Sequence[str] = (".csv", ".npz")) -> Path:
    """The path of a file that is there.

    Raises:
        ValueError: naming the path, and what is allowed.
    """
    allowed = f"must be the path of a {', '.join(suffixes[:-1])} or {suffixes[-1]} file"
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise ValueError(f"path={path!r}: {allowed}")
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"{one_line(file)}: {allowed}, it is a directory")
    if file.suffix.lower() not in suffixes:
        neither = "neither" if len(suffixes) == 2 else "none of these"
        raise ValueError(f"{one_line(file)}: {allowed}, by its name it is {neither}")
    if not file.is_file():
        missing = "it is no file" if os.path.lexists(file) else "there is no such file"
        raise ValueError(f"{one_line(file)}: {allowed}, {missing}")
    return file


def unreadable(error: OSError) -> str:
    """Why a file cannot be read."""
    return f"must be readable, {error.strerror or error}"


def _csv_columns(file: Path) -> dict[str, Array]:
    """The columns of a file, by name.

    Raises:
        ValueError: naming row, column, value and what is allowed.
        OSError: where the file cannot be read.
    """
    names, numbers, rows = _table(_decoded(file.read_bytes()))
    cells = dict(zip(names, zip(*rows, strict=True), strict=True))
    columns = {name: np.array([_number(cell) for cell in cells[name]]) for name in names}
    _check_values(
        columns,
        place=lambda index: f"row {numbers[index]}",
        value=lambda name, index: shown(cells[name][index].strip()),
    )
    return columns


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"row {row}: must be UTF-8 text") from None


def _table(text: str) -> tuple[list[str], list[int], list[list[str]]]:
    """The columns' names, the rows' line numbers, and the rows' cells as they are written."""
    numbers: list[int] = []
    rows: list[list[str]] = []
    names: list[str] | None = None
    for number, row in _rows(text):
        if names is None:
            names = _header(number, row)
            if not _is_data(row):
                continue
        if len(row) != len(names):
            raise ValueError(
                f"row {number}: has {len(row)} values, must have {len(names)}: {', '.join(names)}"
            )
        numbers.append(number)
        rows.append(row)
    if names is None or not rows:
        raise ValueError("must have a row for each mode, it has none")
    return names, numbers, rows


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are neither empty nor comments, with their line numbers."""
    lines = io.StringIO(text, newline=None)
    # Blanked, not left out: the reader counts lines.
    reader = csv.reader(
        ("\n" if line.lstrip()[:1] in ("", "#") else line for line in lines), strict=True
    )
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"row {number}: must be one row of a CSV file, {error}") from None
        if row is None:
            return
        if reader.line_num > number:
            raise ValueError(f"row {number}: must be one row of a CSV file, a quote is left open")
        if row:
            yield number, row


def _header(number: int, row: Sequence[str]) -> list[str]:
    """The names of the columns, from the first row that is no comment."""
    if _is_data(row):
        if len(row) > 1:
            raise ValueError(
                f"row {number}: must be a header with the names of the {len(row)} columns, such as "
                f"{COLUMNS[0]},{COLUMNS[1]} (a line that starts with # is a comment)"
            )
        return [COLUMNS[0]]
    names = [cell.strip() for cell in row]
    _require_columns(names, f"row {number}, ")
    return names


def _is_data(row: Sequence[str]) -> bool:
    """Whether a row has numbers, or what is meant as numbers, and no names."""
    for cell in row:
        try:
            float(cell)
        except ValueError:
            return False
    return True


def _number(text: str) -> float:
    """The number that is written, or nan. What Python takes beside it, 1_000 and ٣, is none."""
    if "_" in text or not text.isascii():
        return float("nan")
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _npz_columns(file: Path) -> dict[str, Array]:
    """The columns of an archive, by name; one number stands for the same at every mode.

    Raises:
        ValueError: naming index, column, value and what is allowed.
        OSError: where the file cannot be read.
    """
    columns = {
        name: _float64(name, array)
        for name, array in arrays_in(file, COLUMNS, _require_columns).items()
    }
    length = columns[COLUMNS[0]].shape
    if len(length) != 1 or length == (0,):
        raise ValueError(
            f"column {COLUMNS[0]} has shape {length}: must be a list of at least one number"
        )
    for name, values in columns.items():
        if values.shape not in (length, ()):
            raise ValueError(
                f"column {name} has shape {values.shape}: must be one number, or {length[0]} as "
                f"{COLUMNS[0]} has"
            )
    _check_values(
        {name: np.atleast_1d(values) for name, values in columns.items()},
        place=lambda index: f"index {index}",
        value=lambda name, index: f"{np.atleast_1d(columns[name])[index]:g}",
    )
    return columns


def arrays_in(
    file: Path, wanted: Sequence[str], require: Callable[[list[str]], object]
) -> dict[str, Any]:
    """Members of an archive, by name.

    Args:
        file: the archive.
        wanted: the names of those that are read, where they are there.
        require: refuses the names, before anything is read.

    Raises:
        ValueError: if it is no archive, or a member no array of plain values.
        OSError: where the file cannot be read.
    """
    with file.open("rb") as stream:
        if stream.read(2) != b"PK":
            # NumPy would look for an array without a name, or a pickle.
            raise ValueError("must be an archive that numpy.savez wrote")
        stream.seek(0)
        archive = attempt(
            "must be a whole archive that numpy.savez wrote",
            lambda: np.load(stream, allow_pickle=False),
        )
        require(archive.files)
        return {
            name: attempt(
                f"column {name}: must be an array of numbers", functools.partial(archive.get, name)
            )
            for name in archive.files
            if name in wanted
        }


def attempt(allowed: str, read: Callable[[], Any]) -> Any:
    """What ``read`` returns; whatever a broken archive makes it raise is a ValueError."""
    try:
        return read()
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise ValueError(f"{allowed}, {one_line(error)}") from error


def _float64(name: str, array: Any) -> Array:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        kind = getattr(array, "dtype", type(array).__name__)
        raise ValueError(f"column {name}: must be an array of numbers, it is of type {kind}")
    with np.errstate(over="ignore"):  # what is not finite is refused with its index
        return array.astype(np.float64)


def _require_columns(names: Sequence[str], where: str = "") -> None:
    """Refuse columns that no spectrum has, that are there twice, or no curvature.

    Args:
        names: as they stand in the file.
        where: what a refusal begins with.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{where}column {names.index(name) + 1}: must have one of the names "
                f"{', '.join(COLUMNS)}"
            )
        if name not in COLUMNS:
            raise ValueError(f"{where}column {name}: must be one of {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise ValueError(f"{where}column {name}: must be there once, it is there twice")
    if COLUMNS[0] not in names:
        raise ValueError(f"{where}column {COLUMNS[0]}: is missing")


def _check_values(
    columns: Mapping[str, Array], place: Callable[[int], str], value: Callable[[str, int], str]
) -> None:
    """Refuse the first value, from the top, that is outside its column's bounds.

    Args:
        columns: the values, by column.
        place: where an index is, in words.
        value: the value of a column at an index, as it stands in the file.
    """
    bad = [
        (int(np.argmin(ok)), name, bound)
        for name, values in columns.items()
        for ok, bound in [_inside(name, values)]
        if not np.all(ok)
    ]
    if bad:
        index, name, bound = min(bad, key=lambda each: each[0])
        raise ValueError(f"{place(index)}, column {name}={value(name, index)}: must be {bound}")


def _inside(name: str, values: Array) -> tuple[npt.NDArray[np.bool_], str]:
    """Which values are inside the bounds of their column, and the bounds in words."""
    finite = np.isfinite(values)
    if name == "initial_mean":
        return finite, "a finite number"
    if name == "curvature":
        return finite & (values > 0.0), "a finite number greater than 0"
    return finite & (values >= 0.0), "a finite number of at least 0"


def one_line(value: object) -> str:
    """A text as one line: in quotes, and what cannot be seen escaped, where it has to be."""
    text = str(value)
    return text if text and text.isprintable() else repr(text)


def shown(value: object) -> str:
    """The same, cut off where it is long."""
    text = one_line(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
