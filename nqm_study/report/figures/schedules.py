"""Computed schedules: the learning rate in the course of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator
from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.axes import (
    GREY,
    PANEL_HEIGHT,
    nqm_style,
    panels,
    plain,
    set_powers,
    shades,
    side_legend,
)
from nqm_study.report.captions import caption
from nqm_study.report.curves import Curve, Point, curves

_EQUAL = 1e-9  # relative difference below which rates are one
_GREEDY: dict[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 0.8}
_SOLID: dict[str, Any] = {"linewidth": 1.4}


def draw(studies: DataFrame) -> Figure | None:
    """The learning rate against the fraction of the run, a line for each batch size.

    Each curve has a panel, but a greedy one shares that of its optimizer's optimal schedules, where
    there is one such panel: its lines are thin and dashed. A batch size has one colour throughout.
    Rates of zero, which a logarithmic axis cannot show, fall off its lower end.

    Returns:
        the figure, or None where no curve has computed schedules.
    """
    shown = _panels(curves(studies))
    if not shown:
        return None
    members = [curve for panel in shown for curve in panel]
    colors = shades([point.batch_size for curve in members for point in _computed(curve)])
    with nqm_style():
        heights = [PANEL_HEIGHT] * len(shown)
        figure, all_axes = panels(
            heights, "fraction of the run, t / T", caption(members), shared=True
        )
        for axes, panel in zip(all_axes, shown, strict=True):
            _draw_panel(axes, panel, colors)
    return figure


def table(studies: DataFrame) -> DataFrame:
    """The same: a row for each (step, learning rate) pair."""
    rows = [
        (c.optimizer, c.schedule, p.batch_size, first_step, rate, int(p.steps_low), c.label)
        for c in curves(studies)
        for p in _computed(c)
        for first_step, rate in p.rates
    ]
    columns = ["optimizer", "schedule", "batch_size", "first_step", "learning_rate", "steps"]
    return DataFrame(rows, columns=[*columns, "curve"])


def _panels(curves: Sequence[Curve]) -> list[list[Curve]]:
    """The curves with computed schedules, those of one panel together."""
    known = [curve for curve in curves if _computed(curve)]
    result = [[curve] for curve in known if curve.schedule != "greedy"]
    for greedy in (curve for curve in known if curve.schedule == "greedy"):
        homes = [panel for panel in result if panel[0].optimizer == greedy.optimizer]
        if len(homes) == 1 and len(homes[0]) == 1:
            homes[0].append(greedy)
        else:
            result.append([greedy])
    return result


def _computed(curve: Curve) -> list[Point]:
    return [point for point in curve.points if point.rates]


def _draw_panel(axes: Axes, panel: Sequence[Curve], colors: dict[float, str]) -> None:
    axes.set_yscale("log", base=2, nonpositive="clip")
    axes.set_xlim(0.0, 1.0)
    axes.xaxis.set_major_locator(MultipleLocator(0.2))
    axes.set_ylabel("learning rate")
    axes.set_title(plain("; ".join(curve.label for curve in panel)), loc="left")
    points = [(curve, point) for curve in panel for point in _computed(curve)]
    set_powers(axes, "y", [rate for _, point in points for _, rate in point.rates])
    for curve, point in points:
        _draw_rates(axes, point, colors[point.batch_size], staircase=curve.schedule != "greedy")
    if panel[0].schedule != "greedy":  # which knows no cap
        _draw_cap(axes, _computed(panel[0]))
    _legend(axes, panel, colors)


def _draw_rates(axes: Axes, point: Point, color: str, *, staircase: bool) -> None:
    x = [step / point.steps_low for step, _ in point.rates]
    y = [rate for _, rate in point.rates]
    # The last rate holds to the end of the run.
    x, y = [*x, 1.0], [*y, y[-1]]
    if staircase:
        axes.plot(x, y, color=color, drawstyle="steps-post", **_SOLID)
    else:
        axes.plot(x, y, color=color, zorder=2.5, **_GREEDY)


def _draw_cap(axes: Axes, points: Sequence[Point]) -> None:
    """A dotted line at the largest rate allowed, if the schedules reach it.

    It shows in that several pieces have the same largest rate: peaks would all differ.
    """
    rates = [rate for point in points for _, rate in point.rates]
    cap = max(rates)
    if sum(rate > cap * (1.0 - _EQUAL) for rate in rates) < 2:
        return
    axes.axhline(cap, color=GREY, linewidth=1.0, linestyle=":", zorder=3)
    axes.annotate(
        f"cap {cap:.5g}",
        xy=(1.0, cap),
        xycoords=axes.get_yaxis_transform(),
        xytext=(-3, 4),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=GREY,
    )


def _legend(axes: Axes, panel: Sequence[Curve], colors: dict[float, str]) -> None:
    """Batch sizes, the largest first, as its rates end highest, with the steps of each run."""
    by_curve = [{point.batch_size: point for point in _computed(curve)} for curve in panel]
    lines, labels = [], []
    for size in sorted({size for found in by_curve for size in found}, reverse=True):
        style = _SOLID if panel[0].schedule != "greedy" and size in by_curve[0] else _GREEDY
        lines.append(Line2D([], [], color=colors[size], **style))
        steps = [words.count(found[size].steps_low) if size in found else "-" for found in by_curve]
        text = f"B = {words.power_of_two(size)}, T = {steps[0]}"
        labels.append(words.as_math(f"{text} ({steps[1]})" if len(panel) > 1 else text))
    if len(panel) > 1:
        lines += [Line2D([], [], color=GREY, **style) for style in (_SOLID, _GREEDY)]
        labels += [panel[0].schedule, "greedy, its T in brackets"]
    side_legend(axes, lines, labels)
