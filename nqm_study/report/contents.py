"""The contents of a report's files, part by part; importing it imports what draws them."""

from __future__ import annotations

from pandas import DataFrame

from nqm_study.report import figures
from nqm_study.report.analysis.files import analysis_files
from nqm_study.report.analysis.measure import analyses
from nqm_study.report.analysis.tables import other_parts
from nqm_study.report.axes import lay_out, rendered
from nqm_study.report.captions import problem_text
from nqm_study.report.curves import curves
from nqm_study.report.page import report_page
from nqm_study.report.values import csv_bytes
from nqm_study.report.write import ANALYSIS, PAGE, PAGE_FILE


def contents(studies: DataFrame, part: str) -> dict[str, bytes]:
    """The files of a part by name; none where there is nothing to show.

    Args:
        studies: the table of studies.
        part: the name of a figure, ``ANALYSIS`` or ``PAGE``.
    """
    if part in (ANALYSIS, PAGE):
        found = curves(studies)
        if not found:
            return {}
        if part == ANALYSIS:
            return analysis_files(analyses(found), other_parts(studies))
        return {PAGE_FILE: report_page(found, problem_text(found)).encode()}
    module = figures.module(part)
    figure = module.draw(studies)
    if figure is None:
        return {}
    lay_out(figure)
    files: dict[str, bytes] = {
        f"{part}.{ending}": rendered(figure, ending) for ending in figures.FORMATS
    }
    if hasattr(module, "table"):
        files[f"{part}.csv"] = csv_bytes(module.table(studies))
    return files
