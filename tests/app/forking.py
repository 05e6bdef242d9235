"""Runs modules over and over, each in a process forked from one that has imported what they need.

    python forking.py address

listens on a socket of that name. A connection is one run: it sends the module, its arguments,
folder and environment, with the files that are its standard streams, and is answered with its exit
status. A run has a process of its own from before the module's first line until after its last, as
`python -m` gives it one; only what Python imports is already there. Modules of the program that it
starts with ``sys.executable`` are forked likewise, and so is Python's fork server, from which the
program forks its own processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import selectors
import socket
import stat
import sys
from pathlib import Path
from typing import Any

PRELOADED = (
    "fontTools.subset",
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "nqm_study.tracking.diagnostics",
    "nqm_study.app.ending",
    "nqm_study.tracking.follower",
    "nqm_study.app.report_command",
    "nqm_study.app.worker",
)
"""Modules whose imports are what a run imports."""

LONGEST = 2**20
"""Bytes of the longest request."""

PYTHON = """#!{python} -SE
# Stands for Python in what is forked: a module of the program is forked as well.
import os, sys
sys.path.insert(0, {folder!r})
streams = [0, 1, 2]
if sys.argv[1] == "-m" and sys.argv[2].startswith("nqm_study"):
    module, arguments = sys.argv[2:3], sys.argv[3:]
elif sys.argv[-1].startswith({server!r}):
    # Its files are the first arguments of its main function.
    module, arguments = [""], sys.argv[-1:]
    streams += map(int, arguments[0].partition("main(")[2].split(",")[:2])
else:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
from forking import ask
sys.exit(ask({address!r}, *module, arguments, os.getcwd(), dict(os.environ), streams))
"""

SERVER = "from multiprocessing.forkserver import main; "
"""How Python starts its fork server."""


def ask(
    address: str,
    module: str,
    arguments: list[str],
    folder: str,
    environment: dict[str, str],
    streams: list[int],
) -> int:
    """The exit status of a run: negative is the signal that ended it."""
    job = {"module": module, "arguments": arguments, "folder": folder, "environment": environment,
           "numbers": [0, 1, 2, *streams[3:]]}  # fmt: skip
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(600.0)
        connection.connect(address)
        socket.send_fds(connection, [json.dumps(job).encode() + b"\n"], streams)
        return int(connection.recv(16))


def become(job: dict[str, Any], streams: list[int], python: str) -> None:
    """Be the run of a job, from here to the end of the process."""
    # Out of the way of the numbers that they are to have.
    moved = [fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 100) for opened in streams]
    for opened in streams:
        os.close(opened)
    for opened, number in zip(moved, job["numbers"], strict=True):
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    # As `python -m` has it.
    sys.path[0] = job["folder"]
    sys.argv[1:] = job["arguments"]
    sys.executable = python
    multiprocessing.set_executable(python)
    if not job["module"]:
        exec(*job["arguments"])  # noqa: S102 (as Python itself does)
        return
    runpy.run_module(job["module"], run_name="__main__", alter_sys=True)


def received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A job, empty where none came, and the files that came with it."""
    text, streams, _, _ = socket.recv_fds(connection, LONGEST, 5)
    while text and not text.endswith(b"\n"):
        text += connection.recv(LONGEST)
    return json.loads(text or "{}"), streams


def serve(address: str) -> None:
    """Run what is asked for until standard input ends."""
    python = f"{address}.python"
    Path(python).write_text(
        PYTHON.format(
            python=sys.executable, folder=str(Path(__file__).parent), address=address, server=SERVER
        )
    )
    Path(python).chmod(stat.S_IRWXU)
    for module in PRELOADED:
        importlib.import_module(module)
    # What a study of SGD is compared with: the compiled code for that is read once.
    import nqm_study as nqm

    problem = nqm.NoisyQuadratic(nqm.power_law(10), batch_size=4)
    nqm.optimal_schedule(problem, target=0.5, pieces=1)
    nqm.tuned(problem, "sgd", target=0.5)
    # What is here already is never looked at again, and so shared by all that are forked.
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    events = selectors.DefaultSelector()
    events.register(sys.stdin, selectors.EVENT_READ)
    events.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.fileobj is sys.stdin:
                return
            if key.fileobj is not listener:
                process, connection = key.data
                _, status = os.waitpid(process, 0)
                with contextlib.suppress(OSError), connection:  # who asked may be killed meanwhile
                    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
                events.unregister(key.fileobj)
                os.close(key.fd)
                continue
            connection, _ = listener.accept()
            job, streams = received(connection)
            if not job:  # who asked was killed before it had
                connection.close()
                continue
            process = os.fork()
            if process == 0:
                events.close()
                listener.close()
                connection.close()
                become(job, streams, python)
                return
            for opened in streams:
                os.close(opened)
            events.register(os.pidfd_open(process), selectors.EVENT_READ, (process, connection))


if __name__ == "__main__":
    serve(sys.argv[1])
