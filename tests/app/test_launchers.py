"""Sweeps through Hydra's launchers: submitit's processes, jobs of Slurm, tasks of Ray."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import own_parts
import pytest
from program import TINY, mirrored, run, stored
from servers import Slurm, free_port, processes_with, slurm

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SWEEP = (*TINY, "optimizer=sgd", "batch_size=16,64", "study.n_trials=10")
LONG = ("optimizer=adam", "batch_size=16", "target=0.01", "tracking=none")
"""Up to a tenth of a second for each trial."""


def require_exact(folder: Path, done: subprocess.CompletedProcess[str], new: int) -> None:
    """Both studies of SWEEP are stored and mirrored, and the call said so."""
    assert sorted(stored(folder).values()) == [10, 10]
    assert mirrored(folder) == stored(folder)
    assert done.stderr.count(f"10 trials ({new} new)") == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "Fewest steps" in done.stdout
    for batch_size in (16, 64):
        assert re.search(rf"^sgd +{batch_size} ", done.stdout, re.MULTILINE), done.stdout


def require_own(folder: Path, *launcher: str, environment: Mapping[str, str]) -> None:
    """Studies of a user's own optimizer run where a launcher puts them, and the report names it."""
    own_parts.write(folder)
    sweep = ("-m", *own_parts.SWEEP, "study.n_trials=3", "tracking=none", *launcher)
    done = run(folder, *sweep, environment=environment)
    assert done.stderr.count("3 trials (3 new)") == 2, done.stderr
    assert re.search(r"^qhm +16 ", done.stdout, re.MULTILINE), done.stdout


def wait_until(ready: Callable[[], bool], told: str) -> None:
    deadline = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def test_a_sweep_runs_in_processes_of_submitit(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    done = run(tmp_path, "-m", *SWEEP, "hydra/launcher=submitit_local")
    require_exact(tmp_path, done, new=10)
    assert len(list(tmp_path.glob("mlruns/hydra/*/*/.submitit/*/*_result.pkl"))) == 2


def test_own_parts_run_in_processes_of_submitit(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    require_own(tmp_path, "hydra/launcher=submitit_local", environment={})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with slurm() as running:
        yield running


def run_on(
    cluster: Slurm, folder: Path, *arguments: str, status: int = 0
) -> subprocess.CompletedProcess[str]:
    return run(
        folder, "-m", *arguments, "hydra/launcher=submitit_slurm",
        status=status, environment=cluster.environment,
    )  # fmt: skip


def jobs(cluster: Slurm, state: str) -> set[str]:
    return set(cluster.ask("squeue", "--noheader", "--format=%i", f"--states={state}").split())


def test_a_sweep_runs_as_jobs_of_slurm_and_the_same_command_adds_nothing(
    cluster: Slurm, tmp_path: Path
) -> None:
    # What is finished is no job again.
    for new, count in ((10, 2), (0, 0)):
        before = jobs(cluster, "COMPLETED")
        known = set(tmp_path.glob("mlruns/hydra/*/*/.submitit/*/*_result.pkl"))
        done = run_on(cluster, tmp_path, *SWEEP)
        require_exact(tmp_path, done, new=new)
        wait_until(lambda: not jobs(cluster, "RUNNING,COMPLETING"), "a job is left")
        ended = jobs(cluster, "COMPLETED") - before
        results = set(tmp_path.glob("mlruns/hydra/*/*/.submitit/*/*_result.pkl")) - known
        assert {result.parent.name for result in results} == ended
        assert len(ended) == count


@contextlib.contextmanager
def started(
    cluster: Slurm, folder: Path, n_trials: int
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A call of LONG on Slurm, and its job, in the middle of its study."""
    process = subprocess.Popen(
        [
            sys.executable, "-m", "nqm_study", "-m", *LONG, f"study.n_trials={n_trials}",
            "hydra/launcher=submitit_slurm",
        ],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, **cluster.environment},
    )  # fmt: skip
    journal = folder / "mlruns" / "optuna.journal"
    with process:
        try:
            wait_until(lambda: journal.exists() and journal.stat().st_size > 10_000, "no trials")
            (job,) = jobs(cluster, "RUNNING")
            yield process, job
        finally:
            process.kill()


def test_own_parts_run_as_jobs_of_slurm(cluster: Slurm, tmp_path: Path) -> None:
    launcher = "hydra/launcher=submitit_slurm"
    require_own(tmp_path, launcher, environment=cluster.environment)


def test_a_job_that_slurm_ends_fails_the_call_and_the_same_command_continues(
    cluster: Slurm, tmp_path: Path
) -> None:
    # Slurm lets it go on for five seconds.
    with started(cluster, tmp_path, 5000) as (process, job):
        cluster.ask("scancel", job)
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 1, output + errors
    assert "not finished: adam B=16 C=0.01 seed=0; the same command continues" in errors
    assert "nqm_study: a job was lost, " in errors
    assert "Traceback" not in errors.partition("nqm_study: a job was lost, ")[2]
    (before,) = stored(tmp_path).values()
    assert 0 < before < 5000
    done = run_on(cluster, tmp_path, *LONG, f"study.n_trials={before + 20}")
    assert f"{before + 20} trials (20 new)" in done.stderr
    assert list(stored(tmp_path).values()) == [before + 20]


def test_a_job_that_slurm_preempts_goes_on_within_the_same_call(
    cluster: Slurm, tmp_path: Path
) -> None:
    with started(cluster, tmp_path, 200) as (process, job):
        cluster.ask("scancel", "--signal=USR2", job)
        wait_until(lambda: job in jobs(cluster, "PENDING"), "it was not put back")
        (before,) = stored(tmp_path).values()
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    assert "Traceback" not in errors
    assert 0 < before < 200
    assert list(stored(tmp_path).values()) == [200]
    assert "Fewest steps" in output


def test_a_study_that_fails_in_a_job_is_named_with_its_reason(
    cluster: Slurm, tmp_path: Path
) -> None:
    # Kilobytes that the job may write to one file: enough for its result, and not for all trials.
    limit = "+hydra.launcher.setup=['ulimit -f 64']"
    study = (*TINY, "optimizer=sgd", "batch_size=16", "study.n_trials=150", "tracking=none")
    done = run_on(cluster, tmp_path, *study, limit, status=1)
    reason = r"sgd B=16 C=0.05 seed=0: failed, trial \d+ could not be stored: File too large"
    assert re.search(f"^nqm_study: {reason}$", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stderr
    run_on(cluster, tmp_path, *study)
    assert list(stored(tmp_path).values()) == [150]


@pytest.fixture
def ray() -> Iterator[dict[str, str]]:
    """An environment for Ray; what it starts is gone at the end."""
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    # Under /tmp itself: a socket's path must be short.
    folder = tempfile.mkdtemp(prefix="nqm-ray-")
    try:
        yield {
            "RAY_TMPDIR": folder,
            # No token in the home folder.
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
    finally:
        for process in processes_with("RAY_TMPDIR", folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def test_a_sweep_runs_on_a_ray_that_ends_with_it(ray: dict[str, str], tmp_path: Path) -> None:
    done = run(tmp_path, "-m", *SWEEP, "hydra/launcher=ray", environment=ray)
    require_exact(tmp_path, done, new=10)
    assert "Started a local Ray instance" in done.stderr
    wait_until(lambda: not processes_with("RAY_TMPDIR", ray["RAY_TMPDIR"]), "Ray is left")


def test_own_parts_run_on_ray(ray: dict[str, str], tmp_path: Path) -> None:
    require_own(tmp_path, "hydra/launcher=ray", environment=ray)


def test_a_sweep_joins_a_running_ray(ray: dict[str, str], tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "ray.log").open("wb") as log:
        head = subprocess.Popen(
            [
                sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
                f"--port={address.partition(':')[2]}", f"--ray-client-server-port={free_port()}",
                "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={ray['RAY_TMPDIR']}",
            ],
            stdout=log, stderr=log, env={**os.environ, **ray},
        )  # fmt: skip
    with head:
        try:
            told = tmp_path / "ray.log"
            wait_until(lambda: "Ray runtime started" in told.read_text(), "Ray did not start")
            joined = f"hydra.launcher.ray.init.address={address}"
            done = run(tmp_path, "-m", *SWEEP, "hydra/launcher=ray", joined, environment=ray)
            require_exact(tmp_path, done, new=10)
            assert "Connected to Ray cluster" in done.stderr
        finally:
            head.kill()
