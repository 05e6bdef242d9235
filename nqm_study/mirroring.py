"""``python -m nqm_study.mirroring``: follows stored studies and writes their runs in MLflow.

``MirrorProcess`` starts it. The first line on standard input is a ``MirrorJob``; a line with
``finish`` ends it once all is written. Lines on standard output tell how far it is. Whatever goes
wrong with MLflow is tried again: the storage is the truth, and nothing is lost meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from mlflow.exceptions import MlflowException
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from nqm_study.mirror_process import MirrorJob, Summary
from nqm_study.study.backends import Backend
from nqm_study.study.database import first_line
from nqm_study.study.locks import Lock
from nqm_study.study.records import StudyRecord
from nqm_study.study.storage import ATTRIBUTE, study_record, trial_record
from nqm_study.tracking.layout import diagnostics_digest
from nqm_study.tracking.mlflow import Mirror, StudyRun, SummaryPoint, set_aside_damaged

OUTAGES = (MlflowException, SQLAlchemyError, StorageInternalError, sqlite3.Error, OSError)
"""What MLflow and the storage raise when they cannot be read or written."""

POLL_SECONDS = 0.2
"""Between two looks at the storage when there was nothing new."""

OTHERS_SECONDS = 5.0
"""Seconds to wait for another call that mirrors the same study, before it is left to that one."""

LONGEST_PAUSE = 5.0

DIAGNOSTICS = "diagnostics"
"""Where Optuna's figures go among the artifacts of a study's run."""

DRAWING = 1
"""Goes up when these figures change: those of earlier versions are then drawn anew."""

AT_ONCE = 25
"""Trials of one study that are mirrored before it is told how many are missing."""


class Followed:
    """One study that is mirrored while others write it."""

    def __init__(self, job: MirrorJob, backend: Backend, name: str, n_trials: int | None) -> None:
        self.name = name
        self.done = False
        self.missing = 0
        self._job = job
        self._backend = backend
        self._n_trials = n_trials
        # With a database of our own, other calls elsewhere are none of our business.
        where = job.tracking.uri or str(job.root)
        self._lock: Lock = backend.lock(job.root, "mirror", f"{where} {name}")
        self._locked = False
        self._run: StudyRun | None = None
        self._study: optuna.Study | None = None

    def step(self, mirror: Mirror, *, finish: bool) -> bool:
        """Mirror some of what is new; whether there was anything.

        Args:
            mirror: where to.
            finish: whether no more will be written to the storage.
        """
        study = self._find()
        if study is None:
            self.done = finish
            return False
        self._locked = self._locked or self._lock.acquire(timeout=0.0)
        if not self._locked:
            return False
        if self._run is None:
            self._run = mirror.study(study_record(study))
        states = (optuna.trial.TrialState.COMPLETE,)
        trials = study.get_trials(deepcopy=False, states=states)
        new = [trial for trial in trials if not self._run.has(trial.number)]
        for trial in new[:AT_ONCE]:
            self._run.trial(trial_record(trial))
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
        """Begin again, since it is not known what MLflow has."""
        self._run = None

    def _diagnose(self, study: optuna.Study, record: StudyRecord, run: StudyRun) -> None:
        """Draw Optuna's figures of a study, unless its run has those of the same trials."""
        digest = diagnostics_digest(record, DRAWING)
        if run.attached(DIAGNOSTICS, digest):
            return
        # Imports Matplotlib, which calls that draw nothing do without.
        from nqm_study.diagnostics import diagnostics  # noqa: PLC0415

        found = diagnostics(study, record)
        for failure in found.failures:
            tell(note=f"{self.name}: {failure}")
        run.attach(DIAGNOSTICS, digest, found.files)

    def _find(self) -> optuna.Study | None:
        if self._study is None and self._backend.exists(self._job.root):
            storage = self._backend.open(self._job.root)
            with suppress(KeyError):
                study = optuna.load_study(study_name=self.name, storage=storage)
                if ATTRIBUTE in study.user_attrs:
                    self._study = study
        return self._study


class Follower:
    """All studies of a job."""

    def __init__(self, job: MirrorJob) -> None:
        self._job = job
        self._mirror: Mirror | None = None
        self._told = 0
        self._followed = [
            Followed(job, studies.backend, name, n_trials)
            for studies in job.studies
            for name, n_trials in studies.n_trials.items()
        ]

    @property
    def patience(self) -> float:
        """Seconds to wait for MLflow when the studies have ended."""
        return self._job.tracking.patience

    @property
    def where(self) -> str:
        """What to call MLflow's place."""
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
            tell(uri=self._mirror.uri, page=self._mirror.page)
        return self._mirror

    def step(self, *, finish: bool) -> bool:
        """Mirror what is new of each study; whether there was anything."""
        mirror = self.mirror()
        worked = False
        for followed in self.open:
            try:
                worked |= followed.step(mirror, finish=finish)
            except OUTAGES:
                followed.forget()
                raise
            if self.missing != self._told:
                self._told = self.missing
                tell(missing=self.missing)
        return worked

    def write(self, summaries: Sequence[Summary]) -> None:
        """Write the runs of scaling curves; other calls may write the same ones."""
        backend = self._job.studies[0].backend if self._job.studies else Backend()
        runs = self.mirror().study_runs() if summaries else {}
        for summary in summaries:
            with backend.lock(self._job.root, "mirror", f"{self.where} {summary.key}"):
                self.mirror().summary(
                    key=summary.key,
                    name=summary.name,
                    params=summary.params,
                    points=[SummaryPoint(*point) for point in summary.points],
                    note=summary.note,
                    studies={
                        row: {text: runs[name] for text, name in links.items() if name in runs}
                        for row, links in summary.studies.items()
                    },
                    files=[Path(file) for file in summary.files],
                    kind=summary.kind,
                )


CHANNEL = sys.stdout
"""Where ``tell`` writes; ``main`` takes it away from MLflow, which prints there as well."""


def tell(**what: object) -> None:
    """One line for the process that started this one."""
    print(json.dumps(what), file=CHANNEL, flush=True)


def commands() -> queue.Queue[Mapping[str, Any]]:
    """What arrives on standard input; the process ends with the one that writes there."""
    arrived: queue.Queue[Mapping[str, Any]] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            arrived.put(json.loads(line))
        # It was killed. What is missing is written by the next call.
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return arrived


def reason(error: BaseException) -> str:
    """What is wrong with MLflow, and what to do where only a person can."""
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


def pauses() -> Iterator[float]:
    """Seconds to wait between tries, longer each time."""
    pause = POLL_SECONDS
    while True:
        yield pause
        pause = min(2.0 * pause, LONGEST_PAUSE)


def main() -> None:
    """Follow until told to finish; exit status 1 if not all could be written."""
    global CHANNEL  # noqa: PLW0603 (one for the process, as standard output is)
    CHANNEL = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # The process that started this one decides when it ends, or ends it with itself.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # A server that is down is tried again here, and not for minutes within one call.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # What is drawn here is never on a screen.
    os.environ["MPLBACKEND"] = "agg"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # What fails is told in one line, and tried again; MLflow would show a traceback for each try.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    job = MirrorJob.from_json(sys.stdin.readline())
    sys.exit(0 if follow(Follower(job), commands()) else 1)


def follow(follower: Follower, arrived: queue.Queue[Mapping[str, Any]]) -> bool:
    """Mirror until told to finish and all is written; False if MLflow stays away."""
    finish, summaries = False, None
    since: float | None = None
    wait, pause = pauses(), 0.0
    until = 0.0
    while True:
        with suppress(queue.Empty):
            told = arrived.get(timeout=pause) if pause else arrived.get_nowait()
            finish = True
            if told["finish"] is not None:
                summaries = [Summary(**each) for each in told["finish"]]
            until = time.monotonic() + OTHERS_SECONDS
            since = None
        try:
            worked = follower.step(finish=finish)
            if summaries is not None and not follower.open:
                follower.write(summaries)
                tell(done=True, problem="", missing=0)
                return True
        except OUTAGES as error:
            text = f"{follower.where}: {reason(error)}"
            since = since or time.monotonic()
            tell(problem=text)
            if finish and ("damaged" in text or time.monotonic() - since > follower.patience):
                return False
            pause = next(wait)
            continue
        if since is not None:
            since, wait = None, pauses()
            tell(problem="")
        if finish and not worked and time.monotonic() > until:
            for followed in follower.open:
                tell(note=f"{followed.name}: is mirrored by another call, and left to it")
                followed.done = True
        pause = 0.0 if worked else POLL_SECONDS


if __name__ == "__main__":
    main()
