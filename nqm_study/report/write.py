"""All files of the report: figures, their tables, analyses and the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pandas import DataFrame

from nqm_study.report import figures
from nqm_study.report.drawn import Drawn
from nqm_study.study.digests import digest, replace_file

ANALYSIS, PAGE = "analysis", "page"
"""The parts of a report beside its figures."""


def write_figures(studies: DataFrame, folder: Path, record: Path | None = None) -> tuple[Path, ...]:
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
        # What draws takes a while to import.
        from nqm_study.report.contents import contents, every_name

        made = {part: contents(studies, part) for part in stale}
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (each for files in made.values() for each in files.items()):
            replace_file(folder / name, content)
        drawn = {part: {n: digest(c) for n, c in files.items()} for part, files in made.items()}
        parts = {part: {**parts, **drawn}[part] for part in wanted}
        for name in every_name().difference(*parts.values()):
            (folder / name).unlink(missing_ok=True)
        if record is not None:
            replace_file(record, replace(now, parts=parts).to_json())
    return tuple(folder / name for files in parts.values() for name in files)
