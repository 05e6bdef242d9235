"""All files of the report: figures, their tables, analyses and the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pandas import DataFrame

from nqm_study.report import figures
from nqm_study.report.analysis.files import ANALYSIS_FILES
from nqm_study.report.drawn import Drawn
from nqm_study.study.digests import digest, replace_file

ANALYSIS, PAGE = "analysis", "page"
"""The parts of a report beside its figures."""

PAGE_FILE = "report.html"


Contents = Callable[[DataFrame, Sequence[str]], list[dict[str, bytes]]]
"""Function from the studies and the names of parts to the files of each."""


def contents_here(studies: DataFrame, parts: Sequence[str]) -> list[dict[str, bytes]]:
    """The files of each part by name, made one after the other.

    Args:
        studies: the table of studies.
        parts: names of figures, ``ANALYSIS`` or ``PAGE``.
    """
    # What draws takes a while to import.
    from nqm_study.report.contents import contents

    return [contents(studies, part) for part in parts]


def write_figures(
    studies: DataFrame,
    folder: Path,
    record: Path | None = None,
    make: Contents = contents_here,
) -> tuple[Path, ...]:
    """Write every figure that there is something to draw in, as PNG, SVG and PDF, into the folder.

    Beside each is its table as CSV, if it has one. With two batch sizes on a curve there are
    ``analysis.csv``, ``.tex``, ``.md`` and ``.json``, and ``analysis_products.csv``. The curves are
    in ``report.html`` as well, a page with a chart to look into.

    What is there and up to date, by a record of ``report.drawn``, is left as it is. Files of
    these names that there is nothing for any more, since studies were deleted, go. The same studies
    give the same bytes. Each file is replaced at once: a reader sees the old or the new one, never
    a part.

    Args:
        studies: the table of studies.
        folder: where the files go.
        record: the file that says what they were drawn from; None draws all of them.
        make: makes the files of what is to be drawn.

    Raises:
        ValueError: without studies.
        OSError: where the folder cannot be written.
    """
    if studies.empty:
        raise ValueError("studies: must be at least one")
    now = Drawn.of(studies)
    parts = Drawn.read(record).fresh(folder, now) if record is not None else {}
    wanted = (*figures.names(), ANALYSIS, PAGE)
    if stale := [part for part in wanted if part not in parts]:
        made = dict(zip(stale, make(studies, stale), strict=True))
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (each for files in made.values() for each in files.items()):
            replace_file(folder / name, content)
        drawn = {part: {n: digest(c) for n, c in files.items()} for part, files in made.items()}
        parts = {part: {**parts, **drawn}[part] for part in wanted}
        every = {f"{name}.{end}" for name in figures.names() for end in (*figures.FORMATS, "csv")}
        for name in (every | {*ANALYSIS_FILES, PAGE_FILE}).difference(*parts.values()):
            (folder / name).unlink(missing_ok=True)
        if record is not None:
            replace_file(record, replace(now, parts=parts).to_json())
    return tuple(folder / name for files in parts.values() for name in files)
