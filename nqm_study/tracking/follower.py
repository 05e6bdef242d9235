"""Stored studies, and the runs in MLflow that follow them while others write them."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import optuna
from mlflow.exceptions import MlflowException
from optuna.trial import TrialState

from nqm_study.study.records import StudyRecord
from nqm_study.study.storage.backends import Backend
from nqm_study.study.storage.failures import failures, first_line
from nqm_study.study.storage.locks import Lock
from nqm_study.study.storage.studies import UnreadableError, is_ours, study_record
from nqm_study.study.trials import trial_record
from nqm_study.tracking.layout import diagnostics_digest
from nqm_study.tracking.mirror import Mirror, StudyRun
from nqm_study.tracking.process import MirroredStudy, MirrorJob, Summary
from nqm_study.tracking.store import set_aside_damaged

OUTAGES = failures(MlflowException, sqlite3.Error)
"""Exceptions of MLflow and the storage where they cannot be read or written."""

DIAGNOSTICS = "diagnostics"
"""The folder of Optuna's figures among the artifacts of a study's run."""

DRAWING = 2
"""Version of these figures: goes up when they change, so that they are drawn anew."""

AT_ONCE = 100
"""Trials of one study that are mirrored before the next news of how many are missing."""

_COMPLETE = (TrialState.COMPLETE,)


class Tell(Protocol):
    """A function that sends news to the process that asked for the runs."""

    def __call__(self, **what: object) -> None:
        """Send the news by name."""


class Followed:
    """One study that is mirrored while others write it."""

    def __init__(self, job: MirrorJob, tell: Tell, study: MirroredStudy) -> None:
        self.name = study.name
        self.done = False
        self.missing = 0
        self._job = job
        self._tell = tell
        self._backend, self._n_trials = study.backend, study.n_trials
        # Calls that mirror to another database need not wait for this one.
        where = job.tracking.uri or str(job.root)
        self._lock: Lock = study.backend.lock(job.root, "mirror", f"{where} {study.name}")
        self._locked = False
        self._run: StudyRun | None = None
        self._study: optuna.Study | None = None

    def step(self, mirror: Mirror, *, finish: bool) -> bool:
        """Mirror some of what is new; whether there was anything.

        Args:
            mirror: where to.
            finish: whether no more will be written to the storage.
        """
        try:
            return self._step(mirror, finish=finish)
        except UnreadableError as error:
            # Someone changed it since the call began.
            self._tell(note=error.passed_over, left=self.name)
            self.leave()
            return False

    def _step(self, mirror: Mirror, *, finish: bool) -> bool:
        study = self._find()
        if study is None:
            self.done = finish
            return False
        self._locked = self._locked or self._lock.acquire(timeout=0.0)
        if not self._locked:
            return False
        if self._run is None:
            self._run = mirror.study(study_record(study))
        trials = study.get_trials(deepcopy=False, states=_COMPLETE)
        new = [trial for trial in trials if not self._run.has(trial.number)]
        self._run.add(trial_record(trial) for trial in new[:AT_ONCE])
        self.missing = len(new[AT_ONCE:])
        complete = self._n_trials is not None and len(trials) >= self._n_trials
        if not self.missing and (finish or complete):
            record = study_record(study)
            self._run.finish(record)
            if self._job.tracking.diagnostics:
                self._diagnose(study, record, self._run)
            self._locked = False
            # Without the lock until now, another may have written the same; then all is looked at
            # once more.
            self.done = self._lock.release()
            self.forget()
        return bool(new)

    def forget(self) -> None:
        """Forget the run, since it is not known what MLflow has."""
        self._run = None

    def leave(self) -> None:
        """Let another process have the study."""
        if self._locked:
            self._locked = False
            self._lock.release()
        self.forget()
        self.missing = 0
        self.done = True

    def _diagnose(self, study: optuna.Study, record: StudyRecord, run: StudyRun) -> None:
        """Draw Optuna's figures of a study, unless its run has those of the same trials."""
        digest = diagnostics_digest(record, DRAWING)
        if run.attached(DIAGNOSTICS, digest):
            return
        # Imports Plotly, which calls that draw nothing do without.
        from nqm_study.tracking.diagnostics import diagnostics

        found = diagnostics(study, record)
        for failure in found.failures:
            self._tell(note=f"{self.name}: {failure}")
        run.attach(DIAGNOSTICS, digest, found.files)

    def _find(self) -> optuna.Study | None:
        if self._study is None and self._backend.exists(self._job.root):
            storage = self._backend.open(self._job.root)
            with suppress(KeyError):
                study = optuna.load_study(study_name=self.name, storage=storage)
                if is_ours(study):
                    self._study = study
        return self._study


class Follower:
    """All studies of a job."""

    def __init__(self, job: MirrorJob, tell: Tell) -> None:
        """Follow the studies of a job.

        Args:
            job: the task.
            tell: called with the news for the process that asked for it.
        """
        self._job = job
        self._tell = tell
        self._mirror: Mirror | None = None
        self._told = 0
        self._followed = [Followed(job, tell, study) for study in job.studies]
        # Each has its turn, and the next command is heard after one turn.
        self._turns = deque(self._followed)

    @property
    def patience(self) -> float:
        """Seconds to wait for MLflow when the studies have ended."""
        return self._job.tracking.patience

    @property
    def where(self) -> str:
        """MLflow's place, as messages name it."""
        return self._job.tracking.uri or "mlruns/mlflow.db"

    @property
    def open(self) -> list[Followed]:
        """The studies that are not mirrored to their ends."""
        return [followed for followed in self._followed if not followed.done]

    @property
    def missing(self) -> int:
        """Finished trials that are known to have no run yet."""
        return sum(followed.missing for followed in self._followed)

    def mirror(self) -> Mirror:
        """The mirror, opened when it is first needed."""
        if self._mirror is None:
            if self._job.rebuild and not self._job.tracking.uri:
                set_aside_damaged(self._job.root)
            mirror = Mirror.of(self._job.root, self._job.tracking)
            if self._job.rebuild:
                mirror.clear()
            self._mirror = mirror
            self._tell(uri=self._mirror.uri, page=self._mirror.page)
        return self._mirror

    def step(self, *, finish: bool) -> bool:
        """Mirror what is new of the next study that has anything; whether there was one."""
        mirror = self.mirror()
        for _ in range(len(self._turns)):
            followed = self._turns[0]
            self._turns.rotate(-1)
            if followed.done:
                continue
            try:
                worked = followed.step(mirror, finish=finish)
            except OUTAGES:
                followed.forget()
                raise
            if self.missing != self._told:
                self._told = self.missing
                self._tell(missing=self.missing)
            if worked:
                return True
        return False

    def write(self, summaries: Sequence[Summary]) -> None:
        """Write the runs of scaling curves; other calls may write the same ones."""
        backend = self._job.studies[0].backend if self._job.studies else Backend()
        runs = self.mirror().study_runs() if summaries else {}
        for summary in summaries:
            with backend.lock(self._job.root, "mirror", f"{self.where} {summary.key}"):
                self.mirror().summary(summary, runs)


def reason(error: BaseException) -> str:
    """The failure of MLflow in words, with what to do where only a person can."""
    text = first_line(_origin(error))
    if any(sign in str(error) for sign in ("malformed", "not a database")):
        return f"is damaged ({text}); `python -m nqm_study.report --rebuild` makes it anew"
    return text


def _origin(error: BaseException) -> BaseException:
    """The system's own error at the bottom of what clients made of it, or what caused the error."""
    below: BaseException | None = error
    found = error.__cause__ or error
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            found = below
        below = below.__cause__ or below.__context__
    return found
