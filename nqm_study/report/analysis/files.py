"""The files of analyses: CSV, LaTeX and Markdown for tables, JSON for programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from nqm_study.report import words
from nqm_study.report.analysis.measure import SOURCES, Analysis
from nqm_study.report.analysis.tables import (
    CRITICAL,
    Part,
    analysis_frame,
    products_frame,
    sides,
    text_frames,
)
from nqm_study.report.captions import caption
from nqm_study.report.values import csv_bytes
from nqm_study.study.text import markdown

ANALYSIS_FILES = (
    *("analysis.csv", "analysis_products.csv", "analysis.tex", "analysis.md", "analysis.json"),
)

SCHEMA = 1
"""Version of the JSON. Grows where a key changes its meaning or goes; new keys may come without."""

UNITS = {
    "batch_size": "examples",
    "critical_batch_size": "examples",
    "fewest_examples": "examples",
    "fewest_steps": "steps",
    "perfect_scaling": "examples",
    "product": "1",
    "rms": "1",
    "largest": "1",
    "learning_rate_slope": "1",
}


def analysis_files(analyses: Sequence[Analysis], others: Sequence[Part] = ()) -> dict[str, bytes]:
    """Write the files of analyses: contents by name, none without analyses.

    Args:
        analyses: of all curves.
        others: tables for people that stand below theirs.
    """
    if not analyses:
        return {}
    numbers, products = analysis_frame(analyses), products_frame(analyses)
    texts = {
        "analysis.tex": analysis_latex(analyses, others),
        "analysis.md": analysis_markdown(analyses, others),
        "analysis.json": analysis_json(analyses),
    }
    return {
        "analysis.csv": csv_bytes(numbers),
        "analysis_products.csv": csv_bytes(products),
        **{name: text.encode() for name, text in texts.items()},
    }


def analysis_json(analyses: Sequence[Analysis]) -> str:
    """Write the analyses of one spectrum and target as JSON, by curve and source, in full.

    An estimate is an object with ``value``, ``low``, ``high``, ``bound`` and ``method``; what is
    not known is null. Curves are in the order of the figures, and keys always in the same.
    """
    grouped = groupby(analyses, key=lambda each: each.curve.key)
    document = {
        "schema": SCHEMA,
        "units": UNITS,
        "curves": [_curve_json(list(found)) for _, found in grouped],
    }
    text = json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False, default=_object)
    return text + "\n"


def _curve_json(analyses: Sequence[Analysis]) -> dict[str, Any]:
    curve = analyses[0].curve
    found = {analysis.source: _analysis_json(analysis) for analysis in analyses}
    return {
        "key": curve.key,
        "label": curve.label,
        "optimizer": curve.optimizer,
        "schedule": curve.schedule,
        "spectrum": curve.spectrum_text,
        "spectrum_digest": curve.spectrum_digest,
        "problem_digest": curve.problem_digest,
        "target": curve.target,
        "unreached_batch_sizes": curve.unreached,
        "misses": [miss for analysis in analyses for miss in analysis.misses],
        **{source: found.get(source) for source in SOURCES},
    }


def _analysis_json(analysis: Analysis) -> dict[str, Any]:
    least, fewest, critical = analysis.fewest_examples, analysis.fewest_steps, analysis.critical
    fit, known = analysis.fit, dict(analysis.products)
    slope = fit and {
        **_object(analysis.slope),
        "batch_sizes": fit.batch_sizes,
        "n_batch_sizes": fit.n_points,
        "ends_at_batch_size": fit.end,
    }
    return {
        "perfect_scaling": analysis.perfect_scaling,
        "small_batches": analysis.regime,
        "fewest_examples": {**_object(least), "reached": not least.bound},
        "fewest_steps": {**_object(fewest), "reached": not fewest.bound},
        "critical_batch_size": critical
        and {**_object(critical.estimate), "grid": critical.grid, "searched": critical.searched},
        "hyperbola": analysis.hyperbola,
        "learning_rate_slope": slope,
        "points": [
            {
                "batch_size": point.batch_size,
                "steps": point.steps,
                "examples": point.examples,
                "product": known.get(point.batch_size),
            }
            for point in analysis.curve.points
        ],
    }


def _object(value: Any) -> dict[str, Any]:
    """Fields of an estimate, a fit or a miss for JSON: null for no bound, and for no steps."""
    unknown = (math.inf, None)
    return {
        name: None if v in unknown or (name == "bound" and not v) else v
        for name, v in vars(value).items()
    }


def analysis_markdown(analyses: Sequence[Analysis], others: Sequence[Part] = ()) -> str:
    """Write the tables in Markdown, each with a heading and what it shows."""
    parts = [f"# Scaling analysis\n\n{markdown(caption([a.curve for a in analyses]))}\n"]
    notes = [miss.sentence(each.curve.label) for each in analyses for miss in each.misses]
    notes += [text for each in analyses if (text := words.too_few(each.curve.label, each.fit))]
    parts += [f"{markdown(text)}\n" for text in dict.fromkeys([*notes, *CRITICAL])]
    for section, frame in (*text_frames(analyses), *others):
        table = frame.map(markdown).rename(columns=markdown)
        lines = table.to_markdown(index=False, colalign=sides(frame), disable_numparse=True)
        parts.append(f"## {section.title}\n\n{markdown(section.note)}\n\n{lines}\n")
    return "\n".join(parts)


def analysis_latex(analyses: Sequence[Analysis], others: Sequence[Part] = ()) -> str:
    r"""Write the tables in LaTeX, each a ``table`` with caption and label, for ``\input``.

    They need the package booktabs, and an engine that reads UTF-8.
    """
    shared = caption([analysis.curve for analysis in analyses])
    parts = ["% Needs \\usepackage{booktabs}.\n"]
    for section, frame in (*text_frames(analyses), *others):
        table = frame.map(latex_text).rename(columns=latex_text)
        title, text = section.title, f"{section.title}. {shared} {section.note}"
        latex = table.style.hide(axis="index").to_latex(
            column_format="".join(side[0] for side in sides(frame)),
            position_float="centering",
            hrules=True,
            label=f"tab:nqm-{section.name}",
            caption=(latex_text(text), latex_text(title)),
        )
        parts.append(latex.replace(r"\centering", r"\centering\small"))
    return "".join(parts)


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
    """Escape LaTeX's special characters in a text, and set numbers and symbols as mathematics."""
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
