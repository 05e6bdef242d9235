"""The mirror of studies and their summaries in MLflow.

Optuna's storage is the truth. MLflow shows a view of it, which can be rebuilt at any time: logging
a study and catching up with one are the same code. Importing this module imports MLflow, which
takes a second or two.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import Engine, event

from nqm_study.study.records import StudyRecord
from nqm_study.tracking.layout import STUDY_NAME
from nqm_study.tracking.settings import Tracking
from nqm_study.tracking.store import KIND, NOTE, Draft, Point, RunStore
from nqm_study.tracking.study_run import StudyRun

__all__ = ["Mirror", "StudyRun", "SummaryPoint"]

CURVE = "nqm.curve"
DATABASE = "mlflow.db"
VIEW = "?workflowType=machine_learning"
"""Without it MLflow shows the runs of an experiment, and a run, as those of a language model."""

SUMMARY = "\n\nIts summary: "
"""What the link of a study's description to its summary begins with."""


@dataclass(frozen=True)
class SummaryPoint:
    """The best of a study, or the median over seeds, at one batch size.

    Attributes:
        batch_size: examples per step.
        steps: steps to the target; inf where it was not reached.
        hyperparameters: the values that needed those steps, in the user's units.
    """

    batch_size: int
    steps: float
    hyperparameters: Mapping[str, float]


@dataclass(frozen=True)
class Mirror:
    """One MLflow experiment that shows studies. ``local`` makes it."""

    store: RunStore

    @classmethod
    def local(cls, root: Path, experiment: str = "nqm_study", *, page_size: int = 1000) -> Mirror:
        """A mirror in ``root/mlflow.db``, artifacts in ``root/artifacts``, both made if missing.

        Args:
            root: a directory, made if missing.
            experiment: name of the MLflow experiment.
            page_size: runs asked for at once.

        Raises:
            ValueError: if the path has a character MLflow takes for a part of the URI.
        """
        root = root.absolute()
        if any(character in str(root) for character in "%?"):
            raise ValueError(f"root={root}: must have no % or ? in it, MLflow cannot open it")
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
            _use_write_ahead_log(database)
            client = MlflowClient(tracking_uri=uri)
            experiment_id = _experiment_id(client, experiment, location)
        return cls(RunStore(client, uri, experiment_id, page_size))

    @classmethod
    def server(cls, uri: str, experiment: str) -> Mirror:
        """A mirror on a tracking server, with artifacts where the server keeps them.

        Args:
            uri: the server's address.
            experiment: name of the MLflow experiment; made if it is not there.
        """
        client = MlflowClient(tracking_uri=uri)
        return cls(RunStore(client, uri, _experiment_id(client, experiment, None)))

    @classmethod
    def of(cls, root: Path, tracking: Tracking) -> Mirror:
        """The mirror that a study's tracking asks for, local or on a server."""
        if tracking.uri:
            return cls.server(tracking.uri, tracking.experiment)
        return cls.local(root, tracking.experiment)

    def clear(self) -> None:
        """Delete every run that this program made in the experiment."""
        for kind in ("trial", "report", "summary", "study"):
            self.store.delete(self.store.find({KIND: kind}))

    @property
    def page(self) -> str:
        """The path at which MLflow's server shows the runs: its front page shows none of them."""
        return f"/#/experiments/{self.store.experiment_id}/runs{VIEW}"

    @property
    def uri(self) -> str:
        """The tracking URI, as ``mlflow ui --backend-store-uri`` takes it."""
        return self.store.uri

    def study(self, record: StudyRecord) -> StudyRun:
        """The study's run, found or created, and marked RUNNING.

        What earlier processes left half-logged of its trials is completed when they are mirrored or
        the study is finished, what they logged twice is deleted.
        """
        return StudyRun(self.store, record)

    def summary(
        self,
        *,
        key: str,
        name: str,
        params: Mapping[str, str],
        points: Sequence[SummaryPoint],
        note: str,
        files: Sequence[Path],
        studies: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
        kind: str = "summary",
    ) -> None:
        """One run for a scaling curve: metrics ``steps_to_target`` and each hyperparameter.

        The same data leaves the run as it is, other data replaces it. The files are always
        replaced; those of a run that stays and are not among ``files`` remain.

        Args:
            key: identifies the curve.
            name: the run's name.
            params: its parameters.
            points: its metrics, with the batch size as MLflow's step.
            note: its description.
            files: its artifacts, under ``figures``.
            kind: ``summary``, or ``report`` for what is of several curves.
            studies: its studies' runs, which its description links to, and whose descriptions link
                to it: for each row, identifiers by the text of the link.
        """
        draft = Draft(
            name=name,
            tags={KIND: kind, CURVE: key, NOTE: note + self._rows(studies)},
            params=params,
            points=tuple(
                Point(metric, value, point.batch_size)
                for point in points
                for metric, value in (
                    ("steps_to_target", point.steps),
                    *point.hyperparameters.items(),
                )
            ),
        )
        run_id = self.store.write(draft, self.store.find({KIND: kind, CURVE: key}))
        for file in files:
            self.store.client.log_artifact(run_id, str(file), "figures")
        if kind != "summary":  # a study has one curve, and any number of reports
            return
        for row in studies.values():
            for study in row.values():
                self._link_back(study, name, run_id)

    def study_runs(self) -> dict[str, str]:
        """The identifiers of the studies' runs, by the studies' names."""
        return {
            run.data.tags[STUDY_NAME]: run.info.run_id for run in self.store.find({KIND: "study"})
        }

    def _rows(self, studies: Mapping[str, Mapping[str, str]]) -> str:
        """A list of links for the end of a summary's description."""
        rows = [
            f"- {row}: " + ", ".join(self._link(*link) for link in links.items())
            for row, links in studies.items()
            if links
        ]
        return "\n".join(["", "", "Studies:", "", *rows]) if rows else ""

    def _link_back(self, study: str, name: str, summary: str) -> None:
        """End the description of a study with a link to its summary, unless it does so already."""
        said = self.store.client.get_run(study).data.tags.get(NOTE, "")
        note = f"{said.partition(SUMMARY)[0]}{SUMMARY}{self._link(name, summary)}"
        if note != said:
            self.store.client.set_tag(study, NOTE, note)

    def _link(self, text: str, run_id: str) -> str:
        """A link to a run's page, from another page: it holds wherever the server is mounted."""
        shown = re.sub(r"([\\\[\]])", r"\\\1", text)
        return f"[{shown}](#/experiments/{self.store.experiment_id}/runs/{run_id}{VIEW})"


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


def _use_write_ahead_log(database: Path) -> None:
    """Set SQLite's journal mode, which the file keeps: readers and a writer then do not wait."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


@event.listens_for(Engine, "connect")
def _do_not_wait_for_the_disk(connection: object, _: object) -> None:
    """Let the kernel write MLflow's database when it likes: six commits a trial then cost little.

    With a write-ahead log no crash, of the machine either, damages it. It may lose the last runs,
    which the next start writes again from the storage.
    """
    if isinstance(connection, sqlite3.Connection):
        files = [row[2] for row in connection.execute("PRAGMA database_list")]
        if any(Path(file).name == DATABASE for file in files):
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
