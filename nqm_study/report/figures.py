"""Two of the figures: steps to the target, and the best learning rate, against batch size."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nqm_study.report import words
from nqm_study.report.axes import GREY, Entry, legend, log2_axes, nqm_style
from nqm_study.report.captions import caption, check_some, scheduled
from nqm_study.report.drawing import (
    MOST_NOTES,
    curve_line,
    curve_looks,
    draw_fit,
    draw_perfect_scaling,
    draw_points,
    draw_unreached,
    law_end,
    name_beside,
    set_limits,
    write_names,
)
from nqm_study.report.laws import SlopeFit, fit_learning_rate, perfect_scaling
from nqm_study.report.optima import (
    all_known,
    draw_optimum,
    optimum_entry,
    optimum_rates,
    optimum_steps,
)
from nqm_study.report.placing import Note, place
from nqm_study.report.reference import (
    CLASSICAL,
    classical_line,
    draw_reference,
    reference_values,
)
from nqm_study.report.scaling import Curve, one_problem_each

_BATCH_SIZE = "batch size, B (examples)"
_MOST_DASHED = 4  # lines of perfect scaling: more only hide the curves


def steps_figure(curves: Sequence[Curve]) -> Figure:
    """Fewest steps to the target against batch size, both in powers of two.

    A thin dashed line in a curve's colour is its perfect scaling T = k / B, drawn for up to four
    curves. The broad grey line is the Bayes bound, the dotted one d / (2 C B), the dark one SGD's
    optimal schedule with rates of at most 2/h_1. A hollow marker at the top is a batch size at
    which the target was not reached. Where the true optima are known, a thin line in the curve's
    colour goes through them in place of one through the points. Curves are named beside their ends,
    or in the legend where there is no room.

    Raises:
        ValueError: without curves.
    """
    check_some(curves)
    dashed = [curve for curve in curves if perfect_scaling(curve) is not None]
    if len(curves) > _MOST_DASHED:
        dashed = []
    with nqm_style():
        drawn = list(zip(curves, curve_looks(curves), strict=True))
        figure, axes = log2_axes(
            _BATCH_SIZE, "steps to target, T (optimizer steps)", _steps_caption(curves)
        )
        names: list[Entry] = []
        notes: list[Note] = []
        set_limits(axes, curves, _steps_shown(curves))
        for curve, look in drawn:
            if curve in dashed:
                draw_perfect_scaling(axes, curve, look)
            draw_optimum(axes, look, optimum_steps(curve))
            joined = not all_known(curve)
            found = [(point.batch_size, point.steps) for point in curve.points]
            ranges = [(point.steps_low, point.steps_high) for point in curve.points]
            draw_points(axes, look, found, ranges, joined=joined)
            names.append((curve_line(look, joined=joined), curve.label, ""))
            notes += name_beside(curve, look, found)
        entries = optimum_entry(curves)
        if dashed:
            line = Line2D([], [], color=GREY, linestyle="--", linewidth=0.8)
            entries.append((line, "perfect scaling, T = k / B", ""))
        entries += draw_reference(axes, curves, [look for _, look in drawn])
        entries += draw_unreached(axes, drawn)
        write_names(figure, axes, names, notes, entries)
    return figure


def learning_rate_figure(curves: Sequence[Curve]) -> Figure:
    """The best learning rate found against batch size, both in powers of two.

    Under a schedule it is the peak rate. That of a computed schedule is mostly the cap on it, which
    says nothing, so such curves are left out where there are others, and never fitted.

    With momentum it is the effective rate, lr / (1 - momentum): many pairs of the two are equally
    good, and only this is the same for all of them.

    A wide pale line is the power law fitted at small batches, up to a bar where the rate leaves it.
    The curve's name, its slope, the slope's 95 % confidence interval, the batch sizes fitted and
    where the law ends stand beside it, or in the legend where there is no room. Thin lines go
    through the true optima, as among the steps.

    Raises:
        ValueError: without curves.
    """
    check_some(curves)
    with nqm_style():
        drawn = list(zip(curves, curve_looks(curves), strict=True))
        drawn = [pair for pair in drawn if not pair[0].computed] or drawn
        shown = [curve for curve, _ in drawn]
        figure, axes = log2_axes(_BATCH_SIZE, _rate_label(shown), _rate_caption(shown))
        names: list[Entry] = []
        notes: list[Note] = []
        slopes: dict[int, Note] = {}
        rates: list[float] = []
        for i, (curve, look) in enumerate(drawn):
            reached = [point for point in curve.points if point.effective_rate > 0.0]
            found = [(point.batch_size, point.effective_rate) for point in reached]
            ranges = [point.effective_rate_range for point in reached]
            rates += [edge for pair in ranges for edge in pair]
            rates += [rate for _, rate in optimum_rates(curve)]
            draw_optimum(axes, look, optimum_rates(curve))
            joined = not all_known(curve)
            draw_points(axes, look, found, ranges, joined=joined)
            slope = draw_fit(axes, curve, look)
            if slope is not None:
                slopes[i] = slope
            names.append((curve_line(look, joined=joined), curve.label, ""))
            notes += name_beside(curve, look, found, slope)
        set_limits(axes, shown, rates)
        entries = optimum_entry(shown)
        entries += draw_unreached(axes, drawn)
        if slopes:
            band = Line2D([], [], color=GREY, alpha=0.35, linewidth=6)
            entries.append((band, "fitted power law", ""))
        if any(fit.end is not None for fit in _fits(shown)):
            entries.append((law_end(GREY), "its end: best rate 20 % off", ""))
        if write_names(figure, axes, names, notes, entries):
            return figure
        if len(slopes) > MOST_NOTES or not place(axes, list(slopes.values())):
            for i, slope in slopes.items():
                line, label, _ = names[i]
                names[i] = (line, label, slope.text)
            legend(figure, [*names, *entries])
    return figure


def _rate_label(curves: Sequence[Curve]) -> str:
    best = "best peak learning rate" if scheduled(curves) else "best learning rate"
    if all(curve.computed for curve in curves):  # none was searched
        best = "peak learning rate"
    points = [point for curve in curves for point in curve.points]
    if any(point.hyperparameters.get("momentum", 0.0) > 0.0 for point in points):
        return f"{best}\nwith momentum, lr / (1 - momentum)"
    return f"{best} (as in PyTorch)"


def _fits(curves: Sequence[Curve]) -> list[SlopeFit]:
    return [fit for curve in curves if (fit := fit_learning_rate(curve)) is not None]


def _rate_caption(curves: Sequence[Curve]) -> str:
    return f"{caption(curves)} {words.slopes(_fits(curves))}".strip()


def _steps_shown(curves: Sequence[Curve]) -> list[float]:
    """The values that the axis of steps must hold."""
    steps = [edge for c in curves for p in c.points for edge in (p.steps_low, p.steps_high)]
    steps += [value for curve in curves for _, value in optimum_steps(curve)]
    # At the largest batches the classical line goes below one step, which is no number of steps.
    return steps + [value for value in reference_values(curves) if value >= 1.0]


def _steps_caption(curves: Sequence[Curve]) -> str:
    text = caption(curves)
    if len(one_problem_each(curves)) == 1 and classical_line(curves):
        formula = CLASSICAL.replace(" ", "\N{NO-BREAK SPACE}")
        text += f" In {formula}, C is the target loss and d the sum of noise over curvature."
    return text
