"""Optuna's own figures of a study, and a note on what they show.

Optuna would draw what its samplers minimise: log steps, with penalties for the trials that missed
the target, beside which the rest is squashed. So most figures are of a copy of the study in memory,
whose objective is the steps, and in which the trials that missed have failed.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import matplotlib as mpl
import matplotlib.pyplot as plt
import optuna
from matplotlib.backends.backend_agg import FigureCanvasAgg
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from nqm_study.study.records import StudyRecord, TrialRecord
from nqm_study.study.storage.failures import first_line
from nqm_study.tracking import diagnostic_figures

NOTE = "about.md"
"""The file with the note."""

FEWEST_FOR_IMPORTANCE = 10
"""Finished trials below which nothing is said of importance."""

BEST_SHARE, FEWEST_BEST = 0.1, 5
"""The best trials that importance looks at: a tenth, and at least as many as Optuna advises."""

MOST_COORDINATES = 6
"""Coordinates that are drawn side by side; of more, the most important."""

_MEANINGS = {
    "history.png": "`history.png`: {what} of each trial, and the lowest so far.",
    "pareto_front.png": (
        "`pareto_front.png`: steps and examples of each trial that reached the target. The best "
        "are those that no other beats in both."
    ),
    "importance.png": (
        "`importance.png`: how well each coordinate tells the best {best} of the trials from all "
        "of them (PED-ANOVA, arXiv:2304.10255), as shares of 1. It ranks trials by the sampler's "
        "objective: log steps, with a penalty for those that did not reach the target. It holds "
        "for the ranges searched and the points tried, most of which the search put near the "
        "optimum: a coordinate that it settled early, or whose range is narrow, looks unimportant."
    ),
    "slice.png": (
        "`slice.png`: {what} over each coordinate; darker points are later trials. The other "
        "coordinates differ from point to point, so only the lower edge is a curve."
    ),
    "parallel_coordinate.png": (
        "`parallel_coordinate.png`: a line for each trial, darker for less of {what}. Each axis "
        "covers what was tried, which may be less than the range searched."
    ),
}


@dataclass(frozen=True)
class Diagnostics:
    """What was drawn of a study.

    Attributes:
        files: contents by file name; empty where there is nothing to see.
        failures: what could not be drawn and why, a line each.
    """

    files: Mapping[str, bytes]
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Subject:
    """What is drawn of each trial: its steps, or its loss where fewer than two have steps.

    Attributes:
        name: what the figures call it.
        values: by trial number, positive.
        steps: whether they are steps.
    """

    name: str
    values: Mapping[int, float]
    steps: bool


def diagnostics(study: optuna.Study, record: StudyRecord) -> Diagnostics:
    """Draw the figures that a study has enough trials for, and write a note on them.

    Args:
        study: the stored study.
        record: the same, as a record.
    """
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    subject = _subject(record.trials)
    files: dict[str, bytes] = {}
    failures: list[str] = []
    with warnings.catch_warnings(), mpl.rc_context():
        # Public functions, which Optuna has called experimental since its version 2.2.
        warnings.simplefilter("ignore", ExperimentalWarning)
        figures: Mapping[str, Callable[[], None]] = {}
        try:
            figures = _figures(trials, record, subject)
        except Exception as error:  # noqa: BLE001 (told, and the study's run is whole without)
            failures.append(f"no diagnostics were drawn, {_reason(error)}")
        for name, draw in figures.items():
            try:
                draw()
                files[name] = _png()
            except Exception as error:  # noqa: BLE001 (told, and the other figures are drawn)
                failures.append(f"{name} was not drawn, {_reason(error)}")
            finally:
                plt.close("all")
    if files:
        files[NOTE] = _note(files, record, subject).encode()
    return Diagnostics(files, tuple(failures))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def _subject(trials: Sequence[TrialRecord]) -> _Subject:
    steps = {trial.number: float(trial.steps) for trial in trials if trial.steps}
    if len(steps) > 1:
        return _Subject("steps to the target", steps, steps=True)
    risks = {trial.number: trial.risk for trial in trials if 0.0 < trial.risk < math.inf}
    return _Subject("lowest expected loss", risks, steps=False)


def _figures(
    trials: Sequence[FrozenTrial], record: StudyRecord, subject: _Subject
) -> dict[str, Callable[[], None]]:
    """What draws each file: none where there are no two trials to compare."""
    if len(subject.values) < 2:
        return {}
    figures: dict[str, Callable[[], None]] = {}
    copy = _copied(trials, {number: (value,) for number, value in subject.values.items()})
    if not record.definition.two_objectives:
        optimum = record.optimum.steps if record.optimum is not None and subject.steps else None
        title = _title("Optimization history", record, subject)
        figures["history.png"] = partial(
            diagnostic_figures.history, copy, subject.name, title, optimum
        )
    elif subject.steps:
        both = {t.number: (float(t.steps), t.examples) for t in record.trials if t.steps}
        names = (subject.name, "examples to the target")
        title = _title("Pareto front", record, subject)
        figures["pareto_front.png"] = partial(
            diagnostic_figures.pareto_front, _copied(trials, both), names, title
        )
    coordinates = sorted({name for trial in trials for name in trial.params})
    if not coordinates:
        return figures
    if len(coordinates) > 1 and len(record.trials) >= FEWEST_FOR_IMPORTANCE:
        told = _copied(trials, {t.number: t.values[:1] for t in trials if t.values})
        evaluator = PedAnovaImportanceEvaluator(target_quantile=_best_share(record))
        figures["importance.png"] = partial(diagnostic_figures.importance, told, evaluator)
        if len(coordinates) > MOST_COORDINATES:
            ranked = list(get_param_importances(told, evaluator=evaluator))
            coordinates = sorted(ranked[:MOST_COORDINATES])
    shown = coordinates[:MOST_COORDINATES]
    figures["slice.png"] = partial(diagnostic_figures.slices, copy, shown, subject.name)
    if len(shown) > 1:
        figures["parallel_coordinate.png"] = partial(
            diagnostic_figures.parallel_coordinates, copy, shown, subject.name
        )
    return figures


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


def _best_share(record: StudyRecord) -> float:
    return max(BEST_SHARE, FEWEST_BEST / len(record.trials))


def _title(text: str, record: StudyRecord, subject: _Subject) -> str:
    """The title, and how many trials are not in the figure."""
    missing = len(record.trials) - len(subject.values)
    if not missing:
        return text
    why = "missed the target" if subject.steps else "diverged"
    return f"{text}; {missing} of {len(record.trials)} trials {why}"


def _png() -> bytes:
    buffer = io.BytesIO()
    # What savefig does, without drawing twice to find a layout.
    FigureCanvasAgg(plt.gcf()).print_png(  # type: ignore[no-untyped-call]
        buffer, metadata={"Software": None}
    )
    return buffer.getvalue()


def _note(files: Mapping[str, bytes], record: StudyRecord, subject: _Subject) -> str:
    """What each file shows and what to beware of, in Markdown."""
    known, count = len(subject.values), len(record.trials)
    if subject.steps:
        drawn = f"They show the steps of the {known} of {count} trials that reached the target."
    else:
        drawn = (
            f"Fewer than two of {count} trials reached the target, so they show the lowest "
            f"expected loss of {known} trials instead; the target is "
            f"{record.definition.target:.15g}."
        )
    best = f"{100.0 * _best_share(record):.0f} %" if count else ""
    said = (
        _MEANINGS[name].format(what=subject.name, best=best) for name in files if name in _MEANINGS
    )
    return "\n".join(
        [
            f"Optuna's figures of the study `{record.name}`. {drawn} Axes are logarithmic where "
            "values are spread. Coordinates are those of the search, such as "
            "`effective_learning_rate`, which is the rate over one minus the momentum, "
            "`one_minus_momentum`, or `rate_to_limit`, which is the rate over its distance from "
            "the largest stable one; where the batch size is searched, they are multiples of a "
            "guide to it. The trials' runs have the hyperparameters themselves.",
            "",
            *(f"- {line}" for line in said),
            "",
        ]
    )
