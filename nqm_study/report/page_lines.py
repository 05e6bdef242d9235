"""The lines of the interactive report, as Plotly draws them: curves, true optima, references."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap
from typing import Any

from nqm_study.report import words
from nqm_study.report.axes import Look, nqm_style
from nqm_study.report.curves import Curve, Point, one_problem_each
from nqm_study.report.drawing import curve_looks
from nqm_study.report.quantities import Quantity, search_lines, value_lines
from nqm_study.report.reference import (
    CLASSICAL,
    Line,
    all_known,
    bayes_line,
    classical_line,
    optimal_line,
)
from nqm_study.study.records import OPTIMAL

_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "*": "star",
}
_DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
_LABEL_WIDTH = 33  # characters
_BLACK, _WHITE = "#000000", "#ffffff"


@dataclass(frozen=True)
class PageLine:
    """One line, whatever is on the axes.

    Attributes:
        trace: what Plotly is told of it always.
        points: its points.
        colors: on a light and on a dark page.
        bars: whether ranges over seeds are drawn.
    """

    trace: dict[str, Any]
    points: Sequence[Point]
    colors: tuple[str, str]
    bars: bool = False

    def data(self, quantities: Sequence[Quantity]) -> dict[str, Any]:
        """The same as JSON values: for each quantity the values, and the bars where there are any.

        What is not known, or cannot be on a logarithmic axis, is None.
        """
        return {
            "trace": self.trace,
            "colors": self.colors,
            "values": {
                quantity.name: [_shown(quantity, quantity.read(point)[0]) for point in self.points]
                for quantity in quantities
            },
            "bars": {
                quantity.name: arms
                for quantity in (quantities if self.bars else ())
                if any(map(any, arms := _arms(quantity, self.points)))
            },
        }


def page_lines(curves: Sequence[Curve]) -> list[PageLine]:
    """References first, the curves above them, each with its true optima."""
    with nqm_style():
        styles = curve_looks(curves)
    drawn = list(zip(curves, styles, strict=True))
    return [
        *_references(curves),
        *(line for curve, look in drawn for line in _optimum(curve, look)),
        *(_curve(curve, look) for curve, look in drawn),
        *(line for curve, look in drawn for line in _unreached(curve, look)),
    ]


def text(lines: Sequence[str]) -> str:
    """Lines of plain text for Plotly, which takes some tags for formatting."""
    return "<br>".join(escape(line, quote=False) for line in lines)


def _curve(curve: Curve, look: Look) -> PageLine:
    trace = {
        "type": "scatter",
        "name": text(wrap(curve.label, _LABEL_WIDTH)),
        "legendgroup": curve.key,
        "showlegend": True,
        # The line through the true optima takes the place of one through the points.
        "mode": "markers" if all_known(curve) else "lines+markers",
        "marker": {"symbol": _SYMBOLS[look.marker], "size": 9},
        "line": {"width": 1.8, "dash": _DASHES[look.linestyle]},
        "hovertext": [text([curve.label, *value_lines(p), *search_lines(p)]) for p in curve.points],
        "hoverinfo": "text",
    }
    return PageLine(trace, curve.points, _colors(look), bars=True)


def _optimum(curve: Curve, look: Look) -> Iterator[PageLine]:
    """A thin line through the true optima, where they are known."""
    points = [found for point in curve.points if (found := point.at_optimum()) is not None]
    if not points:
        return
    exact = all(point.optimum is not None and point.optimum.exact for point in points)
    name = "true optimum" if exact else "best of a dense search"
    trace = {
        "type": "scatter",
        "name": name,
        "legendgroup": curve.key,
        "showlegend": False,
        "mode": "lines",
        "line": {"width": 1.2, "dash": _DASHES[look.linestyle]},
        "hovertext": [text([f"{curve.label}, {name}", *value_lines(p)]) for p in points],
        "hoverinfo": "text",
    }
    yield PageLine(trace, points, _colors(look))


def _unreached(curve: Curve, look: Look) -> Iterator[PageLine]:
    """Hollow markers along the top, on an axis of their own."""
    if not curve.unreached:
        return
    points = [
        Point(size, math.nan, math.nan, math.nan, {}, trials=0, seeds=0, bayes_bound=0)
        for size in curve.unreached
    ]
    trace = {
        "type": "scatter",
        "name": "target not reached",
        "legendgroup": curve.key,
        "showlegend": False,
        "mode": "markers",
        "marker": {"symbol": f"{_SYMBOLS[look.marker]}-open", "size": 9},
        "hovertext": [
            text([curve.label, f"batch size {words.typed(size)}", "target not reached"])
            for size in curve.unreached
        ],
        "hoverinfo": "text",
        "yaxis": "y2",
        "y": [0.98] * len(points),
    }
    yield PageLine(trace, points, _colors(look))


def _references(curves: Sequence[Curve]) -> Iterator[PageLine]:
    """What every curve is measured against, for each spectrum and target apart."""
    groups = one_problem_each(curves)
    for members in groups:
        first = members[0]
        of = f" ({first.spectrum_text}, target {first.target:g})" if len(groups) > 1 else ""
        bayes, classical, optimal = (
            line(members) for line in (bayes_line, classical_line, optimal_line)
        )
        grey = ("#bfbfbf", "#5f5f5f")
        yield from _reference(f"Bayes bound{of}", bayes, members, {"width": 5}, grey)
        dotted = {"width": 1.6, "dash": "dot"}
        middle = ("#737373", "#a6a6a6")
        yield from _reference(f"{CLASSICAL}{of}", classical, members, dotted, middle)
        yield from _reference(f"{OPTIMAL}{of}", optimal, members, {"width": 1.6}, middle)


def _reference(
    name: str, line: Line, curves: Sequence[Curve], style: dict[str, Any], colors: tuple[str, str]
) -> Iterator[PageLine]:
    bounds = {point.batch_size: point.bayes_bound for curve in curves for point in curve.points}
    optimal = {p.batch_size: p.optimal_steps for c in curves for p in c.points if p.optimal_steps}
    points = [
        Point(
            size,
            *(steps, steps, steps),
            hyperparameters={},
            trials=0,
            seeds=0,
            bayes_bound=bounds[size],
            optimal_steps=optimal.get(size),
        )
        for size, steps in line
        if steps >= 1.0  # the classical line goes below, which is no number of steps
    ]
    if not points:
        return
    trace = {
        "type": "scatter",
        "name": text(wrap(name, _LABEL_WIDTH)),
        "legendrank": 1001,  # after the curves
        "mode": "lines" if len(points) > 1 else "lines+markers",
        "line": style,
        "marker": {"symbol": "line-ew-open", "size": 22},
        "hovertext": [
            text([name, f"batch size {words.typed(p.batch_size)}", f"{words.count(p.steps)} steps"])
            for p in points
        ],
        "hoverinfo": "text",
    }
    yield PageLine(trace, points, colors)


def _colors(look: Look) -> tuple[str, str]:
    """On a light page and on a dark one, where black would vanish."""
    light = f"#{look.color.removeprefix('#').lower()}"
    return light, _WHITE if light == _BLACK else light


def _shown(quantity: Quantity, value: float) -> float | None:
    if not math.isfinite(value) or (quantity.scale != "linear" and value <= 0.0):
        return None
    return value


def _arms(quantity: Quantity, points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """How far the range over seeds reaches above and below each value."""
    spreads = [quantity.read(point) for point in points]
    above = [max(0.0, high - value) if high > value else 0.0 for value, _, high in spreads]
    below = [value - low if low < value else 0.0 for value, low, _ in spreads]
    return above, below
