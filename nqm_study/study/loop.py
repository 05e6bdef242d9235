"""The study loop of one writer: sample in memory, evaluate, write each finished trial once."""

from __future__ import annotations

import functools
import warnings

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from nqm_study.study.definition import StudyDefinition
from nqm_study.study.recipes import Recipe
from nqm_study.study.records import Cost
from nqm_study.study.samplers.optuna_samplers import make_sampler
from nqm_study.study.space import Search
from nqm_study.study.storage.failures import failures, first_line
from nqm_study.study.storage.studies import add_cost
from nqm_study.study.trials import (
    FAILURE,
    Attempts,
    Evaluate,
    FailedTrialError,
    NotStoredError,
    OnTrial,
    attributes,
    constrain,
    directions,
    objectives,
    stopwatch,
    suggest,
    trial_record,
    undisturbed,
)


def run(
    stored: Study,
    definition: StudyDefinition,
    search: Search,
    evaluate: Evaluate,
    *,
    n_trials: int,
    on_trial: OnTrial | None = None,
    sampler: Recipe | None = None,
) -> None:
    """Bring a stored study to n_trials finished trials; do nothing where it has them already.

    The sampler works on a copy in memory. Each finished trial is written to ``stored`` in one
    write, and only then given to ``on_trial``; an interruption loses at most the trial in flight.

    Args:
        stored: the study in its storage, made by ``studies.open_study``. No one else may write to
            it meanwhile.
        definition: what decides the trials.
        search: what is searched, and the first trials.
        evaluate: hyperparameters in the user's units -> the result of a trial.
        n_trials: total of finished trials over all calls.
        on_trial: called with each new trial after it was written.
        sampler: how the sampler is made, if it is a user's own.

    Raises:
        NotStoredError: if a finished trial cannot be written.
        FailedTrialsError: if the evaluations of several trials in a row fail.
    """
    space = search.space
    # Those that failed have their numbers as well, by which the sampler is seeded.
    before = stored.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
    finished = [trial for trial in before if trial.state == TrialState.COMPLETE]
    remaining = n_trials - len(finished)
    if remaining <= 0:
        return
    memory = optuna.create_study(
        study_name=stored.study_name,
        directions=directions(definition),
        sampler=make_sampler(definition, search, sampler),
    )
    memory.add_trials(before)
    cost, lap, attempts = Cost(), stopwatch(), Attempts()

    def compute(trial: Trial) -> tuple[float, ...]:
        nonlocal cost
        values = suggest(trial, space)
        cost += Cost(sampler=lap())
        note = functools.partial(trial.set_user_attr, FAILURE)
        found = attempts.evaluated(evaluate, values, note)
        cost += Cost(objective=lap())
        for name, value in attributes(values, found).items():
            trial.set_user_attr(name, value)
        constrain(trial, found)
        return objectives(definition, values, found)

    def keep(study: Study, trial: FrozenTrial) -> None:
        nonlocal cost
        done = trial.state == TrialState.COMPLETE
        cost += Cost(int(done), sampler=lap())
        with undisturbed():
            try:
                if done and cost.trials == remaining:
                    # Before the last trial: whoever sees that one sees what all of them cost.
                    add_cost(stored, cost)
                stored.add_trial(trial)
            except failures() as error:
                raise NotStoredError(
                    f"trial {trial.number} could not be stored: {first_line(error)}"
                ) from error
            cost += Cost(storage=lap())
            if done and on_trial is not None:
                on_trial(trial_record(trial), len(finished) + cost.trials)
        attempts.require_success()
        if cost.trials == remaining:
            study.stop()
        lap()

    try:
        with warnings.catch_warnings():
            # Samplers that know no constraints say so; the penalty tells them the same.
            warnings.filterwarnings("ignore", message="Constraints have been set, but")
            memory.optimize(compute, catch=(FailedTrialError,), callbacks=[keep])
    except NotStoredError:
        # Where a trial could not be written, its cost cannot either.
        raise
    except BaseException:
        if cost.trials < remaining:
            add_cost(stored, cost)
        raise
