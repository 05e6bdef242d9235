"""Examples against steps, where batch sizes change: what was found, and the fewest there can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from nqm_study.report.axes import Entry, legend, log2_axes, nqm_style, set_powers
from nqm_study.report.captions import caption
from nqm_study.report.curves import Curve, compared, curves, one_problem_each
from nqm_study.report.drawing import curve_line
from nqm_study.report.looks import curve_looks
from nqm_study.report.ramps import batches_change, ramps

_BOUND: dict[str, Any] = {"color": "0.75", "linewidth": 4.0, "zorder": 1.8}
_LINES: dict[str, tuple[str, dict[str, Any]]] = {
    "one_size": ("SGD's fewest examples, one batch size", {"linestyle": "--"}),
    "examples": ("SGD's fewest examples, batch sizes change", {"linestyle": "-"}),
}
_EXACT: dict[str, Any] = {"color": "0.15", "linewidth": 1.1, "marker": ".", "zorder": 2.6}


def draw(studies: DataFrame) -> Figure | None:
    """Examples to the target against steps, a line for each curve, through its batch sizes.

    The dark lines are the fewest examples of SGD in so many steps, over all rates up to the largest
    stable one: with one batch size for the run, dashed, and with batch sizes that change. The broad
    grey one is the Bayes bound: in however many steps, no algorithm needs fewer examples. Of
    several problems only the curves are drawn.

    Returns:
        the figure, or None where no study has a batch schedule.
    """
    shown = [curve for curve in compared(curves(studies)) if curve.points]
    if not shown or not batches_change(studies):
        return None
    with nqm_style():
        figure, axes = log2_axes("steps to target, T", "examples to target, T B", _caption(shown))
        entries = []
        steps = [point.steps for curve in shown for point in curve.points]
        examples = [point.examples for curve in shown for point in curve.points]
        for curve, look in zip(shown, curve_looks(shown), strict=True):
            points = [(point.steps, point.examples) for point in curve.points]
            axes.add_line(curve_line(look, *zip(*points, strict=True)))
            entries.append((curve_line(look), curve.label, ""))
        exact = ramps(studies)
        if len(one_problem_each(shown)) == 1:
            entries += _draw_exact(axes, exact)
            bound = bayes_examples(shown)
            axes.axhline(bound, **_BOUND)
            entries.append((Line2D([], [], **_BOUND), "Bayes bound", ""))
            steps += list(exact.steps)
            examples += [bound, *exact.examples, *exact.one_size]
        set_powers(axes, "x", steps)
        set_powers(axes, "y", examples)
        legend(figure, entries)
    return figure


def table(studies: DataFrame) -> DataFrame:
    """The same: a row for each point.

    ``kind`` is ``found`` of a study's, ``one_size`` and ``examples`` of the lines with one batch
    size and with batch sizes that change; ``batch_size`` is the mean of the run.
    """
    rows: list[dict[str, Any]] = [
        {
            "kind": "found",
            "curve": curve.label,
            **{name: getattr(point, name) for name in ("batch_size", "steps", "examples")},
        }
        for curve in compared(curves(studies))
        for point in curve.points
    ]
    for ramp in ramps(studies).itertuples():
        for kind in _LINES:
            examples = float(f"{getattr(ramp, kind):.8g}")
            problem = f"{ramp.spectrum_text}, target {ramp.target:g}"
            sizes = {"batch_size": examples / ramp.steps, "steps": ramp.steps}
            rows.append({"kind": kind, "curve": problem, **sizes, "examples": examples})
    return DataFrame(rows, columns=["kind", "curve", "batch_size", "steps", "examples"])


def bayes_examples(curves: Sequence[Curve]) -> float:
    """The fewest examples that any algorithm could need, whatever the steps; to one batch."""
    return min(point.bayes_bound * point.batch_size for curve in curves for point in curve.points)


def _draw_exact(axes: Axes, exact: DataFrame) -> list[Entry]:
    if exact.empty:
        return []
    entries: list[Entry] = []
    for name, (label, style) in _LINES.items():
        axes.plot(exact.steps, exact[name], **_EXACT, **style)
        entries.append((Line2D([], [], **_EXACT, **style), label, "best rates, rate <= 2/h_1"))
    return entries


def _caption(shown: Sequence[Curve]) -> str:
    return f"{caption(shown)} B is the mean batch size of a run."
