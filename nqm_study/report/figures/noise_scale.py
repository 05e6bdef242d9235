"""The gradient noise scale along training, of the best run of each curve at one batch size."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.axes import (
    GREY,
    Entry,
    legend,
    log2_axes,
    nqm_style,
    set_losses,
    set_powers,
)
from nqm_study.report.captions import caption
from nqm_study.report.curves import compared, curves, runs_frame
from nqm_study.report.drawing import curve_line
from nqm_study.report.frame import known
from nqm_study.report.laws import small_batches
from nqm_study.report.looks import curve_looks
from nqm_study.study.records import Training

_SAID = (
    "The noise scale tr(\N{GREEK CAPITAL LETTER SIGMA}) / E|G|² (McCandlish et al. 2018) is the "
    "batch size whose gradient noise is as large as the gradient."
)
_CHOSEN = (
    "Each line is the best run at the largest batch size up to which twice the batch halves the "
    "steps, within 20 %."
)


_RING: dict[str, Any] = {
    "linestyle": "",
    "marker": "o",
    "markersize": 10,
    "zorder": 4,
    "markerfacecolor": "none",
    "markeredgecolor": "0.15",
    "markeredgewidth": 1.3,
}
_MARKED = (0.0, 0.15)  # how far apart markers are, in diagonals of the axes


def draw(studies: DataFrame) -> Figure | None:
    """The gradient noise scale against the expected loss, which falls to the right.

    A line for each curve, at the batch size where its perfect scaling ends: the largest one at
    which steps times batch size are within 20 % of their least. It ends at the target, or where a
    run that missed it does. A ring is where the noise scale is the run's own batch size.

    Returns:
        the figure, or None where no run's training is known, or there is no noise.
    """
    runs = shown_runs(studies)
    if runs.empty:
        return None
    by_key = {curve.key: curve for curve in curves(studies)}
    shown = [by_key[key] for key in runs.curve]
    with nqm_style():
        said = f"{caption(shown)} {_SAID}"
        if any(len(curve.points) > 1 for curve in shown):
            said += f" {_CHOSEN}"
        if any(_swings(run.training, run.steps) for run in runs.itertuples()):
            said += " Where the loss swings, only its lowest values so far are joined."
        figure, axes = log2_axes("expected loss", "gradient noise scale (examples)", said)
        entries: list[Entry] = []
        targets = set(runs.target)
        losses, scales = [*targets], []
        crossed = False
        for run, look in zip(runs.itertuples(), curve_looks(shown), strict=True):
            x = [loss for _, loss, _ in run.course]
            y = [scale for _, _, scale in run.course]
            losses += x
            scales += y
            line = curve_line(look, x, y)
            line.set_markevery(_MARKED)
            axes.add_line(line)
            at = _own_size(run)
            if at is not None:
                crossed = True
                axes.plot([at], [run.batch_size], **_RING)
            end = "ends at the target" if run.reached else "target not reached"
            size = words.as_math(f"B = {words.power_of_two(run.batch_size)}")
            entries.append((curve_line(look), run.label, f"{size}, {end}"))
        set_losses(axes, "x", losses)
        axes.invert_xaxis()
        set_powers(axes, "y", scales)
        for target in sorted(targets):
            axes.axvline(target, color=GREY, linewidth=1.0, linestyle=":", zorder=1.5)
        dotted = Line2D([], [], color=GREY, linewidth=1.0, linestyle=":")
        entries.append((dotted, "target", ""))
        if crossed:
            entries.append((Line2D([], [], **_RING), "noise scale = its batch size", ""))
        legend(figure, entries)
    return figure


def table(studies: DataFrame) -> DataFrame:
    """The same: a row for each point of a line."""
    columns = ["optimizer", "schedule", "batch_size", "step", "loss", "noise_scale", "curve"]
    rows = [
        (run.optimizer, run.schedule, run.batch_size, *point, run.label)
        for run in shown_runs(studies).itertuples()
        for point in run.course
    ]
    return DataFrame(rows, columns=columns)


def shown_runs(studies: DataFrame) -> DataFrame:
    """One run of each curve with its ``course``; of fixed curves only where there are no others."""
    runs = runs_frame(studies)
    runs["course"] = [course(run.training, run.steps) for run in runs.itertuples()]
    runs = runs[runs.course.map(len) > 1]
    by_curve = dict(list(runs.groupby("curve")))
    kept = compared([curve for curve in curves(studies) if curve.key in by_curve])
    # The run at the end of the small batches, or the nearest one below it that is known.
    chosen = []
    for curve in kept:
        known = by_curve[curve.key]
        end = max((point.batch_size for point in small_batches(curve)), default=0.0)
        below = known[known.batch_size <= end]
        chosen.append(known.index[0] if below.empty else below.batch_size.idxmax())
    runs = runs.loc[chosen]
    # Of fixed ones the rates make the order.
    return runs.sort_values("learning_rate", kind="stable") if runs.fixed.any() else runs


def course(training: Training | None, end: Any) -> list[tuple[int, float, float]]:
    """Step, loss and noise scale of a run up to its end, where both have a logarithm.

    Of a loss that swings, only where it is lower than ever before.

    Args:
        training: the run; None where it is not known.
        end: the first step at the target; <NA> where that was not reached.
    """
    points = []
    lowest = math.inf
    for step, loss, scale in _to_target(training, end):
        if 0.0 < loss < lowest and 0.0 < scale < math.inf:
            points.append((step, loss, scale))
            lowest = loss
    return points


def _to_target(training: Training | None, end: Any) -> list[tuple[int, float, float]]:
    if training is None:
        return []
    last = known(end)
    points = zip(training.steps, training.risks, training.noise_scales, strict=True)
    return [point for point in points if last is None or point[0] <= last]


def _swings(training: Training, end: Any) -> bool:
    """Whether the loss goes up on the way to the target."""
    points = pairwise(_to_target(training, end))
    return any(later > 1.01 * loss for (_, loss, _), (_, later, _) in points)


def _own_size(run: Any) -> float | None:
    """The loss at which the noise scale first is the run's own batch size, if it ever is."""
    for (_, loss, scale), (_, later, larger) in pairwise(run.course):
        if scale <= run.batch_size < larger:
            share = math.log(run.batch_size / scale) / math.log(larger / scale)
            return float(loss * (later / loss) ** share)
    return None
