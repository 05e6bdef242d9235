"""Tables of the terminal: results, regrets of samplers, and frontiers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.curves import Curve, Missed, Point, scheduled
from nqm_study.report.pareto import pareto_sentence, spread
from nqm_study.report.ramps import TITLE, ramp_frame
from nqm_study.report.regret import checkpoints
from nqm_study.report.sheet import Sheet
from nqm_study.study.records import OPTIMAL

_NONE = "-"
_UNREACHED = "target not reached"
# Shown even where they are fixed, unless at 0: an optimizer is not described without them.
_DEFINING = ("momentum", "beta1", "beta2")
_KEPT = ("learning_rate", *_DEFINING)
_RATIO_OF = re.compile(r"ratio_\d+")  # of a piece of a schedule
_MOST_RATIO_OFS = 3
_TRIALS, _SEEDS, _OVER = "trials", "over seeds", "over optimum"
_TIME, _EXAMPLES = "time", "examples"
_BOUND, _OPTIMAL = "ratio to Bayes bound", f"ratio to {OPTIMAL}"
_MOST_ROWS = 12


def result_table(curves: Sequence[Curve]) -> Sheet:
    """Result table of the terminal: a row for each curve and batch size.

    What all curves share (spectrum, target, schedule) is in the title. More than three ratios of a
    schedule's pieces are left out. A line that is too short leaves out what a reader misses least:
    the number of trials where it is the same in all rows, as the title has it then; hyperparameters
    that only some of the curves have; the ratio to the Bayes bound where the true optimum tells how
    good the steps are; the range over seeds where all of them reached the target; the others.
    """
    points = [point for curve in curves for point in curve.points]
    names = _hyperparameter_names(curves)
    headings = {name: _heading(name, curves) for name in names}
    in_all = {name for name in names if all(name in point.hyperparameters for point in points)}
    few = [headings[name] for name in names if name not in {*_KEPT, *in_all}]
    trials = _shared_trials(curves)
    unlike = any(point.seeds_unreached for point in points)
    judged = any(point.excess is not None for point in points)
    first = [_TRIALS] * (trials is not None) + few + [_BOUND] * judged + [_SEEDS] * (not unlike)
    rest = [_TRIALS, _BOUND, _OPTIMAL, *reversed(headings.values()), _OVER, _SEEDS, _EXAMPLES]
    return Sheet(
        _result_title(curves),
        result_frame(curves),
        spare=tuple(dict.fromkeys([*first, *rest])),
        instead={} if trials is None else {_TRIALS: f"trials {trials}"},
        ends=set(accumulate(len(curve.points) + len(curve.unreached) for curve in curves)),
    )


def result_frame(curves: Sequence[Curve]) -> DataFrame:
    """Result table in texts: a row for each curve and batch size, and every column there is.

    Steps are a count, the learning rate and other hyperparameters are in the user's units. With
    several seeds the median is given, and the range of steps in a column of its own. A spectrum or
    target that differs has a column.
    """
    rows = [(curve, row) for curve in curves for row in _rows(curve)]
    points = [row for _, row in rows if isinstance(row, Point)]

    def column(read: Callable[[Point], str], missing: str = _NONE) -> list[str]:
        return [read(row) if isinstance(row, Point) else missing for _, row in rows]

    names: dict[str, Callable[[Curve], str]] = {
        "spectrum": lambda curve: curve.spectrum_text,
        "target": lambda curve: f"{curve.target:g}",
        "optimizer": lambda curve: curve.label,
    }
    cells = {
        name: [read(curve) for curve, _ in rows]
        for name, read in names.items()
        if name == "optimizer" or len(set(map(read, curves))) > 1
    }
    cells["batch size"] = [words.typed(row.batch_size) for _, row in rows]
    timed = any(curve.objective == "time" for curve in curves)
    if timed:
        cells[_TIME] = column(lambda p: _known(p.time, "{:,.6g}".format), _UNREACHED)
    cells["steps"] = column(lambda p: words.count(p.steps), _NONE if timed else _UNREACHED)
    if any(curve.objective != "steps" or curve.batch_schedule for curve in curves):
        cells[_EXAMPLES] = column(lambda point: f"{point.examples:.3e}")
    if any(point.seeds + point.seeds_unreached > 1 for point in points):
        cells[_SEEDS] = column(_over_seeds)
    if any(point.excess is not None for point in points):
        cells[_OVER] = column(lambda point: _known(point.excess, words.percent))
    for name in _hyperparameter_names(curves):
        cells[_heading(name, curves)] = [_value(row, name) for _, row in rows]
    cells[_TRIALS] = [words.count(row.trials) for _, row in rows]
    if any(point.bayes_bound for point in points) or not points:
        cells[_BOUND] = column(lambda point: _known(point.ratio_to_bound, words.ratio))
        # Of least squares, whose limit of stability is known, there is no optimal schedule.
        if not points or any(point.stability_limit is None for point in points):
            cells[_OPTIMAL] = column(lambda p: _known(p.ratio_to_optimal, words.ratio))
    return DataFrame(cells)


def regret_table(regrets: DataFrame) -> Sheet:
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
    # The medians at the end are what the samplers are compared by.
    least_missed = ("worst", "upper", "median")
    spare = [each for name in least_missed for each in cells if each.endswith(f"\n{name}")]
    return Sheet(title, DataFrame(cells), spare=spare[:-1], narrow=False)


def pareto_table(frontier: Any) -> Sheet:
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
    spare = [heading for heading in reversed(cells) if heading not in ("batch size", "steps")]
    return Sheet(title, DataFrame(cells), spare, note=pareto_sentence(frontier), narrow=False)


def ramp_table(found: DataFrame) -> Sheet:
    """What changing batch sizes save, of the rows of ``ramps``: a row for each stored run."""
    stored = found[found.batch_sizes.map(len) > 0]
    cells = ramp_frame(stored if len(stored) else found)
    note = (
        "E: SGD's fewest examples in T steps, with one batch size B, and where B changes. T at "
        "equal E: by interpolation. All lengths: analysis.md, examples_frontier.csv."
    )
    return Sheet(TITLE, cells, [*reversed(list(cells)[4:])], note=note)


def _result_title(curves: Sequence[Curve]) -> str:
    if not curves:
        return "no finished trials"
    shared = {
        "target loss": {f"{curve.target:g}" for curve in curves},
        "spectrum": {curve.spectrum_text for curve in curves},
        "schedule": {curve.schedule for curve in curves},
    }
    parts = [f"{name} {min(found)}" for name, found in shared.items() if len(found) == 1]
    objectives = {curve.objective for curve in curves}
    least = objectives.pop() if len(objectives) == 1 else "steps"
    return ", ".join(["Least time" if least == "time" else f"Fewest {least}", *parts])


def _shared_trials(curves: Sequence[Curve]) -> int | None:
    """The number of trials that all rows have in common; None where they differ."""
    numbers = {row.trials for curve in curves for row in _rows(curve)}
    return numbers.pop() if len(numbers) == 1 else None


def _rows(curve: Curve) -> list[Point | Missed]:
    """Every batch size of the curve, smallest first."""
    return sorted([*curve.points, *curve.missed], key=lambda row: row.batch_size)


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


def _value(row: Point | Missed, name: str) -> str:
    """A hyperparameter's text, of a point or of a batch size that missed the target."""
    if isinstance(row, Point) and name in row.words:
        return row.words[name]
    return _known(row.hyperparameters.get(name), words.hyperparameter)


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
