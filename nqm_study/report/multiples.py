"""Small multiples: a panel for each of many curves, with the others pale behind it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nqm_study.report.axes import (
    Entry,
    StyledFigure,
    caption_line,
    label_text,
    legend,
    nqm_style,
    set_powers,
)
from nqm_study.report.captions import caption
from nqm_study.report.curves import Curve
from nqm_study.report.drawing import curve_line
from nqm_study.report.looks import curve_looks
from nqm_study.report.reference import Line

FEWEST = 9
"""Curves from which on they have panels of their own; fewer are told apart in one."""

_COLUMNS = 4
_PANEL = (1.8, 1.7)  # inches
_TICKS = 5
_PALE = "0.82"


def multiples(
    curves: Sequence[Curve],
    line: Callable[[Curve], Line],
    label: str,
    behind: Callable[[Axes], list[Entry]],
    values: Sequence[float] = (),
) -> Figure | None:
    """A panel for each curve in the order given; None for fewer than ``FEWEST``.

    Args:
        curves: those of one problem, each with a point.
        line: its points.
        label: of the vertical axes.
        behind: draws what stands in each panel, and returns its entries for the legend.
        values: further values that the vertical axes have to hold.
    """
    if len(curves) < FEWEST:
        return None
    lines = [line(curve) for curve in curves]
    with nqm_style():
        rows = math.ceil(len(curves) / _COLUMNS)
        figure = StyledFigure(figsize=(_COLUMNS * _PANEL[0], rows * _PANEL[1] + 0.6))
        grid = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False)
        first, entries = grid[0, 0], []
        first.set(xscale="log", yscale="log")
        sizes, heights = zip(*(point for each in lines for point in each), strict=True)
        set_powers(first, "x", sizes, most=_TICKS)
        set_powers(first, "y", [*heights, *values], most=_TICKS)
        for axes in grid.flat[len(curves) :]:
            axes.set_visible(False)
        looks = curve_looks(curves)
        for place, (curve, look, points) in enumerate(zip(curves, looks, lines, strict=True)):
            axes = grid.flat[place]
            entries = behind(axes)
            for other in lines:
                axes.plot(*zip(*other, strict=True), color=_PALE, linewidth=0.7, zorder=1.5)
            axes.add_line(curve_line(look, *zip(*points, strict=True)))
            axes.set_title(label_text(curve.label), fontsize=8)
            if place + _COLUMNS >= len(curves):
                axes.set_xlabel("batch size, B", fontsize=8)
                axes.tick_params(labelbottom=True)
        figure.supylabel(label, fontsize=9)
        caption_line(figure, f"{caption(curves)} Pale lines: the curves of the other panels.")
        legend(figure, entries)
    return figure
