"""Regret of samplers against trials."""

from __future__ import annotations

from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.axes import (
    PANEL_HEIGHT,
    Look,
    nqm_style,
    panels,
    plain,
    side_legend,
)
from nqm_study.report.captions import listed
from nqm_study.report.drawing import curve_line
from nqm_study.report.looks import sampler_looks
from nqm_study.report.regret import COLUMNS, QUARTILES, regrets

_LINEAR = 0.1  # per cent: below it the axis is linear, so that it holds 0
_MOST = 1e4  # per cent: of larger regrets, as there are in the first trials, only the end matters
_LABEL_WIDTH = 24  # characters
_MARKERS = 8  # of a line, which has a point for each trial


def draw(studies: DataFrame) -> Figure | None:
    """The regret in per cent against trials: a panel for each comparison, a line for each sampler.

    A line is the median over studies, the band around it goes from quartile to quartile. It begins
    where half of the studies have reached the target. The axis of regrets is logarithmic down to
    0.1 %, and linear from there to 0. A sampler has one colour and marker throughout.

    Returns:
        the figure, or None where no samplers can be compared.
    """
    found = regrets(studies)
    if found.empty:
        return None
    groups = [group for _, group in found.groupby("comparison", sort=False)]
    names = sorted(found.sampler.unique())
    with nqm_style():
        style = sampler_looks(names)
        figure, all_axes = panels([PANEL_HEIGHT] * len(groups), "trials", _caption(found))
        for axes, group in zip(all_axes, groups, strict=True):
            _draw_panel(axes, group, style)
    return figure


def table(studies: DataFrame) -> DataFrame:
    """The same: a row for each sampler and number of trials.

    Regrets are fractions, not per cent; infinite where too few studies have reached the target.
    """
    return regrets(studies)[list(COLUMNS)]


def _draw_panel(axes: Axes, regrets: DataFrame, style: dict[str, Look]) -> None:
    n_trials = regrets.trials.max()
    top = _set_regrets(axes, regrets)
    axes.set_xlim(0.0, n_trials * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axes.set_ylabel("steps above the true optimum (%)")
    axes.set_title(words.as_math(plain(_title(regrets.iloc[0]))), loc="left")
    step = max(1, n_trials // _MARKERS)
    samplers = dict(list(regrets.groupby("sampler")))
    for i, (name, found) in enumerate(samplers.items()):
        _draw_regret(axes, found, style[name], top, (i * step // len(samplers), step))
    # As the lines end: the highest first.
    ordered = sorted(samplers, key=lambda name: samplers[name]["median"].iloc[-1], reverse=True)
    lines = [curve_line(style[name]) for name in ordered]
    side_legend(axes, lines, [plain(fill(name, _LABEL_WIDTH)) for name in ordered])


def _draw_regret(
    axes: Axes, regret: DataFrame, look: Look, top: float, markers: tuple[int, int]
) -> None:
    trials = regret.trials.to_numpy()
    lower, median, upper = (100.0 * regret[name].to_numpy() for name in QUARTILES[:3])
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


def _set_regrets(axes: Axes, regrets: DataFrame) -> float:
    """Limits and ticks of the regrets' axis; returns the upper limit, in per cent."""
    values = 100.0 * regrets[list(QUARTILES[:3])].to_numpy()
    values = values[np.isfinite(values)]
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


def _title(of: DataFrame) -> str:
    sizes = of.batch_sizes
    if len(sizes) == 1:
        text = f"B = {words.power_of_two(sizes[0])}"
    else:
        text = f"{len(sizes)} batch sizes, {words.batch_range(sizes[0], sizes[-1])}"
    seeds = "1 seed" if of.seeds == 1 else f"{of.seeds} seeds"
    return f"{of.comparison}: {text}; {seeds}"


def _caption(regrets: DataFrame) -> str:
    parts = {
        "Optimizer": regrets.optimizer,
        "Schedule": regrets.schedule,
        "Spectrum": regrets.spectrum,
        "Target loss": [f"{target:g}" for target in regrets.target.unique()],
    }
    said = [f"{name}: {listed(found)}." for name, found in parts.items()]
    if (regrets.studies > 1).any():
        over = "Lines are medians over batch sizes and seeds, bands go from quartile to quartile."
        said.append(over)
    if not regrets.exact.all():
        said.append("Where the optimum cannot be computed, the best of a dense search stands in.")
    return " ".join(said)
