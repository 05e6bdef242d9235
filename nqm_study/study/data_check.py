"""The runs on its data of a study's best trial: their excess risk beside what was predicted."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from optuna.study import Study

from nqm_study.model.crossing import risk_curve
from nqm_study.model.data_runs import TooMuchWorkError, runs_on
from nqm_study.model.numerics.arrays import Array
from nqm_study.model.problems.problem import Problem
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.recipes import Checking, Recipes
from nqm_study.study.records import DataCheck, StudyRecord, TrialRecord
from nqm_study.study.storage.studies import note, study_record
from nqm_study.study.training import ACCURACY, run_of, shown_trial

POINTS = 10
"""Numbers of steps, evenly spread in their logarithm, at which the runs are measured."""


def keep_check(
    study: Study,
    problem: Problem,
    recipes: Recipes,
    checking: Checking,
    turn: AbstractContextManager[Any],
) -> None:
    """Run a study's best trial on the data, and store what was measured, unless the study has it.

    What goes wrong here is logged, and takes nothing of the study away.

    Args:
        study: the stored study, with its trials and the training of its best.
        problem: spectrum and batch size.
        recipes: how its optimizer and its schedule are made.
        checking: the data, and how many runs.
        turn: held while it is written, where others may write the study as well.
    """
    try:
        record = study_record(study)
        trial = unchecked(record, checking.n_runs)
        if trial is None:
            return
        found = check_of(problem, recipes, record, trial, checking)
        with turn:
            note(study, "data_check", found)
    except Exception:
        logging.getLogger(__name__).exception("%s: no runs on data were stored", study.study_name)


def unchecked(record: StudyRecord, n_runs: int) -> TrialRecord | None:
    """The trial that is to be run on the data; None where it was, or there is none to run."""
    trial, found = shown_trial(record), record.data_check
    if trial is None or record.definition.finds_batch_size:
        return None
    done = found is not None and found.trial == trial.number and found.asked >= n_runs
    return None if done else trial


def check_of(
    problem: Problem,
    recipes: Recipes,
    record: StudyRecord,
    trial: TrialRecord,
    checking: Checking,
) -> DataCheck:
    """The runs of a trial on the data.

    They have its steps to the target; a trial that missed it is run for as long as it is shown.
    """
    end = trial.steps or (record.training.steps[-1] if record.training is not None else 0)
    none = DataCheck(trial.number, checking.n_runs)
    why = _left_out(recipes, record.definition) or ("" if end else "it diverges at once")
    if why:
        return replace(none, left_out=why)
    optimizer, schedule, _ = run_of(problem, recipes, record.definition, trial)
    steps = np.unique(np.geomspace(1, end, POINTS).round().astype(np.int64))
    size, n_runs = problem.batch_size, checking.n_runs
    try:
        measured = runs_on(
            checking.load(), optimizer, schedule, batch_size=size, steps=steps, n_runs=n_runs,
            horizon=end,
        )  # fmt: skip
    except TooMuchWorkError as error:
        return replace(none, left_out=str(error))
    predicted = risk_curve(problem, optimizer, schedule, steps=steps, horizon=end, **ACCURACY)
    return replace(
        none,
        runs=measured.n_runs,
        steps=tuple(steps.tolist()),
        predicted=_finite(predicted),
        measured=_finite(measured.mean),
        standard_errors=_finite(measured.standard_error),
    )


def _finite(values: Array) -> tuple[float, ...]:
    """The values, infinite where they are none."""
    return tuple(np.where(np.isfinite(values), values, np.inf).tolist())


def _left_out(recipes: Recipes, definition: StudyDefinition) -> str:
    """Why a study's trials are not run on data, in words; empty where they are."""
    if recipes.optimizer.adaptive:
        return "Adam's prediction has no noise that falls with the loss"
    if definition.batch_schedule:
        return "batch sizes change, and need not be whole numbers"
    return ""
