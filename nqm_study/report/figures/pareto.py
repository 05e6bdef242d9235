"""Steps against examples: what studies found that search the batch size, and the exact frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.axes import (
    LINES,
    Entry,
    Look,
    legend,
    log2_axes,
    nqm_style,
    set_powers,
)
from nqm_study.report.captions import listed
from nqm_study.report.looks import curve_looks
from nqm_study.report.pareto import frontiers
from nqm_study.study.frontier import Array, ExactFrontier

_COLUMNS = (
    *("kind", "optimizer", "schedule", "sampler", "seed", "trial", "batch_size", "steps"),
    *("examples", "learning_rate", "exact_steps", "curve"),
)
_DARK = "0.15"
_MOST_LABELS = 6
_OCTAVES = 1.5  # beyond the frontiers that are shown of the other trials
_TEXT = np.array([0.13, 0.07])  # room that a batch size takes, in shares of the axes
_APART = 2.0  # octaves of batch size between a label and the critical one
_CRITICAL: dict[str, Any] = {
    "marker": "D",
    "markersize": 9,
    "markerfacecolor": "none",
    "markeredgecolor": "crimson",
    "markeredgewidth": 1.8,
    "linestyle": "",
    "zorder": 5,
}


def draw(studies: DataFrame) -> Figure | None:
    """Steps against examples: all trials, the frontier that they found, and the exact one.

    Trials far from every frontier are outside of the axes.

    Returns:
        the figure, or None where no study searches the batch size.
    """
    found = frontiers(studies)
    if found.empty:
        return None
    with nqm_style():
        figure, axes = log2_axes("examples to target", "steps to target", _caption(found))
        drawn = zip(found.itertuples(), curve_looks(found.itertuples()), strict=True)
        entries = [_draw_found(axes, frontier, look) for frontier, look in drawn]
        exact = _exact(found)
        for i, (name, line) in enumerate(exact.items()):
            entries.append(_draw_exact(axes, name, line, LINES[i % len(LINES)]))
        if any(line.critical_batch_size is not None for line in exact.values()):
            remark = "examples 20 % above their least"
            entries.append((Line2D([], [], **_CRITICAL), "critical batch size", remark))
        _set_axes(axes, found, list(exact.values()))
        _draw_sizes(axes, list(exact.values()))
        legend(figure, entries)
    return figure


def table(studies: DataFrame) -> DataFrame:
    """The same: a row for each trial that reached the target, and for each exact point.

    ``kind`` is ``frontier`` of those that no other beats in both, ``trial`` of the others, and
    ``exact`` of points of the exact frontier. ``exact_steps`` are the fewest at that batch size.
    """
    found = frontiers(studies)
    rows: list[dict[str, Any]] = []
    for each in found.itertuples():
        best = {id(trial) for trial in each.found}
        for seed, trial in each.trials:
            fewest = each.exact and each.exact.steps(trial.batch_size)
            rows.append(
                {
                    "kind": "frontier" if id(trial) in best else "trial",
                    **{name: getattr(each, name) for name in _COLUMNS[1:4]},
                    "seed": seed,
                    "trial": trial.number,
                    **{name: getattr(trial, name) for name in ("batch_size", "steps", "examples")},
                    "learning_rate": trial.hyperparameters.get("learning_rate"),
                    "exact_steps": fewest and float(f"{fewest:.6g}"),  # of a spline in logarithms
                    "curve": each.label,
                }
            )
    for label, line in _exact(found).items():
        for size, steps in line.points:
            fewest = {"steps": steps, "examples": size * steps, "exact_steps": steps}
            rows.append({"kind": "exact", "batch_size": size, **fewest, "curve": label})
    return DataFrame(rows, columns=list(_COLUMNS)).astype({"seed": "Int64", "trial": "Int64"})


def _exact(found: DataFrame) -> dict[str, ExactFrontier]:
    """The exact frontiers that differ, by the optimizer or the first label they are those of."""
    known = found[found.exact.notna()].drop_duplicates("exact")
    alone = ~known.optimizer.duplicated(keep=False)
    names = known.optimizer.where(alone, known.label)
    return dict(zip(names, known.exact, strict=True))


def _draw_found(axes: Axes, frontier: Any, look: Look) -> Entry:
    style: dict[str, Any] = {
        "color": look.color,
        "marker": look.marker,
        "markersize": 3.5,
        "markeredgewidth": 0.4,
        "linewidth": 1.2,
        "drawstyle": "steps-post",
    }
    dominated = [trial for _, trial in frontier.trials]
    axes.plot(
        [trial.examples for trial in dominated],
        [max(trial.steps or 1, 1) for trial in dominated],
        ".",
        color=look.color,
        markersize=4,
        markeredgewidth=0,
        alpha=0.3,
        zorder=2,
    )
    axes.plot(
        [trial.examples for trial in frontier.found],
        [max(trial.steps or 1, 1) for trial in frontier.found],
        zorder=3,
        **style,
    )
    known = frontier.gap is not None and math.isfinite(frontier.gap)
    remark = f"within {words.percent(frontier.gap or 0.0)} of the exact" if known else ""
    return Line2D([], [], **style), f"{frontier.label}: frontier found", remark


def _draw_exact(axes: Axes, name: str, line: ExactFrontier, style: str) -> Entry:
    sizes, steps = line.line()
    look: dict[str, Any] = {"color": _DARK, "linewidth": 1.0, "linestyle": style}
    axes.plot(sizes * steps, steps, zorder=4, **look)
    return Line2D([], [], **look), f"{name}: exact frontier", ""


def _draw_sizes(axes: Axes, lines: Sequence[ExactFrontier]) -> None:
    """Batch sizes along the exact frontiers, the critical ones first; once the axes are set.

    Their texts are on the side where a line has no trials. One that would stand upon another line
    or text is left out.
    """
    paths = [_places(axes, *line.line()) for line in lines]
    taken: list[Array] = []
    for line in lines:
        size = line.critical_batch_size
        if size is not None:
            _, (x, y) = _point(axes, line, size)
            axes.plot([x], [y], **_CRITICAL)
            text = f"B = {words.rounded(size)}"
            _write(axes, (x, y), text, (7, 5), ha="left", va="bottom", color="crimson")
    for i, line in enumerate(lines):
        others = [path for k, path in enumerate(paths) if k != i]
        for size in _labelled(line, line.critical_batch_size):
            place, (x, y) = _point(axes, line, size)
            axes.plot([x], [y], ".", color=_DARK, markersize=5, zorder=4)
            inside = [np.all(np.abs(other - place + _TEXT / 2) < _TEXT / 2) for other in taken]
            inside += [
                np.any(np.all((path < place) & (path > place - _TEXT), axis=1)) for path in others
            ]
            if any(inside):
                continue
            taken.append(place - _TEXT / 2)
            text = words.as_math(f"B = {words.power_of_two(size)}")
            _write(axes, (x, y), text, (-5, -5), ha="right", va="top", color=_DARK)


def _point(axes: Axes, line: ExactFrontier, size: float) -> tuple[Array, tuple[float, float]]:
    """Where a batch size is on a line: in shares of the axes, and in examples and steps."""
    steps = line.steps(size) or math.nan
    return _places(axes, np.array([size]), np.array([steps]))[0], (size * steps, steps)


def _places(axes: Axes, sizes: Array, steps: Array) -> Array:
    points = axes.transData.transform(np.column_stack([sizes * steps, steps]))
    return np.asarray(axes.transAxes.inverted().transform(points))


def _write(
    axes: Axes, point: tuple[float, float], text: str, offset: tuple[int, int], **style: Any
) -> None:
    axes.annotate(
        text, point, xytext=offset, textcoords="offset points", fontsize=8, zorder=6, **style
    )


def _labelled(line: ExactFrontier, critical: float | None) -> list[float]:
    """A few powers of two, evenly along the line and away from the critical batch size."""
    low, high = (math.log2(end[0]) for end in (line.points[0], line.points[-1]))
    powers = range(math.ceil(low), math.floor(high) + 1)
    step = max(1, math.ceil(len(powers) / _MOST_LABELS))
    return [
        2.0**k
        for k in powers
        if k % step == 0 and (critical is None or abs(k - math.log2(critical)) >= _APART)
    ]


def _set_axes(axes: Axes, found: DataFrame, exact: Sequence[ExactFrontier]) -> None:
    points = [(each.examples, float(each.steps or 1)) for trials in found.found for each in trials]
    for line in exact:
        sizes, steps = line.line()
        points += zip((sizes * steps).tolist(), steps.tolist(), strict=True)
    x, y = zip(*points, strict=True) if points else ([1.0], [1.0])
    # Room for the batch sizes beside the lines.
    set_powers(axes, "x", [min(x) / 4.0, max(x) * 2.0**_OCTAVES])
    set_powers(axes, "y", [min(y) / 2.0, max(y) * 2.0**_OCTAVES])


def _caption(found: DataFrame) -> str:
    spectra, schedules = listed(found.spectrum_text), listed(found.schedule)
    targets = listed(f"{target:g}" for target in found.target)
    ranges = listed(f"{each.low:,.0f} to {each.high:,.0f}" for each in found.itertuples())
    text = (
        f"Spectrum: {spectra}. Target loss: {targets}. Schedule: {schedules}. Batch sizes: "
        f"{ranges}. Faint dots are trials; a step line joins those that no other beats in both "
        "steps and examples."
    )
    if found.exact.notna().any():
        text += (
            " Within x % of the exact frontier: each of its points has a trial with at most x % "
            "more of both."
        )
    return text
