"""Optuna's own tools read the storage as it is."""

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from program import TINY, run
from servers import free_port


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("studied")
    run(made, *TINY, "optimizer=momentum", "batch_size=64", "study.n_trials=12", "tracking=none")
    return made


def test_load_study_reads_the_storage_from_python(folder: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(folder / "mlruns" / "optuna.journal")))
    (name,) = optuna.study.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    best = study.best_trial.user_attrs
    assert set(best["hyperparameters"]) >= {"learning_rate", "momentum"}
    assert best["steps"] == min(
        trial.user_attrs["steps"] for trial in study.trials if trial.user_attrs["steps"]
    )
    assert len(study.trials_dataframe()) == 12


@pytest.mark.cluster
def test_the_dashboard_opens_the_storage(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    port = free_port()
    program = Path(sys.executable).with_name("optuna-dashboard")
    journal = folder / "mlruns" / "optuna.journal"
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [program, str(journal), "--port", str(port)], stdout=log, stderr=log
        ) as dashboard,
    ):
        try:
            (summary,) = _answer(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
            study = _answer(f"http://127.0.0.1:{port}/api/studies/{summary['study_id']}?after=0")
        finally:
            dashboard.terminate()
    assert len(study["trials"]) == 12
    assert {trial["state"] for trial in study["trials"]} == {"Complete"}


def _answer(address: str) -> dict[str, list[dict[str, object]]]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(address) as answer:  # noqa: S310
            return json.loads(answer.read())  # type: ignore[no-any-return]
        time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")
