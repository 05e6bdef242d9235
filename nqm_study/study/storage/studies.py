"""The studies in an Optuna storage: made, checked, and read as records."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nqm_study.study.definition import StudyDefinition
from nqm_study.study.records import (
    Cost,
    Optimum,
    Origin,
    StudyRecord,
    Tracked,
    Training,
    TrialRecord,
)
from nqm_study.study.space import Search
from nqm_study.study.trials import directions

ATTRIBUTE = "nqm_study"
"""The study attribute that holds its definition and bounds."""

ORIGINS = "nqm_study.origins"
COST = "nqm_study.cost"
TRACKED = "nqm_study.tracked"
OPTIMUM = "nqm_study.optimum"
FRONTIER = "nqm_study.frontier"
REPORTS = "nqm_study.reports"
TRAINING = "nqm_study.training"

FOUND = "found"
"""The trial attribute with all that a shared trial came to; others have an attribute for each."""


class StudyMismatchError(ValueError):
    """A stored study of this name was made from another definition."""


def open_study(
    storage: BaseStorage,
    name: str,
    definition: StudyDefinition,
    facts: Callable[[], Mapping[str, Any]],
) -> Study:
    """The stored study of this name, made if it is not there.

    Args:
        storage: where it is kept.
        name: the study's name.
        definition: what decides its trials.
        facts: what its steps are compared with, and ``search``, computed once, when the study is
            made.

    Raises:
        StudyMismatchError: if the stored one was made from another definition.
    """
    study = optuna.create_study(
        storage=storage, study_name=name, directions=directions(definition), load_if_exists=True
    )
    check_definition(study, definition)
    if ATTRIBUTE not in study.user_attrs:
        study.set_user_attr(ATTRIBUTE, {"definition": definition.to_json(), **facts()})
    return study


def stored_search(study: Study) -> Search | None:
    """What a study searches and where it begins; None in studies that earlier versions stored."""
    found = study.user_attrs[ATTRIBUTE].get("search")
    return Search.from_json(found) if found is not None else None


def note_optimum(study: Study, optimum: Optimum | None) -> None:
    """Store the true optimum; None says that there is none to be known."""
    study.set_user_attr(OPTIMUM, dataclasses.asdict(optimum) if optimum is not None else {})


def optimum_known(study: Study) -> bool:
    """Whether the true optimum was looked for."""
    return OPTIMUM in study.user_attrs


def note_frontier(study: Study, frontier: Sequence[tuple[float, int]]) -> None:
    """Store the exact frontier; an empty one says that there is none to be known."""
    study.set_user_attr(FRONTIER, [list(pair) for pair in frontier])


def frontier_known(study: Study) -> bool:
    """Whether the exact frontier was looked for."""
    return FRONTIER in study.user_attrs


def note_training(study: Study, training: Training) -> None:
    """Store the run of the best trial."""
    kept = dataclasses.asdict(training)
    # JSON has no infinity.
    kept["noise_scales"] = [v if math.isfinite(v) else None for v in training.noise_scales]
    study.set_user_attr(TRAINING, kept)


def note_origin(study: Study, origin: Origin) -> None:
    """Store what the next trials are made with, unless the last ones were made with the same."""
    stored = _origins(study)
    same = stored and dataclasses.replace(stored[-1], first_trial=origin.first_trial) == origin
    if not same:
        study.set_user_attr(ORIGINS, [dataclasses.asdict(each) for each in (*stored, origin)])


def add_cost(study: Study, cost: Cost) -> None:
    """Store what more trials cost."""
    if cost.trials > 0:
        study.set_user_attr(COST, dataclasses.asdict(_cost(study) + cost))


def note_tracked(study: Study, tracked: Tracked) -> None:
    """Store which trials have runs of their own in MLflow."""
    if study.user_attrs.get(TRACKED, "all") != tracked:
        study.set_user_attr(TRACKED, tracked)


def note_report(study: Study, name: str) -> None:
    """Store that a study belongs to the report of this name; it may belong to others as well."""
    names = study.user_attrs.get(REPORTS, [])
    if name not in names:
        study.set_user_attr(REPORTS, [*names, name])


def check_definition(study: Study, definition: StudyDefinition) -> None:
    """Refuse a stored study that was made from another definition.

    Raises:
        StudyMismatchError: naming what differs.
    """
    stored = study.user_attrs.get(ATTRIBUTE)
    if stored is None:
        if study.get_trials(deepcopy=False):
            raise StudyMismatchError(
                f"study.name={study.study_name}: the storage holds a study of this name that "
                "nqm_study did not make; choose another name"
            )
        return
    made_from = StudyDefinition.from_json(stored["definition"])
    if made_from.fingerprint != definition.fingerprint:
        differences = _differences(made_from.to_json(), definition.to_json())
        raise StudyMismatchError(
            f"study.name={study.study_name}: the stored study of this name was made with "
            f"{'; '.join(differences)}; choose another name or restore these"
        )


def _differences(stored: Any, asked: Any, path: str = "") -> list[str]:
    if isinstance(stored, Mapping) and isinstance(asked, Mapping):
        keys = [*stored, *(key for key in asked if key not in stored)]
        return [
            line
            for key in keys
            for line in _differences(
                stored.get(key), asked.get(key), f"{path}.{key}" if path else key
            )
        ]
    return [] if stored == asked else [f"{path}={stored} (now {asked})"]


def read_records(storage: BaseStorage) -> tuple[StudyRecord, ...]:
    """Every study of this program in a storage, by name."""
    studies = (
        optuna.load_study(study_name=name, storage=storage)
        for name in sorted(optuna.study.get_all_study_names(storage))
    )
    return tuple(study_record(study) for study in studies if ATTRIBUTE in study.user_attrs)


def study_record(study: Study) -> StudyRecord:
    """A stored study as a record."""
    facts = study.user_attrs[ATTRIBUTE]
    search, trials = stored_search(study), study.get_trials(deepcopy=False)
    record = StudyRecord(
        name=study.study_name,
        definition=StudyDefinition.from_json(facts["definition"]),
        bayes_bound=int(facts["bayes_bound"]),
        initial_risk=float(facts["initial_risk"]),
        trials=trial_records(trials),
        classical_bound=facts.get("classical_bound"),
        optimal_steps=facts.get("optimal_steps"),
        optimal_gap=facts.get("optimal_gap"),
        origins=_origins(study),
        cost=_cost(study),
        tracked=study.user_attrs.get(TRACKED, "all"),
        optimum=Optimum(**found) if (found := study.user_attrs.get(OPTIMUM)) else None,
        frontier=tuple((float(b), int(t)) for b, t in study.user_attrs.get(FRONTIER, ())),
        reports=tuple(study.user_attrs.get(REPORTS, ())),
        training=_training(study),
        coordinates={
            each.name: (each.low, each.high)
            for each in (search.space.coordinates if search else ())
        },
    )
    if search is None or record.best is None:
        return record
    # Of what was searched: with a half-life, a trial's own beta2 is another one.
    best = next(trial for trial in trials if trial.number == record.best.number)
    at_edge = search.space.at_edge(search.space.values(best.params))
    return dataclasses.replace(record, at_edge=at_edge)


def _origins(study: Study) -> tuple[Origin, ...]:
    return tuple(Origin(**each) for each in study.user_attrs.get(ORIGINS, ()))


def _training(study: Study) -> Training | None:
    found = study.user_attrs.get(TRAINING)
    if not found:
        return None
    scales = (math.inf if value is None else value for value in found["noise_scales"])
    return Training(found["trial"], tuple(found["steps"]), tuple(found["risks"]), tuple(scales))


def _cost(study: Study) -> Cost:
    return Cost(**study.user_attrs.get(COST, {}))


def trial_records(trials: Sequence[FrozenTrial]) -> tuple[TrialRecord, ...]:
    """The finished trials of a study as records."""
    return tuple(trial_record(trial) for trial in trials if trial.state == TrialState.COMPLETE)


def trial_record(trial: FrozenTrial) -> TrialRecord:
    """A finished trial as a record."""
    facts = trial.user_attrs.get(FOUND, trial.user_attrs)
    if trial.datetime_start is None or trial.datetime_complete is None or not trial.values:
        raise ValueError(f"trial {trial.number} is not finished")
    return TrialRecord(
        number=trial.number,
        hyperparameters=facts["hyperparameters"],
        steps=facts["steps"],
        status=facts["status"],
        risk=facts["risk"] if facts["risk"] is not None else math.inf,
        objective=trial.values[0],
        started=trial.datetime_start,
        finished=trial.datetime_complete,
        risk_error=facts.get("risk_error"),
        rates=tuple((int(step), float(rate)) for step, rate in facts.get("rates", ())),
        sampled=bool(facts.get("sampled", False)),
    )
