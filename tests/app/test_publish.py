import dataclasses
import io
from pathlib import Path

from fake_records import bounded, optimal, sgd
from mlflow import MlflowClient
from rich.console import Console

from nqm_study.app.publish import Published, publish, show
from nqm_study.report.frame import studies_frame
from nqm_study.tracking.follower import Follower
from nqm_study.tracking.process import MirrorJob
from nqm_study.tracking.settings import Tracking


def test_every_file_of_the_report_is_an_artifact_of_every_summary(tmp_path: Path) -> None:
    records = (*bounded(sgd([64, 256])), *optimal([64, 256]))
    published = publish(tmp_path, studies_frame(records))
    job = MirrorJob(tmp_path, Tracking("report"), ())
    Follower(job, lambda **_: None).write(published.summaries)
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


def test_a_best_trial_at_the_edge_of_its_range_is_told_under_the_table() -> None:
    inside, outside = sgd([64, 256])
    told = "learning_rate 2, the high end of its range"
    text = io.StringIO()
    chosen = (inside, dataclasses.replace(outside, at_edge=(told,)))
    show(Published(studies_frame(chosen)), Console(file=text, width=100), None)
    (line,) = (line for line in text.getvalue().splitlines() if "end of its range" in line)
    assert line == f"{outside.name}: the best trial has {told}: the optimum may lie beyond"


def test_the_table_says_of_which_studies_it_is_and_names_curves_as_the_figures_do(
    tmp_path: Path,
) -> None:
    # Alone, each of the two would be the plain one of its name.
    first, second = sgd([64, 256]), sgd([64, 256], max_steps=10**8)
    studies = studies_frame([*first, *second])
    text = io.StringIO()
    console = Console(file=text, width=100)
    show(publish(tmp_path, studies, frozenset(r.name for r in second)), console, None)
    assert "sgd, max_steps 1e+08" in text.getvalue()
    said = "The tables show this call's studies, 2 of the 4 in the figures."
    assert said in text.getvalue().splitlines()
    (folder,) = (tmp_path / "figures").iterdir()
    assert "sgd, max_steps 1e+08" in (folder / "analysis.csv").read_text()
    show(publish(tmp_path, studies), console, None)
    assert text.getvalue().count("The tables show") == 1
