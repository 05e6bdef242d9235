"""A run and a report beside damaged studies end as they should, with a line for each."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
from damaged import spoil
from mlflow import MlflowClient
from program import ONE, run, runs, stored

from nqm_study.study.storage.journal import open_journal


def test_a_run_and_a_report_go_on_beside_damaged_studies(
    studied: Path, copied: Callable[[Path], Path]
) -> None:
    folder = copied(studied)
    (mine,) = stored(folder)
    names = spoil(open_journal(folder / "mlruns" / "optuna.journal"))
    for module, arguments in (("nqm_study", (*ONE, "study.n_trials=6")), ("nqm_study.report", ())):
        done = run(folder, *arguments, module=module)
        said = [line for line in done.stderr.splitlines() if "is passed over" in line]
        assert len(said) == len(names)
        assert all(line.startswith(f"{module}: study ") for line in said)
        assert "Traceback" not in done.stderr
        assert "sgd" in done.stdout
    assert stored_trials(folder, mine) == 6
    assert len(runs(folder, "trial")) == 6
    damaged = run(folder, *ONE, "study.name='a text'", status=2)
    assert damaged.stderr.startswith("nqm_study: study.name=a text: was stored by another version")
    assert damaged.stderr.count("\n") == 1


def test_runs_that_someone_edited_in_mlflow_are_made_anew(
    studied: Path, copied: Callable[[Path], Path]
) -> None:
    folder = copied(studied)
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    first, second, third, fourth = runs(folder, "trial")
    client.delete_tag(first.info.run_id, "optuna.trial_number")
    client.set_tag(second.info.run_id, "optuna.trial_number", "first")
    client.delete_tag(third.info.run_id, "nqm.digest")
    client.set_tag(fourth.info.run_id, "optuna.study_name", "other")
    (study,) = runs(folder, "study")
    client.set_tag(study.info.run_id, "nqm.results", "none")
    client.log_metric(study.info.run_id, "n_trials", 1.5)
    experiment = study.info.experiment_id
    client.create_run(experiment, tags={"kind": "study"})
    (summary,) = runs(folder, "summary")
    client.delete_tag(summary.info.run_id, "nqm.curve")
    done = run(folder, module="nqm_study.report")
    assert "Traceback" not in done.stderr
    # Whoever says that a run is another study's has it.
    tags = [each.data.tags for each in runs(folder, "trial")]
    own = [each for each in tags if each["optuna.study_name"] != "other"]
    assert Counter(each["optuna.trial_number"] for each in own) == dict.fromkeys("0123", 1)
    named = [each for each in runs(folder, "study") if "optuna.study_name" in each.data.tags]
    assert [each.data.metrics["n_trials"] for each in named] == [4.0]


def stored_trials(folder: Path, name: str) -> int:
    storage = open_journal(folder / "mlruns" / "optuna.journal")
    return len(optuna.load_study(study_name=name, storage=storage).trials)
