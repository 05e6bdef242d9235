"""The runs of one MLflow experiment: opened, found, written exactly once, and deleted.

All that is done to runs goes through MLflow's public client. A run is first created, then filled
in one call, then marked FINISHED, so that a run which says FINISHED is complete whenever a process
dies.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import event

from nqm_study.tracking.settings import DATABASE, require_nameable

KIND = "kind"
DIGEST = "nqm.digest"
NOTE = "mlflow.note.content"
PARENT = "mlflow.parentRunId"
FINISHED = "FINISHED"

# MLflow accepts at most 1000 entries in one call, parameters and tags counted.
_METRICS_A_CALL = 800


@dataclass(frozen=True)
class Point:
    """One value of one metric at one step."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Draft:
    """The content of a finished run.

    Attributes:
        name: the run's name.
        tags: all its tags, except its parent and its digest.
        params: its parameters.
        points: its metrics; values that are not finite are left out, MLflow cannot store them.
        parent: identifier of its parent run, if any.
        started, finished: milliseconds since the epoch; None is the time of writing. The metrics
            carry the time of finishing, or of creation where that is None: a fixed time makes
            logging them twice harmless.
    """

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: tuple[Point, ...]
    parent: str | None = None
    started: int | None = None
    finished: int | None = None

    @property
    def digest(self) -> str:
        """A hash of what the run says, whoever its parent is and whenever it was written."""
        points = [(point.key, point.value, point.step) for point in finite(self.points)]
        return digest([self.name, dict(self.tags), dict(self.params), points])


@dataclass(frozen=True)
class RunStore:
    """The runs of one experiment.

    Attributes:
        client: MLflow's client.
        uri: the tracking URI behind it.
        experiment_id: the experiment.
        page_size: runs asked for at once, at most 50000.
    """

    client: MlflowClient
    uri: str
    experiment_id: str
    page_size: int = 1000

    @classmethod
    def local(cls, root: Path, experiment: str) -> RunStore:
        """Open ``root/mlflow.db``, with artifacts in ``root/artifacts``, both made if missing.

        Args:
            root: a directory, made if missing.
            experiment: name of the MLflow experiment.

        Raises:
            ValueError: if the path has a character MLflow takes for a part of the URI.
        """
        root = root.absolute()
        require_nameable(root)
        root.mkdir(parents=True, exist_ok=True)
        database = root / DATABASE
        uri = f"sqlite:///{database}"
        # MLflow's creation of the tables and of the experiment fails in some of several processes
        # that start at once.
        with FileLock(root / ".mlflow.lock"), _quiet_migrations():
            # Without a location of its own the experiment would write to the current directory.
            location = (root / "artifacts").as_uri()
            if not database.exists():
                _create(database, location)
            with closing(sqlite3.connect(database)) as connection:
                # The file keeps it: readers and a writer then do not wait.
                connection.execute("PRAGMA journal_mode=WAL")
            # MLflow has one engine for each address, so this is the client's.
            engine = SqlAlchemyStore(uri, location).engine  # type: ignore[no-untyped-call]
            event.listen(engine, "connect", _do_not_wait_for_the_disk)
            engine.dispose()
            client = MlflowClient(tracking_uri=uri)
            return cls(client, uri, _experiment_id(client, experiment, location))

    @classmethod
    def server(cls, uri: str, experiment: str) -> RunStore:
        """Open an experiment on a tracking server, made if it is not there."""
        client = MlflowClient(tracking_uri=uri)
        return cls(client, uri, _experiment_id(client, experiment, None))

    def find(self, tags: Mapping[str, str]) -> list[Run]:
        """Every run, not deleted, that has all these tags, the oldest first."""
        wanted = " and ".join(filter(None, (_clause(*tag) for tag in tags.items())))
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], wanted, max_results=self.page_size, page_token=token
            )
            runs += [run for run in page if tags.items() <= run.data.tags.items()]
            token = page.token
            if not token:
                return sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))

    def write(self, draft: Draft, runs: Sequence[Run] = ()) -> str:
        """Leave exactly one run, FINISHED, that says what the draft says; return its identifier.

        Args:
            draft: the content.
            runs: the runs that stand for it so far. One that says the same is kept, and completed
                if a kill left it half-logged; the others are deleted after the new one is whole.
        """
        same = [run for run in runs if run.data.tags.get(DIGEST) == draft.digest]
        # The order is the same in every process, so two that clean up at once keep the same run.
        kept = min(
            same, key=lambda run: (run.info.status != FINISHED, run.info.run_id), default=None
        )
        run = kept or self._create(draft)
        run_id: str = run.info.run_id
        if run.info.status != FINISHED:
            when = draft.finished or run.info.start_time
            self.log(run_id, draft.points, when, params=draft.params)
            self.client.set_terminated(run_id, FINISHED, draft.finished)
        if draft.parent is not None and run.data.tags.get(PARENT) != draft.parent:
            self.client.set_tag(run_id, PARENT, draft.parent)
        self.delete(other for other in runs if other.info.run_id != run_id)
        return run_id

    def _create(self, draft: Draft) -> Run:
        tags = {**draft.tags, DIGEST: draft.digest}
        if draft.parent is not None:
            tags[PARENT] = draft.parent
        return self.client.create_run(
            self.experiment_id, start_time=draft.started, tags=tags, run_name=draft.name
        )

    def log(
        self,
        run_id: str,
        points: Iterable[Point],
        when: int,
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add metrics at the time ``when``, in milliseconds, then parameters, then tags.

        One call unless there are very many points. The tags come with the last call, so with a
        tag the rest is there.
        """
        metrics = [Metric(point.key, point.value, when, point.step) for point in finite(points)]
        while len(metrics) > _METRICS_A_CALL:
            self.client.log_batch(run_id, metrics=metrics[:_METRICS_A_CALL], synchronous=True)
            metrics = metrics[_METRICS_A_CALL:]
        self.client.log_batch(
            run_id,
            metrics=metrics,
            params=[Param(*param) for param in (params or {}).items()],
            tags=[RunTag(*tag) for tag in (tags or {}).items()],
            synchronous=True,  # an environment variable of MLflow's could make it asynchronous
        )

    def delete(self, runs: Iterable[Run]) -> None:
        """Delete runs, as MLflow deletes: they are hidden, and `mlflow gc` removes them."""
        for run in runs:
            self.client.delete_run(run.info.run_id)


def _clause(tag: str, value: str) -> str:
    """A filter for a tag's value, empty where MLflow's syntax cannot write the value."""
    quote = next((mark for mark in ("'", '"') if mark not in value), None)
    return f"tags.`{tag}` = {quote}{value}{quote}" if quote else ""


def finite(points: Iterable[Point]) -> list[Point]:
    """The points MLflow can store: it would turn inf into 1.8e308."""
    return [point for point in points if math.isfinite(point.value)]


def digest(data: object) -> str:
    """A hash of JSON data, the same in every process."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def number(value: float) -> str:
    """A number as a user would type it, and without loss: 256, 0.01, 1e-05."""
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _experiment_id(client: MlflowClient, name: str, artifact_location: str | None) -> str:
    """The experiment's identifier; it is created, or restored if it was deleted."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=artifact_location)
        except MlflowException:
            # Another process may have been quicker.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    experiment_id: str = found.experiment_id
    if found.lifecycle_stage == "deleted":
        # A deleted experiment keeps its name taken.
        client.restore_experiment(experiment_id)
    return experiment_id


def set_aside_damaged(root: Path) -> None:
    """Rename ``root/mlflow.db``, so that it is kept and made anew, if it cannot be read whole."""
    database = root / DATABASE
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(database)) as connection:
            whole = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.OperationalError:
        # Locked, or the like: that is for whoever opens it.
        return
    except sqlite3.DatabaseError:
        whole = False
    if not whole:
        moment = time.strftime("%Y%m%d-%H%M%S")
        for path in root.glob(f"{DATABASE}*"):
            if "damaged" not in path.name:
                path.rename(path.with_name(f"{path.name}.damaged-{moment}"))


def _create(database: Path, artifacts: str) -> None:
    """Make MLflow's database beside its place, and put it there whole.

    MLflow makes it in dozens of steps, and cannot open one that a kill left half made.
    """
    new = database.with_name(f".{database.name}.new")
    for path in database.parent.glob(f"{new.name}*"):
        path.unlink()
    # MLflow keeps a connection for each address, and one to a file that failed is of no use.
    new = new.with_name(f"{new.name}-{time.time_ns()}")
    store = SqlAlchemyStore(f"sqlite:///{new}", artifacts)  # type: ignore[no-untyped-call]
    store.engine.dispose()
    new.rename(database)


def _do_not_wait_for_the_disk(connection: sqlite3.Connection, _: object) -> None:
    """Let the kernel write MLflow's database when it likes: six commits a trial then cost little.

    With a write-ahead log no crash, of the machine either, damages it. It may lose the last runs,
    which the next start writes again from the storage.
    """
    connection.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def _quiet_migrations() -> Iterator[None]:
    """Keep the dozens of INFO lines about creating tables from the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow.store.db.utils")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
