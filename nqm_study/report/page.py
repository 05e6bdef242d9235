"""The report as one HTML file: a chart to look into, a line on each curve, and a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from html import escape
from itertools import islice
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plotly.graph_objects import Figure, Layout

from nqm_study.report import words
from nqm_study.report.axes import Look, nqm_style
from nqm_study.report.captions import caption
from nqm_study.report.curves import Curve, Point, one_problem_each, scheduled
from nqm_study.report.describe import definitions, describe_curve
from nqm_study.report.html import chart, document
from nqm_study.report.looks import curve_looks
from nqm_study.report.reference import (
    CLASSICAL,
    all_known,
    bayes_line,
    classical_line,
    optimal_line,
)
from nqm_study.report.sheet import NAMING
from nqm_study.report.tables import result_frame
from nqm_study.study.records import OPTIMAL

_POWERS = ("batch_size", "steps", "examples")  # on axes with ticks at powers of two
_X = (*_POWERS, "learning_rate")
# Set by their distance from one, and told apart only by its logarithm.
_NEAR_ONE = ("momentum", "beta1", "beta2", "ema_decay")
_MOST_TICKS = 24
_LABEL_WIDTH = 33  # characters
_MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
_SYMBOLS = dict(zip("os^DvPX*", _MARKERS, strict=True))
_DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
_INK = "#000000"  # the text's colour, which the style makes light on a dark page
_GREY = "#808080"

_HEIGHT = "clamp(480px, 100vh - 140px, 600px)"  # as tall as a viewer's frame has room for
_STYLE = """:root { --ink: light-dark(#262626, #dddddd); }
html { background: Canvas; color: CanvasText; }
#theme { display: block; font: inherit; margin-left: auto; }
figure { margin: 0.5rem 0 1rem; }
figcaption, table { font-size: 0.9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { font-weight: bold; padding: 0.4rem 0; text-align: left; }
th, td { padding: 0.1rem 0.7rem; text-align: right; white-space: nowrap; }
th { max-width: 7rem; vertical-align: bottom; white-space: normal; }
.left { text-align: left; }
thead, tbody { border-bottom: 1px solid GrayText; }
.js-plotly-plot text, [style*="fill: rgb(0, 0, 0)"] { fill: var(--ink) !important; }
[style*="stroke: rgb(0, 0, 0)"] { stroke: var(--ink) !important; }
.gridlayer path { stroke: light-dark(#e2e2e2, #3a3a3a) !important; }
.hovertext path, .updatemenu-item-rect { fill: Canvas !important; }
"""
_BODY = """<button id="theme" type="button">dark colours</button>
<figure>
{chart}
<figcaption>{caption}</figcaption>
</figure>
<ul id="description">
{lines}
</ul>
<details>
<summary>What the words mean</summary>
{definitions}
</details>
<div class="wide">
<table>
<caption>Fewest steps to the target, by curve and batch size</caption>
{table}
</table>
</div>
<script>
const root = document.documentElement, theme = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
function paint(dark) {{
  root.style.colorScheme = dark ? "dark" : "light";
  theme.textContent = dark ? "light colours" : "dark colours";
}}
theme.onclick = () => paint(root.style.colorScheme === "light");
system.onchange = () => paint(system.matches);
paint(system.matches);
</script>"""
_NARROW = """const narrow = matchMedia("(max-width: 700px)");
function place() {
  const legend = narrow.matches ? { orientation: "h", y: -0.35 } : {};
  Plotly.relayout("{plot_id}", { legend });
}
narrow.onchange = place;
place();"""

Values = NDArray[np.float64]

Line = tuple[dict[str, Any], list[dict[str, Values]]]
"""What Plotly is given of a line whatever is on the axes, and its points' quantities."""


def report_page(curves: Sequence[Curve], title: str) -> str:
    """Write the curves as an HTML page that works from disk and asks no server.

    Words and table are there without JavaScript. The same curves give the same bytes.

    Args:
        curves: at least one; their spectra and targets may differ, as their labels then do.
        title: plain text, above the page.

    Raises:
        ValueError: where there are no curves.
    """
    if not curves:
        raise ValueError("curves=(): must be at least one")
    body = _BODY.format(
        chart=chart(page_figure(curves), "plot", _HEIGHT, post_script=_NARROW),
        caption=escape(f"{caption(curves)} {_legend(curves)}"),
        lines="\n".join(f"<li>{escape(describe_curve(curve))}</li>" for curve in curves),
        definitions="\n".join(f"<p>{escape(text)}</p>" for text in definitions(curves)),
        table=_table(curves),
    )
    return document(title, body, _STYLE)


def page_figure(curves: Sequence[Curve]) -> Figure:
    """Draw the page's chart: log axes, values under the pointer, a legend that hides, two menus.

    The menus choose what is on the axes: steps, and the quantities that at least one point has.
    """
    titles, lines = _titles(curves), _lines(curves)
    points = [point for _, found in lines for point in found]
    values = {
        name: [value for p in points for value in p.get(name, ()) if math.isfinite(value)]
        for name in titles
    }
    axes = {
        name: _axis(name, title, values[name])
        for name, title in titles.items()
        if values[name] or name == "steps"
    }
    menus = {
        letter: [
            _choice(letter, name, axes[name], lines)
            for name in axes
            if (name in _X if letter == "x" else name != "batch_size")
        ]
        for letter in "yx"
    }
    (upright, y), (level, x) = (menus[letter][0]["args"] for letter in "yx")
    traces = [
        {**trace, **{key: found[place] for key, found in {**upright, **level}.items()}}
        for place, (trace, _) in enumerate(lines)
    ]
    places = {"y": (0.0, 1.01, "bottom", "down"), "x": (1.0, -0.16, "top", "up")}
    layout = Layout(
        {**y, **x},
        template="none",
        margin={"t": 60, "r": 10, "l": 60, "b": 90},
        hovermode="closest",
        font={"family": "system-ui, sans-serif", "color": _INK},
        hoverlabel={"bgcolor": "white", "align": "left"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": _GREY, "activecolor": _GREY},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend2={"visible": False},
        yaxis2={"overlaying": "y", "range": [0, 1], "fixedrange": True, "visible": False},
        updatemenus=[
            {
                "buttons": menus[letter],
                **dict(zip(("x", "y", "yanchor", "direction"), place, strict=True)),
                "xanchor": "left" if letter == "y" else "right",
                "bordercolor": _GREY,
                "bgcolor": "white",
            }
            for letter, place in places.items()
        ],
    )
    return Figure(traces, layout)


def _choice(letter: str, name: str, axis: dict[str, Any], lines: Sequence[Line]) -> dict[str, Any]:
    """Make a menu's button: it puts a quantity on an axis; lines without it leave the legend."""
    unknown = np.full(3, math.nan)
    read = [[point.get(name, unknown) for point in points] for _, points in lines]
    spreads = [np.array(found).reshape(-1, 3) for found in read]
    lowest = 0.0 if axis["type"] == "log" else -math.inf
    values = [
        [v if lowest < v < math.inf else None for v in each[:, 0].tolist()] for each in spreads
    ]
    known = [any(value is not None for value in found) for found in values]
    restyle: dict[str, list[Any]] = {f"error_{letter}": [_bars(*each.T) for each in spreads]}
    traces = [trace for trace, _ in lines]
    if letter == "x":
        restyle["x"] = values
        # Either menu takes lines out of the legend: this one by another legend that is not shown.
        restyle["legend"] = ["legend" if each else "legend2" for each in known]
    else:
        restyle["y"] = [trace.get("y", found) for trace, found in zip(traces, values, strict=True)]
        restyle["showlegend"] = [
            trace["showlegend"] and each for trace, each in zip(traces, known, strict=True)
        ]
    label = axis["title"]["text"]
    args = [restyle, {f"{letter}axis": axis}]
    return {"label": label, "name": name, "method": "update", "args": args}


def _bars(value: Values, low: Values, high: Values) -> dict[str, Any]:
    """Error bars of Plotly: how far the range over seeds reaches above and below each value."""
    above, below = (np.nan_to_num(arm).clip(0.0).tolist() for arm in (high - value, value - low))
    if not any(above + below):
        return {"visible": False}
    arms = {"array": above, "arrayminus": below, "symmetric": False}
    return {"visible": True, "type": "data", "thickness": 1.2, **arms}


def _axis(name: str, title: str, values: Sequence[float]) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "title": {"text": escape(title, quote=False)},
        "gridcolor": "#e2e2e2",
        "zeroline": False,
        "automargin": True,
    }
    if name == "excess" or min(values, default=1.0) <= 0.0:
        return {**axis, "type": "linear", "rangemode": "tozero"}
    axis |= {"type": "log", "exponentformat": "power", "tickangle": 0}
    if name in _POWERS and values:
        low, high = (math.log2(end(values)) for end in (min, max))
        powers = range(math.floor(low) - 1, math.ceil(high) + 2)
        step = math.ceil(len(powers) / _MOST_TICKS)
        shown = [k for k in powers if k % step == 0]
        axis["tickvals"] = [2.0**k for k in shown]
        axis["ticktext"] = [f"2<sup>{k}</sup>" for k in shown]
    return axis


def _titles(curves: Sequence[Curve]) -> dict[str, str]:
    """Titles, with units, of the quantities that axes can have, by name in the menus' order.

    The effective rate is left out where no optimizer has momentum: it is the learning rate there.
    """
    best = "best peak learning rate" if scheduled(curves) else "best learning rate"
    titles = {
        "batch_size": "batch size, B (examples)",
        "steps": "steps to target, T (optimizer steps)",
        "examples": "examples to target, T B",
        "learning_rate": f"{best} (as in PyTorch)",
        "effective_rate": "best effective rate, lr / (1 - momentum)",
        "excess": "steps over the true optimum (%)",
        "ratio": "steps / Bayes bound",
        "ratio_to_optimal": f"steps / {OPTIMAL}",
    }
    if all(_plain(point) for curve in curves for point in curve.points):
        del titles["effective_rate"]
    for name in (name for curve in curves for name in curve.searched if name != "learning_rate"):
        less = "1 - " if name in _NEAR_ONE else ""
        titles[f"hyperparameter {name}"] = f"{less}best {name.replace('_', ' ')}"
    return titles


def _spreads(point: Point) -> dict[str, Values]:
    """Quantities of a point by name: value, lowest and highest over seeds, nan if not known."""
    steps = np.array([point.steps, point.steps_low, point.steps_high])
    optimum = point.optimum.steps if point.optimum else 0
    spreads = {
        "batch_size": np.full(3, point.batch_size),
        "steps": steps,
        "examples": steps * point.batch_size,
        "effective_rate": np.array([point.effective_rate, *point.effective_rate_range]),
        "excess": 100.0 * (steps / (optimum or math.nan) - 1.0),
        "ratio": steps / (point.bayes_bound or math.nan),
        "ratio_to_optimal": steps / (point.optimal_steps or math.nan),
    }
    for name, value in point.hyperparameters.items():
        low, high = point.hyperparameter_ranges.get(name, (value, value))
        spread = [1.0 - value, 1.0 - high, 1.0 - low] if name in _NEAR_ONE else [value, low, high]
        spreads[name if name == "learning_rate" else f"hyperparameter {name}"] = np.array(spread)
    return spreads


def _plain(point: Point) -> bool:
    return point.hyperparameters.get("momentum", 0.0) == 0.0


def _lines(curves: Sequence[Curve]) -> list[Line]:
    """Lines of the chart: references, true optima, curves, and sizes that missed the target."""
    with nqm_style():
        drawn = list(zip(curves, curve_looks(curves), strict=True))
    return [
        *_references(curves),
        *(line for curve, look in drawn for line in _optimum(curve, look)),
        *(_curve(curve, look) for curve, look in drawn),
        *(line for curve, look in drawn for line in _unreached(curve, look)),
    ]


def _curve(curve: Curve, look: Look) -> Line:
    hover = [[curve.label, *_value_lines(p), *_search_lines(p)] for p in curve.points]
    # The line through the true optima takes the place of one through the points.
    mode = "markers" if all_known(curve) else "lines+markers"
    trace = _trace(curve.label, curve.key, look, hover, mode, width=1.8)
    return trace, [_spreads(point) for point in curve.points]


def _optimum(curve: Curve, look: Look) -> Iterator[Line]:
    """Thin line through a curve's true optima, where they are known."""
    points = [found for point in curve.points if (found := point.at_optimum()) is not None]
    if points:
        exact = all(point.optimum is not None and point.optimum.exact for point in points)
        name = "true optimum" if exact else "best of a dense search"
        hover = [[f"{curve.label}, {name}", *_value_lines(point)] for point in points]
        trace = _trace(name, curve.key, look, hover, "lines", width=1.2)
        yield {**trace, "showlegend": False}, [_spreads(point) for point in points]


def _unreached(curve: Curve, look: Look) -> Iterator[Line]:
    """Hollow markers at the batch sizes that missed the target, on an axis of their own."""
    if curve.unreached:
        name, sizes = "target not reached", curve.unreached
        hover = [[curve.label, f"batch size {words.typed(size)}", name] for size in sizes]
        trace = _trace(name, curve.key, look, hover, "markers", width=1.0)
        trace["marker"] = {**trace["marker"], "symbol": f"{_SYMBOLS[look.marker]}-open"}
        trace |= {"showlegend": False, "yaxis": "y2", "y": [0.98] * len(sizes)}
        yield trace, [{"batch_size": np.full(3, size)} for size in sizes]


def _references(curves: Sequence[Curve]) -> Iterator[Line]:
    """Lines of the bounds and of SGD's optimal schedule, for each spectrum and target apart."""
    groups = one_problem_each(curves)
    for members in groups:
        first = members[0]
        of = f" ({first.spectrum_text}, target {first.target:g})" if len(groups) > 1 else ""
        at = {point.batch_size: point for curve in members for point in curve.points}
        for name, line, style in (
            ("Bayes bound", bayes_line, {"width": 5, "color": "rgba(128, 128, 128, 0.5)"}),
            (CLASSICAL, classical_line, {"width": 1.6, "color": _GREY, "dash": "dot"}),
            (OPTIMAL, optimal_line, {"width": 1.6, "color": _GREY}),
        ):
            # The classical line goes below 1, which is no number of steps.
            found = [(size, steps) for size, steps in line(members) if steps >= 1.0]
            hover = [
                [f"{name}{of}", f"batch size {words.typed(b)}", f"{words.count(steps)} steps"]
                for b, steps in found
            ]
            trace = {
                "name": _text(wrap(f"{name}{of}", _LABEL_WIDTH)),
                "legendrank": 1001,  # after the curves
                "showlegend": True,
                "mode": "lines" if len(found) > 1 else "lines+markers",
                "line": style,
                "marker": {"symbol": "line-ew-open", "size": 22, "color": style["color"]},
                "hovertext": [_text(lines) for lines in hover],
                "hoverinfo": "text",
            }
            if found:
                yield trace, [_reference(at[size], steps) for size, steps in found]


def _reference(point: Point, steps: float) -> dict[str, Values]:
    """Quantities of a point of a reference: these steps at the batch size of a curve's point."""
    known = _spreads(replace(point, steps=steps, steps_low=steps, steps_high=steps))
    return {name: known[name] for name in (*_POWERS, "ratio", "ratio_to_optimal")}


def _trace(
    name: str, key: str, look: Look, hover: Sequence[Sequence[str]], mode: str, width: float
) -> dict[str, Any]:
    return {
        "name": _text(wrap(name, _LABEL_WIDTH)),
        "legendgroup": key,
        "showlegend": True,
        "mode": mode,
        "line": {"color": look.color, "width": width, "dash": _DASHES[look.linestyle]},
        "marker": {
            "color": look.color,
            "symbol": _SYMBOLS[look.marker],
            "size": 9,
            "line": {"color": _INK, "width": 0.7},
        },
        "hovertext": [_text(lines) for lines in hover],
        "hoverinfo": "text",
    }


def _text(lines: Sequence[str]) -> str:
    """Join lines of plain text for Plotly, which takes some tags for formatting."""
    return "<br>".join(escape(line, quote=False) for line in lines)


def _value_lines(point: Point) -> list[str]:
    """Text under the pointer on a point's values, a line each."""
    lines = [
        f"batch size {words.typed(point.batch_size)}",
        f"{words.count(point.steps)} steps",
        f"{words.count(point.examples)} examples",
    ]
    names = dict.fromkeys(("learning_rate", *point.hyperparameters))
    lines += [
        f"{name.replace('_', ' ')} {words.hyperparameter(value)}"
        for name in names
        if (value := point.hyperparameters.get(name)) is not None and not math.isnan(value)
    ]
    if not _plain(point):
        lines.append(f"lr / (1 - momentum) {words.hyperparameter(point.effective_rate)}")
    if not math.isnan(point.ratio_to_bound):
        lines.append(f"{words.ratio(point.ratio_to_bound)} times the Bayes bound")
    if not math.isnan(point.ratio_to_optimal):
        lines.append(f"{words.ratio(point.ratio_to_optimal)} times {OPTIMAL}")
    return lines


def _search_lines(point: Point) -> list[str]:
    """Text under the pointer on a point's search: excess, trials and seeds, a line each."""
    lines = []
    if point.excess is not None:
        exact = point.optimum is not None and point.optimum.exact
        over = "the true optimum" if exact else "the best of a dense search"
        lines.append(f"{words.percent(point.excess)} over {over}")
    seeds = point.seeds + point.seeds_unreached
    lines.append(f"{words.count(point.trials)} trials, {seeds} seed{'s' if seeds > 1 else ''}")
    if point.seeds > 1:
        low, high = words.count(point.steps_low), words.count(point.steps_high)
        lines.append(f"{low} to {high} steps over seeds")
    if point.seeds_unreached:
        lines.append(f"{point.seeds} of {seeds} seeds reached the target")
    return lines


def _legend(curves: Sequence[Curve]) -> str:
    """Sentences on the marks that the legend does not name."""
    text = "A click on an entry of the legend hides or shows it, a double click shows it alone."
    if any(point.optimum is not None for curve in curves for point in curve.points):
        text += (
            " A thin line goes through the true optima of a curve's search space, or the best of a "
            "dense search of it."
        )
    if any(curve.unreached for curve in curves):
        text += " A hollow marker at the top is a batch size at which the target was not reached."
    return text


def _table(curves: Sequence[Curve]) -> str:
    """HTML of the table of points: a row for each batch size, a body for each curve."""
    texts = result_frame(curves)
    sides = [' class="left"' if heading in NAMING else "" for heading in texts]

    def cells(tag: str, row: Iterable[str]) -> str:
        found = zip(sides, row, strict=True)
        return "".join(f"<{tag}{side}>{escape(text)}</{tag[:2]}>" for side, text in found)

    rows = (f"<tr>{cells('td', row)}</tr>" for row in texts.itertuples(index=False))
    bodies = ["\n".join(islice(rows, len(curve.points) + len(curve.unreached))) for curve in curves]
    head = "<thead><tr>" + cells('th scope="col"', texts) + "</tr></thead>\n"
    return head + "".join(f"<tbody>{body}</tbody>\n" for body in bodies)
