"""Runs one study: opens it, brings it to its budget, and sends its progress."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from hydra.core.hydra_config import HydraConfig
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study
from optuna.trial import TrialState

from nqm_study.app.exit_status import FAILED
from nqm_study.app.progress import Message, orphaned, send
from nqm_study.config.plan import StudyPlan
from nqm_study.optimum.compute import true_compute
from nqm_study.optimum.ramps import ramps_wanted, true_ramps
from nqm_study.optimum.study import frontier_wanted, true_frontier, true_optimum, wanted
from nqm_study.study.data_check import keep_check, unchecked
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.evaluation import evaluation, facts
from nqm_study.study.frontier import non_dominated
from nqm_study.study.loop import run
from nqm_study.study.records import StudyRecord, TrialRecord
from nqm_study.study.storage.origin import origin
from nqm_study.study.storage.studies import (
    check_units,
    note,
    note_origin,
    note_report,
    note_tracked,
    noted,
    open_study,
    stored_search,
    study_record,
)
from nqm_study.study.training import keep_training, lacking
from nqm_study.study.trials import OnTrial

if TYPE_CHECKING:
    from nqm_study.study.shared import Sharing


def run_job(plan: StudyPlan) -> None:
    """Run one study."""
    root = Path(HydraConfig.get().runtime.cwd) / "mlruns"
    if plan.backend.shared:
        from nqm_study.study.shared import patiently

        # The server was there when the call began, and may be away for a moment now.
        _run(plan, *patiently(lambda: _open_shared(plan, root)))
        return
    lock = plan.backend.lock(root, "run", plan.name)
    if not lock.acquire(timeout=1.0):
        send(Message(plan.name, waiting=True))
        lock.acquire()
    try:
        _run(plan, open_planned(plan, plan.backend.open(root)), None)
    finally:
        lock.release()


def _open_shared(plan: StudyPlan, root: Path) -> tuple[Study, Sharing]:
    """The study of a plan on a server, and how it is shared."""
    from nqm_study.study.shared import Sharing

    storage = plan.backend.open(root)
    assert isinstance(storage, RDBStorage)  # noqa: S101 (all servers are)
    turn = plan.backend.lock(root, "turn", plan.name)
    with turn:
        return open_planned(plan, storage), Sharing(storage, turn)


def _run(plan: StudyPlan, stored: Study, sharing: Sharing | None) -> None:
    """Bring a study to its budget, and send its progress after each trial."""

    def record() -> StudyRecord:
        if sharing is None:
            return study_record(stored)

        from nqm_study.study.shared import patiently

        return patiently(lambda: study_record(stored))

    before = record()
    latest, fewest = progress_of(plan, before, 0), math.inf
    if before.best is not None:
        fewest = before.best.cost(plan.definition.objective)
    send(latest)

    def on_trial(trial: TrialRecord, done: int) -> None:
        nonlocal latest, fewest
        latest = replace(latest, done=done, new=(latest.new or 0) + 1)
        cost = trial.cost(plan.definition.objective)
        if cost < fewest:
            fewest = cost
            latest = replace(latest, steps=trial.steps, beside=_beside(trial, plan.definition))
        if plan.definition.two_objectives and trial.steps is not None:
            least = math.inf if latest.examples is None else latest.examples
            latest = replace(latest, examples=min(trial.examples, least))
        send(latest)
        if orphaned():
            # Nobody waits for this worker any more, and it would wait for them forever.
            os._exit(FAILED)

    run_planned(plan, stored, sharing=sharing, on_trial=on_trial)
    send(replace(progress_of(plan, record(), latest.new), over=True))


def progress_of(plan: StudyPlan, record: StudyRecord, new: int | None) -> Message:
    """Progress message of a study: trials done, of them new, and the fewest steps so far."""
    done = len(record.trials)
    found = non_dominated(record.trials) if record.definition.two_objectives else ()
    return Message(
        plan.name,
        done=done,
        total=max(plan.n_trials, done),
        steps=record.best.steps if record.best is not None else None,
        beside=_beside(record.best, plan.definition) if record.best is not None else "",
        examples=found[0].examples if found else None,
        risk_error=record.told_risk_error,
        new=new,
    )


def _beside(trial: TrialRecord, definition: StudyDefinition) -> str:
    """What a trial takes of what is minimised in place of its steps, in words."""
    if definition.objective == "examples":
        return f"{trial.examples:.4g} examples"
    return "" if trial.time is None else f"time {trial.time:,.6g}"


def open_planned(plan: StudyPlan, storage: BaseStorage) -> Study:
    """The stored study of a plan, made if it is not there.

    Raises:
        StudyMismatchError: if the stored one was made from another definition.
    """

    def known() -> dict[str, Any]:
        return {**facts(plan.problem, plan.definition), "search": plan.search.to_json()}

    study = open_study(storage, plan.name, plan.definition, known)
    check_units(study, plan.n_trials)
    finished = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    if finished < plan.n_trials:
        note_origin(study, origin(finished, plan.config))
    if plan.tracking is not None:
        note_tracked(study, plan.tracking.trials)
    if plan.report is not None:
        note_report(study, plan.report)
    # Before the last trial: whoever sees that one sees what it is compared with.
    for fact, find in _compared(plan).items():
        if not noted(study, fact):
            note(study, fact, find(plan.problem, plan.recipes, plan.definition))
    return study


def _compared(plan: StudyPlan) -> dict[str, Callable[..., object]]:
    """What a study is compared with that is computed once, by the field that it is stored in."""
    asked = plan.truth, plan.recipes, plan.definition
    if plan.definition.two_objectives:
        return {"frontier": true_frontier} if frontier_wanted(*asked) else {}
    found: dict[str, Callable[..., object]] = {"optimum": true_optimum} if wanted(*asked) else {}
    if ramps_wanted(plan.truth, plan.definition):
        found["ramps"] = true_ramps
    if plan.compute_optimal:
        found["compute"] = true_compute
    return found


def finished(
    plans: Sequence[StudyPlan], root: Path, records: Mapping[str, StudyRecord]
) -> dict[str, StudyRecord]:
    """The records, among those of stored studies, of those to which ``run_job`` adds nothing."""
    found = {}
    for plan in (plan for plan in plans if plan.name in records):
        study = optuna.load_study(study_name=plan.name, storage=plan.backend.open(root))
        if _complete(plan, study, records[plan.name]):
            found[plan.name] = records[plan.name]
    return found


def _complete(plan: StudyPlan, study: Study, record: StudyRecord) -> bool:
    return (
        len(record.trials) >= plan.n_trials
        and (plan.tracking is None or record.tracked == plan.tracking.trials)
        and (plan.report is None or plan.report in record.reports)
        and all(noted(study, fact) for fact in _compared(plan))
        and lacking(record) is None
        and (plan.checking is None or unchecked(record, plan.checking.n_runs) is None)
    )


def run_planned(
    plan: StudyPlan,
    stored: Study,
    *,
    sharing: Sharing | None = None,
    on_trial: OnTrial | None = None,
) -> None:
    """Bring the stored study of a plan to its budget, and keep the run of its best trial.

    Args:
        plan: what to run.
        stored: its study, as ``open_planned`` gives it.
        sharing: how to keep out of the way of other processes that run the study as well; None if
            no one else does.
        on_trial: called with each new trial after it was written.
    """
    evaluate = evaluation(plan.problem, plan.recipes, plan.definition)
    made, search = plan.definition, stored_search(stored).with_limits(plan.search)
    keywords: dict[str, Any] = {
        "n_trials": plan.n_trials,
        "on_trial": on_trial,
        "sampler": plan.recipes.sampler,
    }
    if sharing is None:
        run(stored, made, search, evaluate, **keywords)
    else:
        from nqm_study.study.shared import run_shared

        run_shared(stored, made, search, evaluate, sharing=sharing, **keywords)
    turn = sharing.turn if sharing is not None else contextlib.nullcontext()
    keep_training(stored, plan.problem, plan.recipes, turn)
    if plan.checking is not None:
        keep_check(stored, plan.problem, plan.recipes, plan.checking, turn)
