"""Regret against trials, as a figure and as a table of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from nqm_study.report import words
from nqm_study.report.axes import Look, caption_line, looks, nqm_style, plain
from nqm_study.report.captions import listed
from nqm_study.report.comma import csv_text
from nqm_study.report.drawing import curve_line
from nqm_study.report.regret import Comparison, Regret

COLUMNS = (
    "sampler",
    "optimizer",
    "schedule",
    "trials",
    "lower_quartile",
    "median",
    "upper_quartile",
    "worst",
    "comparison",
)
_WIDTH, _PANEL_HEIGHT = 7.2, 3.4  # inches
_LINEAR = 0.1  # per cent: below it the axis is linear, so that it holds 0
_MOST = 1e4  # per cent: of larger regrets, as there are in the first trials, only the end matters
_LABEL_WIDTH = 24  # characters
_MARKERS = 8  # of a line, which has a point for each trial


def regret_figure(comparisons: Sequence[Comparison]) -> Figure | None:
    """The regret in per cent against trials: a panel for each comparison, a line for each sampler.

    A line is the median over studies, the band around it goes from quartile to quartile. It begins
    where half of the studies have reached the target. The axis of regrets is logarithmic down to
    0.1 %, and linear from there to 0. A sampler has one colour and marker throughout.

    Returns:
        the figure, or None where there are no comparisons.
    """
    if not comparisons:
        return None
    names = sorted({regret.sampler for each in comparisons for regret in each.regrets})
    with nqm_style():
        style = dict(zip(names, looks(len(names)), strict=True))
        figure = Figure(figsize=(_WIDTH, _PANEL_HEIGHT * len(comparisons) + 0.4))
        all_axes = figure.subplots(len(comparisons), squeeze=False)[:, 0]
        for axes, comparison in zip(all_axes, comparisons, strict=True):
            _draw_panel(axes, comparison, style)
        all_axes[-1].set_xlabel("trials")
        caption_line(figure, _caption(comparisons))
    return figure


def regret_csv(comparisons: Sequence[Comparison]) -> str:
    """The same as comma-separated values: a row for each sampler and number of trials.

    Regrets are fractions, not per cent; ``inf`` where too few studies have reached the target.
    """
    return csv_text(COLUMNS, _rows(comparisons))


def _rows(comparisons: Sequence[Comparison]) -> Iterator[Sequence[object]]:
    for each in comparisons:
        for regret in each.regrets:
            values = zip(regret.lower, regret.median, regret.upper, regret.worst, strict=True)
            for trials, numbers in enumerate(values, start=1):
                named = (regret.sampler, each.optimizer, each.schedule, trials)
                yield [*named, *map(repr, numbers), each.label]


def _draw_panel(axes: Axes, comparison: Comparison, style: dict[str, Look]) -> None:
    regrets = comparison.regrets
    top = _set_regrets(axes, regrets)
    axes.set_xlim(0.0, comparison.trials * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axes.set_ylabel("steps above the true optimum (%)")
    axes.set_title(words.as_math(plain(_title(comparison))), loc="left")
    step = max(1, comparison.trials // _MARKERS)
    for i, regret in enumerate(regrets):
        _draw_regret(axes, regret, style[regret.sampler], top, (i * step // len(regrets), step))
    # As the lines end: the highest first.
    ordered = sorted(regrets, key=lambda regret: regret.median[-1], reverse=True)
    axes.legend(
        [curve_line(style[regret.sampler]) for regret in ordered],
        [plain(fill(regret.sampler, _LABEL_WIDTH)) for regret in ordered],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
    )


def _draw_regret(
    axes: Axes, regret: Regret, look: Look, top: float, markers: tuple[int, int]
) -> None:
    trials = np.arange(1, regret.trials + 1)
    lower, median, upper = (
        100.0 * np.array(values) for values in (regret.lower, regret.median, regret.upper)
    )
    shown = np.isfinite(lower)
    axes.fill_between(
        trials[shown],
        lower[shown],
        np.minimum(upper[shown], 2.0 * top),
        step="post",
        color=look.color,
        alpha=0.18,
        linewidth=0,
        zorder=2,
    )
    line = curve_line(look, trials.tolist(), np.where(np.isfinite(median), median, np.nan).tolist())
    # Lines that run together show their markers in turn.
    first = markers[0] + int(np.argmax(np.isfinite(median)))
    line.set_markevery((first, markers[1]))
    line.set_drawstyle("steps-post")
    axes.add_line(line)


def _set_regrets(axes: Axes, regrets: Sequence[Regret]) -> float:
    """Limits and ticks of the regrets' axis; returns the upper limit, in per cent."""
    values = [
        100.0 * value
        for regret in regrets
        for value in (*regret.lower, *regret.median, *regret.upper)
        if math.isfinite(value)
    ]
    top = max(2.0 * _LINEAR, min(_MOST, 1.5 * max(values, default=0.0)))
    # Room for a line at 0; below it are only searches that beat an optimum that is not exact.
    bottom = min(-0.02, 1.5 * min(values, default=0.0))
    axes.set_yscale("symlog", linthresh=_LINEAR, linscale=0.6)
    axes.set_ylim(bottom, top)
    powers = [10.0**k for k in range(-1, 5)]
    ticks = [0.0, *powers, *(-power for power in powers)]
    axes.yaxis.set_major_locator(FixedLocator([t for t in ticks if bottom <= t <= top]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    return top


def _title(comparison: Comparison) -> str:
    sizes = comparison.batch_sizes
    if len(sizes) == 1:
        text = f"B = {words.power_of_two(sizes[0])}"
    else:
        text = f"{len(sizes)} batch sizes, {words.batch_range(sizes[0], sizes[-1])}"
    seeds = "1 seed" if comparison.seeds == 1 else f"{comparison.seeds} seeds"
    return f"{comparison.label}: {text}; {seeds}"


def _caption(comparisons: Sequence[Comparison]) -> str:
    parts = {
        "Optimizer": [each.optimizer for each in comparisons],
        "Schedule": [each.schedule for each in comparisons],
        "Spectrum": [each.spectrum_text for each in comparisons],
        "Target loss": [f"{each.target:g}" for each in comparisons],
    }
    said = [f"{name}: {listed(found)}." for name, found in parts.items()]
    if any(each.studies > 1 for each in comparisons):
        over = "Lines are medians over batch sizes and seeds, bands go from quartile to quartile."
        said.append(over)
    if not all(each.exact for each in comparisons):
        said.append("Where the optimum cannot be computed, the best of a dense search stands in.")
    return " ".join(said)
