"""Running the program as a user does, and reading what it left."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run

from nqm_study.study.journal import open_journal

TINY = ("spectrum=paper_small", "target=0.05")
"""A problem that costs nothing."""


def run(
    folder: Path,
    *arguments: str,
    module: str = "nqm_study",
    status: int = 0,
    python: str = "",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run the program in a folder, and see that it ended as it should."""
    done = subprocess.run(
        [python or sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def runs(folder: Path, kind: str) -> list[Run]:
    """The runs of a kind in MLflow, deleted ones left out."""
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("nqm_study")
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment.experiment_id], f"tags.kind = '{kind}'", max_results=1000, page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def mirrored(folder: Path) -> Counter[str]:
    """Trials of each study in MLflow, each FINISHED and there once."""
    trials = runs(folder, "trial")
    assert {run.info.status for run in trials} <= {"FINISHED"}
    keys = [
        (run.data.tags["optuna.study_name"], run.data.tags["optuna.trial_number"]) for run in trials
    ]
    assert len(set(keys)) == len(keys), "a trial is in MLflow twice"
    return Counter(name for name, _ in keys)


def stored(folder: Path) -> Counter[str]:
    """Trials of each study in the journal, each complete."""
    storage = open_journal(folder / "mlruns" / "optuna.journal")
    counts: Counter[str] = Counter()
    for name in optuna.study.get_all_study_names(storage):
        trials = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
        assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials)
        counts[name] = len(trials)
    return counts
