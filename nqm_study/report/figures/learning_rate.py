"""The best learning rate against batch size, and the power law that it follows."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.axes import BATCH_SIZE, GREY, Entry, legend, log2_axes, nqm_style
from nqm_study.report.captions import caption
from nqm_study.report.curves import Curve, compared, curves, scheduled
from nqm_study.report.drawing import (
    MOST_NOTES,
    draw_curve,
    draw_fit,
    draw_unreached,
    law_end,
    name_beside,
    set_limits,
    write_names,
)
from nqm_study.report.laws import fit_learning_rate
from nqm_study.report.looks import curve_looks
from nqm_study.report.placing import Note, place
from nqm_study.report.reference import optimum_rates, stability_line
from nqm_study.report.reference_lines import draw_interpolation, draw_stability, optimum_entry


def draw(studies: DataFrame) -> Figure | None:
    """The best learning rate found against batch size, both in powers of two.

    Under a schedule it is the peak rate. That of a computed schedule is mostly the cap on it, which
    says nothing, so such curves are left out where there are others, and never fitted.

    With momentum it is the effective rate, lr / (1 - momentum): many pairs of the two are equally
    good, and only this is the same for all of them.

    A wide pale line is the power law over the batch sizes that it was fitted to; a thin one goes on
    to a bar, where the rate leaves it.
    The curve's name, its slope, the slope's 95 % confidence interval, the batch sizes fitted and
    where the law ends stand beside it, or in the legend where there is no room. Thin lines go
    through the true optima, as among the steps. Where the noise falls with the loss a dashed line
    is the limit of stability, and a vertical one the batch size tr(H) / h_1 + 1.

    Returns:
        the figure, or None without curves.
    """
    everything = compared(curves(studies))
    if not everything:
        return None
    with nqm_style():
        drawn = list(zip(everything, curve_looks(everything), strict=True))
        drawn = [pair for pair in drawn if not pair[0].computed] or drawn
        shown = [curve for curve, _ in drawn]
        fits = [fit for curve in shown if (fit := fit_learning_rate(curve)) is not None]
        said = f"{caption(shown)} {words.slopes(fits)}".strip()
        figure, axes = log2_axes(BATCH_SIZE, rate_label(shown), said)
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
            rates += [rate for _, rate in stability_line(shown)]
            names.append(draw_curve(axes, curve, look, found, ranges, optimum_rates(curve)))
            slope = draw_fit(axes, curve, look)
            if slope is not None:
                slopes[i] = slope
            notes += name_beside(curve, look, found, slope)
        set_limits(axes, shown, rates)
        entries = optimum_entry(shown)
        entries += draw_stability(axes, shown) + draw_interpolation(axes, shown)
        entries += draw_unreached(axes, drawn)
        if slopes:
            band = Line2D([], [], color=GREY, alpha=0.35, linewidth=6)
            entries.append((band, "fitted power law", ""))
        if any(fit.end is not None for fit in fits):
            entries.append((law_end(GREY), "its end: best rate 20 % off", ""))
        if write_names(figure, axes, names, notes, entries):
            return figure
        if len(slopes) > MOST_NOTES or not place(axes, list(slopes.values())):
            for i, slope in slopes.items():
                line, label, _ = names[i]
                names[i] = (line, label, slope.text)
            legend(figure, [*names, *entries])
    return figure


def rate_label(curves: Sequence[Curve]) -> str:
    """What the vertical axis of best rates is."""
    best = "best peak learning rate" if scheduled(curves) else "best learning rate"
    if all(curve.computed for curve in curves):  # none was searched
        best = "peak learning rate"
    points = [point for curve in curves for point in curve.points]
    if any(point.hyperparameters.get("momentum", 0.0) > 0.0 for point in points):
        return f"{best}\nwith momentum, lr / (1 - momentum)"
    return f"{best} (as in PyTorch)"
