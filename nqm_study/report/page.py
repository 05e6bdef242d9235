"""The report as one HTML file, with Plotly inside: it works from disk and asks no server.

MLflow's artifact viewer shows it too, in a frame that has no address of its own and no files beside
it. So the library is in the file: compressed, as every summary run has a copy.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from itertools import chain
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from nqm_study.report.captions import caption
from nqm_study.report.curves import Curve
from nqm_study.report.describe import describe
from nqm_study.report.page_lines import PageLine, page_lines
from nqm_study.report.quantities import Quantity, quantities
from nqm_study.report.tables import NAMING, result_frame

_MOST_TICKS = 24


def report_page(curves: Sequence[Curve], title: str) -> str:
    """The curves as a page with a chart, what it shows in words, and a table of its points.

    The chart has log axes, values under the pointer, a legend whose entries hide and show curves,
    and choices of what is on its axes. It is Plotly's, and is drawn where JavaScript runs; words
    and table are there without. The same curves give the same bytes.

    Args:
        curves: at least one; their spectra and targets may differ, as their labels then do.
        title: plain text, above the page.

    Raises:
        ValueError: where there are no curves.
    """
    if not curves:
        raise ValueError("curves=(): must be at least one")
    shown = quantities(curves)
    lines = page_lines(curves)
    shared = caption(curves)
    report = {
        "lines": [line.data(shown) for line in lines],
        "axes": {quantity.name: _axis(quantity, lines) for quantity in shown},
    }
    return Template(_resource("page.html")).substitute(
        title=escape(title),
        style=_resource("page.css"),
        x=_options([quantity for quantity in shown if quantity.for_x]),
        y=_options([quantity for quantity in shown if quantity.for_y]),
        caption=escape(f"{shared} {_legend(curves)}"),
        description=escape(describe(curves).removeprefix(shared).strip()),
        table=_table(curves),
        report=_json(report),
        notice=_notice(),
        plotly=_plotly(),
        script=_resource("page.js"),
    )


def _options(choices: Sequence[Quantity]) -> str:
    return "".join(
        f'<option value="{escape(choice.name)}">{escape(choice.title)}</option>'
        for choice in choices
    )


def _legend(curves: Sequence[Curve]) -> str:
    """What the marks are that the legend does not name."""
    points = [point for curve in curves for point in curve.points]
    sentences = [
        "A click on an entry of the legend hides or shows it, a double click shows it alone."
    ]
    if any(point.optimum is not None for point in points):
        sentences.append(
            "A thin line goes through the true optima of a curve's search space, or the best of a "
            "dense search of it."
        )
    if any(curve.unreached for curve in curves):
        sentences.append(
            "A hollow marker at the top is a batch size at which the target was not reached."
        )
    return " ".join(sentences)


def _axis(quantity: Quantity, lines: Sequence[PageLine]) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": escape(quantity.title, quote=False)}}
    if quantity.scale == "linear":
        return {**axis, "type": "linear", "rangemode": "tozero"}
    axis |= {"type": "log", "exponentformat": "power"}
    values = chain.from_iterable(quantity.read(p) for line in lines for p in line.points)
    known = [math.log2(value) for value in values if value > 0.0]
    if quantity.scale == "powers" and known:
        powers = range(math.floor(min(known)) - 1, math.ceil(max(known)) + 2)
        step = math.ceil(len(powers) / _MOST_TICKS)
        shown = [k for k in powers if k % step == 0]
        axis |= {"tickvals": [2.0**k for k in shown]}
        axis |= {"ticktext": [f"2<sup>{k}</sup>" for k in shown]}
    return axis


def _table(curves: Sequence[Curve]) -> str:
    texts = result_frame(curves)
    sides = ["left" if heading in NAMING else "right" for heading in texts]
    head = "".join(
        f'<th scope="col" class="{side}">{escape(heading)}</th>'
        for side, heading in zip(sides, texts, strict=True)
    )
    cells = texts.itertuples(index=False)
    bodies = []
    for curve in curves:
        made = [
            "".join(
                f'<td class="{side}">{escape(cell)}</td>'
                for side, cell in zip(sides, next(cells), strict=True)
            )
            for _ in range(len(curve.points) + len(curve.unreached))
        ]
        bodies.append("<tbody>" + "\n".join(f"<tr>{row}</tr>" for row in made) + "</tbody>")
    return f"<thead><tr>{head}</tr></thead>\n" + "\n".join(bodies)


def _json(report: dict[str, Any]) -> str:
    """As it can stand inside a script element, which a tag in a label could end."""
    text = json.dumps(report, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


@cache
def _plotly() -> str:
    """Plotly's script: two fifths of its size when packed and written in letters."""
    return base64.b64encode(
        gzip.compress(get_plotlyjs().encode(), compresslevel=6, mtime=0)
    ).decode()


@cache
def _notice() -> str:
    """The copyright notice at its head, which its licence asks to keep."""
    found = re.match(r"/\*\*.*?\*/", get_plotlyjs(), re.DOTALL)
    return escape(found.group(0) if found else "plotly.js, MIT license")


@cache
def _resource(name: str) -> str:
    return (files("nqm_study.report") / name).read_text("utf-8")
