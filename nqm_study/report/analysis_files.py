"""The analyses as the files beside the figures."""

from __future__ import annotations

from collections.abc import Sequence

from nqm_study.report.analysis import Analysis
from nqm_study.report.analysis_json import analysis_json
from nqm_study.report.analysis_text import (
    analysis_csv,
    analysis_latex,
    analysis_markdown,
    products_csv,
)


def analysis_files(analyses: Sequence[Analysis]) -> dict[str, bytes]:
    """The files' contents by name; none without analyses."""
    if not analyses:
        return {}
    texts = {
        "analysis.csv": analysis_csv(analyses),
        "analysis_products.csv": products_csv(analyses),
        "analysis.tex": analysis_latex(analyses),
        "analysis.md": analysis_markdown(analyses),
        "analysis.json": analysis_json(analyses),
    }
    return {name: text.encode() for name, text in texts.items()}
