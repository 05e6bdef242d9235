"""Studies in a storage that others changed, made with another version, or for something else."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import create_trial
from studies import FACTS, definition

KNOWN: Mapping[str, Any] = {"definition": definition().to_json(), **FACTS}
TRIAL: Mapping[str, Any] = {
    "hyperparameters": {"learning_rate": 0.1, "momentum": 0.5},
    "steps": 9,
    "status": "reached",
    "risk": 0.19,
    "risk_error": None,
}


def changed(value: Any, *path: Any) -> dict[str, Any]:
    """What is stored of a study, with another value in one place; of ``...`` without it."""
    known = copy.deepcopy(dict(KNOWN))
    node: Any = known
    for name in path[:-1]:
        node = node[name]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return known


DAMAGED: Mapping[str, Mapping[str, Any]] = {
    "a field missing": {"nqm_study": changed(..., "definition", "max_steps")},
    "a newer field": {"nqm_study": changed(1, "definition", "weight_decay")},
    "a text": {"nqm_study": "mine"},
    "a list": {"nqm_study": [1, 2]},
    "nothing": {"nqm_study": None},
    "a definition of text": {"nqm_study": changed("sgd", "definition")},
    "a rate of text": {
        "nqm_study": changed("0.1", "definition", "hyperparameters", "learning_rate")
    },
    "a range that is none": {
        "nqm_study": changed(9.0, "definition", "hyperparameters", "learning_rate", "low")
    },
    "a sampler without a name": {"nqm_study": changed({}, "definition", "sampler")},
    "a batch size of text": {"nqm_study": changed("many", "definition", "batch_size")},
    "a target below 0": {"nqm_study": changed(-0.2, "definition", "target")},
    "a target that is none": {"nqm_study": changed(math.nan, "definition", "target")},
    "no search": {"nqm_study": changed(..., "search")},
    "a search of text": {"nqm_study": changed("everywhere", "search")},
    "a search of another form": {"nqm_study": changed([{"low": 1}], "search", "space")},
    "a bound of text": {"nqm_study": changed("7", "bayes_bound")},
    "origins of text": {"nqm_study": KNOWN, "nqm_study.origins": "here"},
    "a newer origin": {"nqm_study": KNOWN, "nqm_study.origins": [{"machine": "a"}]},
    "a cost of text": {"nqm_study": KNOWN, "nqm_study.cost": {"trials": "3"}},
    "an optimum without steps": {"nqm_study": KNOWN, "nqm_study.optimum": {"exact": True}},
    "an optimum of text": {"nqm_study": KNOWN, "nqm_study.optimum": "0.1"},
    "reports of numbers": {"nqm_study": KNOWN, "nqm_study.reports": [1]},
    "a number of reports": {"nqm_study": KNOWN, "nqm_study.reports": 3},
    "a frontier of text": {"nqm_study": KNOWN, "nqm_study.frontier": ["ab", "cd"]},
    "a training of text": {"nqm_study": KNOWN, "nqm_study.training": {"trial": "1"}},
    "an escape \x1b[31m": {"nqm_study": {"definition": {"\x1b[2J": 1}}},
}
"""Attributes of studies by what is wrong with them."""

WRONG_TRIALS: Mapping[str, Mapping[str, Any]] = {
    "no attributes": {},
    "no steps": {name: value for name, value in TRIAL.items() if name != "steps"},
    "steps of text": {**TRIAL, "steps": "9"},
    "steps below 0": {**TRIAL, "steps": -9},
    "a risk of text": {**TRIAL, "risk": "low"},
    "hyperparameters of text": {**TRIAL, "hyperparameters": "0.1"},
    "hyperparameters in a list": {**TRIAL, "hyperparameters": {"learning_rate": [0.1]}},
    "rates of another form": {**TRIAL, "rates": [1, 2]},
    "a result of text": {"found": "all"},
    "no coordinates": TRIAL,
}
"""Attributes of a finished trial by what is wrong with them; the last has no parameters."""


def spoil(storage: BaseStorage) -> list[str]:
    """Put every damaged and foreign study into a storage; the names of those that are named."""
    for name, attributes in DAMAGED.items():
        study = optuna.create_study(storage=storage, study_name=name)
        for key, value in attributes.items():
            study.set_user_attr(key, value)
    for name, attributes in WRONG_TRIALS.items():
        study = optuna.create_study(storage=storage, study_name=f"a trial with {name}")
        study.set_user_attr("nqm_study", dict(KNOWN))
        study.add_trial(create_trial(value=1.0, user_attrs=dict(attributes)))
    optuna.create_study(storage=storage, study_name="foreign").add_trial(create_trial(value=1.0))
    return [*DAMAGED, *(f"a trial with {name}" for name in WRONG_TRIALS)]
