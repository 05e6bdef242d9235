"""The gradient noise scale along training, of the best run of each curve at one batch size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
from nqm_study.report.comma import csv_text
from nqm_study.report.drawing import curve_line, curve_looks
from nqm_study.report.laws import small_batches
from nqm_study.report.runs import Run
from nqm_study.report.scaling import compared

COLUMNS = ("optimizer", "schedule", "batch_size", "step", "loss", "noise_scale", "curve")
_SAID = (
    "The noise scale tr(\N{GREEK CAPITAL LETTER SIGMA}) / E|G|² (McCandlish et al. 2018) is the "
    "batch size whose gradient noise is as large as the gradient."
)
_CHOSEN = (
    "Each line is the best run at the largest batch size up to which twice the batch halves the "
    "steps, within 20 %."
)


def noise_scale_figure(runs: Sequence[Run]) -> Figure | None:
    """The gradient noise scale against the expected loss, which falls to the right.

    A line for each curve, at the batch size where its perfect scaling ends: the largest one at
    which steps times batch size are within 20 % of their least. It ends at the target. A marker is
    where the noise scale is the run's own batch size.

    Returns:
        the figure, or None where no run's training is known, or there is no noise.
    """
    shown = shown_runs(runs)
    if not shown:
        return None
    curves = [run.curve for run in shown]
    with nqm_style():
        several = any(len(curve.points) > 1 for curve in curves)
        swings = any(_swings(run) for run in shown)
        said = f"{caption(curves)} {_SAID}"
        said += f" {_CHOSEN}" if several else ""
        said += (
            " Where the loss swings, only its lowest values so far are joined." if swings else ""
        )
        figure, axes = log2_axes("expected loss", "gradient noise scale (examples)", said)
        entries: list[Entry] = []
        targets = {curve.target for curve in curves}
        losses, scales = [*targets], []
        crossed = False
        for run, look in zip(shown, curve_looks(curves), strict=True):
            points = course(run)
            x = [loss for _, loss, _ in points]
            y = [scale for _, _, scale in points]
            losses += x
            scales += y
            axes.plot(x, y, color=look.color, linestyle=look.linestyle)
            at = _own_size(run)
            if at is not None:
                crossed = True
                axes.plot([at], [run.batch_size], look.marker, color=look.color, mec="0.15")
            marker = look.marker if at is not None else ""
            line = curve_line(replace(look, marker=marker))
            size = words.as_math(f"B = {words.power_of_two(run.batch_size)}")
            entries.append((line, run.curve.label, size))
        set_losses(axes, "x", losses)
        axes.invert_xaxis()
        set_powers(axes, "y", scales)
        for target in sorted(targets):
            axes.axvline(target, color=GREY, linewidth=1.0, linestyle=":", zorder=1.5)
        dotted = Line2D([], [], color=GREY, linewidth=1.0, linestyle=":")
        entries.append((dotted, "target", ""))
        if crossed:
            point = Line2D([], [], linestyle="", marker="o", color=GREY, markeredgecolor="0.15")
            entries.append((point, "noise scale = its batch size", ""))
        legend(figure, entries)
    return figure


def noise_scale_csv(runs: Sequence[Run]) -> str:
    """The same as comma-separated values: a row for each point of a line."""
    return csv_text(COLUMNS, _rows(runs))


def _rows(runs: Sequence[Run]) -> Iterator[Sequence[object]]:
    for run in shown_runs(runs):
        curve, size = run.curve, words.typed(run.batch_size)
        for step, loss, scale in course(run):
            row = (curve.optimizer, curve.schedule, size, step, repr(loss), repr(scale))
            yield [*row, curve.label]


def shown_runs(runs: Sequence[Run]) -> list[Run]:
    """One run of each curve; of fixed curves only where there are no others."""
    by_curve: dict[str, list[Run]] = {}
    for run in runs:
        if len(course(run)) > 1:
            by_curve.setdefault(run.curve.key, []).append(run)
    kept = compared([found[0].curve for found in by_curve.values()])
    chosen = [_chosen(by_curve[curve.key]) for curve in kept]
    # Of fixed ones the rates make the order.
    return sorted(chosen, key=lambda run: run.learning_rate if run.curve.fixed else 0.0)


def course(run: Run) -> list[tuple[int, float, float]]:
    """Step, loss and noise scale up to the target, where both have a logarithm.

    Of a loss that swings, only where it is lower than ever before.
    """
    training = run.training
    if training is None:
        return []
    last = run.steps if run.steps is not None else training.steps[-1]
    points = []
    lowest = math.inf
    for point in zip(training.steps, training.risks, training.noise_scales, strict=True):
        step, loss, scale = point
        if step <= last and 0.0 < loss < lowest and 0.0 < scale < math.inf:
            points.append(point)
            lowest = loss
    return points


def _chosen(runs: Sequence[Run]) -> Run:
    """The run at the end of the small batches, or the nearest one below it that is known."""
    regime = small_batches(runs[0].curve)
    end = regime[-1].batch_size if regime else 0.0
    below = [run for run in runs if run.batch_size <= end]
    return max(below, key=lambda run: run.batch_size) if below else runs[0]


def _swings(run: Run) -> bool:
    """Whether the loss goes up on the way to the target."""
    if run.training is None:
        return False
    last = run.steps if run.steps is not None else run.training.steps[-1]
    losses = [
        loss
        for step, loss in zip(run.training.steps, run.training.risks, strict=True)
        if step <= last
    ]
    return any(later > 1.01 * loss for loss, later in pairwise(losses))


def _own_size(run: Run) -> float | None:
    """The loss at which the noise scale first is the run's own batch size, if it ever is."""
    for (_, loss, scale), (_, later, larger) in pairwise(course(run)):
        if scale <= run.batch_size < larger:
            share = math.log(run.batch_size / scale) / math.log(larger / scale)
            return float(loss * (later / loss) ** share)
    return None
