"""The analyses as CSV, LaTeX and Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nqm_study.report.analysis import Analysis
from nqm_study.report.analysis_columns import (
    AnalysisColumn,
    Value,
    products,
    sections,
)
from nqm_study.report.captions import caption
from nqm_study.report.comma import csv_text
from nqm_study.report.curves import Curve
from nqm_study.report.estimate import Estimate

_NAMES = 2  # the first columns of each section are the same


def analysis_csv(analyses: Sequence[Analysis]) -> str:
    """One row for each analysis, numbers in full.

    An estimate has five columns: its value, ``_low``, ``_high``, ``_bound`` and ``_method``. Units
    are examples, steps and shares of 1; batch sizes and k are in examples.
    """
    first, *others = sections(analyses)
    return _csv([*first.columns, *(c for other in others for c in other.columns[_NAMES:])])


def products_csv(analyses: Sequence[Analysis]) -> str:
    """One row for each batch size: how sharp each curve's knee is."""
    return _csv(products(analyses).columns)


def analysis_markdown(analyses: Sequence[Analysis]) -> str:
    """The tables in Markdown, each with a heading and what it shows."""
    parts = [f"# Scaling analysis\n\n{_markdown_text(caption(_curves(analyses)))}\n"]
    for section in (*sections(analyses), products(analyses)):
        rules = ["---" if column.kind == "name" else "---:" for column in section.columns]
        rows = [[_markdown_text(column.heading) for column in section.columns], rules]
        rows += [[_markdown_text(text) for text in row] for row in section.rows]
        lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts.append(f"## {section.title}\n\n{_markdown_text(section.note)}\n\n{lines}\n")
    return "\n".join(parts)


def analysis_latex(analyses: Sequence[Analysis]) -> str:
    r"""The tables in LaTeX, each a ``table`` with caption and label, for ``\input``.

    They need the package booktabs, and an engine that reads UTF-8.
    """
    shared = latex_text(caption(_curves(analyses)))
    parts = [r"% Needs \usepackage{booktabs}."]
    for section in (*sections(analyses), products(analyses)):
        kinds = "".join("l" if column.kind == "name" else "r" for column in section.columns)
        rows = [[latex_text(text) for text in row] for row in section.rows]
        title, note = latex_text(section.title), latex_text(section.note)
        parts += [
            r"\begin{table}",
            r"  \centering\small",
            rf"  \caption[{title}]{{{title}. {shared} {note}}}",
            rf"  \label{{tab:nqm-{section.name}}}",
            rf"  \begin{{tabular}}{{{kinds}}}",
            r"    \toprule",
            f"    {_latex_row([latex_text(column.heading) for column in section.columns])}",
            r"    \midrule",
            *(f"    {_latex_row(row)}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    return "\n".join(parts) + "\n"


_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<=": r"$\le$",
    ">=": r"$\ge$",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "±": r"$\pm$",
    "..": r"--",
    " - ": r" $-$ ",
    " %": r"\,\%",
    '"': r"\textquotedbl{}",
    **{character: f"\\{character}" for character in "{}$&#_%"},
}
_SPECIAL = re.compile(
    r"\b(?P<power>[2B]\^(?:-?\d+|slope))\b"
    r"|(?P<number>\b\d(?:\.\d+)?e-?\d+\b)"
    r"|\b(?P<symbol>[A-Z]_(?:min|crit|20|fit))\b"
    + "".join(f"|{re.escape(text)}" for text in sorted(_ESCAPES, key=len, reverse=True))
)


def latex_text(text: str) -> str:
    """The text with LaTeX's special characters escaped, and numbers and symbols as mathematics."""
    return _SPECIAL.sub(_latex, text)


def _latex(match: re.Match[str]) -> str:
    if power := match["power"]:
        exponent = r"\mathrm{slope}" if power[2:] == "slope" else power[2:]
        return f"${power[0]}^{{{exponent}}}$"
    if number := match["number"]:
        mantissa, exponent = number.split("e")
        return rf"${mantissa}\times10^{{{exponent}}}$"
    if symbol := match["symbol"]:
        return rf"${symbol[0]}_{{\mathrm{{{symbol[2:]}}}}}$"
    return _ESCAPES[match[0]]


def _latex_row(cells: Sequence[str]) -> str:
    return f"{' & '.join(cells)} " + r"\\"


def _markdown_text(text: str) -> str:
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", " ".join(text.split()))


def _curves(analyses: Sequence[Analysis]) -> list[Curve]:
    return [analysis.curve for analysis in analyses]


def _csv(columns: Sequence[AnalysisColumn]) -> str:
    names = [name for column in columns for name in _field_names(column)]
    rows = (
        [field for column in columns for field in _fields(column, column.cells[i].value)]
        for i in range(len(columns[0].cells))
    )
    return csv_text(names, rows)


def _field_names(column: AnalysisColumn) -> list[str]:
    endings = {"estimate": ["", "_low", "_high", "_bound", "_method"], "range": ["_low", "_high"]}
    return [f"{column.name}{ending}" for ending in endings.get(column.kind, [""])]


def _fields(column: AnalysisColumn, value: Value) -> list[object]:
    if value is None:
        return [""] * len(_field_names(column))
    if isinstance(value, Estimate):
        found = value.value, value.low, value.high, value.bound, value.method
        return ["" if each is None else each for each in found]
    return list(value) if isinstance(value, tuple) else [value]
