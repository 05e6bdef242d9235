"""The processes of a call: forked from one that has done their imports.

To import what a study needs takes longer than most studies do. One process, Python's fork server,
imports it once, on a core of its own while the call is composed; what runs studies, writes to
MLflow and draws is forked from it, which takes 20 ms.

Forking copies one thread, and locks as they are, so that a lock which another thread holds is never
released in the copy. The fork server has one thread: what libraries would start is turned off by
``ONE_THREAD``, and it opens no file, database or connection that a copy would share. Copies may
start threads as they like. This process is never forked itself, since it has threads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing import forkserver
from types import MappingProxyType

CONTEXT = multiprocessing.get_context("forkserver")
"""Where processes are started, after ``prepare``: ``CONTEXT.Process``, ``CONTEXT.Pipe`` and so on.
What is started ignores Ctrl-C, and ends with this process: see ``forked``."""

_FIRST = "nqm_study.study.forked"
CONTEXT.set_forkserver_preload([_FIRST])

ONE_THREAD = MappingProxyType(
    {
        # A study computes on one core. These are the names that joblib knows.
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "BLIS_NUM_THREADS": "1",
        "VECLIB_MAXIMUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "NUMEXPR_NUM_THREADS": "1",
        # PyArrow's allocator, which pandas loads, has a thread to return memory.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
    }
)
"""Environment of the fork server and of what is forked from it."""


def prepare(modules: Sequence[str] = ()) -> None:
    """Start the fork server, unless it runs: it imports some modules while this process goes on."""
    if modules:
        CONTEXT.set_forkserver_preload([_FIRST, *modules])
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    # Until it ignores Ctrl-C, which is this process's.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
