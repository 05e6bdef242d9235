"""The runs of one MLflow experiment: opened, found, written exactly once, and deleted.

What is done to runs goes through MLflow's public client, except that ``bulk`` writes new ones to
the embedded database. A run is first created, then filled in one call, then marked FINISHED, or
all that in one transaction: a run which says FINISHED is complete whenever a process dies.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import event

from nqm_study.tracking import bulk
from nqm_study.tracking.drafts import DIGEST, FINISHED, PARENT, Draft, Point, finite
from nqm_study.tracking.settings import DATABASE, require_nameable

# MLflow accepts at most 1000 entries in one call, parameters and tags counted.
_METRICS_A_CALL = 800

RUNS_AT_ONCE = 4
"""Runs that are written to a server at once: its answers are mostly waited for."""


@dataclass(frozen=True)
class RunStore:
    """The runs of one experiment.

    Attributes:
        client: MLflow's client.
        uri: the tracking URI behind it.
        experiment_id: the experiment.
        page_size: runs asked for at once, at most 50000.
        embedded: the database, where ``bulk`` can write to it.
        runs_at_once: new runs that are written at the same time by the client.
    """

    client: MlflowClient
    uri: str
    experiment_id: str
    page_size: int = 1000
    embedded: SqlAlchemyStore | None = None
    runs_at_once: int = 1

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
            store = SqlAlchemyStore(uri, location)  # type: ignore[no-untyped-call]
            event.listen(store.engine, "connect", _do_not_wait_for_the_disk)
            store.engine.dispose()
            client = MlflowClient(tracking_uri=uri)
            experiment_id = _experiment_id(client, experiment, location)
            return cls(client, uri, experiment_id, embedded=store if bulk.knows(store) else None)

    @classmethod
    def server(cls, uri: str, experiment: str) -> RunStore:
        """Open an experiment on a tracking server, made if it is not there."""
        client = MlflowClient(tracking_uri=uri)
        experiment_id = _experiment_id(client, experiment, None)
        return cls(client, uri, experiment_id, runs_at_once=RUNS_AT_ONCE)

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

    def add(self, drafts: Sequence[Draft]) -> None:
        """Add a run, FINISHED, for each draft; there must be none that stands for it."""
        if self.embedded is not None:
            bulk.write(self.embedded, self.client.get_experiment(self.experiment_id), drafts)
            return
        with ThreadPoolExecutor(self.runs_at_once) as pool:
            # The first error is raised here, and what was not begun by then is left.
            list(pool.map(self.write, drafts))

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
        return self.client.create_run(
            self.experiment_id,
            start_time=draft.started,
            tags=draft.all_tags,
            run_name=draft.name,
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
