"""The best batch sizes and learning rates in the course of runs of some lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator
from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.axes import (
    PANEL_HEIGHT,
    nqm_style,
    panels,
    plain,
    set_powers,
    shades,
    side_legend,
)
from nqm_study.report.ramps import batches_change, ramps

_PANELS = {"batch_sizes": "batch size (examples)", "learning_rates": "learning rate"}
_SAID = (
    "SGD's fewest examples E to the target in T steps, over the batch sizes and the rates of equal "
    "pieces of the run. No rate is above 0.9998 times the largest stable one."
)


def draw(studies: DataFrame) -> Figure | None:
    """Batch size and learning rate against the fraction of the run, a line for each length.

    Each problem has two panels, the rates below the batch sizes.

    Returns:
        the figure, or None where no study has a batch schedule, or its problem's optima are not
        known.
    """
    found = _shown(studies)
    if found.empty:
        return None
    problems = [each for _, each in found.groupby(["spectrum_text", "target"], sort=False)]
    # By rank: the lengths that differ most in their batch sizes are near each other.
    ranks = {steps: 2.0**k for k, steps in enumerate(sorted(set(found.steps)))}
    by_rank = shades(ranks.values())
    colors = {steps: by_rank[rank] for steps, rank in ranks.items()}
    with nqm_style():
        said = "; ".join(
            f"Spectrum: {text}. Target loss: {target:g}."
            for text, target in dict.fromkeys(zip(found.spectrum_text, found.target, strict=True))
        )
        heights = [PANEL_HEIGHT] * len(_PANELS) * len(problems)
        figure, all_axes = panels(
            heights, "fraction of the run, t / T", f"{said} {_SAID}", shared=True
        )
        drawn = [(each, name) for each in problems for name in _PANELS]
        for axes, (each, name) in zip(all_axes, drawn, strict=True):
            _draw_panel(axes, each, name, colors)
            if len(problems) > 1:
                axes.set_title(plain(f"{each.spectrum_text.iloc[0]}, {each.target.iloc[0]:g}"))
    return figure


def table(studies: DataFrame) -> DataFrame:
    """The same: a row for each piece of each run."""
    rows = [
        (each.spectrum_text, each.target, each.steps, -(-k * each.steps // len(pieces)), *piece)
        for each in _shown(studies).itertuples()
        for pieces in [list(zip(each.batch_sizes, each.learning_rates, strict=True))]
        for k, piece in enumerate(pieces)
    ]
    columns = ["spectrum", "target", "steps", "first_step", "batch_size", "learning_rate"]
    return DataFrame(rows, columns=columns)


def _shown(studies: DataFrame) -> DataFrame:
    found = ramps(studies)
    return found[found.batch_sizes.map(len) > 0] if batches_change(studies) else found.iloc[:0]


def _draw_panel(axes: Axes, found: DataFrame, name: str, colors: dict[float, str]) -> None:
    axes.set_yscale("log", base=2)
    axes.set_xlim(0.0, 1.0)
    axes.xaxis.set_major_locator(MultipleLocator(0.2))
    axes.set_ylabel(_PANELS[name])
    lines, labels = [], []
    for each in found.itertuples():
        values: Sequence[float] = getattr(each, name)
        x = [k / len(values) for k in range(len(values) + 1)]
        style: dict[str, Any] = {"color": colors[each.steps], "linewidth": 1.4}
        # The last value holds to the end of the run.
        axes.plot(x, [*values, values[-1]], drawstyle="steps-post", **style)
        lines.append(Line2D([], [], **style))
        labels.append(f"T = {words.count(each.steps)}, E = {each.examples:.3g}")
    set_powers(axes, "y", [value for values in found[name] for value in values])
    if name == "batch_sizes":
        side_legend(axes, lines, labels)
