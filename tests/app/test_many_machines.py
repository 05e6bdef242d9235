"""Processes that share studies on a PostgreSQL server, and mirror them on an MLflow server.

Folders of their own stand for machines: nothing but the servers is common to them.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from damaged import spoil
from mlflow import MlflowClient
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from program import TINY, run
from servers import MlflowServer, PostgreSQL, postgresql

from nqm_study.study.storage.journal import open_journal

psycopg = pytest.importorskip("psycopg", reason="the extra postgresql is not installed")
pytestmark = [pytest.mark.cluster, pytest.mark.slow]

QUICK_BEATS = ("storage.heartbeat_interval=1", "storage.grace_period=3")
SHARED = ("-m", *TINY, "storage=postgresql", *QUICK_BEATS)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as running:
        yield running


def trials_of(address: str) -> dict[str, list[FrozenTrial]]:
    """The trials of each study, as anyone with Optuna reads them."""
    storage = RDBStorage(address.replace("postgresql://", "postgresql+psycopg://"))
    try:
        return {
            name: optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
            for name in optuna.study.get_all_study_names(storage)
        }
    finally:
        storage.remove_session()
        storage.engine.dispose()


def start(folder: Path, address: str, *arguments: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "nqm_study", *SHARED, *arguments],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "NQM_STUDY_STORAGE": address, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip


def finished(address: str) -> Counter[str]:
    return Counter(
        name
        for name, trials in trials_of(address).items()
        for trial in trials
        if trial.state == TrialState.COMPLETE
    )


def wait_for_trials(address: str, least: int) -> None:
    deadline = time.monotonic() + 120
    while sum(finished(address).values()) < least:
        assert time.monotonic() < deadline, "the processes wrote nothing"
        time.sleep(0.1)


def require_exact(address: str, studies: int, budget: int) -> None:
    """Each study has its budget of complete trials, none twice, and none is left running."""
    stored = trials_of(address)
    assert len(stored) == studies
    for name, trials in stored.items():
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        assert len(complete) == budget, name
        assert len({tuple(trial.params.values()) for trial in complete}) == budget, "a point twice"
        assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}


def test_four_processes_share_studies_though_one_is_killed_and_the_server_restarts(
    server: PostgreSQL, tmp_path: Path
) -> None:
    address = server.create("four")
    sweep = ("optimizer=sgd", "batch_size=16,64", "study.n_trials=40", "tracking=none")
    processes = [start(tmp_path / str(k), address, *sweep) for k in range(4)]
    wait_for_trials(address, 10)
    os.killpg(processes[0].pid, signal.SIGKILL)
    processes[0].communicate()
    wait_for_trials(address, 25)
    server.stop("immediate")
    time.sleep(1.0)
    server.start()
    for process in processes[1:]:
        output, errors = process.communicate(timeout=240)
        assert process.returncode == 0, output + errors
        assert "Traceback" not in errors
    require_exact(address, studies=2, budget=40)
    workers = {
        trial.user_attrs["worker"]["process"]
        for trials in trials_of(address).values()
        for trial in trials
        if trial.state == TrialState.COMPLETE
    }
    assert len(workers) > 2, "the processes did not share"
    run(tmp_path / "0", *SHARED, *sweep, environment={"NQM_STUDY_STORAGE": address})
    require_exact(address, studies=2, budget=40)


ONE_JOB = """
import sys
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict
from nqm_study.config.plan import study_plan
from nqm_study.study.options import conf_dir
from nqm_study.app.worker import run_job

with initialize_config_dir(str(conf_dir()), version_base="1.3"):
    config = compose("config", sys.argv[2:], return_hydra_config=True)
with open_dict(config.hydra):
    config.hydra.runtime.cwd = sys.argv[1]
HydraConfig.instance().set_config(config)
plan = study_plan(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))
print("planned", flush=True)
input()
run_job(plan)
"""
"""A job that waits for a line between the checks of its call and its start."""


def test_a_study_begins_though_the_server_is_away_at_that_moment(
    server: PostgreSQL, tmp_path: Path
) -> None:
    address = server.create("away")
    overrides = ("storage=postgresql", *TINY, "tracking=none", "study.n_trials=5")
    with subprocess.Popen(
        [sys.executable, "-c", ONE_JOB, str(tmp_path), *overrides],
        cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "NQM_STUDY_STORAGE": address},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "planned\n"
        server.stop("immediate")
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(3.0)
        assert process.poll() is None, "the job did not wait for the server"
        server.start()
        assert process.wait(timeout=120) == 0
    require_exact(address, studies=1, budget=5)


def test_processes_killed_at_any_instant_leave_nothing_running_after_the_next_start(
    server: PostgreSQL, tmp_path: Path
) -> None:
    address = server.create("killed")
    sweep = ("optimizer=momentum", "batch_size=16", "study.n_trials=40", "tracking=none")
    for least in (0, 5, 12):
        process = start(tmp_path / "a", address, *sweep)
        wait_for_trials(address, least)
        time.sleep(0.05 * least)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    run(tmp_path / "a", *SHARED, *sweep, environment={"NQM_STUDY_STORAGE": address})
    require_exact(address, studies=1, budget=40)


def test_a_process_alone_tries_the_points_that_it_tries_with_the_journal(
    server: PostgreSQL, tmp_path: Path
) -> None:
    address = server.create("alone")
    sweep = ("-m", *TINY, "optimizer=momentum", "batch_size=16", "study.n_trials=20")
    alone = ("storage=postgresql", "tracking=none")
    run(tmp_path, *sweep, *alone, environment={"NQM_STUDY_STORAGE": address})
    run(tmp_path, *sweep, "tracking=none", "study.n_trials=20")
    ((name, shared),) = trials_of(address).items()
    journal = open_journal(tmp_path / "mlruns" / "optuna.journal")
    private = optuna.load_study(study_name=name, storage=journal).get_trials(deepcopy=False)
    assert [trial.params for trial in shared] == [trial.params for trial in private]
    assert [trial.value for trial in shared] == [trial.value for trial in private]


def test_damaged_and_foreign_studies_of_peers_are_passed_over(
    server: PostgreSQL, tmp_path: Path
) -> None:
    address = server.create("peers")
    storage = RDBStorage(address.replace("postgresql://", "postgresql+psycopg://"))
    names = spoil(storage)
    storage.remove_session()
    storage.engine.dispose()
    sweep = (*SHARED, "optimizer=sgd", "batch_size=16,64", "study.n_trials=5", "tracking=none")
    environment = {"NQM_STUDY_STORAGE": address}
    for module, arguments in (("nqm_study", sweep), ("nqm_study.report", ("--no-mlflow",))):
        done = run(tmp_path, *arguments, module=module, environment=environment)
        assert sum("is passed over" in line for line in done.stderr.splitlines()) == len(names)
        assert "Traceback" not in done.stderr
    assert [finished(address)[name] for name in trials_of(address) if "sgd-" in name] == [5, 5]
    mine = (*SHARED[1:], "tracking=none", "study.name='a list'")
    refused = run(tmp_path, *mine, status=2, environment=environment)
    assert refused.stderr.startswith("nqm_study: study.name=a list: was stored by another version")
    assert refused.stderr.count("\n") == 1


def test_a_server_that_refuses_ends_a_call_at_once_with_one_line(
    server: PostgreSQL, tmp_path: Path
) -> None:
    address = server.create("refusing")
    study = ("storage=postgresql", *TINY, "tracking=none", "study.n_trials=5")
    run(tmp_path, *study, environment={"NQM_STUDY_STORAGE": address})
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        connection.execute("CREATE ROLE stranger LOGIN")
    more = (*study[:-1], "study.n_trials=9")
    for user, status, database in (
        ("reader", 1, "refusing"),
        ("stranger", 2, "refusing"),
        ("nobody", 2, "refusing"),
        ("nqm", 2, "missing"),
    ):
        other = address.replace("nqm@", f"{user}@").replace("/refusing", f"/{database}")
        started = time.monotonic()
        done = run(tmp_path, *more, status=status, environment={"NQM_STUDY_STORAGE": other})
        assert time.monotonic() - started < 30.0, "it waited for a server that refuses"
        assert "Traceback" not in done.stderr
        assert "permission denied" in done.stderr or "does not exist" in done.stderr
    assert sum(finished(address).values()) == 5


def runs_on(server: MlflowServer, kind: str) -> list[tuple[str, str, str]]:
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("nqm_study")
    assert experiment is not None
    found = client.search_runs(
        [experiment.experiment_id], f"tags.kind = '{kind}'", max_results=1000
    )
    return sorted(
        (
            each.data.tags.get("optuna.study_name", ""),
            each.data.tags.get("optuna.trial_number", ""),
            each.info.status,
        )
        for each in found
    )


def test_two_processes_mirror_on_a_server_that_goes_away_and_comes_back(
    server: PostgreSQL, tmp_path: Path
) -> None:
    address = server.create("mirrored")
    mlflow_server = MlflowServer(tmp_path, server.create("mlflow"))
    sweep = ("optimizer=sgd", "batch_size=16,64", "study.n_trials=25", "tracking=server")
    given = f"tracking.uri={mlflow_server.uri}"
    try:
        # Down at the start, and back before the end.
        processes = [start(tmp_path / str(k), address, *sweep, given) for k in range(2)]
        wait_for_trials(address, 5)
        mlflow_server.start()
        ended = [process.communicate(timeout=240) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], ended
        assert all("Traceback" not in errors for _, errors in ended)
        assert any("trying again, and the studies go on" in errors for _, errors in ended)
        require_mirrored(mlflow_server, address)
        # Down at the end: the storage has it, and the next call brings it there.
        mlflow_server.stop()
        more = [*sweep[:2], "study.n_trials=30", sweep[3], given]
        environment = {"NQM_STUDY_STORAGE": address}
        impatient = "tracking.patience=3"
        done = run(tmp_path / "0", *SHARED, *more, impatient, status=1, environment=environment)
        refused = f"{mlflow_server.uri}: Connection refused"
        assert f"MLflow is not up to date: {refused}. The storage has every trial" in done.stderr
        assert "Traceback" not in done.stderr
        assert sorted(finished(address).values()) == [30, 30]
        mlflow_server.start()
        report = ("--storage", address, "--tracking", mlflow_server.uri)
        run(tmp_path / "0", *report, module="nqm_study.report")
        require_mirrored(mlflow_server, address)
        assert list((tmp_path / "artifacts").rglob("steps_to_target.png"))
    finally:
        mlflow_server.stop()


def require_mirrored(mlflow_server: MlflowServer, address: str) -> None:
    trials = runs_on(mlflow_server, "trial")
    assert len({(study, number) for study, number, _ in trials}) == len(trials), "a trial twice"
    assert {status for *_, status in trials} == {"FINISHED"}
    assert Counter(study for study, *_ in trials) == finished(address)
    assert [status for *_, status in runs_on(mlflow_server, "study")] == ["FINISHED"] * 2
    assert len(runs_on(mlflow_server, "summary")) == 1
