"""Time to the target against batch size, where time is what studies minimise."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from pandas import DataFrame

from nqm_study.report.axes import BATCH_SIZE, Entry, log2_axes, nqm_style
from nqm_study.report.captions import caption
from nqm_study.report.curves import Curve, compared, curves
from nqm_study.report.drawing import (
    draw_curve,
    draw_unreached,
    name_beside,
    set_limits,
    write_names,
)
from nqm_study.report.looks import curve_looks
from nqm_study.report.placing import Note
from nqm_study.report.reference import Line
from nqm_study.report.reference_lines import optimum_entry


def draw(studies: DataFrame) -> Figure | None:
    """Least time to the target against batch size, both in powers of two.

    The unit is the time of a step with at most as many examples as cost the machine none. A study
    that searches the batch size has a point at the one that it found.

    Returns:
        the figure, or None where no curve has times.
    """
    timed = studies[studies.objective == "time"]
    shown = compared(curves(timed))
    if not shown:
        return None
    with nqm_style():
        drawn = list(zip(shown, curve_looks(shown), strict=True))
        figure, axes = log2_axes(
            BATCH_SIZE, "time to target (steps of a small batch)", _caption(shown, timed)
        )
        set_limits(axes, shown, [end for curve in shown for ends in _ranges(curve) for end in ends])
        names: list[Entry] = []
        notes: list[Note] = []
        for curve, look in drawn:
            found = [(point.batch_size, point.time) for point in curve.points]
            names.append(draw_curve(axes, curve, look, found, _ranges(curve), _optima(curve)))
            notes += name_beside(curve, look, found)
        write_names(
            figure, axes, names, notes, [*optimum_entry(shown), *draw_unreached(axes, drawn)]
        )
    return figure


def _ranges(curve: Curve) -> Line:
    return [(point.time_low, point.time_high) for point in curve.points]


def _optima(curve: Curve) -> Line:
    """The true optima's times against batch size: all of their steps take the same."""
    return [
        (point.batch_size, point.optimum.steps * point.time / point.steps)
        for point in curve.points
        if point.optimum is not None
    ]


def _caption(curves: Sequence[Curve], studies: DataFrame) -> str:
    machines = studies[["hardware_batch_size", "hardware_exponent"]].drop_duplicates()
    if len(machines) > 1:
        return caption(curves)
    size, exponent = machines.iloc[0]
    power = "" if exponent == 1.0 else f"^{exponent:g}"
    return f"{caption(curves)} A step with B examples takes max(1, B / {size:g}){power}."
