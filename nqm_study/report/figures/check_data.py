"""Predictions against training on the data: the excess risk along the best run of each study."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.axes import (
    PANEL_HEIGHT,
    nqm_style,
    panels,
    plain,
    set_losses,
    set_steps,
    shades,
    side_legend,
)
from nqm_study.report.captions import listed
from nqm_study.report.data_checks import data_checks

_SAID = (
    "Lines: predicted excess risk of Gaussian inputs with the data's covariance. Points: the mean "
    "over runs on the data, examples drawn with replacement; bars: one standard error."
)


def draw(studies: DataFrame) -> Figure | None:
    """Excess risk against steps: points measured, lines predicted; a panel for each curve.

    Returns:
        the figure, or None where no study has runs on its data.
    """
    found = data_checks(studies)
    if found.empty:
        return None
    curves = [curve for _, curve in found.groupby("curve", sort=False)]
    colors = shades(sorted(set(found.batch_size)))
    with nqm_style():
        caption = f"Data: {listed(found.spectrum_text)}. {_SAID}"
        heights = [PANEL_HEIGHT] * len(curves)
        figure, all_axes = panels(heights, "steps, t (optimizer steps)", caption)
        for axes, curve in zip(all_axes, curves, strict=True):
            _draw_panel(axes, curve, colors)
    return figure


def table(studies: DataFrame) -> DataFrame:
    """The same: a row for each point, with measured / predicted."""
    return data_checks(studies).drop(columns="curve").rename(columns={"label": "curve"})


def _draw_panel(axes: Axes, curve: DataFrame, colors: dict[float, str]) -> None:
    axes.set_title(plain(curve.label.iloc[0]), loc="left")
    axes.set_ylabel("excess risk")
    risks = [*curve.predicted, *curve.measured]
    set_losses(axes, "y", [each for each in risks if 0.0 < each < math.inf])
    set_steps(axes, curve.step.max())
    lines, labels = [], []
    for size, run in curve.groupby("batch_size"):
        color = colors[size]
        axes.plot(run.step, run.predicted, color=color, linewidth=1.4)
        kept = run[run.measured < math.inf]
        axes.errorbar(
            kept.step, kept.measured, kept.standard_error, fmt="o", color=color, markersize=4,
            elinewidth=1.0,
        )  # fmt: skip
        lines.append(Line2D([], [], color=color, marker="o", markersize=4, linewidth=1.4))
        end = run.iloc[-1]
        ratio = f"ratio {end.ratio:.2f}" if math.isfinite(end.ratio) else "diverges"
        labels.append(f"{words.as_math(f'B = {words.power_of_two(size)}')}: {ratio}")
    side_legend(axes, lines, labels)
