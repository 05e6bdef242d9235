"""Steps to the target against batch size."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from nqm_study.report.axes import BATCH_SIZE, GREY, Entry, log2_axes, nqm_style
from nqm_study.report.captions import caption
from nqm_study.report.curves import Curve, compared, curves, one_problem_each
from nqm_study.report.drawing import (
    draw_curve,
    draw_perfect_scaling,
    draw_unreached,
    name_beside,
    set_limits,
    write_names,
)
from nqm_study.report.laws import perfect_scaling
from nqm_study.report.looks import curve_looks
from nqm_study.report.placing import Note
from nqm_study.report.reference import CLASSICAL, classical_line, optimum_steps
from nqm_study.report.reference_lines import (
    draw_interpolation,
    draw_reference,
    optimum_entry,
    reference_values,
)

_MOST_DASHED = 4  # lines of perfect scaling: more only hide the curves


def draw(studies: DataFrame) -> Figure | None:
    """Fewest steps to the target against batch size, both in powers of two.

    A thin dashed line in a curve's colour is its perfect scaling T = k / B, drawn for up to four
    curves. The broad grey line is the Bayes bound, the dotted one d / (2 C B), the dark one SGD's
    optimal schedule with rates of at most 2/h_1. A hollow marker at the top is a batch size at
    which the target was not reached. Where the true optima are known, a thin line in the curve's
    colour goes through them in place of one through the points. Curves are named beside their ends,
    or in the legend where there is no room.

    Returns:
        the figure, or None without curves.
    """
    shown = compared(curves(studies))
    if not shown:
        return None
    dashed = [curve for curve in shown if perfect_scaling(curve) is not None]
    if len(shown) > _MOST_DASHED:
        dashed = []
    with nqm_style():
        drawn = list(zip(shown, curve_looks(shown), strict=True))
        figure, axes = log2_axes(
            BATCH_SIZE, "steps to target, T (optimizer steps)", _caption(shown)
        )
        names: list[Entry] = []
        notes: list[Note] = []
        set_limits(axes, shown, _values(shown))
        for curve, look in drawn:
            if curve in dashed:
                draw_perfect_scaling(axes, curve, look)
            found = [(point.batch_size, point.steps) for point in curve.points]
            ranges = [(point.steps_low, point.steps_high) for point in curve.points]
            names.append(draw_curve(axes, curve, look, found, ranges, optimum_steps(curve)))
            notes += name_beside(curve, look, found)
        entries = optimum_entry(shown)
        if dashed:
            line = Line2D([], [], color=GREY, linestyle="--", linewidth=0.8)
            entries.append((line, "perfect scaling, T = k / B", ""))
        entries += draw_reference(axes, shown, [look for _, look in drawn])
        entries += draw_interpolation(axes, shown)
        entries += draw_unreached(axes, drawn)
        write_names(figure, axes, names, notes, entries)
    return figure


def _values(curves: Sequence[Curve]) -> list[float]:
    """The steps that the axis must hold."""
    steps = [edge for c in curves for p in c.points for edge in (p.steps_low, p.steps_high)]
    steps += [value for curve in curves for _, value in optimum_steps(curve)]
    # At the largest batches the classical line goes below one step, which is no number of steps.
    return steps + [value for value in reference_values(curves) if value >= 1.0]


def _caption(curves: Sequence[Curve]) -> str:
    text = caption(curves)
    if len(one_problem_each(curves)) == 1 and classical_line(curves):
        formula = CLASSICAL.replace(" ", "\N{NO-BREAK SPACE}")
        text += f" In {formula}, C is the target loss and d the sum of noise over curvature."
    return text
