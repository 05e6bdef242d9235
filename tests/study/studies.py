"""Small studies that the tests of the loop share."""

from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.storages import BaseStorage

import nqm_study as nqm
from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.loop import run
from nqm_study.study.space import Search, SearchSpace
from nqm_study.study.storage.journal import open_journal
from nqm_study.study.storage.studies import open_study
from nqm_study.study.trials import Evaluate, Evaluation, OnTrial

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(50), batch_size=16)
SAMPLERS = {
    "tpe": {"name": "tpe", "n_startup_trials": 5},
    "finish": {"name": "tpe", "n_startup_trials": 5, "finish": 0.6},
    "cmaes": {"name": "cmaes", "n_startup_trials": 1},
    "random": {"name": "random"},
    "qmc": {"name": "qmc", "qmc_type": "sobol"},
    "grid": {"name": "grid", "size": 49},
}


def definition(sampler: str = "tpe", **changes: object) -> StudyDefinition:
    given = {
        "optimizer": "momentum",
        "hyperparameters": {
            "learning_rate": Range(1e-3, 3.0, "log"),
            "momentum": Range(0.0, 0.99, "log_one_minus"),
        },
        "spectrum": "small",
        "spectrum_digest": PROBLEM.spectrum.digest,
        "schedule": "constant",
        "batch_size": 16.0,
        "target": 0.2,
        "seed": 3,
        "sampler": SAMPLERS[sampler],
        "max_steps": 10**6,
    }
    return StudyDefinition(**{**given, **changes})  # type: ignore[arg-type]


def journal(folder: Path) -> BaseStorage:
    return open_journal(folder / "optuna.journal")


FACTS = {
    "bayes_bound": 7,
    "initial_risk": 2.0,
    "classical_bound": 9.5,
    "optimal_steps": None,
    "optimal_gap": None,
    "search": Search(SearchSpace.of(definition().hyperparameters)).to_json(),
}


def evaluate(values: Mapping[str, float]) -> Evaluation:
    crossing = nqm.steps_to_target(PROBLEM, nqm.SGD(**values), target=0.2, max_steps=10**6)
    return Evaluation(crossing)


def run_in(
    storage: BaseStorage,
    what: StudyDefinition,
    n_trials: int,
    on_trial: OnTrial | None = None,
    evaluation: Evaluate = evaluate,
    starts: tuple[Mapping[str, float], ...] = (),
) -> optuna.Study:
    search = Search(SearchSpace.of(what.hyperparameters), starts)
    stored = open_study(storage, "study", what, lambda: {**FACTS, "search": search.to_json()})
    run(stored, what, search, evaluation, n_trials=n_trials, on_trial=on_trial)
    return stored
