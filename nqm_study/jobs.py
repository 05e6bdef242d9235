"""One Hydra job is one study: it runs it, tells how far it is, and says so if it fails."""

from __future__ import annotations

import logging
import math
import os
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from optuna.storages import RDBStorage
from optuna.study import Study

from nqm_study.build import StudyPlan, open_planned, run_planned
from nqm_study.plans import planned_again
from nqm_study.progress import Message, orphaned, send
from nqm_study.study.database import first_line
from nqm_study.study.frontier import non_dominated
from nqm_study.study.records import StudyRecord, TrialRecord
from nqm_study.study.shared import PATIENCE, Sharing, patiently
from nqm_study.study.storage import study_record
from nqm_study.study.trials import NotStoredError

FAILED = 1
"""Exit status when a study failed."""


@dataclass
class Job:
    """Runs one study, and mirrors it; Hydra calls this once for each study of a call.

    Attributes:
        planned: marks of the studies that ``Planner`` checked. They travel with this object to the
            processes that run the studies of a sweep.
    """

    planned: frozenset[str] = frozenset()

    def __call__(self, cfg: DictConfig) -> None:
        """Run the study of a configuration.

        A study that fails says so, and takes no other down. Where nobody listens, as on another
        machine, its error goes the way of Hydra's.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # On a full disk the job's log cannot be written either, and says so in a traceback.
        logging.raiseExceptions = False
        plan = planned_again(cfg, self.planned)
        try:
            run_job(plan)
        except Exception as error:
            log = logging.getLogger(__name__)
            log.exception("the study failed")
            if not send(Message(plan.name, failed=reason(error))):
                raise
            if HydraConfig.get().verbose:
                traceback.print_exc()


def reason(error: Exception) -> str:
    """One line that says what went wrong, and where all of it is."""
    if isinstance(error, (NotStoredError, ValueError)):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'mlruns'}: {first_line(error)}"
    log = Path(HydraConfig.get().runtime.output_dir) / f"{HydraConfig.get().job.name}.log"
    return f"{type(error).__name__}: {first_line(error)}; see {log}"


def run_job(plan: StudyPlan) -> None:
    """Run one study."""
    root = Path(HydraConfig.get().runtime.cwd) / "mlruns"
    if plan.backend.shared:
        # The server was there when the call began, and may be away for a moment now.
        _run(plan, *patiently(lambda: _open_shared(plan, root), PATIENCE))
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
    storage = plan.backend.open(root)
    assert isinstance(storage, RDBStorage)  # noqa: S101 (all servers are)
    turn = plan.backend.lock(root, "turn", plan.name)
    with turn:
        return open_planned(plan, storage), Sharing(storage, turn)


def _run(plan: StudyPlan, stored: Study, sharing: Sharing | None) -> None:
    """Bring a study to its budget, and tell how far it is."""

    def record() -> StudyRecord:
        if sharing is None:
            return study_record(stored)
        return patiently(lambda: study_record(stored), sharing.patience)

    told = told_of(plan, record(), 0)
    send(told)

    def on_trial(trial: TrialRecord, done: int) -> None:
        nonlocal told
        fewest = min((s for s in (told.steps, trial.steps) if s is not None), default=None)
        least = told.examples
        if trial.batch_size and trial.steps is not None:
            least = min(trial.examples, math.inf if least is None else least)
        told = replace(told, done=done, steps=fewest, examples=least, new=(told.new or 0) + 1)
        send(told)
        if orphaned():
            # Nobody waits for this worker any more, and it would wait for them forever.
            os._exit(FAILED)

    run_planned(plan, stored, sharing=sharing, on_trial=on_trial)
    send(replace(told_of(plan, record(), told.new), over=True))


def told_of(plan: StudyPlan, record: StudyRecord, new: int | None) -> Message:
    """What there is to tell of a study, of which this call added so many trials."""
    done = len(record.trials)
    found = non_dominated(record.trials) if record.definition.two_objectives else ()
    return Message(
        plan.name,
        done=done,
        total=max(plan.n_trials, done),
        steps=record.best.steps if record.best is not None else None,
        examples=found[0].examples if found else None,
        risk_error=record.told_risk_error,
        new=new,
    )
