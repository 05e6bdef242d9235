"""The tables of studies and of trials from which everything in the report is drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from pandas import DataFrame

from nqm_study.study.definition import BATCH, Hyperparameter, Searched, StudyDefinition
from nqm_study.study.records import StudyRecord, TrialRecord

Value = float | str

COMPUTED = ("greedy", "optimal")
"""Schedules that are computed step by step or piece by piece, not given by hyperparameters."""

OPTIMIZERS = (
    *("sgd", "momentum", "nesterov", "ema", "preconditioned", "adam", "adam_full", "rmsprop"),
)
SCHEDULES = (
    *("constant", "linear", "polynomial", "cosine", "exponential", "inverse_sqrt"),
    *("piecewise_constant", "step_decay", "warmup_stable_decay", "one_cycle"),
    *COMPUTED,
)
"""From plain to elaborate: curves are drawn and listed in this order, other names after these."""

_ABSENT = ("momentum", "preconditioner_power", "ema_decay")
_COLUMNS = {
    **dict.fromkeys(("study", "optimizer", "spectrum", "schedule", "sampler"), "str"),
    **dict.fromkeys(("target", "batch_size"), "float64"),
    **dict.fromkeys(("seed", "n_trials"), "int64"),
    **dict.fromkeys(("reached", "diverged"), "bool"),
    "steps_to_target": "Int64",
    **dict.fromkeys(("examples_to_target", "time_to_target", "learning_rate"), "float64"),
    "effective_learning_rate": "float64",
    "bayes_bound": "int64",
    "classical_bound": "float64",
    "optimal_steps": "Int64",
    "optimal_gap": "float64",
    "optimum_steps": "Int64",
    "optimum_exact": "boolean",
    "excess": "float64",
    "max_steps": "int64",
    "max_growth": "float64",
    **dict.fromkeys(("warm_start", "two_objectives", "fixed"), "bool"),
    **dict.fromkeys(("problem", "problem_digest", "spectrum_digest", "curve"), "str"),
    **dict.fromkeys(("benchmark", "fingerprint", "objective"), "str"),
}
_OBJECTS = (
    *("definition", "hyperparameters", "trials", "rates", "optimum", "frontier", "ramps"),
    *("compute", "training", "data_check", "reports", "failures", "at_edge"),
)
_OF_STUDY = ("study", "optimizer", "spectrum", "schedule", "sampler", "target", "seed", "curve")
_COSTS = ("steps_to_target", "examples_to_target", "time_to_target")
_OF_TRIAL = ("status", "risk", "risk_error", "sampled", "started", "finished")


def studies_frame(records: Iterable[StudyRecord]) -> DataFrame:
    """The table of studies: one row for each with finished trials, in the order of the curves.

    What decides a study (the names are those of its configuration):

    | column | meaning |
    |---|---|
    | study | its name in the storage |
    | optimizer, spectrum, schedule | names of the configurations |
    | problem | ``noisy_quadratic``, ``least_squares``, ... |
    | sampler | name of its configuration, with ``+ finish`` where a local search follows |
    | target | expected loss to reach |
    | batch_size | examples per step; NaN where it is searched for two objectives |
    | seed | of the sampler |
    | max_steps | steps after which a trial has missed the target |
    | max_growth | times the first loss above which a trial is diverged; infinite for none |
    | objective | what is made least: ``steps``, ``examples`` or ``time`` |
    | warm_start | whether the first trials are those that a rule says |
    | dim, label_noise, pieces, ... | settings of spectrum, problem, schedule, optimizer, if any |

    What was found:

    | column | meaning |
    |---|---|
    | n_trials | finished trials |
    | reached | whether a trial reached the target |
    | diverged | whether all trials diverged |
    | steps_to_target | fewest optimizer steps, or those of the objective; <NA>: not reached |
    | examples_to_target | the same times the batch size, or the sum of its batch sizes |
    | time_to_target | the least time; NaN unless it is the objective |
    | learning_rate, momentum, ... | the best trial's hyperparameters, or fixed ones; NaN: unknown |
    | effective_learning_rate | the best trial's lr / (1 - momentum), which sets the pace |

    What it is measured against:

    | column | meaning |
    |---|---|
    | bayes_bound | steps that any algorithm could need at least |
    | classical_bound | d / (2 C B) in steps, the large-sample limit; NaN: unknown |
    | optimal_steps | steps of SGD's optimal schedule, rate <= 2/h_1; <NA>: unknown |
    | optimal_gap | share of them that another schedule may save; NaN: unknown |
    | stability_limit | largest stable rate of SGD where the noise follows the loss; NaN elsewhere |
    | interpolation_batch_size | tr(H) / h_1 + 1 in examples; NaN elsewhere |
    | optimum_steps | fewest steps that the searched hyperparameters can reach; <NA>: unknown |
    | optimum_learning_rate, ... | hyperparameters that take them; NaN: unknown |
    | optimum_exact | whether that is computed; else it is the best of a dense search |
    | excess | steps_to_target / optimum_steps - 1; NaN: unknown |

    What groups rows: ``problem_digest`` with ``target`` (a problem, one figure), ``curve`` (alike
    but for batch size and seed), ``benchmark`` (but for the sampler, too), ``fingerprint`` (alike
    in all), ``two_objectives`` (the batch size is searched: a frontier, and no curve) and ``fixed``
    (nothing is searched or computed: each study is one run).

    What no number holds, as objects: ``definition``, ``hyperparameters`` (the best trial's, a
    mapping), ``trials`` (tuple of records), ``rates`` (the best trial's computed schedule: pairs of
    step and learning rate), ``optimum``, ``frontier`` (pairs of batch size and fewest steps),
    ``ramps`` (the fewest examples of SGD's runs of some lengths), ``compute`` (the best dimensions
    for compute budgets), ``training`` (steps, losses and noise scales along the best run),
    ``data_check`` (its runs on the data), ``reports``, ``failures`` and ``at_edge``.
    """
    rows = [_row(record) for record in sorted(records, key=_place) if record.trials]
    names = [name for name in _names(rows) if name not in _OBJECTS]
    columns = dict.fromkeys((*_COLUMNS, *names, *_OBJECTS))
    return DataFrame(rows, columns=list(columns)).astype(_COLUMNS)


def trials_frame(studies: DataFrame) -> DataFrame:
    """The table of trials: one row for each finished trial of the studies, in their order.

    Of the study it has ``study``, ``optimizer``, ``spectrum``, ``schedule``, ``sampler``,
    ``target``, ``seed`` and ``curve``. Of the trial:

    | column | meaning |
    |---|---|
    | trial | its number in the study, from 0 |
    | batch_size | examples per step |
    | learning_rate, momentum, ... | its hyperparameters in the user's units, fixed ones too |
    | steps_to_target | optimizer steps; <NA> where the target was not reached |
    | examples_to_target | the same times the batch size, or the sum of its batch sizes |
    | time_to_target | what they take; NaN unless time is the objective |
    | fewest_steps | of this trial and those before; infinite where none reached the target |
    | status | ``reached``, ``floor_above_target``, ``diverged`` or ``max_steps`` |
    | risk | expected loss at the crossing, or else the smallest seen |
    | risk_error | its relative error; NaN where it was not measured |
    | sampled | whether the risk was sampled |
    | started, finished | when it ran |
    """
    rows: list[dict[str, Any]] = []
    for study in studies.to_dict("records"):
        fewest = math.inf
        for trial in study["trials"]:
            steps = trial.steps
            fewest = fewest if steps is None else min(fewest, steps)
            rows.append(
                {
                    **{name: study[name] for name in _OF_STUDY},
                    "trial": trial.number,
                    **trial.hyperparameters,
                    "batch_size": trial.batch_size or study["batch_size"],
                    "steps_to_target": steps,
                    "examples_to_target": _examples(trial, study["batch_size"]),
                    "time_to_target": trial.time,
                    "fewest_steps": fewest,
                    **{name: getattr(trial, name) for name in _OF_TRIAL},
                }
            )
    names = _names(trial.hyperparameters for trials in studies.trials for trial in trials)
    columns = [*_OF_STUDY, "trial", "batch_size", "learning_rate", *names]
    columns += [*_COSTS, "fewest_steps", *_OF_TRIAL]
    frame = DataFrame(rows, columns=list(dict.fromkeys(columns)))
    types = {"steps_to_target": "Int64", "time_to_target": "float64", "risk_error": "float64"}
    return frame.astype(types)


def properties(definition: StudyDefinition) -> dict[str, Value]:
    """Properties that all studies of a curve share, by their keys in the configuration.

    A hyperparameter is a number, or ``searched``. What an optimizer of the kind of SGD has none of,
    it has 0 of.
    """
    absent: dict[str, Value] = {} if definition.approximate else dict.fromkeys(_ABSENT, 0.0)
    return {
        "optimizer": definition.optimizer,
        "spectrum": definition.spectrum,
        "problem": definition.problem or "noisy_quadratic",
        "schedule": definition.schedule,
        "sampler": definition.sampler_text,
        "target": definition.target,
        "max_steps": float(definition.max_steps),
        "max_growth": math.inf if definition.max_growth is None else definition.max_growth,
        "warm_start": _value(definition.warm_start),
        "objective": definition.objective or "steps",
        **definition.objective_settings,
        **definition.spectrum_settings,
        **{name: _value(value) for name, value in definition.problem_settings.items()},
        **definition.schedule_settings,
        **_batches(definition),
        **definition.optimizer_settings,
        **absent,
        **{name: _value(value) for name, value in definition.hyperparameters.items()},
    }


def _batches(definition: StudyDefinition) -> dict[str, Value]:
    """What says how batch sizes change, where they do."""
    if not definition.batch_schedule:
        return {}
    settings = {f"{BATCH}{name}": _value(v) for name, v in definition.batch_settings.items()}
    return {"batch_schedule": definition.batch_schedule, **settings}


def effective_rate(hyperparameters: Mapping[str, Any]) -> float:
    """The rate that sets the pace, lr / (1 - momentum); nan without a learning rate.

    Quasi-hyperbolic momentum, which has a ``v``, averages gradients: its pace is lr itself.
    """
    learning_rate: float = hyperparameters.get("learning_rate", math.nan)
    momentum = hyperparameters.get("momentum", 0.0) if "v" not in hyperparameters else 0.0
    return learning_rate / (1.0 - momentum) if not isinstance(momentum, str) else math.nan


def known(value: Any) -> Any:
    """A cell's value, None where it is missing."""
    return None if pd.isna(value) else value


def _row(record: StudyRecord) -> dict[str, Any]:
    definition, best, optimum = record.definition, record.best, record.optimum
    found = {} if best is None else best.hyperparameters
    values = {
        **dict.fromkeys(definition.searched, math.nan),
        **_cells(definition.given),
    }
    size = _batch_size(record)
    steps = None if best is None else best.steps
    at_optimum = {} if optimum is None else optimum.hyperparameters
    return {
        **properties(definition),
        **values,
        **_cells(found),
        "study": record.name,
        "batch_size": size,
        "seed": definition.seed,
        "max_steps": definition.max_steps,
        "warm_start": definition.warm_start,
        "n_trials": len(record.trials),
        "reached": best is not None,
        "diverged": all(trial.status == "diverged" for trial in record.trials),
        "steps_to_target": steps,
        "examples_to_target": _examples(best, size),
        "time_to_target": None if best is None else best.time,
        "effective_learning_rate": effective_rate(found),
        "bayes_bound": record.bayes_bound,
        "classical_bound": record.classical_bound,
        "optimal_steps": record.optimal_steps,
        "optimal_gap": record.optimal_gap,
        "stability_limit": record.stability_limit,
        "interpolation_batch_size": record.interpolation_batch_size,
        "optimum_steps": None if optimum is None else optimum.steps,
        **{f"optimum_{name}": value for name, value in _cells(at_optimum).items()},
        "optimum_exact": None if optimum is None else optimum.exact,
        "excess": record.excess,
        "problem_digest": definition.problem_digest,
        "spectrum_digest": definition.spectrum_digest,
        "curve": definition.curve,
        "benchmark": definition.benchmark,
        "fingerprint": definition.fingerprint,
        "two_objectives": definition.two_objectives,
        "fixed": not definition.searched and definition.schedule not in COMPUTED,
        "definition": definition,
        "hyperparameters": dict(found),
        "trials": record.trials,
        "rates": () if best is None else best.rates,
        "optimum": optimum,
        "frontier": record.frontier,
        "ramps": record.ramps,
        "compute": record.compute,
        "training": record.training,
        "data_check": record.data_check,
        "reports": record.reports,
        "failures": record.failures,
        "at_edge": record.at_edge,
    }


def _cells(values: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters as a table has them: numbers, and words."""
    return {n: v if isinstance(v, str) else float(v) for n, v in values.items()}


def _examples(trial: TrialRecord | None, batch_size: float) -> float:
    """Examples to the target, NaN where it was not reached."""
    if trial is None or trial.steps is None:
        return math.nan
    return trial.examples_at(trial.batch_size or batch_size)


def _batch_size(record: StudyRecord) -> float:
    """The batch size of a study; where each trial has its own, that of the best.

    Where none reached the target it is that of the least risk, or the least that could.
    """
    definition = record.definition
    if definition.two_objectives:
        return math.nan
    nearest = min(record.trials, key=lambda trial: (trial.risk, trial.number))
    return (record.best or nearest).batch_size or definition.one_batch_size


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _value(value: Hyperparameter) -> Value:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value
    return "searched" if isinstance(value, Searched) else float(value)


def _place(record: StudyRecord) -> tuple[object, ...]:
    """Sorting key of a study: spectrum, target, optimizer, schedule, given values, batch size."""
    definition = record.definition
    return (
        definition.spectrum,
        definition.problem,  # the noisy quadratic comes first
        tuple(sorted((name, _size(v)) for name, v in definition.problem_settings.items())),
        definition.target,
        _rank(definition.optimizer, OPTIMIZERS),
        definition.optimizer,
        _rank(definition.schedule, SCHEDULES),
        definition.schedule,
        definition.batch_schedule,  # none comes first
        definition.optimizer_text,  # a policy of beta2 comes after the plain one
        (definition.objective, definition.searches_batch_size),
        tuple(definition.objective_settings.values()),
        tuple(sorted((name, _size(v)) for name, v in definition.hyperparameters.items())),
        definition.curve,
        float(definition.batch_text.partition("..")[0]),
        definition.seed,
        record.name,
    )


def _size(value: Hyperparameter) -> tuple[float, str]:
    """Sorting key of a hyperparameter: searched ones, small values before large, then words."""
    if isinstance(value, Searched):
        return -math.inf, ""
    return (math.inf, value) if isinstance(value, str) else (float(value), "")


def _rank(name: str, known: Sequence[str]) -> int:
    return known.index(name) if name in known else len(known)
