"""Optuna's own figures of a study, on one page with a note on each.

They are of a copy of the study in memory, in which the trials that missed the target have failed:
Optuna would warn of each infinite value. Where none reached it, the copy has the losses instead.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import optuna
from optuna import visualization
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial
from plotly.graph_objects import Figure, Scatter

from nqm_study.report.html import chart, document
from nqm_study.study.records import StudyRecord
from nqm_study.study.storage.failures import first_line
from nqm_study.study.trials import ranking

PAGE = "diagnostics.html"
"""The file with the figures."""

FEWEST_FOR_IMPORTANCE = 10
"""Finished trials below which nothing is said of importance."""

BEST_SHARE, FEWEST_BEST = 0.1, 5
"""The best trials that importance looks at: a tenth, and at least as many as Optuna advises."""

MOST_SHOWN = 6
"""Hyperparameters that are drawn side by side; of more, the most important."""

_NOTES = {
    "history": "The {what} of each trial, and the lowest so far.",
    "pareto_front": (
        "Steps and examples of each trial that reached the target. The best are those that no "
        "other beats in both."
    ),
    "importance": (
        "How well each hyperparameter tells the best {best} of the trials from all of them "
        "(PED-ANOVA, arXiv:2304.10255), as shares of 1; trials that missed the target count as "
        "worst. It holds for the values tried: one that the search settled early, or whose range "
        "is narrow, looks unimportant."
    ),
    "slice": (
        "The {what} over each hyperparameter; darker points are later trials. The others differ "
        "from point to point, so only the lower edge is a curve."
    ),
    "parallel_coordinate": (
        "A line for each trial, the darker the lower its {what}. Each axis covers what was tried, "
        "which may be less than the range searched."
    ),
}


@dataclass(frozen=True)
class Diagnostics:
    """Optuna's figures of a study.

    Attributes:
        figures: by what they show, in the order of the page.
        failures: what could not be drawn and why, a line each.
        files: the page's content by its name; empty without figures.
    """

    figures: Mapping[str, Figure]
    failures: tuple[str, ...]
    files: Mapping[str, bytes]


def diagnostics(study: optuna.Study, record: StudyRecord) -> Diagnostics:
    """Draw the figures that a study has enough trials for; a failure is reported, never raised.

    Args:
        study: the stored study.
        record: the same, as a record.
    """
    values: dict[int, float] = {t.number: t.cost for t in record.trials if t.steps}
    steps = len(values) > 1
    if not steps:
        values = {t.number: t.risk for t in record.trials if 0.0 < t.risk < math.inf}
    objective = record.definition.objective or "steps"
    name = f"{objective} to the target" if steps else "lowest expected loss"
    figures: dict[str, Figure] = {}
    failures: list[str] = []
    files: dict[str, bytes] = {}
    with warnings.catch_warnings(), _reported(failures, "no diagnostics were drawn"):
        # Public functions, which Optuna has called experimental since its version 2.2.
        warnings.simplefilter("ignore", ExperimentalWarning)
        if len(values) > 1:
            for title, draw in _draws(study, record, values, name, steps=steps).items():
                with _reported(failures, f"{title} was not drawn"):
                    figures[title] = draw()
        if figures:
            files[PAGE] = _page(figures, record, len(values), name, steps=steps).encode()
    return Diagnostics(figures, tuple(failures), files)


@contextmanager
def _reported(failures: list[str], what: str) -> Iterator[None]:
    """Add what fails, and why, to the failures: a study's run is whole without its figures."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (whatever is wrong, it takes nothing else down)
        failures.append(f"{what}, {type(error).__name__}: {first_line(error)}")


def _draws(
    study: optuna.Study,
    record: StudyRecord,
    values: Mapping[int, float],
    name: str,
    *,
    steps: bool,
) -> dict[str, Callable[[], Figure]]:
    """What draws each figure.

    Args:
        study: the stored study.
        record: the same, as a record.
        values: what is drawn of each trial, by its number: positive.
        name: what that is.
        steps: whether it is the steps.
    """
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    copy = _copied(trials, {number: (value,) for number, value in values.items()})
    missing, why = len(record.trials) - len(values), "missed the target" if steps else "diverged"
    missed = f"; {missing} of {len(record.trials)} trials {why}" if missing else ""

    def history() -> Figure:
        figure = visualization.plot_optimization_history(copy, target_name=name)
        figure.update_traces(name="lowest so far", selector={"mode": "lines"})
        if record.optimum is not None and steps and not record.definition.objective:
            ends, line = (0, len(trials) - 1), {"color": "#404040", "dash": "dash", "width": 1}
            optimum = Scatter(x=ends, y=[record.optimum.steps] * 2, mode="lines", line=line)
            figure.add_trace(optimum.update(name="true optimum"))
        return figure.update_yaxes(type="log").update_layout(title=f"Optimization history{missed}")

    def pareto_front() -> Figure:
        both = {t.number: (float(t.steps), t.examples) for t in record.trials if t.steps}
        figure = visualization.plot_pareto_front(
            _copied(trials, both), target_names=[name, "examples to the target"]
        )
        figure.update_xaxes(type="log").update_yaxes(type="log")
        return figure.update_layout(title=f"Pareto front{missed}")

    def slices() -> Figure:
        figure = visualization.plot_slice(copy, shown, target_name=name)
        return figure.update_yaxes(type="log")

    def parallel_coordinate() -> Figure:
        # This axis of Optuna's is linear.
        return visualization.plot_parallel_coordinate(
            copy,
            shown,
            target=lambda trial: math.log10(trial.values[0]),
            target_name=f"log10 of {name}",
        )

    draws: dict[str, Callable[[], Figure]] = {}
    if not record.definition.two_objectives:
        draws["history"] = history
    elif steps:
        draws["pareto_front"] = pareto_front
    searched = sorted({name for trial in trials for name in trial.params})
    if len(searched) > 1 and len(record.trials) >= FEWEST_FOR_IMPORTANCE:
        made = record.definition
        ranked = {
            t.number: ranking([t.cost or math.inf], t.risk, made.target, made.max_steps)
            for t in record.trials
        }
        objective = _copied(trials, ranked)
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_best_share(record))
        draws["importance"] = partial(
            visualization.plot_param_importances, objective, evaluator=evaluator
        )
        if len(searched) > MOST_SHOWN:
            searched = list(get_param_importances(objective, evaluator=evaluator))
    shown = sorted(searched[:MOST_SHOWN])
    if shown:
        draws["slice"] = slices
    if len(shown) > 1:
        draws["parallel_coordinate"] = parallel_coordinate
    return draws


def _copied(trials: Sequence[FrozenTrial], values: Mapping[int, Sequence[float]]) -> optuna.Study:
    """Copy trials into a study in memory that has these objectives; without any they failed."""
    count = len(next(iter(values.values())))
    copy = optuna.create_study(directions=["minimize"] * count)
    copy.add_trials(
        create_trial(
            state=TrialState.COMPLETE if trial.number in values else TrialState.FAIL,
            values=values.get(trial.number),
            params=trial.params,
            distributions=trial.distributions,
        )
        for trial in trials
    )
    return copy


def _best_share(record: StudyRecord) -> float:
    return max(BEST_SHARE, FEWEST_BEST / len(record.trials))


def _page(
    figures: Mapping[str, Figure], record: StudyRecord, known: int, name: str, *, steps: bool
) -> str:
    """The page of the figures: which trials they show, and a note below each."""
    count = len(record.trials)
    what = (record.definition.objective or "steps").capitalize()
    shown = f"{what} of the {known} of {count} trials that reached the target."
    if not steps:
        shown = (
            f"Fewer than two of {count} trials reached the target, so this is the lowest expected "
            f"loss of {known} trials instead; the target is {record.definition.target:.15g}."
        )
    body = [f"<p>{shown}</p>"]
    for title, figure in figures.items():
        note = _NOTES[title].format(what=name, best=f"{100.0 * _best_share(record):.0f} %")
        body.append(f"{chart(figure, title)}\n<p>{note}</p>")
    return document(f"Optuna's figures of the study {record.name}", "\n".join(body))
