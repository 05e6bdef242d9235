"""What is forked is forked safely, and ends with the call."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MODULE = """
import os, signal, sys, time
from pathlib import Path
from nqm_study.app.preloading import preload
from nqm_study.study.processes import CONTEXT, ONE_THREAD


def tell(pipe):
    forked_from = Path(f"/proc/{os.getppid()}/task")
    pipe.send((
        len(list(forked_from.iterdir())),
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        {name for name in ("optuna", "matplotlib.figure", "pyarrow") if name in sys.modules},
        {name: os.environ[name] for name in ONE_THREAD},
    ))


def wait(pipe):
    pipe.send(os.getpid())
    time.sleep(600)


def ask(target):
    ours, theirs = CONTEXT.Pipe()
    CONTEXT.Process(target=target, args=(theirs,), daemon=True).start()
    return ours.recv()


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "7"
    preload(sweep=True)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    if sys.argv[1] == "tell":
        threads, ignores, imported, environment = ask(tell)
        assert threads == 1, threads
        assert ignores
        assert imported == {"optuna", "matplotlib.figure", "pyarrow"}
        assert environment == ONE_THREAD
    else:
        print(ask(wait), flush=True)
        time.sleep(600)
"""


def script(folder: Path) -> list[str]:
    (folder / "script.py").write_text(MODULE)
    return [sys.executable, str(folder / "script.py")]


def bare() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if "_NUM_THREADS" not in name}


def test_the_process_that_others_are_forked_from_has_one_thread(tmp_path: Path) -> None:
    subprocess.run([*script(tmp_path), "tell"], check=True, env=bare(), timeout=120)


def test_what_is_forked_ends_with_a_call_that_is_killed(tmp_path: Path) -> None:
    call = [*script(tmp_path), "wait"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=bare()) as process:
        assert process.stdout is not None
        forked = Path("/proc") / process.stdout.readline().strip()
        assert forked.exists()
        os.kill(process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while forked.exists():
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.02)
