"""All files of the report: figures, their tables, analyses and the page."""

from __future__ import annotations

import os
from pathlib import Path

from pandas import DataFrame

from nqm_study.report import figures
from nqm_study.report.analysis.files import ANALYSIS_FILES, analysis_files
from nqm_study.report.analysis.measure import analyses
from nqm_study.report.axes import FORMATS, nqm_style, rendered
from nqm_study.report.captions import problem_text
from nqm_study.report.curves import curves
from nqm_study.report.page import report_page
from nqm_study.report.values import csv_bytes


def write_figures(studies: DataFrame, folder: Path) -> tuple[Path, ...]:
    """Write every figure that there is something to draw in, as PNG, SVG and PDF, into the folder.

    Beside each is its table as CSV, if it has one. With two batch sizes on a curve there are
    ``analysis.csv``, ``.tex``, ``.md`` and ``.json``, and ``analysis_products.csv``. The curves are
    in ``report.html`` as well, a page with a chart to look into.

    Files of these names that there is nothing for any more, since studies were deleted, go. The
    same studies give the same bytes. Each file is replaced at once: a reader sees the old or
    the new one, never a part.

    Raises:
        ValueError: without studies.
        OSError: where the folder cannot be written.
    """
    if studies.empty:
        raise ValueError("studies: must be at least one")
    contents: dict[str, bytes] = {}
    for name in figures.names():
        module = figures.module(name)
        figure = module.draw(studies)
        if figure is None:
            continue
        with nqm_style():  # laid out once, for all formats: it takes as long as writing one
            figure.draw_without_rendering()
        figure.set_layout_engine("none")
        contents |= {f"{name}.{ending}": rendered(figure, ending) for ending in FORMATS}
        if hasattr(module, "table"):
            contents[f"{name}.csv"] = csv_bytes(module.table(studies))
    if found := curves(studies):
        contents |= analysis_files(analyses(found))
        contents["report.html"] = report_page(found, problem_text(found)).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        _replace(folder / name, content)
    for name in _names().difference(contents):
        (folder / name).unlink(missing_ok=True)
    return tuple(folder / name for name in contents)


def _names() -> set[str]:
    """The names of all files that may be written."""
    drawn = {f"{name}.{ending}" for name in figures.names() for ending in (*FORMATS, "csv")}
    return {*drawn, *ANALYSIS_FILES, "report.html"}


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
