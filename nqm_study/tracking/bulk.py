"""New runs written to MLflow's embedded database in one transaction.

The public client takes three calls for a run, each of several transactions. All that is private to
MLflow is here: its tables, and the rows that its client leaves in them. ``RunStore`` uses the
client where MLflow has other tables.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from mlflow.entities import Experiment, Metric, Param
from mlflow.store.tracking.dbmodels.models import (
    SqlLatestMetric,
    SqlMetric,
    SqlParam,
    SqlRun,
    SqlTag,
)
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_USER
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import _validate_batch_log_data
from sqlalchemy import insert

from nqm_study.tracking.drafts import FINISHED, Draft, finite

REVISIONS = ("dc11669786a5", "f4a9b2c7d1e6")
"""Revisions of MLflow's tables, of 3.17 and 3.18, in which its client left the same rows."""

_ENTRY = {"run_uuid", "key", "value"}
_METRIC = {*_ENTRY, "timestamp", "step", "is_nan"}
_RUN = {
    *("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status"),
    *("start_time", "end_time", "deleted_time", "source_version", "lifecycle_stage"),
    *("artifact_uri", "experiment_id"),
}
# In this order, since the others refer to the runs.
_COLUMNS: dict[Any, set[str]] = {
    SqlRun: _RUN,
    SqlTag: _ENTRY,
    SqlParam: _ENTRY,
    SqlMetric: _METRIC,
    SqlLatestMetric: _METRIC,
}


def knows(store: SqlAlchemyStore) -> bool:
    """Whether the tables, in the database and in this MLflow, are those that are written here."""
    with store.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    return found in REVISIONS and all(
        {column.name for column in model.__table__.columns} == columns
        for model, columns in _COLUMNS.items()
    )


def write(store: SqlAlchemyStore, experiment: Experiment, drafts: Sequence[Draft]) -> None:
    """Add a run, FINISHED, for each draft; all of them or, if it fails, none.

    Args:
        store: where to.
        experiment: theirs.
        drafts: the contents.

    Raises:
        MlflowException: if the experiment is deleted, MLflow accepts no such parameter or metric,
            or the database cannot be written.
    """
    store._check_experiment_is_active(experiment)  # type: ignore[no-untyped-call]
    rows: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for draft in drafts:
        for model, found in _rows(draft, experiment).items():
            rows[model] += found
    with store.ManagedSessionMaker(read_only=False) as session:
        for model in _COLUMNS:
            # Without rows, SQLAlchemy would insert one of defaults.
            if rows[model]:
                session.execute(insert(model), rows[model])


def _rows(draft: Draft, experiment: Experiment) -> dict[Any, list[dict[str, Any]]]:
    """The rows of a run, by their tables."""
    run_id = uuid.uuid4().hex
    now = int(time.time() * 1000)
    started = draft.started or now
    tags = {MLFLOW_RUN_NAME: draft.name, **draft.all_tags}
    when = draft.finished or started
    artifacts = append_to_uri_path(experiment.artifact_location, run_id, "artifacts")  # type: ignore[no-untyped-call]
    points = sorted(
        dict.fromkeys(finite(draft.points)), key=lambda point: (point.step, point.value)
    )
    metrics, params, _ = _validate_batch_log_data(  # type: ignore[no-untyped-call]
        [Metric(point.key, float(point.value), when, point.step) for point in points],
        [Param(*param) for param in draft.params.items()],
        [],
    )
    values = [
        {
            "run_uuid": run_id,
            "key": metric.key,
            "value": metric.value,
            "timestamp": metric.timestamp,
            "step": metric.step,
            "is_nan": False,
        }
        for metric in metrics
    ]
    run = {
        "run_uuid": run_id,
        "name": draft.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": tags.get(MLFLOW_USER, "unknown"),
        "status": FINISHED,
        "start_time": started,
        "end_time": draft.finished or now,
        "deleted_time": None,
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": artifacts,
        "experiment_id": int(experiment.experiment_id),
    }
    return {
        SqlRun: [run],
        SqlTag: [{"run_uuid": run_id, "key": key, "value": tags[key]} for key in tags],
        SqlParam: [{"run_uuid": run_id, "key": each.key, "value": each.value} for each in params],
        SqlMetric: values,
        # The largest step, and of that the largest value.
        SqlLatestMetric: list({row["key"]: row for row in values}.values()),
    }
