"""The end of a call that is interrupted: within seconds, and with a word on what stands."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from nqm_study.app.exit_status import INTERRUPTED
from nqm_study.app.terminal import complain

if TYPE_CHECKING:
    from nqm_study.app.progress import Board
    from nqm_study.tracking.copy import Copy

PATIENCE = 8.0
"""Seconds in which an interrupted call has ended; a container is given ten."""


def listen() -> None:
    """Let a scheduler's SIGTERM and a closing terminal's SIGHUP end the call as Ctrl-C does.

    The first of these signals counts, and those after it are ignored: joblib does not end its
    processes twice. Should it not end them at all, this process ends after ``PATIENCE`` seconds.

    What the terminal's hang-up would end beside this process, as joblib's resource tracker, goes on
    until this one ends it: it is blocked here, and so in all that is started from here, and a
    thread waits for it. ``nohup`` is heeded.
    """
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})

    def wait() -> None:
        signal.sigwait({signal.SIGHUP})
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def leave_to_the_caller() -> None:
    """Ignore Ctrl-C in a process that another one started and will end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def interrupted() -> bool:
    """Whether a signal has ended the call."""
    return signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def _interrupt(*_: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    late = threading.Timer(PATIENCE, os._exit, (INTERRUPTED,))
    late.daemon = True
    late.start()
    raise KeyboardInterrupt


def stop(board: Board, mirror: Copy | None, *, sweep: bool) -> int:
    """End a call that was interrupted, without the report; its exit status.

    Every trial that ended is in the storage, and MLflow is brought up to date by the next call.
    """
    if mirror is not None:
        mirror.kill()
    if sweep:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True, kill_workers=True)
    board.stop()
    complain(
        f"stopped, with {board.complete} of {board.studies} studies complete. The storage has "
        "every trial that ended; the same command continues, and `python -m nqm_study.report` "
        "shows what there is"
    )
    return INTERRUPTED
