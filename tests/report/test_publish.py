import io
from pathlib import Path

import pytest
from fake_records import bounded, optimal, sgd
from mlflow import MlflowClient
from rich.console import Console

from nqm_study import publish


def test_every_file_of_the_report_is_an_artifact_of_every_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = (*bounded(sgd([64, 256])), *optimal([64, 256]))
    monkeypatch.setattr(publish, "stored_records", lambda _: records)
    publish.publish(tmp_path, Console(file=io.StringIO()), experiment="report")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("report")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {
        "sgd scaling, paper, target=0.01",
        "sgd optimal scaling, paper, target=0.01",
    }
    written = {path.name for path in (tmp_path / "figures").rglob("*.*") if path.is_file()}
    assert {"schedules.png", "schedules.svg", "schedules.csv"} < written
    for run in runs:
        uploaded = client.list_artifacts(run.info.run_id, "figures")
        assert {Path(file.path).name for file in uploaded} == written
        assert "times SGD's optimal schedule" in run.data.tags["mlflow.note.content"]
    settings = {run.data.params["schedule"]: run.data.params.get("schedule.pieces") for run in runs}
    assert settings == {"constant": None, "optimal": "50"}
