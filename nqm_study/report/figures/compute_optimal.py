"""The least loss for a compute budget, and the dimension that leaves it."""

from __future__ import annotations

import math
from typing import Any

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
    set_powers,
    shades,
    side_legend,
)
from nqm_study.report.compute import law_text, laws
from nqm_study.study.records import ComputeScaling, Exponent

_SAID = (
    "Losses are of the whole problem, with the modes beyond d, of SGD at its best constant rate. "
    "Dotted: the derived exponents, through the last point."
)
_BEST: dict[str, Any] = {"color": "0.1", "linewidth": 1.8, "marker": "o", "markersize": 4}
_DERIVED: dict[str, Any] = {"color": "tab:red", "linewidth": 1.4, "linestyle": (0, (2, 2))}
_FOUND: dict[str, Any] = {"marker": "D", "markersize": 6, "markeredgecolor": "0.15"}


def draw(studies: DataFrame) -> Figure | None:
    """Loss against compute, a line for each dimension and that of the best; and the best dimension.

    Each law has two panels. A diamond is what a study found: the compute that its fewest steps take
    to the target, which is the loss of the modes that are trained.

    Returns:
        the figure, or None where no study's best dimensions are known.
    """
    found = laws(studies)
    if not found:
        return None
    with nqm_style():
        text = "; ".join(f"{law_text(law)}." for law in found)
        heights = [1.5 * PANEL_HEIGHT, PANEL_HEIGHT] * len(found)
        figure, axes = panels(heights, "compute, C = d T B", f"{text} {_SAID}")
        for law, above, below in zip(found, axes[::2], axes[1::2], strict=True):
            if len(found) > 1:
                above.set_title(plain(law_text(law)), loc="left")
            _draw_losses(above, law)
            _draw_dims(below, law.compute.iloc[0])
            below.set_xlim(above.get_xlim())
    return figure


def table(studies: DataFrame) -> DataFrame:
    """The same: a row for each point of a line, ``best``, ``dimension`` or ``found``."""
    rows: list[tuple[Any, ...]] = []
    for law in laws(studies):
        text = law_text(law)
        best = law.compute.iloc[0].points
        rows += [(text, "best", *vars(point).values()) for point in best]
        for study in law.drop_duplicates("dim").itertuples():
            for compute, loss in study.compute.curve:
                steps = round(compute / study.dim / study.batch_size)
                rows.append((text, "dimension", compute, int(study.dim), steps, math.nan, loss))
        for study in law[law.reached].itertuples():
            spent, loss = _spent(study), study.target + study.compute.rest
            own = (int(study.dim), study.steps_to_target, study.learning_rate)
            rows.append((text, "found", spent, *own, loss))
    columns = ["law", "kind", "compute", "dim", "steps", "learning_rate", "loss"]
    return DataFrame(rows, columns=columns)


def _spent(study: Any) -> float:
    """The compute that a study's fewest steps take."""
    return float(study.dim * study.steps_to_target * study.batch_size)


def _draw_losses(axes: Axes, law: DataFrame) -> None:
    scaling: ComputeScaling = law.compute.iloc[0]
    colors = shades(law.dim)
    lines, labels = [], []
    spent, losses = ([getattr(p, name) for p in scaling.points] for name in ("compute", "loss"))
    seen = [*losses]
    for study in law.drop_duplicates("dim").itertuples():
        style: dict[str, Any] = {"color": colors[study.dim], "linewidth": 1.2}
        axes.plot(*zip(*study.compute.curve, strict=True), **style)
        seen += [loss for _, loss in study.compute.curve]
        lines.append(Line2D([], [], **style))
        labels.append(f"d = {words.count(study.dim)}")
    for study in law[law.reached].itertuples():
        loss = study.target + study.compute.rest
        point = {**_FOUND, "color": colors[study.dim], "linestyle": "", "zorder": 4}
        axes.plot([_spent(study)], [loss], **point)
        seen.append(loss)
        spent = [*spent, _spent(study)]
    _draw_best(axes, scaling, "loss", scaling.loss)
    set_losses(axes, "y", seen)
    _finish(axes, spent, "loss", scaling.loss, lines, labels)
    if law.reached.any():
        lines.append(Line2D([], [], color="0.6", linestyle="", **_FOUND))
        labels.append("found: fewest steps\nto the target")
    side_legend(axes, lines, labels)
    axes.set_ylabel("expected loss")


def _draw_dims(axes: Axes, scaling: ComputeScaling) -> None:
    _draw_best(axes, scaling, "dim", scaling.dim)
    axes.set_yscale("log", base=2)
    set_powers(axes, "y", [point.dim for point in scaling.points])
    lines: list[Line2D] = []
    labels: list[str] = []
    spent = [point.compute for point in scaling.points]
    _finish(axes, spent, "d", scaling.dim, lines, labels)
    side_legend(axes, lines, labels)
    axes.set_ylabel("best dimension d")


def _draw_best(axes: Axes, scaling: ComputeScaling, name: str, exponent: Exponent) -> None:
    spent = [point.compute for point in scaling.points]
    values = [getattr(point, name) for point in scaling.points]
    derived = [values[-1] * (each / spent[-1]) ** exponent.derived for each in spent]
    axes.plot(spent, derived, zorder=3.5, **_DERIVED)
    axes.plot(spent, values, zorder=3, **_BEST)


def _finish(
    axes: Axes,
    spent: list[float],
    name: str,
    exponent: Exponent,
    lines: list[Line2D],
    labels: list[str],
) -> None:
    """Set the axis of compute, and add what the best of a budget is to the legend."""
    axes.set_xscale("log", base=2)
    set_powers(axes, "x", spent)
    size = words.plus_minus(exponent.value, exponent.interval)
    lines += [Line2D([], [], **_BEST), Line2D([], [], **_DERIVED)]
    labels += [f"best d: {name} ~ C^({size})", f"derived: {name} ~ C^{exponent.derived:.3f}"]
