"""Optuna's own tools read the storage as it is."""

import contextlib
import json
import math
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pytest
from optuna import visualization
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
    assert set(study.best_params) == {"learning_rate", "momentum"}
    assert study.best_value == best["steps"]
    table = study.trials_dataframe()
    assert table["value"].tolist() == [
        math.inf if steps is None else steps
        for steps in (trial.user_attrs["steps"] for trial in study.trials)
    ]
    assert {name for name in table if name.startswith("params_")} == {
        "params_learning_rate",
        "params_momentum",
    }


def test_optunas_figures_are_of_steps_over_what_a_user_would_type(folder: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(folder / "mlruns" / "optuna.journal")))
    study = optuna.load_study(study_name=None, storage=storage)
    names = ["learning_rate", "momentum"]
    slices = visualization.plot_slice(study)
    assert [slices.layout.xaxis.title.text, slices.layout.xaxis2.title.text] == names
    steps = {t.user_attrs["steps"] for t in study.trials if t.user_attrs["steps"] is not None}
    assert {*slices.data[0].y} == steps
    contour = visualization.plot_contour(study)
    assert [contour.layout.xaxis.title.text, contour.layout.yaxis.title.text] == names
    importance = visualization.plot_param_importances(study)
    assert sorted(importance.data[0].y) == names
    history = visualization.plot_optimization_history(study)
    assert {*history.data[0].y} == steps
    assert min(history.data[1].y) == study.best_value
    assert visualization.plot_parallel_coordinate(study).data


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
    for trial in study["trials"]:
        assert {each["name"] for each in trial["params"]} == {"learning_rate", "momentum"}
        given = {each["key"]: each["value"] for each in trial["user_attrs"]}
        steps = given["steps"]
        assert trial["values"] == ["inf" if steps == "null" else float(steps)]


def _answer(address: str) -> dict[str, list[dict[str, object]]]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(address) as answer:  # noqa: S310
            return json.loads(answer.read())  # type: ignore[no-any-return]
        time.sleep(0.2)
    raise AssertionError(f"{address} does not answer")
