"""Imported first by the process that the others of a call are forked from (``processes``)."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time

CALL = os.getppid()
PAUSE = 0.1
"""Seconds between two looks whether the call goes on, while modules are imported."""


def _look(*_: object) -> None:
    if os.getppid() != CALL:
        os._exit(0)


def _share() -> None:
    """Before a process is forked: what is here now stays."""
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    gc.freeze()


def _begin() -> None:
    """Begin a forked process: it ends as soon as the call has ended, even if that was killed."""
    gc.enable()
    threading.Thread(target=_end_with_the_call, daemon=True).start()


def _end_with_the_call() -> None:
    while (call := multiprocessing.parent_process()) is None:  # not yet told
        time.sleep(0.02)
    call.join()
    os._exit(1)


# Ctrl-C is the call's, which ends the others. It was blocked until here.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
# A call that is refused or ends early leaves nobody behind who still imports.
signal.signal(signal.SIGALRM, _look)
signal.setitimer(signal.ITIMER_REAL, PAUSE, PAUSE)
# What is imported is shared for as long as nothing looks at it for what can be freed.
gc.disable()
os.register_at_fork(before=_share, after_in_child=_begin)
