"""Optuna's own figures of a study, on one page with a note on each.

Optuna would draw what its samplers minimise: log steps, with penalties for the trials that missed
the target, beside which the rest is squashed. So most figures are of a copy of the study in memory,
whose objective is the steps, and in which the trials that missed have failed.
"""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial
from plotly.graph_objects import Figure, Scatter

from nqm_study.report.html import chart, document
from nqm_study.study.records import StudyRecord
from nqm_study.study.storage.failures import first_line


def _without_matplotlib(name: str) -> ModuleType:
    """Optuna's module as it is where there is no Matplotlib, whose import takes 0.4 s."""
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    hidden = modules.setdefault("matplotlib", None) is None
    try:
        return importlib.import_module(name)
    finally:
        if hidden:
            del modules["matplotlib"]


visualization = _without_matplotlib("optuna.visualization")

PAGE = "diagnostics.html"
"""The file with the figures."""

FEWEST_FOR_IMPORTANCE = 10
"""Finished trials below which nothing is said of importance."""

BEST_SHARE, FEWEST_BEST = 0.1, 5
"""The best trials that importance looks at: a tenth, and at least as many as Optuna advises."""

MOST_COORDINATES = 6
"""Coordinates that are drawn side by side; of more, the most important."""

_NOTES = {
    "history": "The {what} of each trial, and the lowest so far.",
    "pareto_front": (
        "Steps and examples of each trial that reached the target. The best are those that no "
        "other beats in both."
    ),
    "importance": (
        "How well each coordinate tells the best {best} of the trials from all of them "
        "(PED-ANOVA, arXiv:2304.10255), as shares of 1; trials that missed the target count as "
        "worst. It holds for the points tried: a coordinate that the search settled early, or "
        "whose range is narrow, looks unimportant."
    ),
    "slice": (
        "The {what} over each coordinate; darker points are later trials. The other coordinates "
        "differ from point to point, so only the lower edge is a curve."
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


@dataclass(frozen=True)
class _Subject:
    """The number drawn of each trial: steps, or the loss where fewer than two trials have steps.

    Attributes:
        name: what the figures call it.
        values: by trial number, positive.
        steps: whether they are steps.
    """

    name: str
    values: Mapping[int, float]
    steps: bool

    @classmethod
    def of(cls, record: StudyRecord) -> _Subject:
        steps = {trial.number: float(trial.steps) for trial in record.trials if trial.steps}
        if len(steps) > 1:
            return cls("steps to the target", steps, steps=True)
        risks = {trial.number: trial.risk for trial in record.trials}
        known = {number: risk for number, risk in risks.items() if 0.0 < risk < math.inf}
        return cls("lowest expected loss", known, steps=False)


def diagnostics(study: optuna.Study, record: StudyRecord) -> Diagnostics:
    """Draw the figures that a study has enough trials for; a failure is reported, never raised.

    Args:
        study: the stored study.
        record: the same, as a record.
    """
    subject = _Subject.of(record)
    figures: dict[str, Figure] = {}
    failures: list[str] = []
    draws: Mapping[str, Callable[[], Figure]] = {}
    with warnings.catch_warnings():
        # Public functions, which Optuna has called experimental since its version 2.2.
        warnings.simplefilter("ignore", ExperimentalWarning)
        try:
            draws = _draws(study, record, subject)
        except Exception as error:  # noqa: BLE001 (reported; the study's run is whole without)
            failures.append(f"no diagnostics were drawn, {_reason(error)}")
        for name, draw in draws.items():
            try:
                figures[name] = draw()
            except Exception as error:  # noqa: BLE001 (reported, and the other figures are drawn)
                failures.append(f"{name} was not drawn, {_reason(error)}")
    files = {PAGE: _page(figures, record, subject).encode()} if figures else {}
    return Diagnostics(figures, tuple(failures), files)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _draws(
    study: optuna.Study, record: StudyRecord, subject: _Subject
) -> dict[str, Callable[[], Figure]]:
    """What draws each figure: nothing where there are no two trials to compare."""
    if len(subject.values) < 2:
        return {}
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    copy = _copied(trials, {number: (value,) for number, value in subject.values.items()})
    draws: dict[str, Callable[[], Figure]] = {}
    if not record.definition.two_objectives:
        draws["history"] = partial(_history, copy, record, subject)
    elif subject.steps:
        both = {t.number: (float(t.steps), t.examples) for t in record.trials if t.steps}
        draws["pareto_front"] = partial(_pareto_front, _copied(trials, both), record, subject)
    coordinates = sorted({name for trial in trials for name in trial.params})
    if not coordinates:
        return draws
    if len(coordinates) > 1 and len(record.trials) >= FEWEST_FOR_IMPORTANCE:
        objective = _copied(trials, {t.number: t.values[:1] for t in trials if t.values})
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_best_share(record))
        draws["importance"] = partial(
            visualization.plot_param_importances, objective, evaluator=evaluator
        )
        if len(coordinates) > MOST_COORDINATES:
            coordinates = list(get_param_importances(objective, evaluator=evaluator))
    shown = sorted(coordinates[:MOST_COORDINATES])
    draws["slice"] = partial(_slices, copy, shown, subject.name)
    if len(shown) > 1:
        draws["parallel_coordinate"] = partial(
            visualization.plot_parallel_coordinate,
            copy,
            shown,
            # This axis of Optuna's is linear.
            target=lambda trial: math.log10(trial.values[0]),
            target_name=f"log10 of {subject.name}",
        )
    return draws


def _copied(trials: Sequence[FrozenTrial], values: Mapping[int, Sequence[float]]) -> optuna.Study:
    """A study in memory with these values for objectives; trials without any have failed."""
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


def _history(study: optuna.Study, record: StudyRecord, subject: _Subject) -> Figure:
    """The value of each trial, the lowest so far, and the fewest steps there can be, if known."""
    figure = visualization.plot_optimization_history(study, target_name=subject.name)
    figure.update_traces(name="lowest so far", selector={"mode": "lines"})
    if record.optimum is not None and subject.steps:
        optimum, ends = record.optimum.steps, (0, len(study.get_trials(deepcopy=False)) - 1)
        line = {"color": "#404040", "dash": "dash", "width": 1}
        figure.add_trace(Scatter(x=ends, y=(optimum, optimum), mode="lines", line=line))
        figure.data[-1].name = "true optimum"
    figure.update_yaxes(type="log")
    return figure.update_layout(title=_title("Optimization history", record, subject))


def _pareto_front(study: optuna.Study, record: StudyRecord, subject: _Subject) -> Figure:
    names = [subject.name, "examples to the target"]
    figure = visualization.plot_pareto_front(study, target_names=names)
    figure.update_xaxes(type="log").update_yaxes(type="log")
    return figure.update_layout(title=_title("Pareto front", record, subject))


def _slices(study: optuna.Study, coordinates: list[str], name: str) -> Figure:
    figure = visualization.plot_slice(study, coordinates, target_name=name)
    return figure.update_yaxes(type="log")


def _best_share(record: StudyRecord) -> float:
    return max(BEST_SHARE, FEWEST_BEST / len(record.trials))


def _title(text: str, record: StudyRecord, subject: _Subject) -> str:
    """The title, and how many trials are not in the figure."""
    missing = len(record.trials) - len(subject.values)
    if not missing:
        return text
    why = "missed the target" if subject.steps else "diverged"
    return f"{text}; {missing} of {len(record.trials)} trials {why}"


def _page(figures: Mapping[str, Figure], record: StudyRecord, subject: _Subject) -> str:
    """The page of the figures: which trials they show, and a note below each."""
    known, count = len(subject.values), len(record.trials)
    if subject.steps:
        shown = f"Steps of the {known} of {count} trials that reached the target."
    else:
        shown = (
            f"Fewer than two of {count} trials reached the target, so this is the lowest expected "
            f"loss of {known} trials instead; the target is {record.definition.target:.15g}."
        )
    about = (
        "Coordinates are those of the search: effective_learning_rate is the rate over one minus "
        "the momentum, rate_to_limit the rate over its distance from the largest stable one, and "
        "where the batch size is searched they are multiples of a guide to it. The trials' runs "
        "have the hyperparameters themselves."
    )
    notes = {
        name: note.format(what=subject.name, best=f"{100.0 * _best_share(record):.0f} %")
        for name, note in _NOTES.items()
        if name in figures
    }
    body = [f"<p>{shown}</p>", f"<details><summary>Coordinates</summary>{about}</details>"]
    body += [f"{chart(figures[name], name)}\n<p>{note}</p>" for name, note in notes.items()]
    return document(f"Optuna's figures of the study {record.name}", "\n".join(body))
