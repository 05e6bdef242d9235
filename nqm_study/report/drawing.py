"""What the figures are made of: points, ranges, fits and crosses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nqm_study.report import words
from nqm_study.report.axes import (
    GREY,
    Entry,
    Look,
    label_text,
    legend,
    set_powers,
)
from nqm_study.report.curves import Curve
from nqm_study.report.laws import fit_learning_rate, perfect_scaling
from nqm_study.report.placing import Note, along, backwards, place
from nqm_study.report.reference import Line, all_known
from nqm_study.report.reference_lines import draw_optimum

MOST_NOTES = 4
"""More texts than this beside lines are easier to tell apart in the legend."""

_HOLLOW: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 1.3}
_ROW_SPACING = 0.04  # share of the axis between the rows of hollow markers of different curves


def curve_line(
    look: Look, x: Sequence[float] = (), y: Sequence[float] = (), *, joined: bool = True
) -> Line2D:
    """A curve's markers, joined by a line or not; the dark rim keeps pale markers visible."""
    style: dict[str, Any] = {"marker": look.marker, "linestyle": look.linestyle}
    line = Line2D(x, y, color=look.color, markeredgecolor="0.15", zorder=3, **style)
    if not joined:
        line.set_linestyle("")
    return line


def draw_curve(
    axes: Axes, curve: Curve, look: Look, points: Line, ranges: Line, optimum: Line
) -> Entry:
    """Draw a curve's points, with a bar over each range that is not a single value.

    A line joins them, unless all true optima are known: a thin line through these is in its place.

    Returns:
        the curve's entry for a legend.
    """
    draw_optimum(axes, look, optimum)
    bars = [
        (x, low, high) for (x, _), (low, high) in zip(points, ranges, strict=True) if low < high
    ]
    if bars:
        at, *ends = zip(*bars, strict=True)
        axes.vlines(at, *ends, color=look.color, linewidth=1.0, zorder=2.5)
        for end in ends:
            axes.plot(at, end, "_", color=look.color, markeredgewidth=1.0)
    joined = not all_known(curve)
    x, y = [x for x, _ in points], [y for _, y in points]
    axes.add_line(curve_line(look, x, y, joined=joined))
    return curve_line(look, joined=joined), curve.label, ""


def set_limits(axes: Axes, curves: Sequence[Curve], y_values: Sequence[float]) -> None:
    """Set limits that hold every batch size, reached or not, and the given values."""
    rows = sum(bool(curve.unreached) for curve in curves)
    batch_sizes = [point.batch_size for curve in curves for point in curve.points]
    batch_sizes += [batch_size for curve in curves for batch_size in curve.unreached]
    set_powers(axes, "x", batch_sizes)
    if not y_values:
        axes.set_yticks([])
        axes.text(
            0.5, 0.5, "no batch size reached the target", transform=axes.transAxes, ha="center"
        )
        return
    set_powers(axes, "y", y_values, room=(rows + 1) * _ROW_SPACING if rows else 0.0)


def draw_perfect_scaling(axes: Axes, curve: Curve, look: Look) -> None:
    """Draw the thin dashed line T = k / B over the curve's batch sizes, where it has one."""
    constant = perfect_scaling(curve)
    if constant is None:
        return
    ends = [curve.points[0].batch_size, curve.points[-1].batch_size]
    steps = [constant / batch_size for batch_size in ends]
    axes.plot(ends, steps, "--", color=look.color, linewidth=0.8, alpha=0.8, zorder=2)


def draw_unreached(axes: Axes, drawn: Sequence[tuple[Curve, Look]]) -> list[Entry]:
    """Draw hollow markers along the top, a row per curve; returns their entry for the legend."""
    rows = [(curve, look) for curve, look in drawn if curve.unreached]
    for i, (curve, look) in enumerate(rows):
        heights = [1.0 - (i + 0.5) * _ROW_SPACING] * len(curve.unreached)
        axes.plot(
            curve.unreached,
            heights,
            look.marker,
            color=look.color,
            transform=axes.get_xaxis_transform(),
            **_HOLLOW,
        )
    hollow = Line2D([], [], linestyle="", marker="o", color=GREY, **_HOLLOW)
    return [(hollow, "target not reached", "")] if rows else []


def draw_fit(axes: Axes, curve: Curve, look: Look) -> Note | None:
    """Draw the fitted power law as a wide pale line; returns the note to write beside it.

    It is over the batch sizes fitted. Where the law ends, a thin line goes on to a bar there.
    """
    fit = fit_learning_rate(curve)
    if fit is None:
        return None
    low, high = fit.batch_sizes
    band: dict[str, Any] = {"linewidth": 6, "alpha": 0.35, "solid_capstyle": "butt", "zorder": 2}
    axes.plot([low, high], list(map(fit.learning_rate, (low, high))), color=look.color, **band)
    if fit.end is not None:
        beyond = [high, fit.end], [fit.learning_rate(high), fit.learning_rate(fit.end)]
        axes.plot(*beyond, ":", color=look.color, linewidth=1.0, zorder=2)
        axes.add_line(law_end(look.color, [fit.end], [fit.learning_rate(fit.end)]))
    # Short lines fit where a long one does not.
    places = along((low, fit.learning_rate(low)), (high, fit.learning_rate(high)))
    return Note(words.as_math("\n".join(words.slope_lines(fit))), look.color, places)


def name_beside(
    curve: Curve, look: Look, points: Sequence[tuple[float, float]], slope: Note | None = None
) -> list[Note]:
    """The note that names a curve: at its end, or above the slope; none without points."""
    if slope is not None:
        return [replace(slope, text=f"{label_text(curve.label)}\n{slope.text}")]
    return [Note(label_text(curve.label), look.color, backwards(points))] if points else []


def write_names(
    figure: Figure,
    axes: Axes,
    curves: Sequence[Entry],
    notes: Sequence[Note],
    others: Sequence[Entry],
) -> bool:
    """Write the notes that name the curves beside them, and the other entries in the legend.

    Where a note finds no place, or there are too many to look for, or two curves have one colour,
    none is written, and the legend has the curves too.

    Returns:
        Whether the notes are there.
    """
    if len(notes) <= MOST_NOTES and len({note.color for note in notes}) == len(curves):
        legend(figure, others)
        figure.draw_without_rendering()
        if place(axes, notes):
            return True
    legend(figure, [*curves, *others])
    figure.draw_without_rendering()
    return False


def law_end(color: str, x: Sequence[float] = (), y: Sequence[float] = ()) -> Line2D:
    """The bar across a fitted line where its law ends."""
    style: dict[str, Any] = {"linestyle": "", "marker": "|", "zorder": 3.5}
    return Line2D(x, y, color=color, markersize=16, markeredgewidth=2.2, **style)
