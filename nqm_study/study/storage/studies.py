"""The studies in an Optuna storage: made, checked, and read as records."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nqm_study.study.definition import StudyDefinition
from nqm_study.study.records import (
    ComputePoint,
    ComputeScaling,
    Cost,
    DataCheck,
    Exponent,
    Optimum,
    Origin,
    Ramp,
    StudyRecord,
    Tracked,
    Training,
)
from nqm_study.study.space import Search
from nqm_study.study.storage.forms import misfit
from nqm_study.study.text import on_one_line
from nqm_study.study.trials import FAILURE, directions, in_coordinates, trial_records

ATTRIBUTE = "nqm_study"
"""The study attribute with what is known when a study is made: its definition, ``search``, and what
its steps are compared with."""


def _read_training(kept: Mapping[str, Any]) -> Training | None:
    if not kept:
        return None
    arrays = tuple(kept["steps"]), tuple(kept["risks"]), _infinite(kept["noise_scales"])
    return Training(kept["trial"], *arrays, kept.get("unrounded_steps"))


def _infinite(kept: Sequence[Any]) -> tuple[Any, ...]:
    """Numbers, infinite where they are None: JSON has no infinity."""
    return tuple(math.inf if value is None else value for value in kept)


def _read_check(kept: Mapping[str, Any]) -> DataCheck | None:
    arrays = ("steps", "predicted", "measured", "standard_errors")
    return DataCheck(**{**kept, **{n: _infinite(kept[n]) for n in arrays}}) if kept else None


def _read_ramp(kept: Mapping[str, Any]) -> Ramp:
    shape = {name: tuple(kept[name]) for name in ("batch_sizes", "learning_rates")}
    return Ramp(**{**kept, **shape})


def _read_compute(kept: Mapping[str, Any]) -> ComputeScaling | None:
    if not kept:
        return None
    return ComputeScaling(
        tuple(ComputePoint(**each) for each in kept["points"]),
        Exponent(**kept["loss"]),
        Exponent(**kept["dim"]),
        curve=tuple((float(compute), float(loss)) for compute, loss in kept["curve"]),
        rest=kept["rest"],
    )


_LATER: Mapping[str, tuple[Any, Callable[[Any], Any]]] = {
    "origins": ((), lambda kept: tuple(Origin(**each) for each in kept)),
    "cost": ({}, lambda kept: Cost(**kept)),
    "tracked": ("all", str),
    "optimum": ({}, lambda kept: Optimum(**kept) if kept else None),
    "frontier": ((), lambda kept: tuple((float(size), int(steps)) for size, steps in kept)),
    "ramps": ((), lambda kept: tuple(map(_read_ramp, kept))),
    "compute": ({}, _read_compute),
    "reports": ((), tuple),
    "training": ({}, _read_training),
    "data_check": ({}, _read_check),
}
"""The fields of ``StudyRecord`` that are noted later, each in an attribute of its own: its JSON
value where there is none, and how it is read."""


class StudyMismatchError(ValueError):
    """A stored study of this name was made from another definition, or by another program."""


class UnreadableError(StudyMismatchError):
    """What is stored of a study has not the form that this version stores.

    Attributes:
        passed_over: one line for a call that goes on without the study.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            on_one_line(
                f"study.name={name}: was stored by another version of nqm_study, which this one "
                f"does not read ({why}); choose another study.name or another mlruns folder, or "
                "delete the study",
                longest=1000,
            )
        )
        self.passed_over = on_one_line(
            f"study {name}: is passed over, it was stored by another version of nqm_study, or "
            f"changed since ({why})"
        )


def open_study(
    storage: BaseStorage,
    name: str,
    definition: StudyDefinition,
    facts: Callable[[], Mapping[str, Any]],
) -> Study:
    """Load the stored study of a name, or make it.

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
    if not is_ours(study):
        study.set_user_attr(ATTRIBUTE, {"definition": definition.to_json(), **facts()})
    return study


def is_ours(study: Study) -> bool:
    """Whether a study in a storage is this program's, and whole."""
    return ATTRIBUTE in study.user_attrs


def note(study: Study, field: str, value: object) -> None:
    """Store a field of a study's record: one of those that are noted after it was made.

    None, or nothing in it, says that it was looked for and there is none.
    """
    study.set_user_attr(_key(field), {} if value is None else _json(value))


def noted(study: Study, field: str) -> bool:
    """Whether a field of a study's record was stored, be it that there is none."""
    return _key(field) in study.user_attrs


def note_origin(study: Study, origin: Origin) -> None:
    """Store what the next trials are made with, unless the last ones were made with the same."""
    stored = _read(study.user_attrs, "origins")
    same = stored and dataclasses.replace(stored[-1], first_trial=origin.first_trial) == origin
    if not same:
        note(study, "origins", (*stored, origin))


def add_cost(study: Study, cost: Cost) -> None:
    """Add the cost of more trials to a study's."""
    if cost.trials > 0:
        note(study, "cost", _read(study.user_attrs, "cost") + cost)


def note_tracked(study: Study, tracked: Tracked) -> None:
    """Store which trials have runs of their own in MLflow."""
    if _read(study.user_attrs, "tracked") != tracked:
        note(study, "tracked", tracked)


def note_report(study: Study, name: str) -> None:
    """Store that a study belongs to the report of this name; it may belong to others as well."""
    names = _read(study.user_attrs, "reports")
    if name not in names:
        note(study, "reports", (*names, name))


def check_definition(study: Study, definition: StudyDefinition) -> StudyRecord | None:
    """Refuse a stored study that cannot be continued.

    Args:
        study: the stored study.
        definition: what it is to be continued with.

    Returns:
        Its record; None for one that was only begun to be made.

    Raises:
        StudyMismatchError: naming what differs.
    """
    if not is_ours(study):
        if study.get_trials(deepcopy=False) or study.directions != directions(definition):
            raise StudyMismatchError(
                f"study.name={study.study_name}: the storage holds a study of this name that "
                "nqm_study did not make; choose another name"
            )
        return None
    record = study_record(study)
    made_from = record.definition
    if made_from.fingerprint != definition.fingerprint:
        differences = _differences(made_from.to_json(), definition.to_json())
        raise StudyMismatchError(
            f"study.name={study.study_name}: the stored study of this name was made with "
            f"{'; '.join(differences)}; choose another name or restore these"
        )
    return record


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


def find_study(storage: BaseStorage, definition: StudyDefinition) -> StudyRecord | None:
    """The stored study that only the name of its spectrum tells from a definition; None if none is.

    The spectrum itself is the same, by its digest: in Python it may have come from anywhere. Of
    several it is the one that is called as the definition says.
    """
    names = optuna.study.get_all_study_names(storage)
    for name in sorted(names, key=lambda name: (name != definition.default_name, name)):
        study = optuna.load_study(study_name=name, storage=storage)
        made = study.user_attrs.get(ATTRIBUTE, {}).get("definition", {})
        same = {key: made.get(key) for key in ("spectrum", "spectrum_settings")}
        if made and made == {**definition.to_json(), **same}:
            return study_record(study)
    return None


def check_units(study: Study, n_trials: int) -> None:
    """Refuse to continue a study whose stored trials are an earlier version's, in coordinates.

    Args:
        study: the stored study.
        n_trials: total of finished trials that it is to have; if it has them it is read as it is.

    Raises:
        StudyMismatchError: saying what can be done.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(finished) < n_trials and any(map(in_coordinates, finished)):
        raise StudyMismatchError(
            f"study.name={study.study_name}: was stored by an earlier version of nqm_study, in "
            "coordinates, and is read but not continued; choose another study.name or another "
            f"mlruns folder, or the {len(finished)} trials that it has, as study.n_trials"
        )


def read_records(
    storage: BaseStorage,
    tell: Callable[[str], object] = warnings.warn,
    known: Mapping[str, StudyRecord] = MappingProxyType({}),
) -> tuple[StudyRecord, ...]:
    """Every study of this program in a storage, by name, as far as they can be read.

    Args:
        storage: where they are kept.
        tell: called with one line for each that cannot be read: a peer's version of this program
            may be another one.
        known: records of studies that need not be read again, by name.
    """
    records = []
    for name in sorted(optuna.study.get_all_study_names(storage)):
        if name in known:
            records.append(known[name])
            continue
        try:
            study = optuna.load_study(study_name=name, storage=storage)
            if is_ours(study):
                records.append(study_record(study))
        except UnreadableError as error:
            tell(error.passed_over)
    return tuple(records)


def stored_search(study: Study) -> Search:
    """The search space of a stored study, and where its search begins."""
    return Search.from_json(study.user_attrs[ATTRIBUTE]["search"])


def study_record(study: Study) -> StudyRecord:
    """A stored study as a record: the one place where what is stored becomes one.

    Raises:
        UnreadableError: if what this version stores of every study is not there, or of another
            form.
    """
    kept, finished = study.user_attrs, study.get_trials(deepcopy=False)
    try:
        return _record(study.study_name, kept, finished)
    except KeyError as error:
        raise UnreadableError(study.study_name, f"it has no {error}") from error
    except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError) as error:
        # Of another form, it may fail wherever it is looked at.
        raise UnreadableError(study.study_name, str(error)) from error


def _record(name: str, kept: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> StudyRecord:
    """What is kept of a study as a record; whatever error comes of it if that has no such form."""
    facts = kept[ATTRIBUTE]
    definition = StudyDefinition.from_json(facts["definition"])
    space = Search.from_json(facts["search"]).space
    names = ["bayes_bound", "initial_risk"]
    if not definition.finds_batch_size:
        names += ["classical_bound", "optimal_steps", "optimal_gap"]
        # Where the noise follows the loss.
        names += [name for name in ("stability_limit", "interpolation_batch_size") if name in facts]
    record = StudyRecord(
        name,
        definition,
        trials=trial_records(trials),
        failures=tuple(each.user_attrs[FAILURE] for each in trials if FAILURE in each.user_attrs),
        coordinates={each.name: (each.low, each.high) for each in space.coordinates},
        **{name: facts[name] for name in names},
        **{field: _read(kept, field) for field in _LATER},
    )
    # These fail for what is of the right types and makes no sense.
    field = misfit(definition) or misfit(record)
    least = min(definition.target, *(trial.steps for trial in record.trials if trial.steps), 1)
    if field is not None or not (least > 0 and definition.fingerprint and definition.sampler_text):
        raise ValueError(f"its {field or 'target or steps'} has another form")
    if record.best is None:
        return record
    # Of what was searched: with a half-life, a trial's own beta2 is another one.
    best = next(trial for trial in trials if trial.number == record.best.number)
    values = {**space.fixed, **best.params}
    values = space.values(best.params) if in_coordinates(best) else values
    return dataclasses.replace(record, at_edge=space.at_edge(values))


def _key(field: str) -> str:
    return f"{ATTRIBUTE}.{field}"


def _read(kept: Mapping[str, Any], field: str) -> Any:
    nothing, read = _LATER[field]
    return read(kept.get(_key(field), nothing))


def _json(value: Any) -> Any:
    """A value as JSON has it: of no classes, and None for infinity."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _json(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {key: _json(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(each) for each in value]
    return None if value == math.inf else value
