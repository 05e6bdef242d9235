"""Training curves: the expected loss in the course of the best runs, and at given rates."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame, concat

from nqm_study.report import words
from nqm_study.report.axes import (
    GREY,
    PANEL_HEIGHT,
    nqm_style,
    panels,
    plain,
    set_losses,
    set_steps,
    shades,
    side_legend,
)
from nqm_study.report.captions import caption, listed
from nqm_study.report.curves import curves, runs_frame
from nqm_study.report.looks import curve_looks

_MOST_PANELS = 4
_LINE_HEIGHT = 0.2  # inches of the legend
_LABEL_WIDTH = 30  # characters
_HIGHEST = 3.0  # times the loss at the start, up to where divergences are drawn
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))


def draw(studies: DataFrame) -> Figure | None:
    """The expected loss against steps from 0 on, a line for each run.

    Each batch size has a panel, up to four, spread over those there are; those at given learning
    rates come first, and have panels of their own. There a learning rate has one colour throughout,
    a kind of optimizer and schedule one way of dashing. The best run of what was searched or
    computed looks as its curve does elsewhere. A point is where a run first is at the target.

    Returns:
        the figure, or None where no run's training is known.
    """
    parts = [part for part in (_given(studies), _best(studies)) if part.training.notna().any()]
    if not parts:
        return None
    sizes = [sorted(part.batch_size.unique()) for part in parts]
    groups = [
        part[part.batch_size == size]
        for part, found in zip(parts, sizes, strict=True)
        for size in _spread(found)
    ]
    shown = concat(parts)
    heights = [max(PANEL_HEIGHT, _LINE_HEIGHT * len(group) + 0.8) for group in groups]
    with nqm_style():
        said = _caption(studies, shown, max(map(len, sizes)))
        figure, all_axes = panels(heights, "steps, t (optimizer steps)", said)
        for axes, group in zip(all_axes, groups, strict=True):
            _draw_panel(axes, group)
    return figure


def table(studies: DataFrame) -> DataFrame:
    """The same of every batch size: a row for each point of a line."""
    shown = concat([_given(studies), _best(studies)]).dropna(subset="training")
    shown = shown.rename(columns={"steps": "steps_to_target", "label": "curve", "curve": "key"})
    shown["step"] = [training.steps for training in shown.training]
    shown["loss"] = [training.risks for training in shown.training]
    columns = ["optimizer", "schedule", "batch_size", "learning_rate", "steps_to_target"]
    return shown.explode(["step", "loss"])[[*columns, "step", "loss", "curve"]]


def _given(studies: DataFrame) -> DataFrame:
    """The runs of studies that search nothing and compute nothing; of a kind the lowest rate first.

    A ``kind`` is an optimizer and a schedule. Of a run there are the ``color`` and ``dashes`` too.
    """
    runs = runs_frame(studies)
    runs = runs[runs.fixed & (runs.learning_rate > 0.0)]
    runs = runs.assign(kind=runs.optimizer + " " + runs.schedule)
    first = {kind: place for place, kind in enumerate(runs.kind.unique())}
    colors = shades(runs[runs.training.notna()].learning_rate)
    order = runs.assign(
        place=runs.kind.map(first),
        color=runs.learning_rate.map(colors),
        dashes=[_DASHES[first[kind] % len(_DASHES)] for kind in runs.kind],
    )
    return order.sort_values(["place", "learning_rate"], kind="stable")


def _best(studies: DataFrame) -> DataFrame:
    """The best runs of the other studies, in the order and with the looks of their curves."""
    drawn = curves(studies)
    looks = {curve.key: look for curve, look in zip(drawn, curve_looks(drawn), strict=True)}
    runs = runs_frame(studies)
    runs = runs[~runs.fixed]
    return runs.assign(
        kind=runs.label,
        color=[looks[key].color for key in runs.curve],
        dashes=[looks[key].linestyle for key in runs.curve],
    )


def _spread(sizes: Sequence[float]) -> list[float]:
    """At most four of the batch sizes, the first and the last among them."""
    most = _MOST_PANELS - 1
    if len(sizes) <= _MOST_PANELS:
        return list(sizes)
    return [sizes[round(i * (len(sizes) - 1) / most)] for i in range(_MOST_PANELS)]


def _draw_panel(axes: Axes, runs: DataFrame) -> None:
    axes.set_ylabel("expected loss")
    size = words.power_of_two(runs.batch_size.iloc[0])
    axes.set_title(words.as_math(f"B = {size}"), loc="left")
    targets = sorted(runs.target.unique())
    known = list(runs.training.dropna())
    start = max((training.risks[0] for training in known), default=targets[-1])
    top = _HIGHEST * start
    risks = [risk for training in known for risk in training.risks if 0.0 < risk <= top]
    set_losses(axes, "y", [*targets, *risks])
    set_steps(axes, max((training.steps[-1] for training in known), default=1))
    for target in targets:
        axes.axhline(target, color=GREY, linewidth=1.0, linestyle=":", zorder=2)
    lines, labels = [], []
    for run in runs.itertuples():
        style = {"color": run.color, "linestyle": run.dashes, "linewidth": 1.4}
        if run.training is None:
            style = {"linestyle": ""}
        else:
            _draw_run(axes, run, style)
        lines.append(Line2D([], [], **style))
        labels.append(fill(_label(run, runs), _LABEL_WIDTH))
    lines.append(Line2D([], [], color=GREY, linewidth=1.0, linestyle=":"))
    labels.append(f"target, {listed(f'{target:g}' for target in targets)}")
    side_legend(axes, lines, [plain(label) for label in labels])


def _draw_run(axes: Axes, run: Any, style: dict[str, Any]) -> None:
    pairs = list(zip(run.training.steps, run.training.risks, strict=True))
    axes.plot(*zip(*pairs, strict=True), zorder=3, **style)
    if run.reached and run.steps:
        at = dict(pairs).get(run.steps, run.target)
        point: dict[str, Any] = {"markeredgecolor": "0.15", "markersize": 5, "zorder": 4}
        axes.plot([run.steps], [at], "o", color=style["color"], **point)


def _label(run: Any, panel: DataFrame) -> str:
    """Label of a run: learning rate or curve, what else differs, steps to the target."""
    rate = f"{run.learning_rate:g}"
    name = f"lr = {rate}" if run.fixed else run.label
    alike = sum(panel.learning_rate == run.learning_rate) > 1
    if run.fixed and (panel.kind.nunique() > 1 or alike):
        name = run.label.replace("learning_rate ", "lr ")
        name = name if f"lr {rate}" in name else f"{name}, lr {rate}"
    if run.training is None:
        return f"{name}: diverges"
    return f"{name}: T = {words.count(run.steps)}" if run.reached else f"{name}: not reached"


def _caption(studies: DataFrame, runs: DataFrame, sizes: int) -> str:
    shown = [curve for curve in curves(studies) if curve.key in set(runs.curve)]
    shown.sort(key=lambda curve: list(runs.curve).index(curve.key))
    optimizers = ", ".join(dict.fromkeys(curve.optimizer for curve in shown))
    text = f"Optimizer: {optimizers}. {caption(shown)}"
    if (runs.reached & (runs.steps > 0)).any():
        text += " A point is the first step at the target."
    if sizes > _MOST_PANELS:
        text += f" Of {sizes} batch sizes {_MOST_PANELS} are shown."
    return text
