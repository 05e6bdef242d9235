"""Whatever is killed, filled, locked or damaged: nothing is lost, the next start makes it whole."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from program import ALONE, ONE, TINY, children, kill, mirrored, require_whole, run, runs, stored

from nqm_study.study.storage.backends import Backend
from nqm_study.study.storage.failures import DamagedError
from nqm_study.study.storage.origin import revision

Copied = Callable[[Path], Path]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    with (folder / "output").open("a") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "nqm_study", *arguments],
            cwd=folder, text=True, stdout=output, stderr=output, start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip


def wait_for_trials(folder: Path, size: int) -> None:
    journal = folder / "mlruns" / "optuna.journal"
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.stat().st_size < size:
        assert time.monotonic() < deadline, (folder / "output").read_text()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_kills_at_any_instant_lose_and_repeat_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 (a fixed sequence is what is wanted)
    sweep = ("-m", *TINY, "optimizer=sgd,momentum", "batch_size=16", "study.n_trials=150")
    for _ in range(10):
        process = start(tmp_path, *sweep)
        time.sleep(chance.uniform(0.5, 9.0))
        # All of it, or first a worker, the mirror or another part of it.
        parts = sorted(children(process.pid))
        parts += sorted(forked for part in parts for forked in children(part))
        if parts and chance.random() < 0.5:
            kill(chance.choice(parts))
            time.sleep(chance.uniform(0.0, 1.0))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    run(tmp_path, *sweep)
    require_whole(tmp_path, 150, 2)
    points = Counter(
        (run_.data.tags["optuna.study_name"], *sorted(run_.data.params.items()))
        for run_ in runs(tmp_path, "trial")
    )
    assert max(points.values()) == 1, "a point was computed twice"


def test_interrupted_studies_end_as_unbroken_ones_whatever_the_number_of_jobs(
    tmp_path: Path,
) -> None:
    sweep = ("-m", *TINY, "optimizer=momentum", "batch_size=16,64", "tracking=none",
             "study.truth=false")  # fmt: skip
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    run(tmp_path / "one", *sweep, "study.n_trials=20", "hydra.launcher.n_jobs=1")
    run(tmp_path / "two", *sweep, "study.n_trials=7", "hydra.launcher.n_jobs=2")
    run(tmp_path / "two", *sweep, "study.n_trials=20", ALONE)
    first, second = (points(tmp_path / name) for name in ("one", "two"))
    assert first == second
    assert len(first) == 2


@pytest.mark.slow
def test_a_local_search_that_is_killed_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    study = (*TINY, "optimizer=momentum", "batch_size=64", "tracking=none", "study.n_trials=60")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    run(whole, *study)
    size = (whole / "mlruns" / "optuna.journal").stat().st_size
    # In the first local search, in the second turn of the sampler, and in later local searches.
    for share in (0.2, 0.4, 0.6, 0.8):
        process = start(broken, *study)
        wait_for_trials(broken, int(share * size))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert sum(stored(broken).values()) < 60, "it was done before it could be killed"
    run(broken, *study)
    assert points(broken) == points(whole)
    assert stored(broken) == stored(whole)


def points(folder: Path) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    names: dict[int, str] = {}
    for line in (folder / "mlruns" / "optuna.journal").read_text().splitlines():
        operation = json.loads(line)
        if "study_name" in operation:
            names[len(names)] = operation["study_name"]
        if "params" in operation:
            found.setdefault(names[operation["study_id"]], []).append(operation["params"])
    return found


@pytest.mark.slow
def test_a_mirror_that_is_killed_is_started_again(tmp_path: Path) -> None:
    process = start(tmp_path, *ONE, "study.n_trials=150")
    wait_for_trials(tmp_path, 30_000)
    # While the trials run, it is all that was forked.
    (mirror,) = [forked for parent in children(process.pid) for forked in children(parent)]
    kill(mirror)
    assert process.wait(timeout=120) == 0, (tmp_path / "output").read_text()
    require_whole(tmp_path, 150, 1)


def test_a_locked_database_is_waited_for(studied: Path, copied: Copied) -> None:
    folder = copied(studied)
    with contextlib.closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as other:
        other.isolation_level = None
        other.execute("BEGIN IMMEDIATE")
        process = start(folder, *ONE, "study.n_trials=40")
        while sum(stored(folder).values()) < 40:
            time.sleep(0.1)
        time.sleep(2.0)
        assert process.poll() is None, "the process did not wait for MLflow"
        other.execute("ROLLBACK")
    assert process.wait(timeout=120) == 0, (folder / "output").read_text()
    require_whole(folder, 40, 1)


def test_a_damaged_database_of_mlflow_does_not_stop_a_study_and_is_made_anew(
    studied: Path, copied: Copied
) -> None:
    folder = copied(studied)
    database = folder / "mlruns" / "mlflow.db"
    for name in ("mlflow.db-wal", "mlflow.db-shm"):
        (folder / "mlruns" / name).unlink(missing_ok=True)
    database.write_bytes(b"no database" * 1000)
    done = run(folder, *ONE, "study.n_trials=8", status=1)
    assert "mlruns/mlflow.db: is damaged (file is not a database)" in done.stderr
    assert "`python -m nqm_study.report --rebuild` makes it anew" in done.stderr
    assert "Traceback" not in done.stderr
    assert "8 trials (4 new)" in done.stderr
    again = run(folder, module="nqm_study.report", status=1)
    assert "--rebuild" in again.stderr
    run(folder, "--rebuild", module="nqm_study.report")
    require_whole(folder, 8, 1)
    (kept,) = (folder / "mlruns").glob("mlflow.db.damaged-*")
    assert kept.read_bytes() == b"no database" * 1000


def test_a_rebuild_replaces_every_run_by_one_that_says_the_same(
    studied: Path, copied: Copied
) -> None:
    folder = copied(studied)
    before = {r.info.run_id: r.data.params for kind in KINDS for r in runs(folder, kind)}
    run(folder, "--rebuild", module="nqm_study.report")
    after = {r.info.run_id: r.data.params for kind in KINDS for r in runs(folder, kind)}
    require_whole(folder, 4, 1)
    assert not set(before) & set(after)
    assert sorted(map(str, before.values())) == sorted(map(str, after.values()))


KINDS = ("study", "trial", "summary")


@pytest.mark.parametrize(
    ("damage", "line"), [("garbage\n", 3), ('{"op_code": 4}\n', 3), ("null\n", 3)]
)
def test_a_damaged_journal_is_refused_with_the_line_and_left_as_it_is(
    studied: Path, copied: Copied, damage: str, line: int
) -> None:
    folder = copied(studied)
    journal = folder / "mlruns" / "optuna.journal"
    lines = journal.read_text().splitlines(keepends=True)
    lines.insert(line - 1, damage)
    for text in ("".join(lines), "".join([*lines[: line - 1], damage])):
        journal.write_text(text)
        for module, name in (("nqm_study", "nqm_study"), ("nqm_study.report", "nqm_study.report")):
            arguments = ONE if module == "nqm_study" else ()
            done = run(folder, *arguments, module=module, status=2)
            assert done.stderr.startswith(f"{name}: {journal}: line ")
            assert "is damaged; restore the file from a copy, or delete that line" in done.stderr
            assert done.stderr.count("\n") == 1
        assert journal.read_text() == text


@pytest.mark.parametrize(
    "operation", ['{"op_code": 99, "worker_id": "x"}', '{"op_code": 5, "worker_id": "x"}']
)
def test_a_line_that_optuna_does_not_read_is_not_taken_for_another(
    tmp_path: Path, operation: str
) -> None:
    backend = Backend()
    optuna.create_study(study_name="a", storage=backend.open(tmp_path / "other"))
    lines = (tmp_path / "other" / "optuna.journal").read_text().splitlines(keepends=True)
    (tmp_path / "optuna.journal").write_text("".join([*lines, f"{operation}\n", *lines]))
    with pytest.raises(DamagedError, match="has a line that this version of Optuna does not read"):
        backend.open(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MB; Optuna's figures of a study take two of them."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk, and not everywhere")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, name: str, leave: int = 0) -> Path:
    """Fill a disk but for so many bytes; the file that does."""
    space = os.statvfs(folder)
    with contextlib.suppress(OSError), (folder / name).open("wb") as file:
        file.write(b"x" * (space.f_bavail * space.f_frsize - leave))
    return folder / name


@pytest.mark.slow
def test_a_disk_that_is_full_is_refused_or_ends_the_studies_and_loses_nothing(
    small_disk: Path,
) -> None:
    filled = fill(small_disk, "first", 1_000_000)
    done = run(small_disk, *ONE, status=2)
    assert "must have 8 MB free, it has 1.0" in done.stderr or "free, it has 0.9" in done.stderr
    assert not (small_disk / "mlruns").exists()
    filled.unlink()
    sweep = ("-m", *TINY, "optimizer=sgd,momentum", "batch_size=16,64", "tracking.patience=1")
    process = start(small_disk, *sweep, "study.n_trials=5000")
    wait_for_trials(small_disk, 100_000)
    filled = fill(small_disk, "second")
    # What it writes to is on the full disk as well, so what it says is cut off.
    assert process.wait(timeout=120) == 1
    counts = stored(small_disk)
    filled.unlink()
    assert sum(counts.values()) > 0
    budget = max(counts.values()) + 20
    run(small_disk, *sweep, f"study.n_trials={budget}")
    require_whole_sweep(small_disk, budget)


def require_whole_sweep(folder: Path, budget: int) -> None:
    assert sorted(stored(folder).values()) == [budget] * 4
    assert mirrored(folder) == stored(folder)


@pytest.mark.slow
def test_a_disk_that_fills_up_is_told_in_one_line_for_each_study(
    small_disk: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "nqm_study",
        *ONE,
        "study.n_trials=9000",
        "tracking.patience=1",
    ]
    with subprocess.Popen(
        command, cwd=small_disk, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:  # fmt: skip
        wait_for_trials(small_disk, 50_000)
        fill(small_disk, "all")
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "could not be stored: No space left on device" in errors
    assert "not finished: sgd B=64" in errors
    assert "Traceback" not in errors + output
    assert "Fewest steps" in output, "the table of what there is was not shown"


def test_a_disk_that_cannot_be_written_is_refused_in_one_line(small_disk: Path) -> None:
    run(small_disk, *ONE, "study.n_trials=2", "tracking=none")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run(small_disk, *ONE, status=2)
    said = f"nqm_study: {small_disk}/mlruns: must be writable, Read-only file system\n"
    assert done.stderr == said


BROKEN = """
import os
from pathlib import Path
import nqm_study.app.worker as worker

whole = worker.run_planned

def run_planned(plan, *given, **named):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    # Of a worker process: in the call's own, Joblib sets none of them.
    threads = [os.environ[name] for name in names if name in os.environ]
    if len(threads) == len(names):
        Path(f"threads-{os.getpid()}").write_text(" ".join(threads))
    if plan.problem.batch_size == 64:
        raise ArithmeticError("64 is too many")
    return whole(plan, *given, **named)

worker.run_planned = run_planned
"""


def test_a_study_that_fails_takes_no_other_down_and_is_told_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    sweep = ("-m", *TINY, "optimizer=sgd", "batch_size=16,64,256", "study.n_trials=5")
    broken = {"PYTHONPATH": str(tmp_path), "HYDRA_FULL_ERROR": "0"}
    done = run(tmp_path, *sweep, status=1, environment=broken)
    assert sorted(stored(tmp_path).values()) == [0, 5, 5]
    last = done.stderr.splitlines()[-2:]
    assert last[0].startswith(
        "nqm_study: sgd B=64 C=0.05 seed=0: failed, ArithmeticError: 64 is too many; see "
    )
    log = Path(last[0].rpartition("see ")[2])
    assert "Traceback" in log.read_text()
    assert last[1] == (
        "nqm_study: not finished: sgd B=64 C=0.05 seed=0; the same command continues"
    )
    assert "Traceback" not in done.stderr
    one = (*TINY, "optimizer=sgd", "batch_size=64", "tracking=none", "hydra.verbose=true")
    shown = run(tmp_path, *one, status=1, environment=broken)
    assert "ArithmeticError: 64 is too many" in shown.stderr
    assert "Traceback" in shown.stderr
    run(tmp_path, *sweep, ALONE)
    require_whole_curve(tmp_path)
    cores = os.cpu_count() or 1
    told = {path.read_text() for path in tmp_path.glob("threads-*")}
    assert told, "no worker told how many threads it may have"
    assert all(int(number) <= max(1, cores // 2) for text in told for number in text.split())


def require_whole_curve(folder: Path) -> None:
    assert sorted(stored(folder).values()) == [5] * 3
    assert mirrored(folder) == stored(folder)


@pytest.mark.parametrize(
    ("trials", "expected"), [("best", 1), pytest.param("none", 0, marks=pytest.mark.slow)]
)
def test_fewer_trials_than_all_can_have_runs(tmp_path: Path, trials: str, expected: int) -> None:
    for n_trials in (6, 12):
        fewer = (f"tracking.trials={trials}", "tracking.diagnostics=false")
        run(tmp_path, *ONE, f"study.n_trials={n_trials}", *fewer)
        found = runs(tmp_path, "trial")
        assert len(found) == expected
        (study,) = runs(tmp_path, "study")
        assert study.data.metrics["n_trials"] == n_trials
        best = study.data.metrics["best_steps_to_target"]
        assert [trial.data.metrics["steps_to_target"] for trial in found] == [best] * expected
    # The report keeps to what was asked for, and all can still be had.
    run(tmp_path, "--no-diagnostics", module="nqm_study.report")
    assert len(runs(tmp_path, "trial")) == expected
    run(tmp_path, *ONE, "study.n_trials=12", "tracking.diagnostics=false")
    assert mirrored(tmp_path) == stored(tmp_path)


def test_a_study_says_what_it_was_made_with_and_what_it_cost(studied: Path) -> None:
    (study,) = runs(studied, "study")
    tags = study.data.tags
    assert {"version.optuna", "version.numpy", "version.nqm-study", "version.python"} <= set(tags)
    assert tags["fingerprint"].startswith(tags["optuna.study_name"].rpartition("-")[2])
    # An installed package has no revision, but a version; what runs in a folder may be installed
    # though these tests are run in a checkout.
    ask = [sys.executable, "-c", "import nqm_study; print(nqm_study.__file__)"]
    where = subprocess.run(ask, cwd=studied, capture_output=True, text=True, check=True).stdout
    checkout = Path(where.strip()).resolve().parents[1]
    assert tags.get("mlflow.source.git.commit", "") == revision(checkout)
    config = Path(study.info.artifact_uri.removeprefix("file://")) / "config.yaml"
    assert "batch_size: 64" in config.read_text()
    for part in ("sampler", "objective", "storage", "tracking"):
        assert study.data.metrics[f"ms_per_trial/{part}"] > 0


def test_a_stale_lock_file_holds_no_one(studied: Path, copied: Copied) -> None:
    folder = copied(studied)
    (name,) = stored(folder)
    root = folder / "mlruns"
    code = (
        "import sys, time; from pathlib import Path;"
        "from nqm_study.study.storage.backends import Backend;"
        "lock = Backend().lock(Path(sys.argv[1]), 'run', sys.argv[2]);"
        "lock.acquire();"
        "print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(root), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        free = Backend().lock(root, "run", name).acquire(timeout=0.1)
        holder.kill()
    assert not free, "the lock was not held"
    run(folder, *ONE, "study.n_trials=6")
    require_whole(folder, 6, 1)
