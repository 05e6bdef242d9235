"""Runs the program over and over, each time in a process forked from this one.

    python forking.py

imports what a run imports, once. A line on standard input is one run: its module, arguments,
folder, environment, and the files that its output goes to. The answer, a line on standard output,
is its exit status. A run has a process of its own from before the program's first line until after
its last, as one that is started does; only what Python imports is already there.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import sys
from typing import Any

PRELOADED = (
    "fontTools.subset",
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "nqm_study.ending",
    "nqm_study.mirroring",
    "nqm_study.report_command",
    "nqm_study.worker",
)
"""Modules whose imports are what a run imports."""


def become(job: dict[str, Any]) -> None:
    """Be the run of a job, from here to the end of the process."""
    for stream, path in ((0, os.devnull), (1, job["stdout"]), (2, job["stderr"])):
        flags = os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(path, flags)
        os.dup2(opened, stream)
        os.close(opened)
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["environment"])
    # As `python -m` has it.
    sys.path[0] = job["folder"]
    sys.argv[1:] = job["arguments"]
    runpy.run_module(job["module"], run_name="__main__", alter_sys=True)


def main() -> None:
    """Run what is asked for until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.set_inheritable(answers.fileno(), False)
    for module in PRELOADED:
        importlib.import_module(module)
    # What is here already is never looked at again, and so shared by all that are forked.
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        process = os.fork()
        if process == 0:
            answers.close()
            become(job)
            return
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    main()
