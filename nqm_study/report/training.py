"""Training curves at given learning rates: the expected loss in the course of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nqm_study.report import words
from nqm_study.report.axes import (
    GREY,
    caption_line,
    nqm_style,
    plain,
    set_losses,
    set_powers,
    shades,
)
from nqm_study.report.captions import caption, listed
from nqm_study.report.comma import csv_text
from nqm_study.report.runs import Run

COLUMNS = (
    "optimizer",
    "schedule",
    "batch_size",
    "learning_rate",
    "steps_to_target",
    "step",
    "loss",
    "curve",
)
_MOST_PANELS = 4
_WIDTH, _PANEL_HEIGHT = 7.2, 3.4  # inches
_LINE_HEIGHT = 0.2  # inches of the legend
_LABEL_WIDTH = 30  # characters
_HIGHEST = 3.0  # times the loss at the start, up to where divergences are drawn
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_NO_LINE: dict[str, Any] = {"linestyle": ""}


def training_figure(runs: Sequence[Run]) -> Figure | None:
    """The expected loss against steps, a line for each run at a given learning rate.

    Each batch size has a panel, up to four, spread over those there are. A learning rate has one
    colour throughout, a kind of optimizer and schedule one way of dashing. A point is where a run
    first is at the target.

    Returns:
        the figure, or None where every study searched something.
    """
    shown = fixed_runs(runs)
    if all(run.training is None for run in shown):
        return None
    sizes = sorted({run.batch_size for run in shown})
    panels = [[run for run in shown if run.batch_size == size] for size in _spread(sizes)]
    colors = shades(run.learning_rate for run in shown if not run.diverged)
    kinds = list(dict.fromkeys(_kind(run) for run in shown))
    heights = [max(_PANEL_HEIGHT, _LINE_HEIGHT * len(panel) + 0.8) for panel in panels]
    with nqm_style():
        figure = Figure(figsize=(_WIDTH, sum(heights) + 0.4))
        all_axes = figure.subplots(
            len(panels), squeeze=False, gridspec_kw={"height_ratios": heights}
        )[:, 0]
        for axes, panel in zip(all_axes, panels, strict=True):
            _draw_panel(axes, panel, colors, kinds)
        all_axes[-1].set_xlabel("steps, t (optimizer steps)")
        caption_line(figure, _caption(shown, len(sizes)))
    return figure


def training_csv(runs: Sequence[Run]) -> str:
    """The same as comma-separated values, of every batch size: a row for each point of a line."""
    return csv_text(COLUMNS, _rows(runs))


def _rows(runs: Sequence[Run]) -> Iterator[Sequence[object]]:
    for run in fixed_runs(runs):
        if run.training is None:
            continue
        curve, steps = run.curve, "" if run.steps is None else run.steps
        size, rate = words.typed(run.batch_size), repr(run.learning_rate)
        for step, risk in zip(run.training.steps, run.training.risks, strict=True):
            row = (curve.optimizer, curve.schedule, size, rate, steps, step, repr(risk))
            yield [*row, curve.label]


def fixed_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs of studies that search nothing and compute nothing; of a kind the lowest rate first.

    A kind is an optimizer and a schedule.
    """
    fixed = [run for run in runs if run.curve.fixed and run.learning_rate > 0.0]
    kinds = list(dict.fromkeys(_kind(run) for run in fixed))
    return sorted(fixed, key=lambda run: (kinds.index(_kind(run)), run.learning_rate))


def _spread(sizes: Sequence[float]) -> list[float]:
    """At most four of the batch sizes, the first and the last among them."""
    most = _MOST_PANELS - 1
    if len(sizes) <= _MOST_PANELS:
        return list(sizes)
    return [sizes[round(i * (len(sizes) - 1) / most)] for i in range(_MOST_PANELS)]


def _kind(run: Run) -> tuple[str, str]:
    return run.curve.optimizer, run.curve.schedule


def _draw_panel(
    axes: Axes,
    panel: Sequence[Run],
    colors: dict[float, str],
    kinds: Sequence[tuple[str, str]],
) -> None:
    axes.set_xscale("log", base=2)
    axes.set_ylabel("expected loss")
    axes.set_title(words.as_math(f"B = {words.power_of_two(panel[0].batch_size)}"), loc="left")
    targets = sorted({run.curve.target for run in panel})
    known = [run.training for run in panel if run.training is not None]
    start = max((training.risks[0] for training in known), default=targets[-1])
    top = _HIGHEST * start
    risks = [risk for training in known for risk in training.risks if 0.0 < risk <= top]
    set_losses(axes, "y", [*targets, *risks])
    set_powers(axes, "x", [step for training in known for step in training.steps] or [1.0])
    for target in targets:
        axes.axhline(target, color=GREY, linewidth=1.0, linestyle=":", zorder=2)
    lines, labels = [], []
    for run in panel:
        dashes = _DASHES[kinds.index(_kind(run)) % len(_DASHES)]
        style = {"color": colors.get(run.learning_rate), "linestyle": dashes, "linewidth": 1.4}
        _draw_run(axes, run, style)
        lines.append(Line2D([], [], **(style if run.training is not None else _NO_LINE)))
        labels.append(fill(_label(run, panel), _LABEL_WIDTH))
    lines.append(Line2D([], [], color=GREY, linewidth=1.0, linestyle=":"))
    labels.append(f"target, {listed(f'{target:g}' for target in targets)}")
    axes.legend(
        lines,
        [plain(label) for label in labels],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0.0,
    )


def _draw_run(axes: Axes, run: Run, style: dict[str, Any]) -> None:
    training = run.training
    if training is None:
        return
    pairs = list(zip(training.steps, training.risks, strict=True))[1:]  # 0 has no logarithm
    axes.plot(*zip(*pairs, strict=True), zorder=3, **style)
    if run.steps:
        at = dict(pairs).get(run.steps, run.curve.target)
        axes.plot(
            [run.steps],
            [at],
            "o",
            color=style["color"],
            markeredgecolor="0.15",
            markersize=5,
            zorder=4,
        )


def _label(run: Run, panel: Sequence[Run]) -> str:
    """The learning rate, what else tells the run from the others, and what it came to."""
    rate = f"{run.learning_rate:g}"
    alike = [other for other in panel if other.learning_rate == run.learning_rate]
    several = len({_kind(other) for other in panel}) > 1 or len(alike) > 1
    name = run.curve.label.replace("learning_rate ", "lr ") if several else f"lr = {rate}"
    if f"lr {rate}" not in name and several:
        name = f"{name}, lr {rate}"
    if run.diverged:
        return f"{name}: diverges"
    if run.steps is None:
        return f"{name}: not reached"
    return f"{name}: T = {words.count(run.steps)}"


def _caption(runs: Sequence[Run], sizes: int) -> str:
    curves = list({run.curve.key: run.curve for run in runs}.values())
    optimizers = ", ".join(dict.fromkeys(curve.optimizer for curve in curves))
    text = f"Optimizer: {optimizers}. {caption(curves)}"
    if any(run.steps for run in runs):
        text += " A point is the first step at the target."
    if sizes > _MOST_PANELS:
        text += f" Of {sizes} batch sizes {_MOST_PANELS} are shown."
    return text
