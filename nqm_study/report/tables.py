"""Tables of the terminal: results, regrets of samplers, and frontiers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from pandas import DataFrame
from rich import box
from rich.table import Table
from rich.text import Text

from nqm_study.report import words
from nqm_study.report.curves import Curve, Point, scheduled
from nqm_study.report.pareto import pareto_sentence, spread
from nqm_study.report.regret import checkpoints
from nqm_study.study.records import OPTIMAL

NAMING = ("spectrum", "target", "optimizer", "sampler", "curve", "from", "by")
"""The columns that name a row; all others are numbers, and set flush right."""

_NONE = "-"
_UNREACHED = "target not reached"
# Shown even where they are fixed, unless at 0: an optimizer is not described without them.
_DEFINING = ("momentum", "beta1", "beta2")
_KEPT = ("learning_rate", *_DEFINING)
_RATIO_OF = re.compile(r"ratio_\d+")  # of a piece of a schedule
_MOST_RATIO_OFS = 3
_TERMINAL = 80  # characters
_TRIALS, _SEEDS, _BOUND = "trials", "over seeds", "ratio to Bayes bound"
_MOST_ROWS = 12


def result_table(curves: Sequence[Curve]) -> Table:
    """Result table of the terminal: a row for each curve and batch size.

    What all curves share (spectrum, target, schedule) is in the title. More than three ratios of a
    schedule's pieces are left out, and so is, from a table that would be too wide with it, what a
    reader misses least: the number of trials where it is the same in all rows, as the title has it
    then; hyperparameters that only some of the curves have; the ratio to the Bayes bound where the
    true optimum tells how good the steps are; the range over seeds where all of them reached the
    target.
    """
    tries = list(_attempts(curves))
    # Two spaces between columns read better than one. That is worth the first step and no more.
    roomy = [cells for cells in tries[:2] if _spaces(cells) > 1]
    fitting = [cells for cells in tries if room(cells) >= cells.shape[1] - 1]
    cells = [*roomy, *fitting, tries[-1]][0]
    ends = accumulate(len(curve.points) + len(curve.unreached) for curve in curves)
    return rich_table(cells, _result_title(curves, cells), narrow=True, ends=ends)


def result_frame(curves: Sequence[Curve]) -> DataFrame:
    """Result table in texts: a row for each curve and batch size, and every column there is.

    Steps are a count, the learning rate and other hyperparameters are in the user's units. With
    several seeds the median is given, and the range of steps in a column of its own. A spectrum or
    target that differs has a column.
    """
    rows = [(curve, size, point) for curve in curves for size, point in _rows(curve)]
    points = [point for *_, point in rows]

    def column(read: Callable[[Point], str], missing: str = _NONE) -> list[str]:
        return [missing if point is None else read(point) for point in points]

    names: dict[str, Callable[[Curve], str]] = {
        "spectrum": lambda curve: curve.spectrum_text,
        "target": lambda curve: f"{curve.target:g}",
        "optimizer": lambda curve: curve.label,
    }
    cells = {
        name: [read(curve) for curve, *_ in rows]
        for name, read in names.items()
        if name == "optimizer" or len(set(map(read, curves))) > 1
    }
    cells["batch size"] = [words.typed(size) for _, size, _ in rows]
    cells["steps"] = column(lambda point: words.count(point.steps), _UNREACHED)
    if any(point.seeds + point.seeds_unreached > 1 for point in points if point):
        cells[_SEEDS] = column(_over_seeds)
    if any(point.excess is not None for point in points if point):
        cells["over optimum"] = column(lambda point: _known(point.excess, words.percent))
    for name in _hyperparameter_names(curves):
        cells[_heading(name, curves)] = column(partial(_hyperparameter, name=name))
    cells[_TRIALS] = column(lambda point: words.count(point.trials))
    cells[_BOUND] = column(lambda point: _known(point.ratio_to_bound, words.ratio))
    cells[f"ratio to {OPTIMAL}"] = column(lambda p: _known(p.ratio_to_optimal, words.ratio))
    return DataFrame(cells)


def regret_table(regrets: DataFrame) -> Table:
    """The regrets of one comparison: a row for each sampler, the least median at the end first.

    After a quarter, half and all of the trials it has the median, the upper quartile and the worst
    over studies of the steps' excess over the true optimum; a dash where so many studies had not
    reached the target.
    """
    last = regrets[regrets.trials == regrets.trials.max()]
    best_first = last.sort_values(["median", "upper_quartile", "worst", "sampler"]).sampler
    at = regrets.set_index(["sampler", "trials"])
    cells = {"sampler": list(best_first)}
    for count in checkpoints(int(regrets.trials.max())):
        for name in ("median", "upper_quartile", "worst"):
            values = [words.percent(at.loc[(sampler, count), name]) for sampler in best_first]
            cells[f"{count:,}\n{name.partition('_')[0]}"] = values
    of = regrets.iloc[0]
    sizes, seeds = len(of.batch_sizes), of.seeds
    optimum = "true optimum" if of.exact else "true optimum, or the best of a dense search"
    title = (
        f"{of.comparison}: steps above the {optimum} after so many trials; median, upper quartile "
        f"and worst of {_several(of.studies, 'study', 'studies')} "
        f"({_several(sizes, 'batch size', 'batch sizes')}, {_several(seeds, 'seed', 'seeds')})"
    )
    return rich_table(DataFrame(cells), title)


def pareto_table(frontier: Any) -> Table:
    """At most twelve trials along a row of ``frontiers``, from the fewest examples on.

    ``over exact`` is the excess of the steps over the exact frontier at the same batch size; a dash
    where it is not known.
    """
    trials = spread(frontier.found, _MOST_ROWS)
    cells = {
        "batch size": [words.typed(trial.batch_size) for trial in trials],
        "steps": [words.count(trial.steps or 0) for trial in trials],
        "examples": [f"{trial.examples:.3e}" for trial in trials],
    }
    for name in frontier.hyperparameters:
        found = [trial.hyperparameters.get(name) for trial in trials]
        cells[name.replace("_", " ")] = [_known(value, words.hyperparameter) for value in found]
    if frontier.exact is not None:
        over = [frontier.exact.excess(trial) for trial in trials]
        cells["over exact"] = [_known(value, words.percent) for value in over]
    title = f"Frontier of steps and examples, {frontier.label}"
    return rich_table(DataFrame(cells), title, caption=pareto_sentence(frontier))


def rich_table(
    cells: DataFrame,
    title: str,
    *,
    caption: str | None = None,
    narrow: bool = False,
    ends: Iterable[int] = (),
) -> Table:
    """Texts as a table of the terminal.

    Args:
        cells: a row of texts for each row; its columns are the headings.
        title: what stands above.
        caption: what stands below.
        narrow: whether headings are broken into words, and spaces are one where two are too many.
        ends: the numbers of rows that a line is below.
    """
    result = Table(
        title=Text(title),
        title_justify="left",
        caption=None if caption is None else Text(caption),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, _spaces(cells) - 1 if narrow else 1, 0, 0),
        pad_edge=False,
    )
    for heading in cells:
        # As narrow as its cells, so that most tables fit 80 characters. Where they do not, names
        # are folded, and no number is: half of one is a wrong number.
        width = _width(cells, heading, narrow=narrow)
        if heading in NAMING:
            result.add_column(heading, max_width=width, overflow="fold")
        else:
            result.add_column(heading, justify="right", width=width)
    last = set(ends)
    for i, row in enumerate(cells.itertuples(index=False), start=1):
        result.add_row(*map(Text, row), end_section=i in last)
    return result


def _width(cells: DataFrame, heading: str, *, narrow: bool = True) -> int:
    """The longest cell, or word of the heading (or line of it), in characters."""
    parts = heading.split() if narrow else heading.splitlines()
    return max(len(text) for text in [*parts, *cells[heading]])


def room(cells: DataFrame) -> int:
    """Characters that a terminal's line has left for the spaces between columns."""
    return _TERMINAL - sum(_width(cells, heading) for heading in cells)


def _spaces(cells: DataFrame) -> int:
    """Two between columns, or one where a line of a terminal has no room for two."""
    return 2 if room(cells) >= 2 * (cells.shape[1] - 1) else 1


def _attempts(curves: Sequence[Curve]) -> Iterator[DataFrame]:
    """The result in ever fewer columns."""
    points = [point for curve in curves for point in curve.points]
    names = _hyperparameter_names(curves)
    in_all = {name for name in names if all(name in point.hyperparameters for point in points)}
    trials = {_TRIALS} if _shared_trials(curves) is not None else set()
    few = trials | {_heading(name, curves) for name in names if name not in {*_KEPT, *in_all}}
    bound = {_BOUND} if any(point.excess is not None for point in points) else set()
    seeds = set() if any(point.seeds_unreached for point in points) else {_SEEDS}
    cells = result_frame(curves)
    for dropped in (set(), trials, few, few | bound, few | seeds, few | bound | seeds):
        yield cells.drop(columns=list(dropped), errors="ignore")


def _result_title(curves: Sequence[Curve], cells: DataFrame) -> str:
    if not curves:
        return "no finished trials"
    shared = {
        "target loss": {f"{curve.target:g}" for curve in curves},
        "spectrum": {curve.spectrum_text for curve in curves},
        "schedule": {curve.schedule for curve in curves},
    }
    parts = [f"{name} {min(found)}" for name, found in shared.items() if len(found) == 1]
    if _TRIALS not in cells:
        parts.append(f"trials {_shared_trials(curves)}")
    return ", ".join(["Fewest steps", *parts])


def _shared_trials(curves: Sequence[Curve]) -> int | None:
    """The number of trials that all rows have in common; None where they differ or are unknown."""
    numbers = {None if point is None else point.trials for c in curves for _, point in _rows(c)}
    return numbers.pop() if len(numbers) == 1 else None


def _rows(curve: Curve) -> list[tuple[float, Point | None]]:
    """Every batch size of the curve in order; with None where the target was not reached."""
    found: list[tuple[float, Point | None]] = [(point.batch_size, point) for point in curve.points]
    found += [(batch_size, None) for batch_size in curve.unreached]
    return sorted(found, key=lambda row: row[0])


def _hyperparameter_names(curves: Sequence[Curve]) -> list[str]:
    searched = [name for curve in curves for name in curve.searched]
    values = [point.hyperparameters for curve in curves for point in curve.points]
    defining = [name for name in _DEFINING if any(value.get(name) for value in values)]
    names = list(dict.fromkeys(["learning_rate", *defining, *searched]))
    if sum(_RATIO_OF.fullmatch(name) is not None for name in names) > _MOST_RATIO_OFS:
        names = [name for name in names if not _RATIO_OF.fullmatch(name)]
    return names


def _heading(name: str, curves: Sequence[Curve]) -> str:
    if name == "learning_rate" and scheduled(curves):
        return "peak learning rate"
    return name.replace("_", " ")


def _hyperparameter(point: Point, name: str) -> str:
    return _known(point.hyperparameters.get(name), words.hyperparameter)


def _known(value: float | None, text: Callable[[float], str]) -> str:
    return _NONE if value is None or math.isnan(value) else text(value)


def _over_seeds(point: Point) -> str:
    """The range of steps over seeds, and how many seeds reached the target if not all."""
    text = f"{words.count(point.steps_low)} to {words.count(point.steps_high)}"
    if point.seeds == 1:
        text = ""
    if point.seeds_unreached:
        text += f" {point.seeds} of {point.seeds + point.seeds_unreached} reached"
    return text.strip() or _NONE


def _several(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
