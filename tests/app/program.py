"""Running the program as a user does, and reading what it left."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import optuna
from forking import ask
from mlflow import MlflowClient
from mlflow.entities import Run

from nqm_study.study.storage.journal import open_journal

TINY = ("spectrum=paper_small", "target=0.05")
"""A problem that costs nothing."""

ONE = (*TINY, "optimizer=sgd", "batch_size=64")
"""One study of it."""

ALONE = "hydra/launcher=basic"
"""Studies one after the other in the call's own process, which has imported what they need."""

SWEEP = ("-m", *TINY, "optimizer=sgd,adam", "batch_size=16,64")
"""Four studies of it."""


@functools.cache
def _forking() -> str:
    """The address of the process that calls are forked from, which ends with this one."""
    address = f"{tempfile.mkdtemp(prefix='nqm-fork-')}/socket"
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forking.py")), address],
        stdin=subprocess.PIPE,
    )

    def end() -> None:
        process.communicate()
        shutil.rmtree(Path(address).parent)

    atexit.register(end)
    while not Path(address).exists():
        assert process.poll() is None, "nothing can be forked"
        time.sleep(0.02)
    return address


def run(
    folder: Path,
    *arguments: str,
    module: str = "nqm_study",
    status: int = 0,
    python: str = "",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run the program in a folder, and see that it ended as it should.

    It runs in a process of its own, forked from one that has imported what it needs. One of another
    Python, or with another path, is started as a user starts it.
    """
    everything = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **environment}
    if python or "PYTHONPATH" in environment:
        done = subprocess.run(
            [python or sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=everything,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    else:
        done = _forked(folder, module, arguments, everything)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def _forked(
    folder: Path, module: str, arguments: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    with (
        tempfile.TemporaryFile("w+") as stdout,
        tempfile.TemporaryFile("w+") as stderr,
        Path(os.devnull).open() as stdin,
    ):
        streams = [stream.fileno() for stream in (stdin, stdout, stderr)]
        status = ask(_forking(), module, [*arguments], str(folder), {**environment}, streams)
        for stream in (stdout, stderr):
            stream.seek(0)
        return subprocess.CompletedProcess(arguments, status, stdout.read(), stderr.read())


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


def require_whole(folder: Path, budget: int, studies: int, summaries: int | None = None) -> None:
    """Each study has its budget in storage and in MLflow, and nothing is twice or half there."""
    assert sorted(stored(folder).values()) == [budget] * studies
    assert mirrored(folder) == stored(folder)
    assert [study.info.status for study in runs(folder, "study")] == ["FINISHED"] * studies
    assert len(runs(folder, "summary")) == (studies if summaries is None else summaries)


def children(process: int) -> dict[int, str]:
    """The processes that a process started, and what they run."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == process:
                found[int(entry.name)] = (entry / "cmdline").read_text()
    return found


def kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
