"""Optuna's figures of a study, with axes that can be read.

Steps and rates are spread over orders of magnitude, which Optuna's figures leave on linear axes, or
on log axes whose labels overlap. Each function draws into a new figure of Matplotlib's, the current
one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import optuna
import optuna.visualization.matplotlib as optunas
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from optuna.importance import PedAnovaImportanceEvaluator

_MEDIUM, _SMALL = "medium", "small"


def history(study: optuna.Study, name: str, title: str, optimum: int | None) -> None:
    """The value of each trial, and the best so far.

    Args:
        study: with positive values.
        name: what the values are.
        title: the figure's title.
        optimum: the fewest steps there can be, where they are drawn and known.
    """
    axes = optunas.plot_optimization_history(study, target_name=name)
    axes.set_yscale("log")
    axes.lines[0].set_label("lowest so far")
    if optimum is not None:
        axes.axhline(optimum, color="0.25", linestyle="--", linewidth=1.0, label="true optimum")
    axes.legend()
    set_ticks(axes.yaxis)
    _finish(axes, title)


def pareto_front(study: optuna.Study, names: Sequence[str], title: str) -> None:
    """The trials of two objectives, both positive, and the best of them."""
    axes = optunas.plot_pareto_front(study, target_names=list(names))
    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        set_ticks(axis)
    _finish(axes, title)


def importance(study: optuna.Study, evaluator: PedAnovaImportanceEvaluator) -> None:
    """How much each coordinate tells the best trials from all, as shares of 1."""
    axes = optunas.plot_param_importances(study, evaluator)
    # The one objective needs no legend.
    axes.legend([]).remove()
    axes.set(xlabel="importance for being among the best trials", ylabel="")
    longest = max(len(label.get_text()) for label in axes.get_yticklabels())
    _finish(axes, "Hyperparameter importance", left=0.3 + 0.085 * longest)


def slices(study: optuna.Study, coordinates: Sequence[str], name: str) -> None:
    """The positive values of trials over each coordinate."""
    found = optunas.plot_slice(study, list(coordinates), target_name=name)
    every = list(found) if isinstance(found, np.ndarray) else [found]
    for axes in every:
        axes.set_yscale("log")
        if axes.get_xscale() == "log":
            set_ticks(axes.xaxis, most=4)
        else:
            axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel(axes.get_xlabel(), fontsize=_MEDIUM)
    set_ticks(every[0].yaxis)
    figure = plt.gcf()
    # Optuna's own title stands above the axes, or upon them, by their number.
    figure.suptitle("")
    every[0].set_title("")
    every[0].set_title("Slices", fontsize=_MEDIUM, loc="left")
    width = 2.4 + 2.3 * max(2, len(every))
    figure.set_size_inches(width, 4.8)
    each_width = (width - 2.4) / len(every)
    for place, axes in enumerate(every):
        left = (1.0 + place * each_width) / width
        axes.set_position((left, 0.14, (each_width - 0.3) / width, 0.78))
    bar = next(axes for axes in figure.axes if axes not in every)
    bar.set_box_aspect(None)
    bar.set_position((1.0 - 1.2 / width, 0.14, 0.2 / width, 0.78))


def parallel_coordinates(study: optuna.Study, coordinates: Sequence[str], name: str) -> None:
    """A line for each trial, from its positive value through its coordinates."""
    # This axis of Optuna's is linear. So the logarithm is drawn, and ticks say what it is of.
    axes = optunas.plot_parallel_coordinate(
        study,
        list(coordinates),
        target=lambda trial: math.log10(trial.values[0]),
        target_name=name,
    )
    figure = plt.gcf()
    labels = [each.replace("_", "_\n").replace(" ", "\n") for each in (name, *coordinates)]
    axes.set_xticks(range(len(labels)), labels, rotation=0, fontsize=_SMALL)
    bar, *others = (found for found in figure.axes if found is not axes)
    for axis in (axes.yaxis, bar.yaxis):
        low, high = (10.0**each for each in axis.get_view_interval())
        ticks = [math.log10(tick) for tick in log_ticks(low, high, most=8)]
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FuncFormatter(lambda value, _: _number(10.0**value)))
    for other in others:
        if other.get_yscale() == "log":
            set_ticks(other.yaxis)
        other.tick_params(labelsize=_SMALL)
        for label in other.get_yticklabels():
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5})
    # Each axis has a grid of its own, and their lines would cross those of the trials.
    for found in (axes, *others):
        found.grid(visible=False)
    figure.set_size_inches(2.8 + 1.5 * len(labels), 4.8)
    _finish(axes, "Parallel coordinates", bottom=0.9)


def _finish(axes: Axes, title: str, *, left: float = 1.0, bottom: float = 0.65) -> None:
    """The title, and margins in inches; finding margins that fit takes longer than drawing."""
    figure = plt.gcf()
    width, height = figure.get_size_inches()
    figure.set_layout_engine("none")
    figure.subplots_adjust(
        left=left / width, right=1.0 - 0.3 / width, bottom=bottom / height, top=1.0 - 0.4 / height
    )
    axes.set_title("")
    axes.set_title(title, fontsize=_MEDIUM, loc="left")


def set_ticks(axis: Axis, most: int = 8) -> None:
    """Ticks of a log axis: at most so many, with numbers that do not overlap."""
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(FixedLocator(log_ticks(low, high, most)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value)))


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Ticks in a range of positive numbers, at most so many.

    Powers of ten; in a range with fewer than three, their multiples by 1, 2 and 5; and in one with
    fewer than two of these, numbers that are evenly spaced.
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    powers = [10.0**k for k in exponents if low <= 10.0**k <= high]
    if len(powers) > 2:
        return powers[:: math.ceil(len(powers) / most)]
    ticks = [m * 10.0**k for k in exponents for m in (1, 2, 5) if low <= m * 10.0**k <= high]
    if len(ticks) > most:
        return powers
    if len(ticks) > 1:
        return ticks
    even = MaxNLocator(most - 1, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in even if low <= tick <= high]


def _number(value: float) -> str:
    exponent = math.log10(value)
    if abs(exponent - round(exponent)) < 1e-9 and not -3 <= round(exponent) <= 5:
        return f"$10^{{{round(exponent)}}}$"
    return f"{value:,.6g}"
