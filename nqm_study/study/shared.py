"""The study loop of many writers: processes on any machines bring one study to its budget.

Optuna's storage holds the running trials as well, so that every process sees what the others are
at. Whoever's turn it is, by a lock that the server keeps, counts the trials and asks for one more
if the budget has room; so there are never more than the budget. A trial whose process gives no
sign of life any more is failed, and its point is given to the next who asks.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from nqm_study.study.definition import StudyDefinition
from nqm_study.study.recipes import Recipe
from nqm_study.study.records import Cost
from nqm_study.study.samplers.optuna_samplers import asks_in_turn, make_sampler
from nqm_study.study.space import Search, SearchSpace
from nqm_study.study.storage.failures import UnreachableError, first_line, passes
from nqm_study.study.storage.locks import Lock
from nqm_study.study.storage.studies import add_cost
from nqm_study.study.trials import (
    FAILURE,
    FOUND,
    Attempts,
    Evaluate,
    FailedTrialError,
    NotStoredError,
    OnTrial,
    attributes,
    constrain,
    objectives,
    stopwatch,
    suggest,
    trial_record,
    undisturbed,
)

WORKER = "worker"
"""The trial attribute that names the process that runs it: set before anyone else has a turn."""

PATIENCE = 300.0
"""Seconds to wait for a server that went away, before the study stops."""

IDLE_SECONDS = 0.2
"""Between two looks at a study whose last trials run elsewhere."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Sharing:
    """How processes share a study.

    Attributes:
        storage: a database with heartbeats, as ``database.open_postgresql`` makes it.
        turn: the lock of whoever counts the trials and asks for the next.
    """

    storage: RDBStorage
    turn: Lock


def run_shared(
    stored: Study,
    definition: StudyDefinition,
    search: Search,
    evaluate: Evaluate,
    *,
    n_trials: int,
    sharing: Sharing,
    on_trial: OnTrial | None = None,
    sampler: Recipe | None = None,
) -> None:
    """Bring a study to n_trials finished trials, together with whoever else runs it.

    It returns when the study has them, whoever ran them. Of the trials of one process the sampler
    is seeded by the study's seed and the trial's number, so that no two processes share a seed.

    Args:
        stored: the study in its storage, made by ``studies.open_study``.
        definition: what decides the trials.
        search: what is searched, and the first trials.
        evaluate: hyperparameters in the user's units -> the result of a trial.
        n_trials: total of finished trials over all processes and calls.
        sharing: how the processes keep out of each other's way.
        on_trial: called with each new trial of this process after it was written.
        sampler: how the sampler is made, if it is a user's own.

    Raises:
        NotStoredError: if the server stays away.
        FailedTrialsError: if the evaluations of several trials in a row fail.
    """
    space = search.space
    proposing = make_sampler(definition, search, sampler)
    storage = sharing.storage
    study = optuna.load_study(study_name=stored.study_name, storage=storage, sampler=proposing)
    cost, attempts = Cost(), Attempts()
    with warnings.catch_warnings():
        for message in (
            "Constraints have been set, but",
            ".*fail_stale_trials is experimental",
            # This loop gives the signs of life itself.
            "Heartbeat of storage is supposed",
        ):
            warnings.filterwarnings("ignore", message=message)
        try:
            while True:
                trial, done, seconds = patiently(
                    lambda: _next(study, definition, search, n_trials, sharing)
                )
                if done >= n_trials:
                    break
                if trial is None:
                    # The last trials are running elsewhere, and may come back.
                    time.sleep(IDLE_SECONDS)
                    continue
                finished = _run_one(study, trial, space, definition, evaluate, sharing, attempts)
                if finished is None:
                    continue
                frozen, spent = finished
                cost += spent + Cost(sampler=seconds)
                if on_trial is not None:
                    on_trial(trial_record(frozen), done + 1)
        finally:
            with contextlib.suppress(SQLAlchemyError, StorageInternalError), sharing.turn:
                add_cost(study, cost)


def _next(
    study: Study, definition: StudyDefinition, search: Search, n_trials: int, sharing: Sharing
) -> tuple[Trial | None, int, float]:
    """A trial to run if the budget has room, the number of finished ones, and seconds it took."""
    sharing.turn.acquire()
    # A turn's time is the sampler's; waiting for it is nobody's.
    lap, trial = stopwatch(), None
    try:
        fail_stale_trials(study)
        states = (TrialState.COMPLETE, TrialState.RUNNING)
        trials = study.get_trials(deepcopy=False, states=states)
        done = sum(trial.state == TrialState.COMPLETE for trial in trials)
        abandoned = _fail_abandoned(study, trials)
        if len(trials) - abandoned < n_trials:
            trial = study.ask()
            sharing.storage.record_heartbeat(_trial_id(sharing.storage, study, trial))
            here = {"host": socket.gethostname(), "process": os.getpid(), "trial": trial.number}
            trial.set_user_attr(WORKER, here)
            if asks_in_turn(definition, search, trial.number):
                suggest(trial, search.space)
    finally:
        held = sharing.turn.release()
    if trial is not None and not held:
        # The server was restarted meanwhile, and another process may have counted as well.
        study.tell(trial, state=TrialState.FAIL)
        trial = None
    return trial, done, lap()


def _fail_abandoned(study: Study, trials: Sequence[FrozenTrial]) -> int:
    """Fail trials whose process died before it gave a first sign of life; their number.

    Heartbeats never end these. It is this process's turn, so no one is at work on them. Like those
    that heartbeats end, they are given to the next who asks.
    """
    abandoned = [
        trial
        for trial in trials
        if trial.state == TrialState.RUNNING
        # A trial that is given to another comes with the attributes it had.
        and not (
            isinstance(worker := trial.user_attrs.get(WORKER), Mapping)
            and worker.get("trial") == trial.number
        )
    ]
    for trial in abandoned:
        failed = study.tell(trial.number, state=TrialState.FAIL)
        RetryHeartbeatStaleTrialCallback()(study, failed)
    return len(abandoned)


def _run_one(
    study: Study,
    trial: Trial,
    space: SearchSpace,
    definition: StudyDefinition,
    evaluate: Evaluate,
    sharing: Sharing,
    attempts: Attempts,
) -> tuple[FrozenTrial, Cost] | None:
    """Compute a trial and write it; None if it failed, or another process was given it."""
    value, cost, lap = None, Cost(1), stopwatch()
    with _signs_of_life(sharing.storage, _trial_id(sharing.storage, study, trial)):
        try:
            values = patiently(lambda: suggest(trial, space))
            cost += Cost(sampler=lap())
            found = attempts.evaluated(
                evaluate,
                values,
                lambda why: patiently(lambda: trial.set_user_attr(FAILURE, why)),
            )
            cost += Cost(objective=lap())
            value = objectives(definition, values, found)
            with undisturbed():
                # One attribute, since each is a transaction of its own.
                kept = attributes(values, found)
                patiently(lambda: trial.set_user_attr(FOUND, kept))
                patiently(lambda: constrain(trial, found))
                frozen = patiently(lambda: study.tell(trial, value, skip_if_finished=True))
        except UpdateFinishedTrialError:
            return None
        except FailedTrialError:
            patiently(lambda: study.tell(trial, state=TrialState.FAIL, skip_if_finished=True))
            attempts.require_success()
            return None
        except BaseException:
            if value is None:
                # Its point is no one's any more, and the next who asks gets another.
                with contextlib.suppress(SQLAlchemyError, StorageInternalError):
                    study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            raise
    return (frozen, cost + Cost(storage=lap())) if frozen.state == TrialState.COMPLETE else None


@contextlib.contextmanager
def _signs_of_life(storage: RDBStorage, trial_id: int) -> Iterator[None]:
    """Record heartbeats of a trial while the block runs."""
    interval = storage.get_heartbeat_interval()
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(interval):
            # A server that is down cannot be told; the next beat may reach it.
            with contextlib.suppress(SQLAlchemyError, StorageInternalError):
                storage.record_heartbeat(trial_id)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def patiently(action: Callable[[], _T]) -> _T:
    """The result of an action that needs the server; tried again as long as that is away.

    Raises:
        NotStoredError: if the server refuses, or is away for longer than ``PATIENCE``.
    """
    until = time.monotonic() + PATIENCE
    pause, refused = 0.1, False
    while True:
        try:
            return action()
        except (DBAPIError, StorageInternalError, UnreachableError) as error:
            # Twice: a server that came back between an error and a look at it has not refused.
            before, refused = refused, not passes(error)
            if before and refused:
                raise NotStoredError(f"the storage refused: {first_line(error)}") from error
            if time.monotonic() >= until:
                raise NotStoredError(
                    f"the storage could not be reached for {PATIENCE:g} s: {first_line(error)}"
                ) from error
        time.sleep(pause)
        pause = min(2.0 * pause, 5.0)


def _trial_id(storage: RDBStorage, study: Study, trial: Trial) -> int:
    study_id = storage.get_study_id_from_name(study.study_name)
    return storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
